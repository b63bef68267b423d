//go:build linux && cgo

package cuda

// #include <stdlib.h>
// #include "moecu.h"
import "C"

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"unsafe"

	"github.com/moegen/moegen/runtime/driver"
)

// jitLogSize is how much the driver's compiler may say about a bad image.
const jitLogSize = 16 << 10

type module struct {
	dev  *device
	name string

	mu        sync.Mutex
	handle    C.CUmodule
	loaded    bool
	functions map[string]*function
}

var _ driver.Module = (*module)(nil)

func (d *device) LoadModule(im driver.Image) (driver.Module, error) {
	const op = "cuModuleLoadDataEx"
	image := im.Cubin
	if (len(im.PTX) == 0) == (len(im.Cubin) == 0) {
		return nil, usageError(op, driver.CodeInvalidValue, "image %s: exactly one of PTX and Cubin has to be set", im.Name)
	} else if len(im.PTX) != 0 {
		// The driver takes PTX as a C string.
		image = append(append(make([]byte, 0, len(im.PTX)+1), im.PTX...), 0)
	}
	ctx, err := d.context(op)
	if err != nil {
		return nil, err
	}
	// In C memory it is aligned as the driver wants a cubin to be.
	data := C.CBytes(image)
	defer C.free(data)
	log := (*C.char)(C.calloc(1, jitLogSize))
	defer C.free(unsafe.Pointer(log))
	var failed *C.char
	out := C.moecu_module_load(d.drv.lib.t, ctx, data, log, jitLogSize-1, &failed)
	if err := d.err(C.GoString(failed), out.rc); err != nil {
		return nil, d.loadError(err, im, C.GoString(log))
	}
	return &module{
		dev:       d,
		name:      im.Name,
		handle:    C.CUmodule(out.a),
		loaded:    true,
		functions: make(map[string]*function),
	}, nil
}

// loadError adds what a person needs to know about an image that did not load.
func (d *device) loadError(err error, im driver.Image, log string) error {
	e, ok := err.(*driver.Error)
	if !ok {
		return err
	}
	kind := "PTX"
	if len(im.Cubin) != 0 {
		kind = "cubin"
	}
	e.Text += fmt.Sprintf(" (%s %s on GPU %d, %s, compute capability %d.%d, %s)",
		kind, im.Name, d.ordinal, d.info.Name, d.info.Major, d.info.Minor, d.drv.Version())
	switch int(e.Code) {
	case 209:
		e.Text += "; the image has no code for this GPU: compile it for its architecture"
	case 222:
		e.Text += "; the PTX is newer than the driver's compiler: update the driver, or compile to a cubin"
	}
	if log = strings.TrimSpace(log); log != "" {
		e.Text += "\n" + log
	}
	return e
}

func (m *module) Function(name string) (driver.Function, error) {
	const op = "cuModuleGetFunction"
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.loaded {
		return nil, usageError(op, driver.CodeInvalidHandle, "module %s is unloaded", m.name)
	}
	// One object a function, because it remembers the shared memory limit.
	if f := m.functions[name]; f != nil {
		return f, nil
	}
	ctx, err := m.dev.context(op)
	if err != nil {
		return nil, err
	}
	cname := C.CString(name)
	defer C.free(unsafe.Pointer(cname))
	out := C.moecu_function(m.dev.drv.lib.t, ctx, m.handle, cname)
	if err := m.dev.err(op, out.rc); err != nil {
		if e, ok := err.(*driver.Error); ok {
			e.Text += fmt.Sprintf(" (kernel %s of module %s)", name, m.name)
		}
		return nil, err
	}
	f := &function{module: m, name: name, note: "kernel " + name, handle: C.CUfunction(out.a), shared: uint64(out.b)}
	m.functions[name] = f
	m.dev.drv.names.Store(f.handle, name)
	return f, nil
}

// Unload waits for the device's work.
func (m *module) Unload() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.loaded {
		return nil
	}
	m.loaded = false
	for _, f := range m.functions {
		m.dev.drv.names.Delete(f.handle)
		f.mu.Lock()
		f.handle = 0
		f.mu.Unlock()
	}
	ctx := C.CUcontext(m.dev.ctx.Load())
	if ctx == 0 {
		return nil // went with the context
	}
	return m.dev.err("cuModuleUnload", C.moecu_module_unload(m.dev.drv.lib.t, ctx, m.handle))
}

type function struct {
	module *module
	name   string
	note   string // what a later error says about a launch

	mu     sync.Mutex
	handle C.CUfunction // 0 once unloaded
	shared uint64       // dynamic shared memory a launch may use as things are
}

var _ driver.Function = (*function)(nil)

func (f *function) Name() string { return f.name }

// prepare returns the handle, with the limit raised to shared bytes. Without
// that, a kernel gets 48 KiB of shared memory at most.
func (f *function) prepare(op string, ctx C.CUcontext, shared uint64) (C.CUfunction, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.handle == 0 {
		return 0, usageError(op, driver.CodeInvalidHandle, "module %s of kernel %s is unloaded", f.module.name, f.name)
	}
	if shared <= f.shared {
		return f.handle, nil
	}
	if shared > math.MaxInt32 {
		return 0, usageError(op, driver.CodeInvalidValue, "kernel %s: %d bytes of dynamic shared memory", f.name, shared)
	}
	dev := f.module.dev
	rc := C.moecu_function_shared(dev.drv.lib.t, ctx, f.handle, C.int(shared))
	if err := dev.err("cuFuncSetAttribute", rc); err != nil {
		if e, ok := err.(*driver.Error); ok {
			e.Text += fmt.Sprintf(" (kernel %s, %d bytes of dynamic shared memory)", f.name, shared)
		}
		return 0, err
	}
	f.shared = shared
	return f.handle, nil
}

func (f *function) MaxActiveBlocks(threads int, sharedBytes uint64) (int, error) {
	const op = "cuOccupancyMaxActiveBlocksPerMultiprocessor"
	if threads < 1 || threads > math.MaxInt32 {
		return 0, usageError(op, driver.CodeInvalidValue, "kernel %s: blocks of %d threads", f.name, threads)
	}
	dev := f.module.dev
	ctx, err := dev.context(op)
	if err != nil {
		return 0, err
	}
	h, err := f.prepare(op, ctx, sharedBytes)
	if err != nil {
		return 0, err
	}
	out := C.moecu_occupancy(dev.drv.lib.t, ctx, h, C.int(threads), C.uint64_t(sharedBytes))
	return int(out.a), dev.err(op, out.rc)
}
