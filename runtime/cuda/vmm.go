//go:build linux && cgo

package cuda

// #include "moecu.h"
import "C"

import (
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/moegen/moegen/runtime/driver"
)

// vmm is held during calls that make, map, unmap or release memory: two H100s'
// driver (580) once corrupted the C heap in cuMemAddressFree while another
// thread released its own memory, in one of three runs of 1,000 cycles.
var vmm sync.Mutex

// memory is a handle of physical memory, or of a multicast object.
type memory struct {
	drv    *cudaDriver
	size   uint64
	handle atomic.Uint64
	live   atomic.Bool // handles may be any number, 0 too
}

func newMemory(drv *cudaDriver, handle C.uint64_t, size uint64) *memory {
	m := &memory{drv: drv, size: size}
	m.handle.Store(uint64(handle))
	m.live.Store(true)
	return m
}

var _ driver.Memory = (*memory)(nil)

// holder is implemented by all types that embed memory.
type holder interface{ base() *memory }

func (m *memory) base() *memory { return m }

func (m *memory) get(op string) (C.CUmemHandle, error) {
	if !m.live.Load() {
		return 0, usageError(op, driver.CodeInvalidHandle, "the memory handle is released")
	}
	return C.CUmemHandle(m.handle.Load()), nil
}

// ourMemory returns the handle behind m.
func (d *cudaDriver) ourMemory(op string, m driver.Memory) (C.CUmemHandle, error) {
	h, ok := m.(holder)
	if !ok || h.base().drv != d {
		return 0, usageError(op, driver.CodeInvalidHandle, "the memory is not of this driver")
	}
	return h.base().get(op)
}

// handleType is the CUmemAllocationHandleType for kind.
func handleType(op string, kind driver.HandleKind) (C.int, error) {
	switch kind {
	case driver.HandleNone:
		return 0, nil
	case driver.HandlePosixFD:
		return 1, nil
	case driver.HandleFabric:
		return 8, nil
	}
	return 0, usageError(op, driver.CodeInvalidValue, "no such driver.HandleKind: %d", int(kind))
}

func (m *memory) Size() uint64 { return m.size }

func (m *memory) Export(kind driver.HandleKind) (driver.Shareable, error) {
	const op = "cuMemExportToShareableHandle"
	s := driver.Shareable{Kind: kind, FD: -1}
	h, err := m.get(op)
	if err != nil {
		return s, err
	}
	l := m.drv.lib
	switch kind {
	case driver.HandlePosixFD:
		out := C.moecu_export_fd(l.t, m.drv.context(), h)
		if err := l.err(op, out.rc); err != nil {
			return s, err
		}
		s.FD = int(out.a)
		return s, nil
	case driver.HandleFabric:
		rc := C.moecu_export_fabric(l.t, m.drv.context(), h, unsafe.Pointer(&s.Fabric[0]))
		return s, l.err(op, rc)
	}
	return s, usageError(op, driver.CodeInvalidValue, "memory can be exported as a POSIX descriptor or a fabric handle, not as driver.HandleKind %d", int(kind))
}

func (m *memory) Release() error {
	if !m.live.Swap(false) {
		return nil
	}
	vmm.Lock()
	defer vmm.Unlock()
	l := m.drv.lib
	return l.err("cuMemRelease", C.moecu_release(l.t, m.drv.context(), C.CUmemHandle(m.handle.Load())))
}

// Import opens s. The result is a [driver.Multicast] as well: the driver does
// not tell what a foreign handle stands for. A descriptor stays the caller's,
// who closes it.
func (d *cudaDriver) Import(dev driver.Device, s driver.Shareable, size uint64) (driver.Memory, error) {
	const op = "cuMemImportFromShareableHandle"
	x, err := d.ours(op, dev)
	if err != nil {
		return nil, err
	}
	ctx, err := x.context(op)
	if err != nil {
		return nil, err
	}
	vmm.Lock()
	defer vmm.Unlock()
	var out C.moecu_out
	switch s.Kind {
	case driver.HandlePosixFD:
		out = C.moecu_import_fd(d.lib.t, ctx, C.int(s.FD))
	case driver.HandleFabric:
		out = C.moecu_import_fabric(d.lib.t, ctx, unsafe.Pointer(&s.Fabric[0]))
	default:
		return nil, usageError(op, driver.CodeInvalidValue, "a shareable handle cannot be of driver.HandleKind %d", int(s.Kind))
	}
	if err := x.err(op, out.rc); err != nil {
		return nil, err
	}
	return &multicast{memory: newMemory(d, out.a, size)}, nil
}

