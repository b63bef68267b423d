//go:build linux && cgo

package cuda

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moegen/moegen/runtime/driver"
)

const granule = 2 << 20

func descriptors(t *testing.T) int {
	t.Helper()
	return len(must(os.ReadDir("/proc/self/fd"))(t))
}

func TestVMM(t *testing.T) {
	f := openFake(t, "")
	before := descriptors(t)
	d0, d1 := f.Devices()[0], f.Devices()[1]
	for kind, want := range map[driver.HandleKind]string{
		driver.HandleNone: "0", driver.HandlePosixFD: "1", driver.HandleFabric: "8",
	} {
		if n := must(d1.Granularity(kind))(t); n != granule {
			t.Error(n)
		}
		if got := f.last("cuMemGetAllocationGranularity"); got != "cuMemGetAllocationGranularity dev=1 kinds="+want+" which=0" {
			t.Error(got)
		}
	}
	for _, kind := range []driver.HandleKind{driver.HandlePosixFD, driver.HandleFabric} {
		m := must(d1.CreateMemory(2*granule, kind))(t)
		if m.Size() != 2*granule {
			t.Error(m.Size())
		}
		s := must(m.Export(kind))(t)
		if kind == driver.HandlePosixFD {
			flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(s.FD), syscall.F_GETFD, 0)
			if errno != 0 || flags&syscall.FD_CLOEXEC == 0 {
				t.Error("children would inherit the descriptor")
			}
		}
		twin := must(f.Import(d0, s, 2*granule))(t)
		if kind == driver.HandlePosixFD { // still the caller's, to close
			check(t, syscall.Close(s.FD))
		}
		// The second half, seen through both handles.
		p := must(f.Reserve(2*granule, 4*granule))(t)
		if p%(4*granule) != 0 {
			t.Errorf("%x is not aligned", p)
		}
		check(t, f.Map(p, granule, m, granule))
		check(t, f.Map(p+granule, granule, twin, granule))
		check(t, f.SetAccess(p, 2*granule, d0, d1))
		check(t, f.SetAccess(p, 2*granule))
		if got := f.calls("cuMemSetAccess"); got[len(got)-1] != "cuMemSetAccess size=4194304 devices= 0 1" {
			t.Error(got)
		}
		check(t, d1.Write(p+100, []byte("shared")))
		got := make([]byte, 6)
		check(t, d0.Read(got, p+granule+100))
		if string(got) != "shared" {
			t.Errorf("%q", got)
		}
		// Handles may go before mappings.
		for range 2 {
			check(t, m.Release())
			check(t, twin.Release())
		}
		wantText(t, f.Map(p, granule, m, 0), "released")
		_, err := m.Export(kind)
		wantText(t, err, "released")
		check(t, f.Unmap(p, granule))
		check(t, f.Unmap(p+granule, granule))
		check(t, f.Unreserve(p, 2*granule))
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func TestVMMErrors(t *testing.T) {
	f := openFake(t, "")
	dev := f.Devices()[0]
	m := must(dev.CreateMemory(granule, driver.HandlePosixFD))(t)
	_, err := m.Export(driver.HandleNone)
	wantText(t, err, "not as driver.HandleKind 0")
	_, err = m.Export(driver.HandleFabric)
	wantText(t, err, "cuMemExportToShareableHandle: CUDA_ERROR_INVALID_VALUE (1)")
	_, err = f.Import(dev, driver.Shareable{}, granule)
	wantText(t, err, "cannot be of driver.HandleKind 0")
	_, err = f.Import(dev, driver.Shareable{Kind: driver.HandlePosixFD, FD: 9999}, granule)
	wantText(t, err, "cuMemImportFromShareableHandle")
	_, err = dev.CreateMemory(granule, 17)
	wantText(t, err, "no such driver.HandleKind: 17")
	wantText(t, f.Map(granule, granule, nil, 0), "not of this driver")
	t.Setenv("FAKECUDA_FAIL", "cuMemCreate=2,cuMemMap=208")
	_, err = dev.CreateMemory(granule, driver.HandleNone)
	if !errors.Is(err, driver.ErrOutOfMemory) {
		t.Error(err)
	}
	wantText(t, f.Map(granule, granule, m, 0), "cuMemMap: unknown code (208): some text")
	check(t, m.Release())
}

func TestMulticast(t *testing.T) {
	if !multicastBuilt {
		t.Skip("built with nomulticast")
	}
	f := openFake(t, "")
	d0, d1 := f.Devices()[0], f.Devices()[1]
	minimum, recommended, err := f.MulticastGranularity(2, granule, driver.HandlePosixFD)
	if minimum != granule || recommended != 512<<20 || err != nil {
		t.Error(minimum, recommended, err)
	}
	if v := must(d0.Attribute(driver.AttrMulticastSupported))(t); v != 1 {
		t.Error(v)
	}
	mc := must(f.CreateMulticast(2, 4*granule, driver.HandlePosixFD))(t)
	s := must(mc.Export(driver.HandlePosixFD))(t)
	// The other rank imports, and finds out what it got by trying.
	other := must(f.Import(d1, s, 4*granule))(t).(driver.Multicast)
	check(t, syscall.Close(s.FD))
	check(t, mc.AddDevice(d0))
	m0 := must(d0.CreateMemory(2*granule, driver.HandlePosixFD))(t)
	m1 := must(d1.CreateMemory(2*granule, driver.HandlePosixFD))(t)
	if driver.CodeOf(mc.Bind(d0, 0, m0, 0, granule)) != driver.CodeIllegalState {
		t.Error("bound before all devices were added")
	}
	check(t, other.AddDevice(d1))
	check(t, mc.Bind(d0, granule, m0, granule, granule))
	check(t, other.Bind(d1, granule, m1, 0, granule))
	if got := f.calls("cuMulticastBindMem")[1]; got != "cuMulticastBindMem offset=2097152 memory=2097152 size=2097152 flags=0" {
		t.Error(got)
	}
	p := must(f.Reserve(4*granule, 0))(t)
	check(t, f.Map(p, 4*granule, mc, 0))
	check(t, f.SetAccess(p, 4*granule, d0))
	check(t, f.Unmap(p, 4*granule))
	check(t, f.Unreserve(p, 4*granule))
	// Undoing is never refused.
	t.Setenv("NCCL_NVLS_ENABLE", "0")
	wantText(t, mc.Bind(d0, 0, m0, 0, granule), "NCCL_NVLS_ENABLE")
	check(t, mc.Unbind(d0, granule, granule))
	check(t, other.Unbind(d1, granule, granule))
	for _, m := range []driver.Memory{m0, m1, mc, other} {
		check(t, m.Release())
	}
}

func TestMulticastRefused(t *testing.T) {
	if !multicastBuilt {
		t.Skip("built with nomulticast")
	}
	f := openFake(t, "")
	_, err := f.CreateMulticast(0, granule, driver.HandleNone)
	wantText(t, err, "not 0")
	f.forget()
	for name, v := range map[string]string{"NCCL_NVLS_ENABLE": "0", "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1", "NVSHMEM_DISABLE_NVLS": "1"} {
		t.Setenv(name, v)
		_, err := f.CreateMulticast(2, granule, driver.HandlePosixFD)
		wantText(t, err, "turned off", name)
		if !errors.Is(err, driver.ErrNotPermitted) {
			t.Error("not ErrNotPermitted")
		}
		_, _, err = f.MulticastGranularity(2, granule, driver.HandlePosixFD)
		wantText(t, err, "turned off", name)
		os.Unsetenv(name)
	}
	if c := f.calls(""); len(c) != 0 {
		t.Error("calls were made:", c)
	}
}

func TestMulticastOldDriver(t *testing.T) {
	if !multicastBuilt {
		t.Skip("built with nomulticast")
	}
	f := openFake(t, "OLD_DRIVER")
	_, err := f.CreateMulticast(2, granule, driver.HandlePosixFD)
	wantText(t, err, "CUDA driver 11.3", "no symbol "+multicastName("Create"), "CUDA 12.1", "update the NVIDIA driver")
	if !errors.Is(err, driver.ErrNotSupported) {
		t.Error("not ErrNotSupported")
	}
}

// multicastName puts a multicast call's name together at run time: this test's
// own binary goes to machines on which none may contain it.
func multicastName(call string) string { return strings.Join([]string{"cuMulti", "cast", call}, "") }

// TestNoMulticastTag looks into binaries for the names of the multicast calls.
func TestNoMulticastTag(t *testing.T) {
	lib := fakeLibrary(t, "")
	for tag, want := range map[string]struct {
		names bool
		out   []string
	}{
		"": {true, []string{"supported: 1 <nil>", "granularity: <nil>", "create: <nil>", "add: <nil>"}},
		"nomulticast": {false, []string{
			"supported: 0 <nil>", "granularity: " + driver.ErrNoMulticast.Error(), "create: " + driver.ErrNoMulticast.Error(),
		}},
	} {
		bin := filepath.Join(t.TempDir(), "program")
		cmd := exec.Command("go", "build", "-tags", tag, "-o", bin, "./testdata/program")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go build: %v\n%s", err, out)
		}
		data := string(must(os.ReadFile(bin))(t))
		for _, name := range []string{multicastName(""), multicastName("Create"), multicastName("BindMem"), "CU_MULTICAST"} {
			if got, expected := strings.Contains(data, name), want.names && name != "CU_MULTICAST"; got != expected {
				t.Errorf("tag %q: %s in the binary: %v, want %v", tag, name, got, expected)
			}
		}
		cmd = exec.Command(bin)
		cmd.Env = append(os.Environ(), LibraryEnv+"="+lib, "FAKECUDA_LOG=")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("tag %q: %v\n%s", tag, err, out)
		}
		if diff := cmp.Diff(want.out, strings.Split(strings.TrimSpace(string(out)), "\n")); diff != "" {
			t.Errorf("tag %q: %s", tag, diff)
		}
	}
}
