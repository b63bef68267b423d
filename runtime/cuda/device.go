//go:build linux && cgo

package cuda

// #include "moecu.h"
import "C"

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/moegen/moegen/runtime/driver"
)

// device is one GPU.
type device struct {
	drv     *cudaDriver
	ordinal int
	id      C.CUdevice
	info    driver.DeviceInfo

	mu     sync.Mutex // guards making and releasing the context
	closed bool
	ctx    atomic.Uint64 // primary context, 0 before it is made and after Close
	copies C.CUstream    // of Write and Read
	kept   keeper

	// last names what was launched last: a kernel's fault shows in some later
	// call, which has nothing to do with it.
	last atomic.Pointer[string]
}

var (
	_ driver.Device = (*device)(nil)
	_ P2P           = (*device)(nil)
)

func newDevice(drv *cudaDriver, ordinal int) (*device, error) {
	l := drv.lib
	out := C.moecu_device_get(l.t, C.int(ordinal))
	if err := l.err("cuDeviceGet", out.rc); err != nil {
		return nil, err
	}
	d := &device{drv: drv, ordinal: ordinal, id: C.CUdevice(out.a)}
	var text [256]C.char
	if err := l.err("cuDeviceGetName", C.moecu_device_name(l.t, d.id, &text[0], C.int(len(text)))); err != nil {
		return nil, err
	}
	d.info.Name = C.GoString(&text[0])
	if err := l.err("cuDeviceGetPCIBusId", C.moecu_device_pci(l.t, d.id, &text[0], C.int(len(text)))); err != nil {
		return nil, err
	}
	// "0000:3B:00.0" without the function.
	d.info.PCI, _, _ = strings.Cut(strings.ToLower(C.GoString(&text[0])), ".")
	var uuid [16]byte
	rc := C.moecu_device_uuid(l.t, d.id, (*C.char)(unsafe.Pointer(&uuid[0])))
	if err := l.err("cuDeviceGetUuid", rc); err == nil {
		h := hex.EncodeToString(uuid[:])
		d.info.UUID = strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
	} else if !errors.Is(err, driver.ErrNotSupported) { // a driver before CUDA 11.4
		return nil, err
	}
	memory := C.moecu_device_memory(l.t, d.id)
	if err := l.err("cuDeviceTotalMem", memory.rc); err != nil {
		return nil, err
	}
	d.info.TotalMemory = uint64(memory.a)
	for _, a := range []struct {
		id  C.int
		dst *int
	}{{75, &d.info.Major}, {76, &d.info.Minor}, {16, &d.info.SMs}} {
		out := C.moecu_device_attribute(l.t, d.id, a.id)
		if err := l.err("cuDeviceGetAttribute", out.rc); err != nil {
			return nil, err
		}
		*a.dst = int(int64(out.a))
	}
	return d, nil
}

// context returns the primary context, which it makes if it is not there yet.
func (d *device) context(op string) (C.CUcontext, error) {
	if ctx := d.ctx.Load(); ctx != 0 {
		return C.CUcontext(ctx), nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return 0, usageError(op, driver.CodeDeinitialized, "the driver is closed")
	}
	if ctx := d.ctx.Load(); ctx != 0 {
		return C.CUcontext(ctx), nil
	}
	l := d.drv.lib
	out := C.moecu_ctx_retain(l.t, d.id)
	if err := l.err("cuDevicePrimaryCtxRetain", out.rc); err != nil {
		return 0, err
	}
	s := C.moecu_stream_create(l.t, C.CUcontext(out.a))
	if err := l.err("cuStreamCreate", s.rc); err != nil {
		return 0, errors.Join(err, l.err("cuDevicePrimaryCtxRelease", C.moecu_ctx_release(l.t, d.id)))
	}
	d.copies = C.CUstream(s.a)
	d.ctx.Store(uint64(out.a))
	return C.CUcontext(out.a), nil
}

func (d *device) release() error {
	d.mu.Lock()
	d.closed = true
	ctx := C.CUcontext(d.ctx.Swap(0))
	d.mu.Unlock() // drop waits for loads, which look at the context
	if ctx == 0 {
		return nil
	}
	l := d.drv.lib
	return errors.Join(
		d.kept.drop(d, ctx),
		d.err("cuStreamDestroy", C.moecu_stream_destroy(l.t, ctx, d.copies)),
		d.err("cuDevicePrimaryCtxRelease", C.moecu_ctx_release(l.t, d.id)))
}