func (d *device) Granularity(kind driver.HandleKind) (uint64, error) {
	const op = "cuMemGetAllocationGranularity"
	ctx, err := d.context(op)
	if err != nil {
		return 0, err
	}
	k, err := handleType(op, kind)
	if err != nil {
		return 0, err
	}
	out := C.moecu_granularity(d.drv.lib.t, ctx, d.id, k)
	return uint64(out.a), d.err(op, out.rc)
}

func (d *device) CreateMemory(size uint64, kind driver.HandleKind) (driver.Memory, error) {
	const op = "cuMemCreate"
	ctx, err := d.context(op)
	if err != nil {
		return nil, err
	}
	k, err := handleType(op, kind)
	if err != nil {
		return nil, err
	}
	vmm.Lock()
	defer vmm.Unlock()
	out := C.moecu_create(d.drv.lib.t, ctx, d.id, C.uint64_t(size), k)
	if err := d.err(op, out.rc); err != nil {
		return nil, err
	}
	return newMemory(d.drv, out.a, size), nil
}

func (d *cudaDriver) Reserve(size, align uint64) (driver.DevicePtr, error) {
	vmm.Lock()
	defer vmm.Unlock()
	out := C.moecu_reserve(d.lib.t, d.context(), C.uint64_t(size), C.uint64_t(align))
	return driver.DevicePtr(out.a), d.lib.err("cuMemAddressReserve", out.rc)
}

func (d *cudaDriver) Unreserve(p driver.DevicePtr, size uint64) error {
	vmm.Lock()
	defer vmm.Unlock()
	return d.lib.err("cuMemAddressFree", C.moecu_unreserve(d.lib.t, d.context(), C.CUdeviceptr(p), C.uint64_t(size)))
}

func (d *cudaDriver) Map(p driver.DevicePtr, size uint64, m driver.Memory, offset uint64) error {
	h, err := d.ourMemory("cuMemMap", m)
	if err != nil {
		return err
	}
	vmm.Lock()
	defer vmm.Unlock()
	return d.lib.err("cuMemMap", C.moecu_map(d.lib.t, d.context(), C.CUdeviceptr(p), C.uint64_t(size), C.uint64_t(offset), h))
}

// Unmap waits for the devices' work.
func (d *cudaDriver) Unmap(p driver.DevicePtr, size uint64) error {
	vmm.Lock()
	defer vmm.Unlock()
	return d.lib.err("cuMemUnmap", C.moecu_unmap(d.lib.t, d.context(), C.CUdeviceptr(p), C.uint64_t(size)))
}

// SetAccess needs no peer access between contexts: mappings have their own.
func (d *cudaDriver) SetAccess(p driver.DevicePtr, size uint64, devices ...driver.Device) error {
	const op = "cuMemSetAccess"
	if len(devices) == 0 {
		return nil
	}
	descs := make([]C.CUmemAccessDesc, len(devices))
	for i, dev := range devices {
		x, err := d.ours(op, dev)
		if err != nil {
			return err
		}
		// _type: a device; flags: read and write
		descs[i] = C.CUmemAccessDesc{location: C.CUmemLocation{_type: 1, id: C.int(x.id)}, flags: 3}
	}
	vmm.Lock()
	defer vmm.Unlock()
	rc := C.moecu_set_access(d.lib.t, d.context(), C.CUdeviceptr(p), C.uint64_t(size), &descs[0], C.uint64_t(len(descs)))
	return d.lib.err(op, rc)
}
