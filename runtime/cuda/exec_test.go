//go:build linux && cgo

package cuda

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moegen/moegen/runtime/driver"
)

// storeParams is the parameter block of the pretended kernel "store".
func storeParams(p driver.DevicePtr, v uint32) []byte {
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint64(nil, uint64(p)), v)
}

func TestLaunch(t *testing.T) {
	f := openFake(t, "")
	s, k := f.stream(0), f.kernel(0, "scatter")
	for _, size := range []int{0, 1, 12, 100, 4096, 4400} {
		params := make([]byte, size)
		for i := range params {
			params[i] = byte(i*7 + 3)
		}
		check(t, s.Launch(k, driver.LaunchConfig{Grid: driver.Dim3{X: 132, Y: 2}, Block: driver.Dim3{X: 256}, SharedBytes: 1024}, params))
		want := "cuLaunchKernel scatter grid=132,2,1 block=256,1,1 shared=1024 attrs=0 params=" + hex.EncodeToString(params)
		if got := f.last("cuLaunchKernel"); got != want {
			t.Errorf("%d bytes:\n got %.200s\nwant %.200s", size, got, want)
		}
	}
	check(t, s.Launch(k, driver.LaunchConfig{Dependent: true}, []byte{1, 2}))
	if got, want := f.last("cuLaunchKernelEx"), "cuLaunchKernelEx scatter grid=1,1,1 block=1,1,1 shared=0 attrs=1 params=0102"; got != want {
		t.Error(got)
	}
	if k.Name() != "scatter" {
		t.Error(k.Name())
	}
	wantText(t, s.Launch(k, driver.LaunchConfig{Grid: driver.Dim3{X: -1}}, nil), "kernel scatter", "{-1 0 0}")
	wantText(t, f.stream(1).Launch(k, driver.LaunchConfig{}, nil), "not loaded on the stream's device")
	t.Setenv("FAKECUDA_FAIL", "cuLaunchKernel=1")
	wantText(t, s.Launch(k, driver.LaunchConfig{}, nil), "cuLaunchKernel: CUDA_ERROR_INVALID_VALUE (1)", "kernel scatter")
}

func TestSharedMemory(t *testing.T) {
	f := openFake(t, "")
	s, k := f.stream(0), f.kernel(0, "big")
	for _, n := range []uint64{48 << 10, 100 << 10, 64 << 10} {
		check(t, s.Launch(k, driver.LaunchConfig{SharedBytes: n}, nil))
	}
	if n := must(k.MaxActiveBlocks(256, 200<<10))(t); n != 8 {
		t.Error(n)
	}
	want := []string{"cuFuncSetAttribute big 8=102400", "cuFuncSetAttribute big 8=204800"}
	if diff := cmp.Diff(want, f.calls("cuFuncSetAttribute")); diff != "" {
		t.Error(diff)
	}
	wantText(t, s.Launch(k, driver.LaunchConfig{SharedBytes: 1 << 20}, nil), "cuFuncSetAttribute", "kernel big, 1048576 bytes")
	wantText(t, s.Launch(k, driver.LaunchConfig{SharedBytes: 1 << 40}, nil), "1099511627776 bytes")
	_, err := k.MaxActiveBlocks(0, 0)
	wantText(t, err, "blocks of 0 threads")
}

func TestModule(t *testing.T) {
	f := openFake(t, "")
	dev := f.Devices()[0]
	m := must(dev.LoadModule(driver.Image{Name: "two", PTX: []byte(".entry one(\n.entry two(")}))(t)
	if diff := cmp.Diff([]string{"cuFuncLoad one", "cuFuncLoad two"}, f.calls("cuFuncLoad")); diff != "" {
		t.Error("not loaded at once:", diff)
	}
	one := must(m.Function("one"))(t)
	if must(m.Function("one"))(t) != one {
		t.Error("two objects for a function")
	}
	_, err := m.Function("three")
	wantText(t, err, "cuModuleGetFunction: CUDA_ERROR_NOT_FOUND (500)", "kernel three of module two")
	check(t, m.Unload())
	check(t, m.Unload())
	_, err = m.Function("one")
	wantText(t, err, "module two is unloaded")
	wantText(t, f.stream(0).Launch(one, driver.LaunchConfig{}, nil), "module two of kernel one is unloaded")

	_, err = dev.LoadModule(driver.Image{Name: "x.ptx", PTX: []byte("BAD")})
	wantText(t, err, "cuModuleLoadDataEx: CUDA_ERROR_INVALID_PTX (218)", "PTX x.ptx on GPU 0, Fake GPU 0, compute capability 9.0",
		"syntax error near 'BAD'")
	_, err = dev.LoadModule(driver.Image{Name: "none"})
	wantText(t, err, "exactly one of PTX and Cubin")
	t.Setenv("FAKECUDA_FAIL", "cuModuleLoadDataEx=209")
	_, err = dev.LoadModule(driver.Image{Name: "x.cubin", Cubin: []byte{1, 0}})
	wantText(t, err, "cubin x.cubin", "compile it for its architecture")
	t.Setenv("FAKECUDA_FAIL", "cuFuncLoad=2")
	_, err = dev.LoadModule(driver.Image{Name: "x", PTX: []byte(".entry one(")})
	wantText(t, err, "cuFuncLoad: CUDA_ERROR_OUT_OF_MEMORY (2)")
}