// err is library.err for a call on the device.
func (d *device) err(op string, rc C.CUresult) error {
	err := d.drv.lib.err(op, rc)
	if e, ok := err.(*driver.Error); ok && sticky(e.Code) {
		e.Text = fmt.Sprintf("%s; the context of GPU %d is lost, every later call on it fails", e.Text, d.ordinal)
		if last := d.last.Load(); last != nil {
			e.Text += "; last launched there: " + *last
		}
	}
	return err
}

// sticky says whether a code leaves the context unusable.
func sticky(code driver.Code) bool {
	switch code {
	case 214, 220, 226, // memory (ECC), link, contained
		700, 702, 710, 714, 715, 716, 717, 718, 719, 721:
		return true
	}
	return false
}

func (d *device) Driver() driver.Driver { return d.drv }

func (d *device) Ordinal() int { return d.ordinal }

func (d *device) Info() driver.DeviceInfo { return d.info }

func (d *device) Attribute(a driver.Attribute) (int, error) {
	ids := map[driver.Attribute]C.int{
		driver.AttrPosixFDSupported:   103,
		driver.AttrFabricSupported:    128,
		driver.AttrVMMSupported:       102,
		driver.AttrMaxThreadsPerBlock: 1,
		driver.AttrMaxThreadsPerSM:    39,
		driver.AttrClockRateKHz:       13,
	}
	if multicastBuilt {
		ids[driver.AttrMulticastSupported] = 132
	} else if a == driver.AttrMulticastSupported {
		return 0, nil
	}
	id, ok := ids[a]
	if !ok {
		return 0, usageError("cuDeviceGetAttribute", driver.CodeInvalidValue, "no such driver.Attribute: %d", int(a))
	}
	out := C.moecu_device_attribute(d.drv.lib.t, d.id, id)
	if out.rc == C.CUresult(driver.CodeInvalidValue) && id > 100 {
		// A driver that does not know the capability does not have it.
		return 0, nil
	}
	return int(int64(out.a)), d.err("cuDeviceGetAttribute", out.rc)
}

func (d *device) CanAccessPeer(peer driver.Device) (bool, error) {
	p, err := d.drv.ours("cuDeviceCanAccessPeer", peer)
	if err != nil {
		return false, err
	}
	if p == d {
		return true, nil
	}
	out := C.moecu_can_access(d.drv.lib.t, d.id, p.id)
	return out.a != 0, d.err("cuDeviceCanAccessPeer", out.rc)
}

// P2PAttributes describes the link to peer, which must be another device.
func (d *device) P2PAttributes(peer driver.Device) (P2PAttributes, error) {
	p, err := d.drv.ours("cuDeviceGetP2PAttribute", peer)
	if err != nil {
		return P2PAttributes{}, err
	}
	var v [3]int
	for i := range v {
		out := C.moecu_p2p(d.drv.lib.t, C.int(i+1), d.id, p.id)
		if err := d.err("cuDeviceGetP2PAttribute", out.rc); err != nil {
			return P2PAttributes{}, err
		}
		v[i] = int(int64(out.a))
	}
	return P2PAttributes{PerformanceRank: v[0], AccessSupported: v[1] != 0, NativeAtomics: v[2] != 0}, nil
}

func (d *device) MemInfo() (free, total uint64, err error) {
	ctx, err := d.context("cuMemGetInfo")
	if err != nil {
		return 0, 0, err
	}
	out := C.moecu_mem_info(d.drv.lib.t, ctx)
	return uint64(out.a), uint64(out.b), d.err("cuMemGetInfo", out.rc)
}

func (d *device) Synchronize() error {
	ctx, err := d.context("cuCtxSynchronize")
	if err != nil {
		return err
	}
	return d.err("cuCtxSynchronize", C.moecu_ctx_sync(d.drv.lib.t, ctx))
}

func (d *device) SetContext() error {
	ctx, err := d.context("cuCtxSetCurrent")
	if err != nil {
		return err
	}
	return d.err("cuCtxSetCurrent", C.moecu_ctx_set(d.drv.lib.t, ctx))
}
