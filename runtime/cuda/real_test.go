//go:build linux && cgo

package cuda

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moegen/moegen/runtime/driver"
)

// realPTX has "store", which every driver test here launches, "fault", which
// writes to address 8, and "big", which needs dynamic shared memory.
const realPTX = `.version 7.8
.target sm_80
.address_size 64
.visible .entry store(.param .u64 p, .param .u32 v) {
	.reg .b64 %rd<3>;
	.reg .b32 %r<2>;
	ld.param.u64 %rd1, [p];
	ld.param.u32 %r1, [v];
	cvta.to.global.u64 %rd2, %rd1;
	st.global.u32 [%rd2], %r1;
	ret;
}
.visible .entry fault() {
	.reg .b64 %rd<2>;
	.reg .b32 %r<2>;
	mov.u64 %rd1, 8;
	mov.u32 %r1, 1;
	st.global.u32 [%rd1], %r1;
	ret;
}
.extern .shared .align 16 .b8 dynamic[];
.visible .entry big(.param .u64 p) {
	.reg .b64 %rd<4>;
	.reg .b32 %r<3>;
	ld.param.u64 %rd1, [p];
	cvta.to.global.u64 %rd2, %rd1;
	mov.u64 %rd3, dynamic;
	mov.u32 %r1, 4711;
	st.shared.u32 [%rd3], %r1;
	ld.shared.u32 %r2, [%rd3];
	st.global.u32 [%rd2], %r2;
	ret;
}
`

// openReal opens the machine's own driver.
func openReal(t *testing.T) driver.Driver {
	t.Helper()
	d, err := Open()
	if err != nil {
		t.Skip("SKIPPED, NOTHING WAS TESTED ON A GPU:", err)
	}
	t.Cleanup(func() { check(t, d.Close()) })
	return d
}

func TestRealDriver(t *testing.T) {
	d := openReal(t)
	dev := d.Devices()[0]
	t.Logf("%s: %+v", d.Version(), dev.Info())
	for a := driver.AttrMulticastSupported; a <= driver.AttrClockRateKHz; a++ {
		v, err := dev.Attribute(a)
		t.Logf("attribute %d: %d %v", a, v, err)
		check(t, err)
	}
	m := must(dev.LoadModule(driver.Image{Name: "real.ptx", PTX: []byte(realPTX)}))(t)
	store, big := must(m.Function("store"))(t), must(m.Function("big"))(t)
	s := must(dev.NewStream())(t)
	h := must(dev.AllocHost(4096))(t)
	p := must(dev.Alloc(1 << 20))(t)
	value := func(off int) uint32 { return binary.LittleEndian.Uint32(h.Bytes()[off:]) }

	check(t, s.Launch(store, driver.LaunchConfig{}, storeParams(h.Ptr(), 1)))
	check(t, s.Launch(store, driver.LaunchConfig{Dependent: true}, storeParams(h.Ptr()+4, 2)))
	check(t, s.Launch(big, driver.LaunchConfig{SharedBytes: 96 << 10}, storeParams(h.Ptr()+8, 0)[:8]))
	check(t, s.Synchronize())
	if value(0) != 1 || value(4) != 2 || value(8) != 4711 {
		t.Error(h.Bytes()[:12])
	}
	n := must(big.MaxActiveBlocks(1024, 96<<10))(t)
	t.Log("blocks of 1024 threads and 96 KiB on an SM:", n)
	if n < 1 {
		t.Error(n)
	}

	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	check(t, dev.Write(p, data))
	got := make([]byte, len(data))
	check(t, dev.Read(got, p))
	if !bytes.Equal(got, data) {
		t.Error("Write, Read")
	}

	// A graph with a side stream, dependent launches, one of them behind kernels of
	// both streams, and copies from and to page-locked memory; host copies go on
	// during the capture.
	side := must(dev.NewStream())(t)
	fork, join := must(dev.NewEvent())(t), must(dev.NewEvent())(t)
	check(t, s.BeginCapture())
	check(t, s.Launch(store, driver.LaunchConfig{}, storeParams(p, 7)))
	check(t, s.Launch(store, driver.LaunchConfig{Dependent: true}, storeParams(p+4, 8)))
	check(t, s.Record(fork))
	check(t, side.Wait(fork))
	check(t, side.MemsetAsync(p+8, 0xee, 4))
	check(t, side.Launch(store, driver.LaunchConfig{}, storeParams(p+12, 9)))
	check(t, side.Record(join))
	check(t, s.Wait(join))
	check(t, s.Launch(store, driver.LaunchConfig{Dependent: true}, storeParams(p+16, 10)))
	check(t, s.CopyAsync(h.Ptr()+100, p, 20))
	check(t, dev.Write(p+1024, data[:100]))
	if !must(s.Capturing())(t) {
		t.Error("not capturing")
	}
	g := must(s.EndCapture())(t)
	t.Logf("%+v", must(g.Nodes())(t))
	if nodes := must(g.Nodes())(t); len(nodes) != 6 || nodes[0].Name != "store" {
		t.Error(nodes)
	}
	e := must(g.Instantiate())(t)
	a, b := must(dev.NewEvent())(t), must(dev.NewEvent())(t)
	check(t, s.Record(a))
	for range 10 {
		check(t, e.Launch(s))
	}
	check(t, s.Record(b))
	check(t, b.Synchronize())
	if value(100) != 7 || value(104) != 8 || value(108) != 0xeeeeeeee || value(112) != 9 || value(116) != 10 {
		t.Error(h.Bytes()[100:120])
	}
	elapsed := must(b.Since(a))(t)
	t.Log("10 replays:", elapsed)
	if elapsed <= 0 || elapsed > time.Second {
		t.Error(elapsed)
	}
	free, total, err := dev.MemInfo()
	if free == 0 || total < free || err != nil {
		t.Error(free, total, err)
	}

	// What goes wrong without harm.
	err = s.Launch(store, driver.LaunchConfig{Block: driver.Dim3{X: 4096}}, storeParams(p, 1))
	wantText(t, err, "cuLaunchKernel", "kernel store")
	t.Log(err)
	_, err = m.Function("nothing")
	wantText(t, err, "CUDA_ERROR_NOT_FOUND")
	_, err = dev.LoadModule(driver.Image{Name: "bad.ptx", PTX: []byte(strings.Replace(realPTX, "st.shared.u32", "st.nowhere.u32", 1))})
	wantText(t, err, "bad.ptx", "ptxas", "line")
	t.Log(err)

	closeAll(t, e, g, a, b, fork, join, side, s)
	check(t, h.Free())
	check(t, dev.Free(p))
	check(t, m.Unload())
}

