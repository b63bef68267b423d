//go:build linux && cgo

package cuda

// #include "moecu.h"
import "C"

import (
	"sync"
	"unsafe"

	"github.com/moegen/moegen/runtime/driver"
)

func (d *device) Alloc(size uint64) (driver.DevicePtr, error) {
	ctx, err := d.context("cuMemAlloc")
	if err != nil {
		return 0, err
	}
	out := C.moecu_alloc(d.drv.lib.t, ctx, C.uint64_t(size))
	return driver.DevicePtr(out.a), d.err("cuMemAlloc", out.rc)
}

// Free waits for the device's work: not for use between launches that spin on
// each other.
func (d *device) Free(p driver.DevicePtr) error {
	ctx, err := d.context("cuMemFree")
	if err != nil {
		return err
	}
	return d.err("cuMemFree", C.moecu_free(d.drv.lib.t, ctx, C.CUdeviceptr(p)))
}

func (d *device) Write(dst driver.DevicePtr, src []byte) error {
	if len(src) == 0 {
		return nil
	}
	ctx, err := d.context("cuMemcpyHtoDAsync")
	if err != nil {
		return err
	}
	rc := C.moecu_write(d.drv.lib.t, ctx, d.copies, C.CUdeviceptr(dst), unsafe.Pointer(&src[0]), C.uint64_t(len(src)))
	return d.err("cuMemcpyHtoDAsync", rc)
}

func (d *device) Read(dst []byte, src driver.DevicePtr) error {
	if len(dst) == 0 {
		return nil
	}
	ctx, err := d.context("cuMemcpyDtoHAsync")
	if err != nil {
		return err
	}
	rc := C.moecu_read(d.drv.lib.t, ctx, d.copies, unsafe.Pointer(&dst[0]), C.CUdeviceptr(src), C.uint64_t(len(dst)))
	return d.err("cuMemcpyDtoHAsync", rc)
}

// hostMemory is page-locked memory from the driver.
type hostMemory struct {
	dev  *device
	ptr  driver.DevicePtr
	mu   sync.Mutex
	host unsafe.Pointer // nil once freed
	size uint64
}

func (d *device) AllocHost(size uint64) (driver.HostMemory, error) {
	ctx, err := d.context("cuMemHostAlloc")
	if err != nil {
		return nil, err
	}
	m := &hostMemory{dev: d, size: size}
	out := C.moecu_host_alloc(d.drv.lib.t, ctx, C.uint64_t(size), &m.host)
	op := "cuMemHostAlloc"
	if out.b != 0 {
		op = "cuMemHostGetDevicePointer"
	}
	if err := d.err(op, out.rc); err != nil {
		return nil, err
	}
	m.ptr = driver.DevicePtr(out.a)
	return m, nil
}

func (m *hostMemory) Bytes() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.host == nil {
		return nil
	}
	return unsafe.Slice((*byte)(m.host), m.size)
}

func (m *hostMemory) Ptr() driver.DevicePtr { return m.ptr }

func (m *hostMemory) Free() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	host := m.host
	if host == nil {
		return nil
	}
	m.host = nil
	ctx := C.CUcontext(m.dev.ctx.Load())
	if ctx == 0 {
		return nil // went with the context
	}
	return m.dev.err("cuMemFreeHost", C.moecu_host_free(m.dev.drv.lib.t, ctx, host))
}
