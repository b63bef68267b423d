//go:build linux && cgo

package nccl

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moegen/moegen/runtime/driver"
)

func TestMain(m *testing.M) {
	// Variables of the machine must not decide what the tests see.
	for _, v := range []string{
		LibraryEnv, "VIRTUAL_ENV", "CONDA_PREFIX", "NCCL_NVLS_ENABLE", "TORCH_SYMM_MEM_DISABLE_MULTICAST", "NVSHMEM_DISABLE_NVLS",
	} {
		os.Unsetenv(v)
	}
	os.Exit(m.Run())
}

// fake is the pretended libnccl, and a log of its calls and of the contexts
// that were set.
type fake struct {
	t       *testing.T
	lib     *Library
	log     string
	devices []driver.Device
}

func buildFake(t *testing.T, define string) string {
	t.Helper()
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("SKIPPED, NOTHING OF NCCL WAS TESTED: the tests compile a pretended library, and there is no gcc:", err)
	}
	path := filepath.Join(t.TempDir(), "libnccl.so.2")
	args := []string{"-shared", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror", "-o", path, "testdata/fakenccl.c"}
	if define != "" {
		args = append(args, "-D"+define)
	}
	if out, err := exec.Command(gcc, args...).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	return path
}

func openFake(t *testing.T, define string) *fake {
	t.Helper()
	f := &fake{t: t, log: filepath.Join(t.TempDir(), "calls")}
	t.Setenv("FAKENCCL_LOG", f.log)
	t.Setenv(LibraryEnv, buildFake(t, define))
	f.lib = must(Open())(t)
	for i := range 2 {
		f.devices = append(f.devices, &device{f: f, ordinal: i})
	}
	return f
}

// device is as much of a device as NCCL needs.
type device struct {
	driver.Device
	f       *fake
	ordinal int
	fail    error
}

