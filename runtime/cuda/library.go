//go:build linux && cgo

package cuda

/*
#cgo CFLAGS: -std=gnu11 -Wall -Wextra
#cgo LDFLAGS: -ldl
#cgo noescape moecu_launch
#cgo nocallback moecu_launch
#cgo noescape moecu_write
#cgo noescape moecu_read
#include <stdlib.h>
#include "moecu.h"
*/
import "C"

import (
	"fmt"
	"os"
	"strings"
	"unsafe"

	"github.com/moegen/moegen/runtime/driver"
)

// libraryCandidates is where the driver library is found: by the loader's own
// search, then where WSL, NixOS and container images put it without telling
// the loader. libcuda.so without a version may be the toolkit's link stub.
var libraryCandidates = []string{
	"libcuda.so.1",
	"/usr/lib/wsl/lib/libcuda.so.1",
	"/run/opengl-driver/lib/libcuda.so.1",
	"/usr/local/nvidia/lib64/libcuda.so.1",
}

// library is a loaded libcuda.
type library struct {
	t       *C.moecu
	mc      multicastTable
	path    string
	version int // 1000*major + 10*minor
}

func openLibrary(c config) (*library, error) {
	candidates := libraryCandidates
	advice := "install the NVIDIA driver (in a container, start it with the NVIDIA runtime, for example docker run --gpus all), or name the library in " + LibraryEnv
	if c.file == "" {
		c.file = os.Getenv(LibraryEnv)
	}
	if c.file != "" {
		candidates = []string{c.file}
		advice = "check the path given with WithLibrary or " + LibraryEnv
	}
	var tried []string
	for _, path := range candidates {
		t, text := dlopen(path)
		if t == nil {
			tried = append(tried, fmt.Sprintf("%s (%s)", path, text))
			continue
		}
		l := &library{t: t, path: path}
		if err := l.check(); err != nil {
			l.discard()
			return nil, err
		}
		l.mc = openMulticast(l)
		return l, nil
	}
	return nil, fmt.Errorf("cuda: %w: tried %s; %s", driver.ErrNoDriver, strings.Join(tried, ", "), advice)
}

func dlopen(path string) (*C.moecu, string) {
	p := C.CString(path)
	defer C.free(unsafe.Pointer(p))
	var message *C.char
	t := C.moecu_open(p, &message)
	if t != nil {
		return t, ""
	}
	defer C.free(unsafe.Pointer(message))
	// The text begins with the path, which the caller names anyway.
	return nil, strings.TrimPrefix(C.GoString(message), path+": ")
}

// check refuses a library that lacks what everything needs.
func (l *library) check() error {
	if C.moecu_has(l.t, C.MOECU_SYM_cuDriverGetVersion) != 0 {
		if out := C.moecu_version(l.t); out.rc == 0 {
			l.version = int(out.a)
		}
	}
	var missing []string
	newest := 0
	for i := range C.int(C.MOECU_SYM_COUNT) {
		if s := C.moecu_symbol_at(i); s.need != 0 && C.moecu_has(l.t, i) == 0 {
			missing = append(missing, C.GoString(s.symbol))
			newest = max(newest, int(s.version))
		}
	}
	if missing == nil {
		return nil
	}
	return &driver.Error{
		Op:   "dlsym",
		Code: driver.CodeNotSupported,
		Name: "CUDA_ERROR_NOT_SUPPORTED",
		Text: fmt.Sprintf("%s (%s) lacks %s; moegen needs a driver for CUDA %s or newer",
			l.path, versionText(l.version), strings.Join(missing, ", "), cudaVersion(max(newest, 11000))),
	}
}

func (l *library) discard() {
	closeMulticast(l.mc)
	C.moecu_discard(l.t)
}

// err turns the result of op into an error, nil for success.
func (l *library) err(op string, rc C.CUresult) error {
	switch {
	case rc == 0:
		return nil
	case rc < 0:
		s := C.moecu_symbol_at(C.MOECU_MISSING - rc)
		return l.missing(op, C.GoString(s.symbol), int(s.version))
	}
	name, text := C.moecu_error_name(l.t, rc), C.moecu_error_string(l.t, rc)
	e := &driver.Error{Op: op, Code: driver.Code(rc), Name: "unknown code", Text: "the driver has no text for it"}
	if name != nil {
		e.Name = C.GoString(name)
	}
	if text != nil {
		e.Text = C.GoString(text)
	}
	return e
}

// missing is the error for a feature that the driver is too old for.
func (l *library) missing(op, symbol string, version int) error {
	return &driver.Error{
		Op:   op,
		Code: driver.CodeNotSupported,
		Name: "CUDA_ERROR_NOT_SUPPORTED",
		Text: fmt.Sprintf("%s (%s) has no symbol %s; it came with CUDA %s: update the NVIDIA driver",
			l.path, versionText(l.version), symbol, cudaVersion(version)),
	}
}

func versionText(v int) string {
	if v == 0 {
		return "a CUDA driver of unknown version"
	}
	return "CUDA driver " + cudaVersion(v)
}

func cudaVersion(v int) string { return fmt.Sprintf("%d.%d", v/1000, v%1000/10) }

// usageError is an error that the package finds itself, before any call.
func usageError(op string, code driver.Code, format string, args ...any) error {
	name := "CUDA_ERROR_INVALID_VALUE"
	switch code {
	case driver.CodeInvalidHandle:
		name = "CUDA_ERROR_INVALID_HANDLE"
	case driver.CodeInvalidDevice:
		name = "CUDA_ERROR_INVALID_DEVICE"
	case driver.CodeDeinitialized:
		name = "CUDA_ERROR_DEINITIALIZED"
	case driver.CodeNotPermitted:
		name = "CUDA_ERROR_NOT_PERMITTED"
	case driver.CodeNoDevice:
		name = "CUDA_ERROR_NO_DEVICE"
	}
	return &driver.Error{Op: op, Code: code, Name: name, Text: fmt.Sprintf(format, args...)}
}