func TestSticky(t *testing.T) {
	f := openFake(t, "")
	s, bad := f.stream(0), f.kernel(0, "fault")
	check(t, s.Launch(bad, driver.LaunchConfig{}, nil))
	const want = "an illegal memory access was encountered; the context of GPU 0 is lost, every later call on it fails; last launched there: kernel fault"
	for range 2 {
		err := s.Synchronize()
		wantText(t, err, "cuStreamSynchronize: CUDA_ERROR_ILLEGAL_ADDRESS (700): "+want)
		if driver.CodeOf(err) != driver.CodeIllegalAddress {
			t.Error("wrong code")
		}
	}
	wantText(t, s.Launch(bad, driver.LaunchConfig{}, nil), "cuLaunchKernel: CUDA_ERROR_ILLEGAL_ADDRESS", want)
	heal(f)
}

func TestStickyGraph(t *testing.T) {
	f := openFake(t, "")
	s, bad := f.stream(0), f.kernel(0, "fault")
	check(t, s.BeginCapture())
	check(t, s.Launch(bad, driver.LaunchConfig{}, nil))
	g := must(s.EndCapture())(t)
	e := must(g.Instantiate())(t)
	check(t, e.Launch(s))
	wantText(t, s.Synchronize(), "last launched there: a graph with the kernels fault")
	heal(f)
	closeAll(t, g, e)
}

// heal revives the pretended driver after a sticky error, so that the test can
// close what it opened.
func heal(f *fake) {
	os.Setenv("FAKECUDA_HEAL", "1")
	defer os.Unsetenv("FAKECUDA_HEAL")
	check(f.t, f.Devices()[0].Synchronize())
}

func TestStreamsAndEvents(t *testing.T) {
	f := openFake(t, "")
	dev := f.Devices()[0]
	s := f.stream(0)
	if s.Handle() == 0 || s.Device() != dev {
		t.Error("handle or device")
	}
	for _, c := range f.calls("cuStreamCreate") {
		if c != "cuStreamCreate flags=1" {
			t.Error("not non-blocking:", c)
		}
	}
	p := must(dev.Alloc(64))(t)
	q := must(dev.Alloc(64))(t)
	if p%256 != 0 {
		t.Errorf("%x", p)
	}
	check(t, dev.Write(p, []byte("hello, device")))
	check(t, s.CopyAsync(q, p, 13))
	check(t, s.MemsetAsync(q, '*', 5))
	got := make([]byte, 13)
	check(t, dev.Read(got, q))
	if string(got) != "*****, device" {
		t.Errorf("%q", got)
	}
	check(t, dev.Write(p, nil))
	check(t, dev.Read(nil, p))
	check(t, s.CopyAsync(q, p, 0))
	check(t, s.MemsetAsync(q, 0, 0))

	a, b := must(dev.NewEvent())(t), must(dev.NewEvent())(t)
	check(t, s.Record(a))
	check(t, s.Record(b))
	check(t, f.stream(1).Wait(b))
	check(t, b.Synchronize())
	if d := must(b.Since(a))(t); d != 1500*time.Microsecond {
		t.Error(d)
	}
	closeAll(t, a, b)
	_, err := b.Since(a)
	wantText(t, err, "the event is closed")
	check(t, dev.Free(p))
	check(t, dev.Free(q))
}

func TestHostMemory(t *testing.T) {
	f := openFake(t, "")
	dev := f.Devices()[0]
	h := must(dev.AllocHost(4096))(t)
	if got := f.last("cuMemHostAlloc"); got != "cuMemHostAlloc 4096 flags=3" {
		t.Error(got)
	}
	if !bytes.Equal(h.Bytes(), make([]byte, 4096)) {
		t.Error("not zero")
	}
	check(t, f.stream(0).Launch(f.kernel(0, "store"), driver.LaunchConfig{}, storeParams(h.Ptr()+8, 0xdeadbeef)))
	if v := binary.LittleEndian.Uint32(h.Bytes()[8:]); v != 0xdeadbeef {
		t.Errorf("%x", v)
	}
	check(t, h.Free())
	check(t, h.Free())
	if h.Bytes() != nil {
		t.Error("bytes after Free")
	}
	t.Setenv("FAKECUDA_FAIL", "cuMemHostGetDevicePointer=1")
	_, err := dev.AllocHost(8)
	wantText(t, err, "cuMemHostGetDevicePointer")
}

