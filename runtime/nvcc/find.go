package nvcc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// ErrNotFound is what errors.Is finds in the error of Find on a machine without a
// usable CUDA compiler.
var ErrNotFound = errors.New("no usable nvcc")

// Compiler is a CUDA compiler. It is safe for use by several goroutines.
type Compiler struct {
	Path    string // the program to run
	Version string // as nvcc reports it, "13.0.88"
	Found   string // how it was found, for people: "PATH", "CUDA_HOME", ...
}

// Attempt is a place where Find looked.
type Attempt struct {
	Where   string // "PATH", "CUDA_HOME", ...
	Path    string // the file, where there was a path to try
	Problem string // why it was not used
}

// NotFoundError lists every place that Find looked at.
type NotFoundError struct{ Tried []Attempt }

// Error lists the places, one a line, and says what to do.
func (e *NotFoundError) Error() string {
	var b strings.Builder
	b.WriteString("nvcc: no usable CUDA compiler found; looked at")
	for _, a := range e.Tried {
		b.WriteString("\n  " + a.Where)
		if a.Path != "" {
			b.WriteString(" " + a.Path)
		}
		b.WriteString(": " + a.Problem)
	}
	b.WriteString("\nrun \"make toolchain\" in a moegen checkout, or install CUDA 13, or set MOEGEN_NVCC=/path/to/nvcc")
	return b.String()
}

// Is makes errors.Is(err, ErrNotFound) true.
func (e *NotFoundError) Is(target error) bool { return target == ErrNotFound }

// systemPath is where NVIDIA's installers put the compiler. Tests replace it.
var systemPath = "/usr/local/cuda/bin/nvcc"

// Find looks for a CUDA compiler in MOEGEN_NVCC, PATH, CUDA_HOME, CUDA_PATH, then
// .toolchain/bin in the current directory and its parents, then /usr/local/cuda. It
// takes the first that runs and is new enough. MOEGEN_NVCC is an order, not a hint:
// when it is set and of no use, that is an error. The error for "none" is a
// *NotFoundError.
func Find(ctx context.Context) (*Compiler, error) {
	if path := os.Getenv("MOEGEN_NVCC"); path != "" {
		c, err := At(ctx, path)
		if err != nil {
			return nil, fmt.Errorf("MOEGEN_NVCC=%s: %w", path, err)
		}
		c.Found = "MOEGEN_NVCC"
		return c, nil
	}
	tried := []Attempt{{Where: "MOEGEN_NVCC", Problem: "not set"}}
	for _, a := range candidates() {
		if a.Problem == "" {
			c, err := At(ctx, a.Path)
			if err == nil {
				c.Found = a.Where
				return c, nil
			}
			if ctx.Err() != nil {
				return nil, err
			}
			a.Problem = strings.TrimPrefix(err.Error(), "nvcc: ")
		}
		tried = append(tried, a)
	}
	return nil, &NotFoundError{Tried: tried}
}

// candidates returns the places to try, in order; those with a problem are listed
// only so that the error can tell.
func candidates() []Attempt {
	var list []Attempt
	if path, err := exec.LookPath("nvcc"); err != nil {
		list = append(list, Attempt{Where: "PATH", Problem: "no nvcc there"})
	} else {
		list = append(list, Attempt{Where: "PATH", Path: path})
	}
	for _, name := range []string{"CUDA_HOME", "CUDA_PATH"} {
		if dir := os.Getenv(name); dir == "" {
			list = append(list, Attempt{Where: name, Problem: "not set"})
		} else {
			list = append(list, existing(name, filepath.Join(dir, "bin", "nvcc")))
		}
	}
	list = append(list, toolchain())
	return append(list, existing("system", systemPath))
}

func existing(where, path string) Attempt {
	a := Attempt{Where: where, Path: path}
	if _, err := os.Stat(path); err != nil {
		a.Problem = "no such file"
		if !errors.Is(err, os.ErrNotExist) {
			a.Problem = err.Error()
		}
	}
	return a
}

// toolchain looks for what `make toolchain` installs, from the current directory
// upwards.
func toolchain() Attempt {
	const rel = ".toolchain/bin/nvcc"
	a := Attempt{Where: ".toolchain"}
	dir, err := os.Getwd()
	if err != nil {
		a.Problem = err.Error()
		return a
	}
	start := dir
	for {
		path := filepath.Join(dir, filepath.FromSlash(rel))
		if info, err := os.Stat(path); err == nil {
			a.Path = path
			// A parent such as /tmp is everybody's: do not run what a stranger put there.
			if !trusted(info) {
				a.Problem = "belongs to another user; name it in MOEGEN_NVCC if that is right"
			}
			return a
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			a.Problem = "no " + rel + " in " + start + " or any parent"
			return a
		}
		dir = parent
	}
}

// At returns the compiler at path, which may also be the name of a program on PATH.
// It runs it to learn its version.
func At(ctx context.Context, path string) (*Compiler, error) {
	abs, err := exec.LookPath(path)
	if err == nil {
		abs, err = filepath.Abs(abs)
	}
	if err != nil {
		return nil, fmt.Errorf("nvcc: %w", err)
	}
	// nvcc looks for its helpers beside the path it was started by, so a symbolic link
	// to it finds none. Links to other programs (ccache) go by the link's name: keep them.
	if real, err := filepath.EvalSymlinks(abs); err == nil && filepath.Base(real) == "nvcc" {
		abs = real
	}
	version, err := askVersion(ctx, abs)
	if err != nil {
		return nil, err
	}
	return &Compiler{Path: abs, Version: version, Found: path}, nil
}