func (d *device) SetContext() error {
	if d.fail != nil {
		return d.fail
	}
	file, err := os.OpenFile(d.f.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = fmt.Fprintf(file, "%d context %d\n", syscall.Gettid(), d.ordinal)
	return err
}

type stream struct {
	driver.Stream
	dev    driver.Device
	handle uintptr
}

func (s stream) Device() driver.Device { return s.dev }
func (s stream) Handle() uintptr       { return s.handle }

// calls returns the log from here on, and checks that it is all of one thread.
func (f *fake) calls() []string {
	f.t.Helper()
	data, err := os.ReadFile(f.log)
	if err != nil && !os.IsNotExist(err) {
		f.t.Fatal(err)
	}
	os.Remove(f.log)
	var calls []string
	thread := ""
	for line := range strings.Lines(string(data)) {
		tid, call, _ := strings.Cut(strings.TrimSpace(line), " ")
		if thread == "" {
			thread = tid
		} else if thread != tid {
			f.t.Errorf("%s: on another thread", call)
		}
		calls = append(calls, call)
	}
	return calls
}

func (f *fake) want(calls ...string) {
	f.t.Helper()
	if diff := cmp.Diff(calls, f.calls()); diff != "" {
		f.t.Error(diff)
	}
}

func (f *fake) comms() []*Comm {
	f.t.Helper()
	var comms []*Comm
	for _, c := range must(f.lib.NewCollectives(f.devices))(f.t) {
		comms = append(comms, c.(*Comm))
	}
	os.Remove(f.log)
	f.t.Cleanup(func() {
		for _, c := range comms {
			check(f.t, c.Close())
		}
	})
	return comms
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

func wantText(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if err == nil || !strings.Contains(err.Error(), p) {
			t.Errorf("%v does not say %q", err, p)
		}
	}
}

func TestCollectives(t *testing.T) {
	f := openFake(t, "")
	comms := must(f.lib.NewCollectives(f.devices))(t)
	f.want("ncclGetUniqueId -", "ncclGroupStart -",
		"context 0", "ncclCommInitRankConfig 0 of 2 config=(nil)",
		"context 1", "ncclCommInitRankConfig 1 of 2 config=(nil)", "ncclGroupEnd -")
	c := comms[1]
	if c.Rank() != 1 || c.Size() != 2 {
		t.Error(c.Rank(), c.Size())
	}
	s := stream{dev: f.devices[1], handle: 0xabc}
	check(t, c.GroupStart())
	check(t, c.AllGather(s, 0x10, 0x20, 48))
	check(t, c.ReduceScatter(s, 0x30, 0x40, 7, driver.BFloat16))
	check(t, c.GroupEnd())
	f.want("ncclGroupStart -", "context 1", "ncclAllGather 10 20 48 type=0 rank=1 stream=abc",
		"context 1", "ncclReduceScatter 30 40 7 type=9 op=0 rank=1 stream=abc", "context 1", "ncclGroupEnd -")
	check(t, c.AllToAll(s, 0x100, 0x200, 16))
	f.want("ncclGroupStart -",
		"context 1", "ncclSend 100 16 type=0 to=0 rank=1 stream=abc", "context 1", "ncclRecv 200 16 type=0 from=0 rank=1 stream=abc",
		"context 1", "ncclSend 110 16 type=0 to=1 rank=1 stream=abc", "context 1", "ncclRecv 210 16 type=0 from=1 rank=1 stream=abc",
		"context 1", "ncclGroupEnd -")
	// The thread is not left inside of the group.
	wantText(t, c.AllToAll(stream{dev: f.devices[0], handle: 1}, 1, 2, 3), "not on the rank's device")
	f.want("ncclGroupStart -", "context 1", "ncclGroupEnd -")
	check(t, c.ReduceScatter(s, 1, 2, 3, driver.Float32))
	check(t, c.ReduceScatter(s, 1, 2, 3, driver.Float16))
	calls := strings.Join(f.calls(), "\n")
	for _, want := range []string{"type=7", "type=6"} {
		if !strings.Contains(calls, want) {
			t.Error(calls)
		}
	}
	wantText(t, c.ReduceScatter(s, 1, 2, 3, 17), "no such driver.ElementType")
	wantText(t, c.AllGather(stream{dev: f.devices[0], handle: 1}, 1, 2, 3), "not on the rank's device")
	wantText(t, c.AllGather(stream{dev: f.devices[1]}, 1, 2, 3), "closed")
	wantText(t, c.GroupEnd(), "no group was started")
	f.calls()
	for range 2 {
		check(t, c.Close())
		check(t, comms[0].Abort())
	}
	f.want("context 1", "ncclCommDestroy 1", "context 0", "ncclCommAbort 0")
	if err := c.AllGather(s, 1, 2, 3); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if err := c.GroupStart(); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

func TestInitRank(t *testing.T) {
	f := openFake(t, "")
	id := must(f.lib.UniqueID())(t)
	c := must(f.lib.InitRank(id, 3, 8, f.devices[0]))(t)
	if c.Rank() != 3 || c.Size() != 8 {
		t.Error(c)
	}
	check(t, c.Close())
	f.want("ncclGetUniqueId -", "ncclGroupStart -", "context 0", "ncclCommInitRankConfig 3 of 8 config=(nil)",
		"ncclGroupEnd -", "context 0", "ncclCommDestroy 3")
	_, err := f.lib.InitRank(id, 8, 8, f.devices[0])
	wantText(t, err, "rank 8 of 8")
	_, err = f.lib.NewCollectives(nil)
	wantText(t, err, "at least one device")
}

func TestErrors(t *testing.T) {
	f := openFake(t, "")
	t.Setenv("FAKENCCL_FAIL", "ncclGroupEnd=1")
	_, err := f.lib.NewCollectives(f.devices)
	if diff := cmp.Diff(&Error{"ncclCommInitRankConfig", 1, "unhandled cuda error", "what NCCL said last"}, err); diff != "" {
		t.Error(diff)
	}
	if calls := strings.Join(f.calls(), "\n"); strings.Count(calls, "ncclCommAbort") != 2 {
		t.Error("ranks were left:", calls)
	}
	os.Unsetenv("FAKENCCL_FAIL")
	f.devices[1].(*device).fail = errors.New("lost")
	_, err = f.lib.NewCollectives(f.devices)
	wantText(t, err, "lost")
	if calls := strings.Join(f.calls(), "\n"); !strings.Contains(calls, "ncclGroupEnd") || strings.Count(calls, "ncclCommAbort") != 1 {
		t.Error("a group or a rank was left:", calls)
	}
	f.devices[1].(*device).fail = nil
	c := f.comms()[0]
	t.Setenv("FAKENCCL_FAIL", "ncclAllGather=6")
	err = c.AllGather(stream{dev: f.devices[0], handle: 1}, 1, 2, 3)
	wantText(t, err, "ncclAllGather: some result (6): what NCCL said last")
	// A group that a failure interrupts ends on its thread all the same.
	check(t, c.GroupStart())
	c.dev.(*device).fail = errors.New("lost")
	wantText(t, c.GroupEnd(), "lost")
	c.dev.(*device).fail = nil
	wantText(t, c.GroupEnd(), "no group was started")
}

// TestNonBlocking is what the environment NCCL_COMM_BLOCKING=0 leads to.
func TestNonBlocking(t *testing.T) {
	f := openFake(t, "")
	t.Setenv("FAKENCCL_ASYNC", "1")
	c := f.comms()[0]
	s := stream{dev: f.devices[0], handle: 1}
	check(t, c.AllGather(s, 1, 2, 3))
	check(t, c.GroupStart())
	check(t, c.AllGather(s, 1, 2, 3))
	check(t, c.GroupEnd())
	p := must(c.MemAlloc(64))(t)
	w := must(c.RegisterWindow(p, 64))(t)
	check(t, c.Deregister(w))
	check(t, c.MemFree(p))
	os.Unsetenv("FAKENCCL_ASYNC")
}

func TestWindows(t *testing.T) {
	f := openFake(t, "")
	c := f.comms()[0]
	p := must(c.MemAlloc(4096))(t)
	w := must(c.RegisterWindow(p, 4096))(t)
	f.want("context 0", "ncclMemAlloc 4096", "context 0", "ncclCommWindowRegister rank=0 4096 flags=1")
	check(t, c.GroupStart())
	_, err := c.RegisterWindow(p, 4096)
	wantText(t, err, "not between GroupStart and GroupEnd")
	check(t, c.GroupEnd())
	if q := must(c.PeerPointer(w, 16, 0))(t); q != p+16 {
		t.Errorf("%x", q)
	}
	if q := must(c.PeerPointer(w, 16, 1))(t); q != 0 {
		t.Errorf("%x", q)
	}
	_, err = c.PeerPointer(w, 0, 2)
	wantText(t, err, "peer 2 of 2")
	want := p + 17
	if !multicastBuilt {
		want = 0
	}
	if q := must(c.MultimemPointer(w, 16))(t); q != want {
		t.Errorf("%x", q)
	}
	t.Setenv("FAKENCCL_NO_MULTIMEM", "1")
	if q := must(c.MultimemPointer(w, 16))(t); q != 0 {
		t.Errorf("%x", q)
	}
	f.calls()
	for name, v := range map[string]string{"NCCL_NVLS_ENABLE": "0", "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1", "NVSHMEM_DISABLE_NVLS": "1"} {
		t.Setenv(name, v)
		if q := must(c.MultimemPointer(w, 16))(t); q != 0 {
			t.Errorf("%x", q)
		}
		os.Unsetenv(name)
	}
	f.want()
	check(t, c.Deregister(w))
	t.Setenv("FAKENCCL_NO_WINDOW", "1")
	_, err = c.RegisterWindow(p, 4096)
	if !errors.Is(err, ErrNoWindows) {
		t.Error(err)
	}
	check(t, c.MemFree(p))
}

func TestOldLibrary(t *testing.T) {
	f := openFake(t, "OLD_LIBRARY")
	if f.lib.HasWindows() {
		t.Error("2.28 has no pointers")
	}
	c := f.comms()[0]
	p := must(c.MemAlloc(64))(t) // 2.27 can do as much
	w := must(c.RegisterWindow(p, 64))(t)
	_, err := c.PeerPointer(w, 0, 0)
	if !errors.Is(err, ErrNoWindows) {
		t.Error(err)
	}
	wantText(t, err, "NCCL 2.28.9", "lacks ncclGetPeerDevicePointer", "2.29")
	check(t, c.Deregister(w))
	check(t, c.MemFree(p))
}

func TestManyRanks(t *testing.T) {
	f := openFake(t, "")
	comms := f.comms()
	var wg sync.WaitGroup
	for i, c := range comms {
		wg.Go(func() {
			for range 200 {
				check(t, c.GroupStart())
				check(t, c.AllGather(stream{dev: f.devices[i], handle: 1}, 1, 2, 3))
				check(t, c.GroupEnd())
			}
		})
	}
	wg.Wait()
	os.Remove(f.log)
}
