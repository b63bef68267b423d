package doctor

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/nvcc"
)

func printed(r *Report) string {
	var b strings.Builder
	r.Print(&b)
	return b.String()
}

// TestReports: whole reports.
func TestReports(t *testing.T) {
	for name, change := range map[string]func(*fake){
		"everything": func(f *fake) { f.spec = plain },
		"emulated":   func(f *fake) { f.emulated, f.spec = true, plain },
		"alone":      func(f *fake) { f.config.Devices, f.spec = 1, "hidden_dim: 2048\ntopk: 8\ndtype: bf16\nep_size: 1\n" },
		"bare": func(f *fake) {
			f.noDriver(driver.ErrNoDriver)
			f.Root, f.spec = nil, plain
			f.noNVCC()
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			change(f)
			r := f.report(t)
			golden(t, name+".txt", printed(r))
			golden(t, name+".json", asJSON(t, r))
		})
	}
}

// TestCanRun: what decides the exit code.
func TestCanRun(t *testing.T) {
	noPeers := func(f *fake) { f.config.NoPeer = func(a, b int) bool { return true } }
	noNCCL := func(f *fake) { f.OpenNCCL = func() (NCCL, error) { return nil, errors.New("none") } }
	for _, c := range []struct {
		name   string
		change func(*fake)
		can    bool
		over   string
	}{
		{"everything", func(f *fake) {}, true, "nvls"},
		{"no multicast", func(f *fake) { f.config.NoMulticast = true }, true, "p2p"},
		{"no peers", noPeers, true, "nccl"},
		{"no peers, no NCCL", func(f *fake) { noPeers(f); noNCCL(f) }, false, ""},
		{"no NCCL", noNCCL, true, "nvls"},
		{"asked for p2p", func(f *fake) { f.env["MOEGEN_TRANSPORT"] = "p2p" }, true, "p2p"},
		{"asked for what cannot be", func(f *fake) { f.env["MOEGEN_TRANSPORT"] = "nvls"; f.config.NoMulticast = true }, false, ""},
		{"no driver", func(f *fake) { f.noDriver(driver.ErrNoDriver) }, false, ""},
		{"too few", func(f *fake) { f.config.Devices = 1 }, false, ""},
		{"a third without a path", func(f *fake) {
			f.config.Devices, f.config.NoPeer = 3, func(a, b int) bool { return b == 2 }
		}, true, "nvls"},
		{"PTX and no nvcc", func(f *fake) { f.noNVCC(); f.ptx = "9.0" }, true, "nvls"},
		{"old PTX, old driver, no nvcc", func(f *fake) { f.noNVCC(); f.ptx, f.version = "8.7", "12.8" }, true, "nvls"},
		{"cached, no nvcc", func(f *fake) {
			f.noNVCC()
			f.Cached = func(nvcc.Source, nvcc.Target) (nvcc.Image, error) { return nvcc.Image{}, nil }
		}, true, "nvls"},
		{"JIT forbidden", func(f *fake) { f.env[noJIT] = "1" }, false, "nvls"},
		{"an attribute in a fabric that is not ready", func(f *fake) {
			f.config.Inject = failing("cuDeviceGetAttribute", driver.CodeSystemNotReady)
		}, false, "nccl"},
		{"peers in a fabric that is not ready", func(f *fake) {
			f.config.Inject = failing("cuDeviceCanAccessPeer", driver.CodeSystemNotReady)
		}, true, "nccl"},
		{"an old nvcc and PTX", func(f *fake) { f.nvcc("12.8.9"); f.config.CC, f.ptx = [2]int{10, 3}, "9.0" }, false, "nvls"},
		{"no g++", func(f *fake) { f.LookPath = func(string) (string, error) { return "", errNotThere } }, false, "nvls"},
		{"emulated without nvcc", func(f *fake) { f.emulated = true; f.noNVCC() }, false, "nvls"},
		{"emulated with PTX", func(f *fake) { f.emulated, f.ptx = true, "9.0"; f.noNVCC() }, true, "nvls"},
	} {
		f := newFake(t)
		f.spec = plain
		c.change(f)
		r := f.report(t)
		if x := r.Specs[0]; r.CanRun != c.can || x.CanRun != c.can || x.Transport != c.over {
			t.Errorf("%s: %v over %q, not %v over %q:\n%s", c.name, x.CanRun, x.Transport, c.can, c.over, printed(r))
		}
		if !c.can && r.Verdict != Failure {
			t.Errorf("%s: the verdict is %s", c.name, r.Verdict)
		}
	}
}

