package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/nccl"
	"github.com/moegen/moegen/runtime/nvcc"
)

func (e *exam) ncclProblem() *problem {
	switch text := fmt.Sprint(e.ncclErr); {
	case e.ncclErr == nil:
		return nil
	case errors.Is(e.ncclErr, nccl.ErrNoLibrary) && strings.Contains(text, " lacks "):
		return &problem{"nccl-too-old", text}
	case errors.Is(e.ncclErr, nccl.ErrNoLibrary):
		return &problem{"nccl-missing", text}
	default:
		return &problem{"nccl-fails", text}
	}
}

func examineNCCL(e *exam) []Finding {
	f := Finding{Use: Used}
	switch p := e.ncclProblem(); {
	case e.emulated():
		f.Found = "the emulator's own stand-in: transport nccl"
	case p != nil:
		f.Found = p.found
		f = f.because(p.id)
	default:
		f.Found = fmt.Sprintf("%s, %s: transport nccl", e.nccl.Version(), e.nccl.Path())
		if !e.nccl.HasWindows() {
			f = f.because("nccl-no-windows")
		}
	}
	return []Finding{f}
}

// release is a version's first two numbers as CUDA writes them: 13.0.88 is 13000.
func release(version string) int {
	parts := strings.SplitN(version+".0", ".", 3)
	major, _ := strconv.Atoi(parts[0])
	minor, _ := strconv.Atoi(parts[1])
	return 1000*major + 10*minor
}

// archSince is the nvcc that brought an architecture, by compute capability.
var archSince = map[[2]int]int{
	{10, 0}: 12080, {12, 0}: 12080, {10, 3}: 12090, {12, 1}: 12090, {11, 0}: 13000,
}

// compilerProblem says why the compiler that was found is of no use for a GPU.
func (e *exam) compilerProblem(g driver.Device) *problem {
	have, i := release(e.compiler.Version), g.Info()
	switch since := archSince[[2]int{i.Major, i.Minor}]; {
	case have < since:
		return &problem{"nvcc-unknown-arch", fmt.Sprintf("GPU %d has compute capability %d.%d, which came with nvcc %s", g.Ordinal(), i.Major, i.Minor, versionText(since))}
	case e.version != 0 && have/1000 > e.version/1000:
		return &problem{"nvcc-newer-major", fmt.Sprintf("nvcc is of CUDA %s, the driver of %s", versionText(have), versionText(e.version))}
	}
	return nil
}

func examineNVCC(e *exam) []Finding {
	f := Finding{Use: Used}
	var missing *nvcc.NotFoundError
	switch {
	case errors.As(e.compilerErr, &missing):
		f.Found = "looked at"
		for _, a := range missing.Tried {
			f.Lines = append(f.Lines, strings.TrimSpace(a.Where+" "+a.Path)+": "+a.Problem)
		}
		return []Finding{f.because("nvcc-missing")}
	case e.compilerErr != nil:
		f.Found = e.compilerErr.Error()
		return []Finding{f.because("nvcc-fails")}
	}
	f.Found = fmt.Sprintf("%s, %s, found by %s", e.compiler.Version, e.compiler.Path, e.compiler.Found)
	if e.emulated() {
		return []Finding{f}
	}
	for _, g := range e.gpus {
		if p := e.compilerProblem(g); p != nil {
			f.Found += "; " + p.found
			return []Finding{f.because(p.id)}
		}
	}
	if have := release(e.compiler.Version); e.version != 0 && have > e.version {
		f.Found += "; the driver is of CUDA " + versionText(e.version)
		f = f.because("nvcc-newer")
	}
	return []Finding{f}
}

func (e *exam) hostCompiler() (path, from string, err error) {
	name, from := e.Getenv("NVCC_CCBIN"), "NVCC_CCBIN"
	if name == "" {
		name, from = "g++", "PATH"
	}
	// NVCC_CCBIN may be a directory with a g++ in it.
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		name = filepath.Join(name, "g++")
	}
	path, err = e.LookPath(name)
	return path, from, err
}

func examineHostCompiler(e *exam) []Finding {
	f := Finding{Use: Used}
	path, from, err := e.hostCompiler()
	if err != nil {
		f.Found = err.Error()
		return []Finding{f.because("host-compiler-missing")}
	}
	f.Found = fmt.Sprintf("%s, found by %s", path, from)
	return []Finding{f}
}

// cacheContents counts the cached images and their bytes.
func (e *exam) cacheContents() (images int, bytes int64, err error) {
	dir, err := e.CacheDir()
	if err != nil {
		return 0, 0, err
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if path != dir && d.Name()[0] != '.' && filepath.Dir(path) == filepath.Clean(dir) {
				images++
			}
			return nil
		}
		if info, err := d.Info(); err == nil { // gone meanwhile is no matter
			bytes += info.Size()
		}
		return nil
	})
	return images, bytes, err
}

func examineCache(e *exam) []Finding {
	f := Finding{Use: Used}
	dir, err := e.CacheDir()
	if err != nil {
		f.Found = err.Error()
		return []Finding{f.because("cache-none")}
	}
	images, bytes, err := e.cacheContents()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.Found = dir + ": not there yet, the first compilation makes it"
	case err != nil:
		f.Found = err.Error()
		f = f.because("cache-unreadable")
	default:
		f.Found = fmt.Sprintf("%s: %s, %.1f MiB", dir, plural(images, "image"), float64(bytes)/(1<<20))
		if err := writable(dir); err != nil {
			f.Found += "; " + err.Error()
			f = f.because("cache-not-writable")
			f.Use = Used // what is there is
		}
	}
	return []Finding{f}
}

// writable tries to make a file in dir, as the cache does.
func writable(dir string) error {
	f, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

const noJIT = "MOEGEN_DISABLE_JIT"

// jitDisabled reads the variable as package nvcc does: what is no boolean is yes.
func (e *exam) jitDisabled() bool {
	v := e.Getenv(noJIT)
	on, err := strconv.ParseBool(v)
	return v != "" && (on || err != nil)
}

// examineEnvironment tells of the variables that change what is chosen.
func examineEnvironment(e *exam) []Finding {
	var all []Finding
	for _, v := range []struct{ name, what string }{
		{moert.TransportEnv, "the transport that dispatchers ask for"},
		{noJIT, "whether compiling at run time is forbidden"},
		{"CUDA_VISIBLE_DEVICES", "the GPUs that the driver shows"},
	} {
		value := e.Getenv(v.name)
		if value == "" {
			continue
		}
		f := Finding{Subject: v.name, Use: Used, Found: fmt.Sprintf("%s: %s", value, v.what)}
		if v.name == noJIT && e.jitDisabled() {
			f = f.because("jit-disabled")
		}
		all = append(all, f)
	}
	if all == nil {
		all = []Finding{{Found: "nothing is set that changes what is chosen"}}
	}
	return all
}
