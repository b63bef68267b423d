package doctor

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/moegen/moegen/runtime/cuda"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/emu"
	"github.com/moegen/moegen/runtime/nvcc"
	"github.com/moegen/moegen/spec"
)

type fakeNCCL struct{ windows bool }

func (fakeNCCL) Path() string       { return "/lib/libnccl.so.2" }
func (fakeNCCL) Version() string    { return "2.29.1" }
func (f fakeNCCL) HasWindows() bool { return f.windows }

// asCUDA is the emulator under the name of the real thing.
type asCUDA struct {
	driver.Driver
	version string
	without []driver.Attribute // that no device has
}

func (asCUDA) Name() string      { return "cuda" }
func (d asCUDA) Version() string { return "CUDA driver " + d.version }

func (d asCUDA) Devices() []driver.Device {
	all := d.Driver.Devices()
	for i, x := range all {
		all[i] = &device{x, d.without}
	}
	return all
}

type device struct {
	driver.Device
	without []driver.Attribute
}

func (d *device) Attribute(a driver.Attribute) (int, error) {
	if slices.Contains(d.without, a) {
		return 0, nil
	}
	return d.Device.Attribute(a)
}

func (d *device) CanAccessPeer(peer driver.Device) (bool, error) {
	return d.Device.CanAccessPeer(peer.(*device).Device)
}

// fake is a machine that has everything, until a test changes it.
type fake struct {
	*Machine
	config   emu.Config
	emulated bool   // the emulator under its own name
	version  string // of the driver
	without  []driver.Attribute
	files    fstest.MapFS
	env      map[string]string
	link     cuda.P2PAttributes
	spec     string // YAML, "" for none
	ptx      string // beside the spec: its version, "" for none
	calls    map[string]bool
}

func newFake(t *testing.T) *fake {
	f := &fake{config: emu.Config{Devices: 2}, version: "13.0", env: map[string]string{}, calls: map[string]bool{},
		link: cuda.P2PAttributes{AccessSupported: true, NativeAtomics: true}}
	f.files = fstest.MapFS{}
	for path, text := range map[string]string{
		"proc/driver/nvidia/version":             "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n",
		"proc/self/mounts":                       "proc /proc proc rw 0 0\nshm /dev/shm tmpfs rw,nosuid,size=16777216k 0 0\n",
		"proc/self/limits":                       "Limit                     Soft Limit           Hard Limit           Units\nMax open files            1048576              1048576              files\nMax locked memory         unlimited            unlimited            bytes\n",
		"proc/meminfo":                           "MemTotal:       1048576 kB\n",
		"proc/77/comm":                           "nv-fabricmanage\n",
		"dev/nvidiactl":                          "",
		"dev/nvidia-uvm":                         "",
		"dev/nvidia0":                            "",
		"dev/nvidia1":                            "",
		"dev/nvidia-caps/nvidia-cap1":            "",
		"dev/nvidia-caps-imex-channels/channel0": "",
		"dev/nvidia-nvswitch0":                   "",
		"dev/nvidia-nvswitch1":                   "",
	} {
		f.files[path] = &fstest.MapFile{Data: []byte(text)}
	}
	var mu sync.Mutex
	f.Machine = &Machine{
		OpenDriver: func() (driver.Driver, error) {
			inject := f.config.Inject
			f.config.Inject = func(op string, dev int) driver.Code {
				mu.Lock()
				defer mu.Unlock()
				f.calls[op] = true
				if inject != nil {
					return inject(op, dev)
				}
				return 0
			}
			d, err := emu.New(f.config)
			if f.emulated {
				return d, err
			}
			return asCUDA{d, f.version, f.without}, err
		},
		OpenNCCL: func() (NCCL, error) { return fakeNCCL{true}, nil },
		FindNVCC: func(context.Context) (*nvcc.Compiler, error) {
			return &nvcc.Compiler{Path: "/opt/nvcc", Version: "13.0.88", Found: "PATH"}, nil
		},
		Cached:         func(nvcc.Source, nvcc.Target) (nvcc.Image, error) { return nvcc.Image{}, nvcc.ErrNotCached },
		CacheDir:       func() (string, error) { return "/nowhere/cache", nil },
		LookPath:       func(name string) (string, error) { return "/usr/bin/" + name, nil },
		Getenv:         func(name string) string { return f.env[name] },
		Root:           f.files,
		MulticastBuilt: true,
		MulticastOff:   func() string { return "" },
		Link:           func(a, b driver.Device) (cuda.P2PAttributes, bool, error) { return f.link, true, nil },
	}
	return f
}

// remove takes away all files whose path begins with prefix.
func (f *fake) remove(prefix string) {
	for path := range f.files {
		if strings.HasPrefix(path, prefix) {
			delete(f.files, path)
		}
	}
}

func (f *fake) write(path, text string) { f.files[path] = &fstest.MapFile{Data: []byte(text)} }

// noNVCC takes the compiler away.
func (f *fake) noNVCC() {
	f.FindNVCC = func(context.Context) (*nvcc.Compiler, error) {
		return nil, &nvcc.NotFoundError{Tried: []nvcc.Attempt{{Where: "MOEGEN_NVCC", Problem: "not set"}, {Where: "CUDA_HOME", Path: "/x/bin/nvcc", Problem: "no such file"}}}
	}
}

func (f *fake) nvcc(version string) {
	f.FindNVCC = func(context.Context) (*nvcc.Compiler, error) {
		return &nvcc.Compiler{Path: "/opt/nvcc", Version: version, Found: "PATH"}, nil
	}
}

func (f *fake) noDriver(err error) {
	f.OpenDriver = func() (driver.Driver, error) { return nil, err }
}

const plain = "hidden_dim: 2048\ntopk: 8\ndtype: bf16\nep_size: 2\n"

// report examines the machine, and that it was only asked.
func (f *fake) report(t *testing.T) *Report {
	t.Helper()
	var cases []*Case
	if f.spec != "" {
		s, err := spec.Parse("moe.yaml", []byte(f.spec))
		if err != nil {
			t.Fatal(err)
		}
		c, err := NewCase("moe.yaml", "", s)
		if err != nil {
			t.Fatal(err)
		}
		if f.ptx != "" {
			c.program.PTX, c.program.PTXArch = []byte("// moegen\n.version "+f.ptx+"\n.target sm_90a\n"), "sm_90a"
		}
		cases = append(cases, c)
	}
	r := f.Examine(t.Context(), "a test", cases)
	for op := range f.calls {
		if !slices.Contains([]string{"cuDeviceGetAttribute", "cuDeviceCanAccessPeer", "cuMemGetInfo"}, op) {
			t.Errorf("doctor called %s", op)
		}
	}
	return r
}

var errNotThere = errors.New(`exec: "g++": executable file not found in $PATH`)
