package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/nccl"
	"github.com/moegen/moegen/runtime/nvcc"
)

func (m *machine) examineNCCL() finding {
	f := finding{Name: "NCCL"}
	l, err := m.openNCCL()
	if err != nil {
		f.Why = err.Error()
		f.Do = "nothing, where p2p or nvls works; else install libnccl2, or name the library in " + nccl.LibraryEnv
		return f
	}
	f.Used = true
	f.Detail = fmt.Sprintf("%s, %s: transport nccl", l.Version(), l.Path())
	if l.HasWindows() {
		f.More = []string{"it has symmetric windows that hosts can get pointers from"}
	} else {
		f.More = []string{"it has no symmetric windows that hosts can get pointers from: those came with 2.29"}
	}
	return f
}

func (m *machine) examineNVCC(ctx context.Context) finding {
	f := finding{Name: "nvcc"}
	c, err := m.findNVCC(ctx)
	if err == nil {
		f.Used = true
		f.Detail = fmt.Sprintf("%s, %s, found by %s", c.Version, c.Path, c.Found)
		return f
	}
	var missing *nvcc.NotFoundError
	if !errors.As(err, &missing) {
		f.Why = err.Error()
		return f
	}
	f.Detail = "no usable compiler: only generated PTX and cached images can be loaded"
	f.Why = "looked at"
	for _, a := range missing.Tried {
		f.Why += "\n" + a.Where
		if a.Path != "" {
			f.Why += " " + a.Path
		}
		f.Why += ": " + a.Problem
	}
	f.Do = "run \"make toolchain\" in a moegen checkout, or install CUDA 13, or set MOEGEN_NVCC=/path/to/nvcc"
	return f
}

func (m *machine) examineHostCompiler() finding {
	f := finding{Name: "host compiler"}
	name, from := m.getenv("NVCC_CCBIN"), "NVCC_CCBIN"
	if name == "" {
		name, from = "g++", "PATH"
	}
	// NVCC_CCBIN may be a directory with a g++ in it.
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		name = filepath.Join(name, "g++")
	}
	path, err := m.lookPath(name)
	if err != nil {
		f.Why = err.Error()
		f.Do = "install gcc and g++, or set NVCC_CCBIN=/path/to/g++: nvcc needs it for device code too"
		return f
	}
	f.Used, f.Detail = true, fmt.Sprintf("%s, found by %s: nvcc's preprocessor", path, from)
	return f
}

func (m *machine) examineCache() finding {
	f := finding{Name: "cache"}
	dir, err := m.cacheDir()
	if err != nil {
		f.Why, f.Do = err.Error(), "set MOEGEN_CACHE_DIR to a directory"
		return f
	}
	f.Detail = dir
	entries, bytes := 0, int64(0)
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			if path != dir && e.Name()[0] != '.' && filepath.Dir(path) == filepath.Clean(dir) {
				entries++
			}
			return nil
		}
		if info, err := e.Info(); err == nil { // gone meanwhile is no matter
			bytes += info.Size()
		}
		return nil
	})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.Used = true
		f.Detail += ": not there yet, the first compilation makes it"
		return f
	case err != nil:
		f.Why, f.Do = err.Error(), "make it readable, or set MOEGEN_CACHE_DIR to another directory"
		return f
	}
	f.Used = true
	f.Detail += fmt.Sprintf(": %s, %.1f MiB", map[bool]string{true: "1 image", false: fmt.Sprintf("%d images", entries)}[entries == 1], float64(bytes)/(1<<20))
	if err := writable(dir); err != nil {
		f.Why, f.Do = "new images are not kept: "+err.Error(), "make it writable, or set MOEGEN_CACHE_DIR to another directory"
	}
	return f
}

// writable tries to make a file in dir, as the cache does.
func writable(dir string) error {
	f, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// examineEnvironment tells of the variables that change what is chosen.
func (m *machine) examineEnvironment() []finding {
	var all []finding
	for _, e := range []struct{ name, what string }{
		{moert.TransportEnv, "the transport that dispatchers ask for"},
		{"MOEGEN_DISABLE_JIT", "1 forbids compiling at run time"},
		{"CUDA_VISIBLE_DEVICES", "the GPUs that the driver shows"},
	} {
		if v := m.getenv(e.name); v != "" {
			all = append(all, finding{Name: e.name, Used: true, Detail: fmt.Sprintf("%s: %s", v, e.what)})
		}
	}
	return all
}
