package emu

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/moegen/moegen/runtime/driver"
	"golang.org/x/sys/unix"
)

// TestOtherProcess: memory that another process has made is mapped here, and
// what one writes the other reads. The machines of two Drivers know as little
// of each other as two processes do.
func TestOtherProcess(t *testing.T) {
	a, b := newMachine(t, Config{Devices: 2}), newMachine(t, Config{Devices: 2})
	mem := must(a.Devices()[0].CreateMemory(Granularity, driver.HandlePosixFD))(t)
	at := func(m machine, mem driver.Memory, dev int) driver.DevicePtr {
		p := must(m.Reserve(Granularity, 0))(t)
		ok(t, m.Map(p, Granularity, mem, 0))
		ok(t, m.SetAccess(p, Granularity, m.Devices()[dev]))
		return p
	}
	mine := at(a, mem, 0)
	sh := must(mem.Export(driver.HandlePosixFD))(t)
	free, _, _ := b.Devices()[1].MemInfo()
	theirs := must(b.Import(b.Devices()[1], sh, Granularity))(t)
	ok(t, unix.Close(sh.FD))
	if now, _, _ := b.Devices()[1].MemInfo(); now != free {
		t.Errorf("foreign memory costs %d bytes", free-now)
	}
	p := at(b, theirs, 1)
	ok(t, a.Devices()[0].Write(mine, []byte("hello")))
	got := make([]byte, 5)
	ok(t, b.Devices()[1].Read(got, p))
	if string(got) != "hello" {
		t.Errorf("read %q", got)
	}
	// It outlives the process that made it.
	ok(t, a.Unmap(mine, Granularity))
	ok(t, mem.Release())
	ok(t, b.Devices()[1].Read(got, p))
	ok(t, b.Unmap(p, Granularity))
	ok(t, theirs.Release())
}

// TestForeignHandles: what is no memory of an emulator is refused.
func TestForeignHandles(t *testing.T) {
	a, b := newMachine(t, Config{Devices: 1}), newMachine(t, Config{Devices: 1})
	refused := func(what string, m machine, fd int, size uint64) {
		t.Helper()
		_, err := m.Import(m.Devices()[0], driver.Shareable{Kind: driver.HandlePosixFD, FD: fd}, size)
		if driver.CodeOf(err) != driver.CodeInvalidValue {
			t.Errorf("%s: %v", what, err)
		}
	}
	plain := must(unix.MemfdCreate("plain", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING))(t)
	defer unix.Close(plain)
	ok(t, unix.Ftruncate(plain, Granularity))
	refused("a file that can shrink", b, plain, Granularity)
	refused("a closed descriptor", b, 1<<20, Granularity)
	f := must(os.CreateTemp(t.TempDir(), "x"))(t)
	defer f.Close()
	refused("a file", b, int(f.Fd()), Granularity)

	mem := must(a.Devices()[0].CreateMemory(Granularity, driver.HandlePosixFD))(t)
	sh := must(mem.Export(driver.HandlePosixFD))(t)
	defer unix.Close(sh.FD)
	refused("another size", b, sh.FD, 2*Granularity)
	judge := newMachine(t, Config{Devices: 1, Mode: Check})
	refused("memory of another process, judged", judge, sh.FD, Granularity)
	ok(t, mem.Release())

	mc := must(a.CreateMulticast(1, Granularity, driver.HandlePosixFD))(t)
	s := must(mc.Export(driver.HandlePosixFD))(t)
	defer unix.Close(s.FD)
	refused("a multicast object of another process", b, s.FD, Granularity)
	ok(t, mc.Release())
}

// TestNoDescriptorLeaks: shared memory holds one descriptor, and gives it back.
func TestNoDescriptorLeaks(t *testing.T) {
	m := newMachine(t, Config{Devices: 1})
	count := func() int { return len(must(os.ReadDir("/proc/self/fd"))(t)) }
	before := count()
	for range 10 {
		mem := must(m.Devices()[0].CreateMemory(Granularity, driver.HandlePosixFD))(t)
		sh := must(mem.Export(driver.HandlePosixFD))(t)
		link := must(os.Readlink("/proc/self/fd/" + strconv.Itoa(sh.FD)))(t)
		if !strings.Contains(link, "emu-memory") {
			t.Fatalf("exported %s", link)
		}
		ok(t, unix.Close(sh.FD))
		ok(t, mem.Release())
	}
	if after := count(); after != before {
		t.Errorf("%d descriptors, before %d", after, before)
	}
}
