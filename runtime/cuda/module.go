//go:build linux && cgo

package cuda

// #include <stdlib.h>
// #include "moecu.h"
import "C"

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/moegen/moegen/runtime/driver"
)

const loadOp = "cuModuleLoadDataEx"

// jitLogSize is how much the driver's compiler may say about a bad image.
const jitLogSize = 16 << 10

type module struct {
	dev    *device
	name   string
	code   *code
	kept   bool // code is the device's
	loaded atomic.Bool

	mu        sync.Mutex
	functions map[string]*function
}

var _ driver.Module = (*module)(nil)

// code is an image on the device. Modules of a kept image share it.
type code struct {
	handle C.CUmodule

	mu      sync.Mutex
	kernels map[string]*kernel
}

// kernel is a function of code. There is one for each, because it remembers the
// shared memory limit.
type kernel struct {
	handle C.CUfunction

	mu     sync.Mutex
	shared uint64 // dynamic shared memory a launch may use as things are
}

// keeper has the code of the images that a device keeps.
type keeper struct {
	mu   sync.Mutex // held while an image is loaded: the second to want it waits
	code map[[sha256.Size]byte]*code
}

func (d *device) LoadModule(im driver.Image) (driver.Module, error) {
	image := im.Cubin
	if (len(im.PTX) == 0) == (len(im.Cubin) == 0) {
		return nil, usageError(loadOp, driver.CodeInvalidValue, "image %s: exactly one of PTX and Cubin has to be set", im.Name)
	} else if len(im.PTX) != 0 {
		// The driver takes PTX as a C string.
		image = append(append(make([]byte, 0, len(im.PTX)+1), im.PTX...), 0)
	}
	load := d.load
	if im.Keep {
		load = d.keep
	}
	c, err := load(im, image)
	if err != nil {
		return nil, err
	}
	m := &module{dev: d, name: im.Name, code: c, kept: im.Keep, functions: make(map[string]*function)}
	m.loaded.Store(true)
	return m, nil
}

// keep is load for an image that may have been loaded before. One that does not
// load is tried again the next time.
func (d *device) keep(im driver.Image, image []byte) (*code, error) {
	// Not by the name, which is for people.
	sum := sha256.Sum256(image)
	d.kept.mu.Lock()
	defer d.kept.mu.Unlock()
	if c := d.kept.code[sum]; c != nil {
		return c, nil
	}
	c, err := d.load(im, image)
	if err != nil {
		return nil, err
	}
	if d.kept.code == nil {
		d.kept.code = make(map[[sha256.Size]byte]*code)
	}
	d.kept.code[sum] = c
	return c, nil
}

// drop unloads what is kept. Others in the process may hold the context, so it
// would not always go with that.
func (k *keeper) drop(d *device, ctx C.CUcontext) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var errs []error
	for _, c := range k.code {
		errs = append(errs, d.unload(ctx, c))
	}
	k.code = nil
	return errors.Join(errs...)
}

// load loads im; image is what the driver takes of it.
func (d *device) load(im driver.Image, image []byte) (*code, error) {
	ctx, err := d.context(loadOp)
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
	return &code{handle: C.CUmodule(out.a), kernels: make(map[string]*kernel)}, nil
}

func (d *device) unload(ctx C.CUcontext, c *code) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.kernels {
		d.drv.names.Delete(k.handle)
	}
	return d.err("cuModuleUnload", C.moecu_module_unload(d.drv.lib.t, ctx, c.handle))
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
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.loaded.Load() {
		return nil, usageError("cuModuleGetFunction", driver.CodeInvalidHandle, "module %s is unloaded", m.name)
	}
	if f := m.functions[name]; f != nil {
		return f, nil
	}
	k, err := m.kernel(name)
	if err != nil {
		return nil, err
	}
	f := &function{module: m, kernel: k, name: name, note: "kernel " + name}
	m.functions[name] = f
	return f, nil
}

// kernel looks name up, in the driver if no module of the code has had it yet.
func (m *module) kernel(name string) (*kernel, error) {
	const op = "cuModuleGetFunction"
	c := m.code
	c.mu.Lock()
	defer c.mu.Unlock()
	ctx, err := m.dev.context(op)
	if err != nil {
		return nil, err
	}
	if k := c.kernels[name]; k != nil {
		return k, nil
	}
	cname := C.CString(name)
	defer C.free(unsafe.Pointer(cname))
	out := C.moecu_function(m.dev.drv.lib.t, ctx, c.handle, cname)
	if err := m.dev.err(op, out.rc); err != nil {
		if e, ok := err.(*driver.Error); ok {
			e.Text += fmt.Sprintf(" (kernel %s of module %s)", name, m.name)
		}
		return nil, err
	}
	k := &kernel{handle: C.CUfunction(out.a), shared: uint64(out.b)}
	c.kernels[name] = k
	m.dev.drv.names.Store(k.handle, name)
	return k, nil
}

// Unload waits for the device's work, unless the code is kept.
func (m *module) Unload() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.loaded.Swap(false) || m.kept {
		return nil
	}
	ctx := C.CUcontext(m.dev.ctx.Load())
	if ctx == 0 {
		return nil // went with the context
	}
	return m.dev.unload(ctx, m.code)
}

type function struct {
	*kernel
	module *module
	name   string
	note   string // what a later error says about a launch
}

var _ driver.Function = (*function)(nil)

func (f *function) Name() string { return f.name }

// prepare returns the handle, with the limit raised to shared bytes. Without
// that, a kernel gets 48 KiB of shared memory at most.
func (f *function) prepare(op string, ctx C.CUcontext, shared uint64) (C.CUfunction, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.module.loaded.Load() {
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
