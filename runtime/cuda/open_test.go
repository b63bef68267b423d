//go:build linux && cgo

package cuda

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moegen/moegen/runtime/driver"
)

func TestNoDriver(t *testing.T) {
	saved := libraryCandidates
	defer func() { libraryCandidates = saved }()
	libraryCandidates = []string{"libcuda-that-is-not.so.1", "/nonexistent/libcuda.so.1"}
	_, err := Open()
	if !errors.Is(err, driver.ErrNoDriver) {
		t.Errorf("%v is not ErrNoDriver", err)
	}
	wantText(t, err, "libcuda-that-is-not.so.1", "/nonexistent/libcuda.so.1", "cannot open shared object file",
		"install the NVIDIA driver", LibraryEnv)

	t.Setenv(LibraryEnv, "/nonexistent/mine.so")
	_, err = Open()
	wantText(t, err, "/nonexistent/mine.so", "check the path")
	_, err = Open(WithLibrary("/nonexistent/other.so"))
	wantText(t, err, "/nonexistent/other.so")

	text := filepath.Join(t.TempDir(), "libcuda.so.1")
	if err := os.WriteFile(text, []byte("no library"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Open(WithLibrary(text))
	wantText(t, err, "no CUDA driver", text, "file too short")
}

func TestBrokenDriver(t *testing.T) {
	_, err := Open(WithLibrary(fakeLibrary(t, "BROKEN_DRIVER")))
	wantText(t, err, "CUDA driver 13.0", "lacks cuLaunchKernel;", "CUDA 11.0 or newer")
	if !errors.Is(err, driver.ErrNotSupported) || errors.Is(err, driver.ErrNoDriver) {
		t.Errorf("wrong kind: %v", err)
	}
}

func TestInitFails(t *testing.T) {
	lib := fakeLibrary(t, "")
	for fail, want := range map[string]string{
		"cuInit=100": "CUDA_VISIBLE_DEVICES",
		"cuInit=34":  "stubs directory",
		"cuInit=802": "fabricmanager",
		"cuInit=803": "reboot",
		"cuInit=999": "kernel module",
	} {
		t.Setenv("FAKECUDA_FAIL", fail)
		_, err := Open(WithLibrary(lib))
		wantText(t, err, "cuInit", want)
		if driver.CodeOf(err) == 0 {
			t.Errorf("%s: no code in %v", fail, err)
		}
	}
	t.Setenv("FAKECUDA_FAIL", "")
	t.Setenv("FAKECUDA_DEVICES", "0")
	_, err := Open(WithLibrary(lib))
	wantText(t, err, "sees no GPU")
}

func TestDevices(t *testing.T) {
	f := openFake(t, "")
	if f.Name() != "cuda" || f.Version() != "CUDA driver 13.0" {
		t.Errorf("%s %s", f.Name(), f.Version())
	}
	devices := f.Devices()
	if len(devices) != 2 {
		t.Fatalf("%d devices", len(devices))
	}
	want := driver.DeviceInfo{
		Name: "Fake GPU 1", UUID: "01112131-4151-6171-8191-a1b1c1d1e1f1", PCI: "0000:3c:00",
		Major: 9, SMs: 132, TotalMemory: 141<<30 + 1,
	}
	if diff := cmp.Diff(want, devices[1].Info()); diff != "" {
		t.Error(diff)
	}
	if devices[1].Ordinal() != 1 || devices[1].Driver() != f.Driver {
		t.Error("ordinal or driver")
	}
	for a, want := range map[driver.Attribute]int{
		driver.AttrVMMSupported: 1, driver.AttrPosixFDSupported: 1, driver.AttrFabricSupported: 0,
		driver.AttrMaxThreadsPerBlock: 1024, driver.AttrMaxThreadsPerSM: 2048, driver.AttrClockRateKHz: 1980000,
	} {
		if v := must(devices[0].Attribute(a))(t); v != want {
			t.Errorf("attribute %d: %d, want %d", a, v, want)
		}
	}
	_, err := devices[0].Attribute(99)
	wantText(t, err, "no such driver.Attribute")
	free, total, err := devices[0].MemInfo()
	if free != 1<<20 || total != 2<<20 || err != nil {
		t.Error(free, total, err)
	}
	for _, peer := range devices {
		if !must(devices[0].CanAccessPeer(peer))(t) {
			t.Error("no access to", peer.Ordinal())
		}
	}
	got := must(devices[0].(P2P).P2PAttributes(devices[1]))(t)
	if got != (P2PAttributes{AccessSupported: true, NativeAtomics: true}) {
		t.Error(got)
	}
	check(t, devices[0].SetContext())
	check(t, devices[0].Synchronize())
}

func TestForeignDevice(t *testing.T) {
	f := openFake(t, "")
	other := must(Open(WithLibrary(fakeLibrary(t, ""))))(t)
	defer func() { check(t, other.Close()) }()
	_, err := f.Devices()[0].CanAccessPeer(other.Devices()[1])
	wantText(t, err, "not one of this driver")
}

func TestLazyContexts(t *testing.T) {
	f := openFake(t, "", WithLazyContexts())
	if c := f.calls("cuDevicePrimaryCtxRetain"); len(c) != 0 {
		t.Error(c)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, _, err := f.Devices()[1].MemInfo(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if diff := cmp.Diff([]string{"cuDevicePrimaryCtxRetain 1"}, f.calls("cuDevicePrimaryCtxRetain")); diff != "" {
		t.Error(diff)
	}
}

func TestAfterClose(t *testing.T) {
	f := openFake(t, "")
	dev := f.Devices()[0]
	s, e := f.stream(0), must(dev.NewEvent())(t)
	closeAll(t, s, e)
	_, err := s.Capturing()
	wantText(t, err, "the stream is closed")
	wantText(t, f.stream(0).Record(e), "the event is closed")
	for _, s := range f.Devices() {
		h := must(s.AllocHost(64))(t)
		check(t, h.Free())
	}
	// The leak check of openFake closes the driver; here for what comes after.
	late := must(Open(WithLibrary(fakeLibrary(t, ""))))(t)
	ldev := late.Devices()[0]
	ls := must(ldev.NewStream())(t)
	check(t, ls.Close())
	check(t, late.Close())
	_, err = ldev.NewStream()
	wantText(t, err, "the driver is closed")
}

func TestOpenUndoes(t *testing.T) {
	log := filepath.Join(t.TempDir(), "calls")
	t.Setenv("FAKECUDA_LOG", log)
	t.Setenv("FAKECUDA_FAIL", "cuStreamCreate=2")
	_, err := Open(WithLibrary(fakeLibrary(t, "")))
	wantText(t, err, "GPU 0", "cuStreamCreate", "CUDA_ERROR_OUT_OF_MEMORY (2): out of memory")
	if !errors.Is(err, driver.ErrOutOfMemory) {
		t.Error("not ErrOutOfMemory")
	}
	f := &fake{t: t, log: log}
	f.last("cuDevicePrimaryCtxRelease")
	if got := f.last("live"); got != "live 0 0 0 0 0 0 0 0 0" {
		t.Error(got)
	}
}

func TestMulticastDisabledBy(t *testing.T) {
	if got := MulticastDisabledBy(); got != "" {
		t.Error(got)
	}
	for name, values := range map[string]map[string]bool{
		"NCCL_NVLS_ENABLE":                 {"0": true, "0x0": true, "1": false, "2": false, "": false},
		"TORCH_SYMM_MEM_DISABLE_MULTICAST": {"1": true, "0": false, "": false},
		"NVSHMEM_DISABLE_NVLS":             {"1": true, "true": true, "false": false},
	} {
		for v, off := range values {
			t.Setenv(name, v)
			if got := MulticastDisabledBy(); (got == name) != off {
				t.Errorf("%s=%s: %q", name, v, got)
			}
		}
		os.Unsetenv(name)
	}
}