func TestGraph(t *testing.T) {
	for _, define := range []string{"", "QUERY_DRIVER"} {
		t.Run("driver"+define, func(t *testing.T) {
			f := openFake(t, define)
			dev := f.Devices()[0]
			s, side, k := f.stream(0), f.stream(0), f.kernel(0, "store")
			h := must(dev.AllocHost(64))(t)
			fork, join := must(dev.NewEvent())(t), must(dev.NewEvent())(t)
			p := must(dev.Alloc(64))(t)

			check(t, s.BeginCapture())
			if got := f.last("cuStreamBeginCapture"); got != "cuStreamBeginCapture mode=2" {
				t.Error("not relaxed:", got)
			}
			if !must(s.Capturing())(t) {
				t.Error("not capturing")
			}
			check(t, s.Launch(k, driver.LaunchConfig{}, storeParams(h.Ptr(), 1)))
			check(t, s.Record(fork))
			check(t, side.Wait(fork))
			check(t, side.Launch(k, driver.LaunchConfig{Dependent: true}, storeParams(h.Ptr()+4, 2)))
			check(t, side.Record(join))
			check(t, s.Wait(join))
			check(t, s.MemsetAsync(p, 0, 64))
			check(t, s.CopyAsync(p, h.Ptr(), 8))
			// Go memory comes and goes in a capture: nothing of it is kept.
			check(t, dev.Write(p, []byte("x")))
			g := must(s.EndCapture())(t)
			if must(s.Capturing())(t) {
				t.Error("still capturing")
			}
			if !bytes.Equal(h.Bytes(), make([]byte, 64)) {
				t.Error("captured work ran")
			}
			want := []driver.GraphNode{{Kind: "kernel", Name: "store"}, {Kind: "kernel", Name: "store"}, {Kind: "memset"}, {Kind: "memcpy"}}
			if diff := cmp.Diff(want, must(g.Nodes())(t)); diff != "" {
				t.Error(diff)
			}
			e := must(g.Instantiate())(t)
			for range 3 {
				clear(h.Bytes())
				check(t, e.Launch(s))
				if got := h.Bytes()[:8]; !bytes.Equal(got, []byte{1, 0, 0, 0, 2, 0, 0, 0}) {
					t.Error(got)
				}
			}
			wantText(t, e.Launch(f.stream(1)), "not on the graph's device")
			closeAll(t, g, e, fork, join, anyCloser{side})
			wantText(t, e.Launch(s), "the graph is closed")
			_, err := g.Nodes()
			wantText(t, err, "the graph is closed")
			check(t, h.Free())
			check(t, dev.Free(p))
		})
	}
}

type anyCloser struct{ driver.Stream }

// TestContextPerCall runs both devices from many goroutines: the pretended
// driver refuses a call in another device's context.
func TestContextPerCall(t *testing.T) {
	f := openFake(t, "")
	streams := []driver.Stream{f.stream(0), f.stream(1)}
	kernels := []driver.Function{f.kernel(0, "k"), f.kernel(1, "k")}
	var lock [2]sync.Mutex
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 50 {
				d := i % 2
				lock[d].Lock() // a stream is used by one goroutine at a time
				err := streams[d].Launch(kernels[d], driver.LaunchConfig{}, nil)
				lock[d].Unlock()
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestOldDriver(t *testing.T) {
	f := openFake(t, "OLD_DRIVER")
	dev := f.Devices()[0]
	if u := dev.Info().UUID; u != "" || f.Version() != "CUDA driver 11.3" {
		t.Errorf("%q %s", u, f.Version())
	}
	s, k := f.stream(0), f.kernel(0, "k") // loaded by an attribute query
	check(t, s.BeginCapture())
	check(t, s.Launch(k, driver.LaunchConfig{Dependent: true}, []byte{1}))
	g := must(s.EndCapture())(t)
	if got := f.last("cuLaunchKernel"); !strings.HasSuffix(got, "params=01") {
		t.Error("no plain launch in place of cuLaunchKernelEx:", got)
	}
	if got := fmt.Sprint(must(g.Nodes())(t)); got != "[{kernel }]" {
		t.Error(got)
	}
	_, err := g.Instantiate()
	wantText(t, err, "cuGraphInstantiateWithFlags", "CUDA driver 11.3", "no symbol cuGraphInstantiateWithFlags", "CUDA 11.4", "update")
	closeAll(t, g)
}

func BenchmarkLaunch(b *testing.B) {
	lib := fakeLibrary(&testing.T{}, "")
	d, err := Open(WithLibrary(lib))
	if err != nil {
		b.Fatal(err)
	}
	s, _ := d.Devices()[0].NewStream()
	m, _ := d.Devices()[0].LoadModule(driver.Image{PTX: []byte(".entry k(")})
	k, _ := m.Function("k")
	params := make([]byte, 128)
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Launch(k, driver.LaunchConfig{}, params); err != nil {
			b.Fatal(err)
		}
	}
}
