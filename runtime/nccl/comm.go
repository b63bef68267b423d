//go:build linux && cgo

package nccl

// #include "moenccl.h"
import "C"

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/moegen/moegen/runtime/driver"
)

// Comm is one rank of a communicator. It is used by one goroutine at a time,
// but for Abort, which may come at any time.
type Comm struct {
	lib        *Library
	dev        driver.Device
	rank, size int
	handle     atomic.Uint64 // 0 once closed
	depth      int           // of GroupStart
}

var _ driver.Collective = (*Comm)(nil)

// Rank is the number of this rank.
func (c *Comm) Rank() int { return c.rank }

// Size is the number of ranks.
func (c *Comm) Size() int { return c.size }

func (c *Comm) get(op string) (C.ncclComm_t, error) {
	h := c.handle.Load()
	if h == 0 {
		return 0, fmt.Errorf("%s: rank %d of %d: %w", op, c.rank, c.size, ErrClosed)
	}
	return C.ncclComm_t(h), nil
}

// call runs f on a thread on which the device is current.
func (c *Comm) call(op string, f func(C.ncclComm_t) C.ncclResult_t) error {
	h, err := c.get(op)
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := c.dev.SetContext(); err != nil {
		return err
	}
	rc := f(h)
	if rc == inProgress && c.depth > 0 {
		return nil // GroupEnd waits
	}
	return c.settle(op, rc)
}

// settle waits for a call that goes on in the background, as calls do where the
// environment (NCCL_COMM_BLOCKING=0) makes them. Abort ends the wait: the
// handle must not be used after it.
func (c *Comm) settle(op string, rc C.ncclResult_t) error {
	for rc == inProgress {
		h, err := c.get(op)
		if err != nil {
			return err
		}
		out := C.moenccl_async_error(c.lib.t, h)
		if rc = out.rc; rc == success {
			rc = C.ncclResult_t(out.v)
		}
		if rc == inProgress {
			time.Sleep(50 * time.Microsecond)
		}
	}
	return c.lib.err(op, rc)
}

// GroupStart begins a group and locks the goroutine to its thread. Groups nest.
func (c *Comm) GroupStart() error {
	const op = "ncclGroupStart"
	if _, err := c.get(op); err != nil {
		return err
	}
	runtime.LockOSThread()
	if err := c.lib.err(op, C.moenccl_group_start(c.lib.t)); err != nil {
		runtime.UnlockOSThread()
		return err
	}
	c.depth++
	return nil
}

// GroupEnd launches what the group collected. The goroutine that called
// GroupStart has to call it, also when the communicator was aborted meanwhile.
func (c *Comm) GroupEnd() error {
	const op = "ncclGroupEnd"
	if c.depth == 0 {
		return fmt.Errorf("%s: rank %d of %d: no group was started", op, c.rank, c.size)
	}
	c.depth--
	defer runtime.UnlockOSThread()
	if err := c.dev.SetContext(); err != nil {
		// The thread must not be left inside of a group.
		C.moenccl_group_end(c.lib.t)
		return err
	}
	rc := C.moenccl_group_end(c.lib.t)
	if rc == inProgress && c.depth > 0 {
		return nil
	}
	return c.settle(op, rc)
}

// stream returns the CUstream of s, which has to be on the rank's device.
func (c *Comm) stream(op string, s driver.Stream) (C.uintptr_t, error) {
	h := s.Handle()
	if s.Device() != c.dev || h == 0 {
		return 0, fmt.Errorf("%s: rank %d of %d: the stream is closed, or not on the rank's device", op, c.rank, c.size)
	}
	return C.uintptr_t(h), nil
}

// AllGather implements driver.Collective.
func (c *Comm) AllGather(s driver.Stream, send, recv driver.DevicePtr, bytes uint64) error {
	const op = "ncclAllGather"
	h, err := c.stream(op, s)
	if err != nil {
		return err
	}
	return c.call(op, func(comm C.ncclComm_t) C.ncclResult_t {
		return C.moenccl_all_gather(c.lib.t, C.uint64_t(send), C.uint64_t(recv), C.uint64_t(bytes), comm, h)
	})
}

// AllToAll implements driver.Collective: NCCL has sends and receives for it,
// which go at once in one group.
func (c *Comm) AllToAll(s driver.Stream, send, recv driver.DevicePtr, bytes uint64) error {
	if err := c.GroupStart(); err != nil {
		return err
	}
	var err error
	for peer := range c.size {
		part := C.uint64_t(uint64(peer) * bytes)
		err = c.exchange("ncclSend", s, func(comm C.ncclComm_t, h C.uintptr_t) C.ncclResult_t {
			return C.moenccl_send(c.lib.t, C.uint64_t(send)+part, C.uint64_t(bytes), C.int(peer), comm, h)
		})
		if err != nil {
			break
		}
		err = c.exchange("ncclRecv", s, func(comm C.ncclComm_t, h C.uintptr_t) C.ncclResult_t {
			return C.moenccl_recv(c.lib.t, C.uint64_t(recv)+part, C.uint64_t(bytes), C.int(peer), comm, h)
		})
		if err != nil {
			break
		}
	}
	return errors.Join(err, c.GroupEnd())
}

// exchange runs f, a part of a group, with the stream's handle.
func (c *Comm) exchange(op string, s driver.Stream, f func(C.ncclComm_t, C.uintptr_t) C.ncclResult_t) error {
	h, err := c.stream(op, s)
	if err != nil {
		return err
	}
	return c.call(op, func(comm C.ncclComm_t) C.ncclResult_t { return f(comm, h) })
}

// ReduceScatter implements driver.Collective.
func (c *Comm) ReduceScatter(s driver.Stream, send, recv driver.DevicePtr, count uint64, t driver.ElementType) error {
	const op = "ncclReduceScatter"
	h, err := c.stream(op, s)
	if err != nil {
		return err
	}
	var element C.int
	switch t {
	case driver.Float16:
		element = 6
	case driver.Float32:
		element = 7
	case driver.BFloat16:
		element = 9
	default:
		return fmt.Errorf("%s: no such driver.ElementType: %d", op, int(t))
	}
	return c.call(op, func(comm C.ncclComm_t) C.ncclResult_t {
		return C.moenccl_reduce_scatter(c.lib.t, C.uint64_t(send), C.uint64_t(recv), C.uint64_t(count), element, comm, h)
	})
}

// Close destroys the communicator. It may wait for the peers to do so too:
// ranks of one process close from a goroutine each.
func (c *Comm) Close() error { return c.end("ncclCommDestroy", false) }

// Abort ends what the communicator is doing and destroys it, without peers.
func (c *Comm) Abort() error { return c.end("ncclCommAbort", true) }

func (c *Comm) end(op string, abort bool) error {
	h := C.ncclComm_t(c.handle.Swap(0))
	if h == 0 {
		return nil
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := c.dev.SetContext(); err != nil {
		return err // the driver is closed, or the context lost
	}
	// The handle is gone afterwards: no asking how the call goes on.
	if abort {
		return c.lib.err(op, C.moenccl_abort(c.lib.t, h))
	}
	return c.lib.err(op, C.moenccl_destroy(c.lib.t, h))
}
