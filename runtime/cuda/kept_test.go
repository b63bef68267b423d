//go:build linux && cgo

package cuda

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/moegen/moegen/runtime/driver"
)

// keep loads an image with these kernels, to be kept.
func (f *fake) keep(dev int, name string, kernels ...string) driver.Module {
	f.t.Helper()
	var text []byte
	for _, k := range kernels {
		text = fmt.Appendf(text, ".entry %s(\n", k)
	}
	return must(f.Devices()[dev].LoadModule(driver.Image{Name: name, PTX: text, Keep: true}))(f.t)
}

// loads checks how many modules the driver has loaded, and unloaded, so far.
func (f *fake) loads(loaded, unloaded int) {
	f.t.Helper()
	if l, u := len(f.calls("cuModuleLoadDataEx")), len(f.calls("cuModuleUnload")); l != loaded || u != unloaded {
		f.t.Errorf("%d modules were loaded and %d unloaded, want %d and %d", l, u, loaded, unloaded)
	}
}

func TestKeep(t *testing.T) {
	f := openFake(t, "")
	first := f.keep(0, "first", "one", "two")
	second := f.keep(0, "second", "one", "two") // the name is for people
	f.loads(1, 0)
	one, two := must(first.Function("one"))(t), must(second.Function("two"))(t)
	s := f.stream(0)
	check(t, s.Launch(one, driver.LaunchConfig{}, nil))
	check(t, s.Launch(two, driver.LaunchConfig{}, nil))

	// A module that is unloaded is of no more use; the other one of the image is.
	check(t, first.Unload())
	check(t, first.Unload())
	f.loads(1, 0)
	_, err := first.Function("two")
	wantText(t, err, "module first is unloaded")
	wantText(t, s.Launch(one, driver.LaunchConfig{}, nil), "module first of kernel one is unloaded")
	check(t, s.Launch(two, driver.LaunchConfig{}, nil))
	_, err = second.Function("three")
	wantText(t, err, "CUDA_ERROR_NOT_FOUND (500)", "kernel three of module second")
	check(t, second.Unload())

	for range 3 {
		again := f.keep(0, "again", "one", "two")
		check(t, s.Launch(must(again.Function("one"))(t), driver.LaunchConfig{}, nil))
		check(t, again.Unload())
	}
	f.loads(1, 0)
	if calls := f.calls("cuModuleGetFunction"); len(calls) != 3 {
		t.Error("kernels that are known were looked up again:", calls)
	}

	// What is not the same is loaded: another image, on another device, not to be kept.
	check(t, f.keep(0, "first", "one").Unload())
	f.loads(2, 0)
	check(t, f.keep(1, "first", "one", "two").Unload())
	f.loads(3, 0)
	m := must(f.Devices()[0].LoadModule(driver.Image{PTX: []byte(".entry one(\n")}))(t)
	f.loads(4, 0)
	check(t, m.Unload())
	f.loads(4, 1)
	m = must(f.Devices()[0].LoadModule(driver.Image{Cubin: []byte(".entry cubin(\n\x00"), Keep: true}))(t)
	check(t, s.Launch(must(m.Function("cubin"))(t), driver.LaunchConfig{}, nil))
	f.loads(5, 1)

	check(t, s.Close())
	check(t, f.Close())
	f.loads(5, 5)
	check(t, m.Unload())
	f.loads(5, 5)
	_, err = f.Devices()[0].LoadModule(driver.Image{PTX: []byte(".entry one(\n"), Keep: true})
	wantText(t, err, "the driver is closed")
}

// TestKeepShared: modules of one image share what a launch may use, so that none
// of them lowers it.
func TestKeepShared(t *testing.T) {
	f := openFake(t, "")
	s := f.stream(0)
	a, b := must(f.keep(0, "a", "big").Function("big"))(t), must(f.keep(0, "b", "big").Function("big"))(t)
	check(t, s.Launch(a, driver.LaunchConfig{SharedBytes: 100 << 10}, nil))
	check(t, s.Launch(b, driver.LaunchConfig{SharedBytes: 64 << 10}, nil))
	check(t, s.Launch(a, driver.LaunchConfig{SharedBytes: 100 << 10}, nil))
	if got, want := f.calls("cuFuncSetAttribute"), []string{"cuFuncSetAttribute big 8=102400"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestKeepFailed: an image that did not load is tried again.
func TestKeepFailed(t *testing.T) {
	f := openFake(t, "")
	dev := f.Devices()[0]
	im := driver.Image{Name: "x.ptx", PTX: []byte(".entry one("), Keep: true}
	for _, call := range []string{"cuModuleLoadDataEx", "cuFuncLoad"} {
		t.Setenv("FAKECUDA_FAIL", call+"=2")
		_, err := dev.LoadModule(im)
		wantText(t, err, call+": CUDA_ERROR_OUT_OF_MEMORY (2)", "PTX x.ptx on GPU 0")
	}
	f.loads(2, 1)
	t.Setenv("FAKECUDA_FAIL", "")
	for range 2 {
		must(must(dev.LoadModule(im))(t).Function("one"))(t)
	}
	f.loads(3, 1)
	for range 2 {
		_, err := dev.LoadModule(driver.Image{Name: "bad", PTX: []byte("BAD"), Keep: true})
		wantText(t, err, "syntax error near 'BAD'", "PTX bad on GPU 0")
	}
	f.loads(5, 1)
}

// TestKeepTwoDrivers: each driver keeps for itself, and unloads what it kept,
// though another one holds the context.
func TestKeepTwoDrivers(t *testing.T) {
	f := openFake(t, "")
	other := must(Open(WithLibrary(fakeLibrary(t, ""))))(t)
	must(other.Devices()[0].LoadModule(driver.Image{PTX: []byte(".entry one(\n"), Keep: true}))(t)
	one := must(f.keep(0, "mine", "one").Function("one"))(t)
	f.loads(2, 0)
	check(t, other.Close())
	f.loads(2, 1)
	check(t, f.stream(0).Launch(one, driver.LaunchConfig{}, nil))
}

func TestKeepAtOnce(t *testing.T) {
	f := openFake(t, "")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			// Streams and modules of one's own, all of the same two images.
			s, err := f.Devices()[0].NewStream()
			if err != nil {
				t.Error(err)
				return
			}
			for j := range 25 {
				name := fmt.Sprintf("k%d", (i+j)%2)
				m, err := f.Devices()[0].LoadModule(driver.Image{Name: name, PTX: []byte(".entry " + name + "("), Keep: true})
				if err != nil {
					t.Error(err)
					return
				}
				k, err := m.Function(name)
				if err != nil {
					t.Error(err)
					return
				}
				check(t, s.Launch(k, driver.LaunchConfig{SharedBytes: uint64(i) << 14}, nil))
				check(t, m.Unload())
			}
			check(t, s.Close())
		})
	}
	wg.Wait()
	f.loads(2, 0)
}
