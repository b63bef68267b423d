package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/emu"
	"github.com/moegen/moegen/runtime/nvcc"
)

type fakeNCCL struct{ windows bool }

func (fakeNCCL) Path() string       { return "/lib/libnccl.so.2" }
func (fakeNCCL) Version() string    { return "2.29.1" }
func (f fakeNCCL) HasWindows() bool { return f.windows }

// asCUDA is the emulator under the name of the real thing.
type asCUDA struct{ driver.Driver }

func (asCUDA) Name() string { return "cuda" }

// noMulticast is a driver of a binary built with -tags nomulticast.
type noMulticast struct{ driver.Driver }

func (noMulticast) MulticastGranularity(int, uint64, driver.HandleKind) (uint64, uint64, error) {
	return 0, 0, driver.ErrNoMulticast
}

// fakeMachine has everything, as far as config lets it.
func fakeMachine(t *testing.T, config emu.Config) *machine {
	t.Helper()
	dir := t.TempDir()
	return &machine{
		openDriver: func() (driver.Driver, error) {
			d, err := emu.New(config)
			return asCUDA{d}, err
		},
		openNCCL: func() (ncclLibrary, error) { return fakeNCCL{true}, nil },
		findNVCC: func(context.Context) (*nvcc.Compiler, error) {
			return &nvcc.Compiler{Path: "/opt/nvcc", Version: "13.0.88", Found: "PATH"}, nil
		},
		cacheDir:     func() (string, error) { return dir, nil },
		lookPath:     func(name string) (string, error) { return "/usr/bin/" + name, nil },
		getenv:       func(string) string { return "" },
		multicastOff: func() string { return "" },
	}
}

func report(t *testing.T, m *machine) string {
	t.Helper()
	var b strings.Builder
	printFindings(&b, m.examine(t.Context()))
	return b.String()
}

func wantText(t *testing.T, got string, wants ...string) {
	t.Helper()
	flat := strings.Join(strings.Fields(got), " ")
	for _, want := range wants {
		if !strings.Contains(flat, want) {
			t.Errorf("there is no %q in\n%s", want, got)
		}
	}
}

func TestDoctorHasEverything(t *testing.T) {
	m := fakeMachine(t, emu.Config{Devices: 2})
	wantText(t, report(t, m),
		"GPU 1 used", "UUID ", "peer access used every GPU reaches every other", "0 - yes", "1 yes -",
		"multicast used", "NCCL used 2.29.1, /lib/libnccl.so.2", "has symmetric windows",
		"nvcc used 13.0.88, /opt/nvcc, found by PATH", "host compiler used /usr/bin/g++", "cache used", "0 images")
}

