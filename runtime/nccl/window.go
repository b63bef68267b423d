//go:build linux && cgo

package nccl

// #include <stdlib.h>
// #include "moenccl.h"
import "C"

import (
	"fmt"
	"unsafe"

	"github.com/moegen/moegen/runtime/cuda"
	"github.com/moegen/moegen/runtime/driver"
)

// needWindows refuses libraries that cannot register memory, needPointers those
// that give no pointers from it.
func (c *Comm) needWindows(op string) error {
	return c.need(op, "2.27", C.MOENCCL_SYM_ncclMemAlloc, C.MOENCCL_SYM_ncclCommWindowDeregister)
}

func (c *Comm) needPointers(op string) error {
	return c.need(op, "2.29", C.MOENCCL_SYM_ncclMemAlloc, C.MOENCCL_SYM_COUNT-1)
}

func (c *Comm) need(op, version string, first, last C.int) error {
	if missing := c.lib.missing(first, last); missing != "" {
		return fmt.Errorf("%s: %w: NCCL %s (%s) lacks %s; they came with NCCL %s", op, ErrNoWindows, c.lib.Version(), c.lib.path, missing, version)
	}
	return nil
}

// MemAlloc allocates memory of the rank's device that can become a window.
func (c *Comm) MemAlloc(size uint64) (driver.DevicePtr, error) {
	const op = "ncclMemAlloc"
	if err := c.needWindows(op); err != nil {
		return 0, err
	}
	var out C.moenccl_out
	err := c.call(op, func(C.ncclComm_t) C.ncclResult_t {
		out = C.moenccl_mem_alloc(c.lib.t, C.uint64_t(size))
		return out.rc
	})
	return driver.DevicePtr(out.v), err
}

// MemFree frees what MemAlloc allocated.
func (c *Comm) MemFree(p driver.DevicePtr) error {
	const op = "ncclMemFree"
	if err := c.needWindows(op); err != nil {
		return err
	}
	return c.call(op, func(C.ncclComm_t) C.ncclResult_t {
		return C.moenccl_mem_free(c.lib.t, C.uint64_t(p))
	})
}

// RegisterWindow makes size bytes from p on a symmetric window. All ranks do it
// together, each from its own goroutine, and with the same size. Where the
// machine has no symmetric memory the error is ErrNoWindows.
func (c *Comm) RegisterWindow(p driver.DevicePtr, size uint64) (Window, error) {
	const op = "ncclCommWindowRegister"
	if err := c.needWindows(op); err != nil {
		return 0, err
	}
	if c.depth > 0 {
		// NCCL would write the handle when the group ends.
		return 0, fmt.Errorf("%s: rank %d of %d: not between GroupStart and GroupEnd", op, c.rank, c.size)
	}
	// NCCL may write the handle later than the call returns: not to a stack.
	slot := (*C.ncclWindow_t)(C.calloc(1, C.sizeof_ncclWindow_t))
	defer C.free(unsafe.Pointer(slot))
	err := c.call(op, func(comm C.ncclComm_t) C.ncclResult_t {
		return C.moenccl_register(c.lib.t, comm, C.uint64_t(p), C.uint64_t(size), slot)
	})
	if err != nil {
		return 0, err
	}
	if *slot == 0 {
		return 0, fmt.Errorf("%s: %w: NCCL made no window for rank %d of %d", op, ErrNoWindows, c.rank, c.size)
	}
	return Window(*slot), nil
}

// Deregister ends a window. Its pointers die with it.
func (c *Comm) Deregister(w Window) error {
	const op = "ncclCommWindowDeregister"
	if err := c.needWindows(op); err != nil {
		return err
	}
	return c.call(op, func(comm C.ncclComm_t) C.ncclResult_t {
		return C.moenccl_deregister(c.lib.t, comm, C.ncclWindow_t(w))
	})
}

// PeerPointer returns the address, on this device, of peer's memory at offset
// of the window; 0 where this device cannot load and store it.
func (c *Comm) PeerPointer(w Window, offset uint64, peer int) (driver.DevicePtr, error) {
	const op = "ncclGetPeerDevicePointer"
	if err := c.needPointers(op); err != nil {
		return 0, err
	}
	if peer < 0 || peer >= c.size {
		return 0, fmt.Errorf("%s: peer %d of %d", op, peer, c.size)
	}
	var out C.moenccl_out
	err := c.call(op, func(C.ncclComm_t) C.ncclResult_t {
		out = C.moenccl_peer(c.lib.t, C.ncclWindow_t(w), C.uint64_t(offset), C.int(peer))
		return out.rc
	})
	return driver.DevicePtr(out.v), err
}

// MultimemPointer returns the multicast address of offset of the window, 0
// where there is none: on machines without, with -tags nomulticast, and where
// the environment turns multicast off; then without asking NCCL.
func (c *Comm) MultimemPointer(w Window, offset uint64) (driver.DevicePtr, error) {
	const op = multimemOp
	if err := c.needPointers(op); err != nil {
		return 0, err
	}
	if !multicastBuilt || cuda.MulticastDisabledBy() != "" {
		return 0, nil
	}
	var out C.moenccl_out
	err := c.call(op, func(C.ncclComm_t) C.ncclResult_t {
		out = C.moenccl_multimem(c.lib.t, C.ncclWindow_t(w), C.uint64_t(offset))
		return out.rc
	})
	return driver.DevicePtr(out.v), err
}