// TestNothing: without a spec, something can nearly always run.
func TestNothing(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*fake)
		can    bool
	}{
		{"GPUs, no nvcc", (*fake).noNVCC, true},
		{"nvcc, no GPU", func(f *fake) { f.noDriver(driver.ErrNoDriver) }, true},
		{"old GPUs, no nvcc", func(f *fake) { f.config.CC = [2]int{8, 0}; f.noNVCC() }, false},
		{"neither", func(f *fake) { f.noDriver(driver.ErrNoDriver); f.noNVCC() }, false},
		{"a cache", func(f *fake) {
			f.noDriver(driver.ErrNoDriver)
			f.noNVCC()
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, "moe.1"), 0o700); err != nil {
				t.Fatal(err)
			}
			f.CacheDir = func() (string, error) { return dir, nil }
		}, true},
	} {
		f := newFake(t)
		c.change(f)
		if r := f.report(t); r.CanRun != c.can {
			t.Errorf("%s: %v", c.name, r.CanRun)
		}
	}
}

// TestCacheDirectory counts images, and leaves the directory as it is.
func TestCacheDirectory(t *testing.T) {
	f := newFake(t)
	dir := t.TempDir()
	f.CacheDir = func() (string, error) { return dir, nil }
	for _, path := range []string{"a.1/image.ptx", "b.2/image.cubin", ".locks/a.1"} {
		path = filepath.Join(dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, make([]byte, 1<<19), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if text := printed(f.report(t)); !strings.Contains(text, "2 images, 1.5 MiB") || len(must(os.ReadDir(dir))) != 3 {
		t.Error(text)
	}
}

func TestSizes(t *testing.T) {
	e := &exam{Machine: newFake(t).Machine}
	for options, want := range map[string]uint64{
		"rw,size=65536k": 64 << 20, "size=1g": 1 << 30, "size=2M,rw": 2 << 20, "size=4096": 4096, "rw": 512 << 20, "size=25%": 256 << 20,
	} {
		if got, err := e.tmpfsSize(options); err != nil || got != want {
			t.Errorf("%s: %d, %v", options, got, err)
		}
	}
	if _, err := e.tmpfsSize("size=lots"); err == nil {
		t.Error("size=lots is taken")
	}
}

func TestVersions(t *testing.T) {
	for ptx, want := range map[string]int{"8.5": 12050, "8.6": 12070, "8.7": 12080, "8.8": 12090, "9.0": 13000, "9.1": 13010, "7.8": 11080} {
		if _, got := ptxNeeds([]byte("// x\n.version " + ptx + "\n.target sm_90a\n")); got != want {
			t.Errorf("PTX %s: %d, not %d", ptx, got, want)
		}
	}
	for _, c := range []struct {
		arch         string
		major, minor int
		want         bool
	}{
		{"sm_90a", 9, 0, true}, {"sm_90a", 10, 0, false}, {"sm_90", 10, 3, true}, {"sm_100f", 10, 3, true}, {"sm_100f", 12, 0, false}, {"sm_100a", 10, 3, false}, {"sm_103a", 10, 0, false},
	} {
		if got := runsOn(c.arch, driver.DeviceInfo{Major: c.major, Minor: c.minor}); got != c.want {
			t.Errorf("%s on %d.%d: %v", c.arch, c.major, c.minor, got)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