func TestDoctorSaysWhyNot(t *testing.T) {
	for _, c := range []struct {
		name   string
		config emu.Config
		change func(*machine)
		wants  []string
	}{
		{"no driver", emu.Config{Devices: 1}, func(m *machine) {
			m.openDriver = func() (driver.Driver, error) { return nil, fmt.Errorf("%w: not here", driver.ErrNoDriver) }
		}, []string{"driver not used why: no CUDA driver: not here", "NCCL used"}},
		{"one GPU", emu.Config{Devices: 1}, nil, []string{"peer access not used why: there are no two GPUs", "multicast not used"}},
		{"old GPU", emu.Config{Devices: 1, CC: [2]int{8, 0}}, nil, []string{"GPU 0 not used", "CUDA_VISIBLE_DEVICES"}},
		{"a pair without a path", emu.Config{Devices: 3, NoPeer: func(a, b int) bool { return a == 0 && b == 2 }}, nil,
			[]string{"peer access used 2 paths missing", "0 - yes no", "nvidia-smi topo"}},
		{"no paths", emu.Config{Devices: 2, NoPeer: func(a, b int) bool { return true }}, nil, []string{"peer access not used 2 paths missing"}},
		{"no multicast", emu.Config{Devices: 2, NoMulticast: true}, nil, []string{"multicast not used", "GPU 0, 1 does not support it"}},
		{"multicast turned off", emu.Config{Devices: 2}, func(m *machine) {
			m.multicastOff = func() string { return "NCCL_NVLS_ENABLE" }
			m.getenv = func(name string) string { return map[string]string{"NCCL_NVLS_ENABLE": "0"}[name] }
		}, []string{"multicast not used", "NCCL_NVLS_ENABLE=0 in the environment turns it off"}},
		{"multicast compiled out", emu.Config{Devices: 2}, func(m *machine) {
			open := m.openDriver
			m.openDriver = func() (driver.Driver, error) {
				d, err := open()
				return noMulticast{d}, err
			}
		}, []string{"multicast not used", "-tags nomulticast"}},
		{"no NCCL", emu.Config{Devices: 1}, func(m *machine) {
			m.openNCCL = func() (ncclLibrary, error) { return nil, errors.New("no NCCL library") }
		}, []string{"NCCL not used why: no NCCL library", "MOEGEN_NCCL"}},
		{"old NCCL", emu.Config{Devices: 1}, func(m *machine) {
			m.openNCCL = func() (ncclLibrary, error) { return fakeNCCL{}, nil }
		}, []string{"no symmetric windows", "2.29"}},
		{"no nvcc", emu.Config{Devices: 1}, func(m *machine) {
			m.findNVCC = func(context.Context) (*nvcc.Compiler, error) {
				return nil, &nvcc.NotFoundError{Tried: []nvcc.Attempt{{Where: "PATH", Problem: "no nvcc there"}, {Where: "CUDA_HOME", Path: "/x", Problem: "no such file"}}}
			}
		}, []string{"nvcc not used", "PATH: no nvcc there CUDA_HOME /x: no such file", "make toolchain"}},
		{"broken nvcc", emu.Config{Devices: 1}, func(m *machine) {
			m.findNVCC = func(context.Context) (*nvcc.Compiler, error) { return nil, errors.New("MOEGEN_NVCC=/x: no") }
		}, []string{"nvcc not used why: MOEGEN_NVCC=/x: no"}},
		{"no g++", emu.Config{Devices: 1}, func(m *machine) {
			m.lookPath = func(string) (string, error) { return "", errors.New("not found in $PATH") }
		}, []string{"host compiler not used why: not found", "install gcc and g++"}},
		{"another g++", emu.Config{Devices: 1}, func(m *machine) {
			m.getenv = func(name string) string { return map[string]string{"NVCC_CCBIN": "g++-12"}[name] }
		}, []string{"host compiler used /usr/bin/g++-12, found by NVCC_CCBIN"}},
		{"no cache", emu.Config{Devices: 1}, func(m *machine) {
			m.cacheDir = func() (string, error) { return "", errors.New("no home") }
		}, []string{"cache not used why: no home"}},
		{"JIT off", emu.Config{Devices: 1}, func(m *machine) {
			m.getenv = func(name string) string { return map[string]string{"MOEGEN_DISABLE_JIT": "1"}[name] }
		}, []string{"MOEGEN_DISABLE_JIT used 1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := fakeMachine(t, c.config)
			if c.change != nil {
				c.change(m)
			}
			wantText(t, report(t, m), c.wants...)
		})
	}
}

// TestDoctorCache counts images, and notices a directory that cannot be
// written.
func TestDoctorCache(t *testing.T) {
	m := fakeMachine(t, emu.Config{Devices: 1})
	dir, _ := m.cacheDir()
	for _, path := range []string{"a.1/image.ptx", "b.2/image.cubin", ".locks/a.1"} {
		path = filepath.Join(dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, make([]byte, 1<<19), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	wantText(t, report(t, m), "2 images, 1.5 MiB")
	if os.Getuid() == 0 {
		return // permissions do not bind root
	}
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	wantText(t, report(t, m), "new images are not kept")
}
