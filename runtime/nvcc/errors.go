package nvcc

import (
	"errors"
	"fmt"
	"strings"
)

// CompileError is a compilation that the compiler refused. %v gives one line with the
// first error, %+v the command and the compiler's whole log as well.
type CompileError struct {
	Name  string   // of the source
	Arch  string   // that it was compiled for
	Cmd   []string // the command; file names are relative to a directory that is gone
	Log   string   // all that the compiler said
	Diags []Diag   // the messages found in Log
	Hint  string   // what to do, where the cause is the machine and not the source
	Err   error    // how the compiler ended, often an *exec.ExitError
}

// Error returns one line: the place and text of the first error.
func (e *CompileError) Error() string {
	msg := e.first()
	if e.Hint != "" {
		msg += "; " + e.Hint
	}
	return "nvcc: " + msg
}

func (e *CompileError) first() string {
	var inTool *Diag
	for i, d := range e.Diags {
		switch {
		case d.Severity != "error" && d.Severity != "fatal":
		case d.File != "":
			return d.String()
		case inTool == nil:
			inTool = &e.Diags[i]
		}
	}
	if inTool != nil {
		return fmt.Sprintf("%s (%s): %s", e.Name, e.Arch, inTool)
	}
	msg := fmt.Sprintf("%s (%s): the compiler failed", e.Name, e.Arch)
	if e.Err != nil {
		msg += ": " + e.Err.Error()
	}
	return msg + firstLine(": ", e.Log)
}

// Format prints the log too when the verb is %+v.
func (e *CompileError) Format(s fmt.State, verb rune) {
	switch {
	case verb == 'v' && s.Flag('+'):
		fmt.Fprintf(s, "%s\n%s\n%s", e.Error(), strings.Join(e.Cmd, " "), e.Log)
	case verb == 'q':
		fmt.Fprintf(s, "%q", e.Error())
	default:
		fmt.Fprint(s, e.Error())
	}
}

// Unwrap returns how the compiler ended.
func (e *CompileError) Unwrap() error { return e.Err }

// ErrDisabled is what errors.Is finds in a *DisabledError.
var ErrDisabled = errors.New("run-time compilation is disabled")

// DisabledError says that an image is not in the cache while MOEGEN_DISABLE_JIT
// forbids to compile it.
type DisabledError struct {
	Name     string
	Arch     string
	Kind     Kind
	Key      string
	CacheDir string // where it was looked for first; empty when there is no cache
}

// Error names the image that is missing.
func (e *DisabledError) Error() string {
	dir := e.CacheDir
	if dir == "" {
		dir = "no directory"
	}
	return fmt.Sprintf("nvcc: %s needs a %s for %s: not cached (looked in %s for key %.12s), and MOEGEN_DISABLE_JIT forbids to compile it",
		e.Name, e.Kind, e.Arch, dir, e.Key)
}

// Is makes errors.Is(err, ErrDisabled) true.
func (e *DisabledError) Is(target error) bool { return target == ErrDisabled }

// ErrNotCached is what errors.Is finds in the error of Cached on a miss.
var ErrNotCached = errors.New("not in the cache")

// hint explains failures that are the machine's.
func hint(log, arch, version string) string {
	switch {
	case strings.Contains(log, "Failed to preprocess host compiler properties"),
		strings.Contains(log, "gcc: not found"), strings.Contains(log, "Cannot find compiler"):
		return "nvcc needs a host C++ compiler even for device code: install gcc and g++, or set NVCC_CCBIN=/path/to/g++"
	case strings.Contains(log, "cc1plus: No such file") || strings.Contains(log, "cannot execute 'cc1plus'") ||
		strings.Contains(log, "cannot execute ‘cc1plus’"):
		return "the host compiler has no C++: install g++, or set NVCC_CCBIN=/path/to/g++"
	case strings.Contains(log, "unsupported GNU version") || strings.Contains(log, "unsupported clang version"):
		return "this nvcc does not know so new a host compiler: set NVCC_CCBIN=/path/to/an/older/g++"
	case strings.Contains(log, "Unsupported gpu architecture"):
		return fmt.Sprintf("nvcc %s does not know %s", version, arch)
	}
	return ""
}

// maybeDirectory reports whether the directory may be to blame for a failure: then
// another one is worth a try. On a full disk the tools fail in many ways, "Failed to
// preprocess host compiler properties" and errors in a PTX file that is cut short among
// them; only a message about a place in the source is surely about the source.
func maybeDirectory(err error) bool {
	var ce *CompileError
	if !errors.As(err, &ce) {
		return errors.Is(err, errImage) || errors.Is(err, errSource)
	}
	for _, d := range ce.Diags {
		if (d.Severity == "error" || d.Severity == "fatal") && d.File != "" && !strings.HasSuffix(d.File, ".ptx") {
			return false
		}
	}
	return true
}

var (
	// errImage marks a compiler that reported success without a whole image.
	errImage = errors.New("the compiler reported success but did not write a whole image")
	// errSource marks a directory into which not even the source could be written.
	errSource = errors.New("cannot write the source for the compiler")
)