func TestRealVMM(t *testing.T) {
	d := openReal(t)
	dev := d.Devices()[0]
	before := descriptors(t)
	for _, kind := range []driver.HandleKind{driver.HandleNone, driver.HandlePosixFD, driver.HandleFabric} {
		size, err := dev.Granularity(kind)
		t.Logf("kind %d: granularity %d %v", kind, size, err)
		m, err := dev.CreateMemory(size, kind)
		if kind == driver.HandleFabric && err != nil {
			t.Log("no fabric memory here:", err)
			continue
		}
		p := must(d.Reserve(2*size, 2*size))(t)
		check(t, err)
		check(t, d.Map(p, size, m, 0))
		twin := m
		if kind != driver.HandleNone {
			s := must(m.Export(kind))(t)
			twin = must(d.Import(dev, s, size))(t)
			if kind == driver.HandlePosixFD {
				check(t, syscall.Close(s.FD))
			}
		}
		check(t, d.Map(p+driver.DevicePtr(size), size, twin, 0))
		check(t, d.SetAccess(p, 2*size, dev))
		check(t, dev.Write(p+64, []byte("shared")))
		got := make([]byte, 6)
		check(t, dev.Read(got, p+64+driver.DevicePtr(size)))
		if string(got) != "shared" {
			t.Errorf("%q", got)
		}
		check(t, m.Release())
		check(t, twin.Release())
		check(t, d.Unmap(p, size))
		check(t, d.Unmap(p+driver.DevicePtr(size), size))
		check(t, d.Unreserve(p, 2*size))
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	minimum, recommended, err := d.MulticastGranularity(1, 2<<20, driver.HandlePosixFD)
	t.Log("multicast granularity:", minimum, recommended, err)
}

// TestRealKeep: code that is kept runs for one module after the other.
func TestRealKeep(t *testing.T) {
	d := openReal(t)
	for _, dev := range d.Devices() {
		s, h := must(dev.NewStream())(t), must(dev.AllocHost(64))(t)
		for i := range uint32(3) {
			m := must(dev.LoadModule(driver.Image{Name: "real.ptx", PTX: []byte(realPTX), Keep: true}))(t)
			check(t, s.Launch(must(m.Function("store"))(t), driver.LaunchConfig{}, storeParams(h.Ptr(), i+1)))
			check(t, s.Synchronize())
			if got := binary.LittleEndian.Uint32(h.Bytes()); got != i+1 {
				t.Errorf("GPU %d: module %d stored %d", dev.Ordinal(), i+1, got)
			}
			check(t, m.Unload())
		}
		check(t, s.Close())
		check(t, h.Free())
	}
}

// TestZRealSticky comes last: it ruins the process's context.
func TestZRealSticky(t *testing.T) {
	d, err := Open()
	if err != nil {
		t.Skip("SKIPPED, NOTHING WAS TESTED ON A GPU:", err)
	}
	dev := d.Devices()[0]
	m := must(dev.LoadModule(driver.Image{Name: "real.ptx", PTX: []byte(realPTX)}))(t)
	s := must(dev.NewStream())(t)
	check(t, s.Launch(must(m.Function("fault"))(t), driver.LaunchConfig{}, nil))
	err = s.Synchronize()
	wantText(t, err, "CUDA_ERROR_ILLEGAL_ADDRESS (700)", "context of GPU 0 is lost", "kernel fault")
	t.Log(err)
	if err := s.Synchronize(); !errors.Is(err, &driver.Error{Code: driver.CodeIllegalAddress}) {
		t.Error("not sticky:", err)
	}
	t.Log("Close:", s.Close(), m.Unload(), d.Close())
}

func BenchmarkRealLaunch(b *testing.B) {
	d, err := Open()
	if err != nil {
		b.Skip("SKIPPED, NOTHING WAS TESTED ON A GPU:", err)
	}
	dev := d.Devices()[0]
	m, err := dev.LoadModule(driver.Image{Name: "real.ptx", PTX: []byte(realPTX)})
	if err != nil {
		b.Fatal(err)
	}
	store, _ := m.Function("store")
	s, _ := dev.NewStream()
	p, _ := dev.Alloc(256)
	params := storeParams(p, 1)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := s.Launch(store, driver.LaunchConfig{}, params); err != nil {
			b.Fatal(err)
		}
		if i%512 == 0 {
			if err := s.Synchronize(); err != nil {
				b.Fatal(err)
			}
		}
	}
}
