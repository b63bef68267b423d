//go:build linux && cgo && !nomulticast

package cuda

// #include "multicast.h"
import "C"

import (
	"github.com/moegen/moegen/runtime/driver"
)

// multicastBuilt says that the binary has the multicast calls.
const multicastBuilt = true

// multicastTable is nil where the driver is too old for multicast.
type multicastTable = *C.moecu_mc

func openMulticast(l *library) multicastTable { return C.moecu_mc_open(l.t) }

func closeMulticast(t multicastTable) { C.moecu_mc_discard(t) }

// multicastReady is the last line of defence before a multicast call: the
// transports ask before they come here.
func (d *cudaDriver) multicastReady(op string) error {
	if name := MulticastDisabledBy(); name != "" {
		return usageError(op, driver.CodeNotPermitted, "multicast is turned off by the environment variable %s", name)
	}
	if d.lib.mc == nil {
		return d.lib.missing(op, op, 12010)
	}
	return nil
}

func (d *cudaDriver) MulticastGranularity(devices int, size uint64, kind driver.HandleKind) (minimum, recommended uint64, err error) {
	const op = "cuMulticastGetGranularity"
	if err := d.multicastReady(op); err != nil {
		return 0, 0, err
	}
	k, err := multicastType(op, devices, kind)
	if err != nil {
		return 0, 0, err
	}
	out := C.moecu_mc_granularity(d.lib.mc, C.uint(devices), C.uint64_t(size), k)
	return uint64(out.a), uint64(out.b), d.lib.err(op, out.rc)
}

func (d *cudaDriver) CreateMulticast(devices int, size uint64, kind driver.HandleKind) (driver.Multicast, error) {
	const op = "cuMulticastCreate"
	if err := d.multicastReady(op); err != nil {
		return nil, err
	}
	k, err := multicastType(op, devices, kind)
	if err != nil {
		return nil, err
	}
	out := C.moecu_mc_create(d.lib.t, d.lib.mc, d.context(), C.uint(devices), C.uint64_t(size), k)
	if err := d.lib.err(op, out.rc); err != nil {
		return nil, err
	}
	return &multicast{memory: newMemory(d, out.a, size)}, nil
}

func multicastType(op string, devices int, kind driver.HandleKind) (C.int, error) {
	if devices < 1 {
		return 0, usageError(op, driver.CodeInvalidValue, "a multicast object spans at least one device, not %d", devices)
	}
	return handleType(op, kind)
}

// multicast is a multicast object, or memory of another process that may be
// one.
type multicast struct{ *memory }

var _ driver.Multicast = (*multicast)(nil)

func (m *multicast) prepare(op string, dev driver.Device) (*device, C.CUcontext, C.CUmemHandle, error) {
	if err := m.drv.multicastReady(op); err != nil {
		return nil, 0, 0, err
	}
	return m.resolve(op, dev)
}

// resolve is prepare for undoing, which is never refused for the environment.
func (m *multicast) resolve(op string, dev driver.Device) (*device, C.CUcontext, C.CUmemHandle, error) {
	if m.drv.lib.mc == nil {
		return nil, 0, 0, m.drv.lib.missing(op, op, 12010)
	}
	x, err := m.drv.ours(op, dev)
	if err != nil {
		return nil, 0, 0, err
	}
	h, err := m.get(op)
	if err != nil {
		return nil, 0, 0, err
	}
	ctx, err := x.context(op)
	return x, ctx, h, err
}

func (m *multicast) AddDevice(dev driver.Device) error {
	const op = "cuMulticastAddDevice"
	x, ctx, h, err := m.prepare(op, dev)
	if err != nil {
		return err
	}
	return x.err(op, C.moecu_mc_add(m.drv.lib.t, m.drv.lib.mc, ctx, h, x.id))
}

// Bind blocks in the driver until every device was added, by whichever
// process: callers need a barrier before it, and a watchdog.
func (m *multicast) Bind(dev driver.Device, offset uint64, mem driver.Memory, memOffset, size uint64) error {
	const op = "cuMulticastBindMem"
	x, ctx, h, err := m.prepare(op, dev)
	if err != nil {
		return err
	}
	mh, err := m.drv.ourMemory(op, mem)
	if err != nil {
		return err
	}
	rc := C.moecu_mc_bind(m.drv.lib.t, m.drv.lib.mc, ctx, h, C.uint64_t(offset), mh, C.uint64_t(memOffset), C.uint64_t(size))
	return x.err(op, rc)
}

func (m *multicast) Unbind(dev driver.Device, offset, size uint64) error {
	const op = "cuMulticastUnbind"
	x, ctx, h, err := m.resolve(op, dev)
	if err != nil {
		return err
	}
	return x.err(op, C.moecu_mc_unbind(m.drv.lib.t, m.drv.lib.mc, ctx, h, x.id, C.uint64_t(offset), C.uint64_t(size)))
}
