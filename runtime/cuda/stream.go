//go:build linux && cgo

package cuda

// #include "moecu.h"
import "C"

import (
	"math"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/moegen/moegen/runtime/driver"
)

type stream struct {
	dev    *device
	handle atomic.Uint64 // 0, which to CUDA is the legacy stream, once closed
}

var _ driver.Stream = (*stream)(nil)

func (d *device) NewStream() (driver.Stream, error) {
	const op = "cuStreamCreate"
	ctx, err := d.context(op)
	if err != nil {
		return nil, err
	}
	out := C.moecu_stream_create(d.drv.lib.t, ctx)
	if err := d.err(op, out.rc); err != nil {
		return nil, err
	}
	s := &stream{dev: d}
	s.handle.Store(uint64(out.a))
	return s, nil
}

func (s *stream) get(op string) (C.CUcontext, C.CUstream, error) {
	h := s.handle.Load()
	if h == 0 {
		return 0, 0, usageError(op, driver.CodeInvalidHandle, "the stream is closed")
	}
	ctx, err := s.dev.context(op)
	return ctx, C.CUstream(h), err
}

func (s *stream) Device() driver.Device { return s.dev }

func (s *stream) Handle() uintptr { return uintptr(s.handle.Load()) }

func (s *stream) Launch(fn driver.Function, cfg driver.LaunchConfig, params []byte) error {
	op := "cuLaunchKernel"
	if cfg.Dependent {
		op = "cuLaunchKernelEx"
	}
	f, ok := fn.(*function)
	if !ok || f.module.dev != s.dev {
		return usageError(op, driver.CodeInvalidHandle, "the kernel was not loaded on the stream's device")
	}
	ctx, h, err := s.get(op)
	if err != nil {
		return err
	}
	dims := [6]int{cfg.Grid.X, cfg.Grid.Y, cfg.Grid.Z, cfg.Block.X, cfg.Block.Y, cfg.Block.Z}
	for i, n := range dims {
		if n < 0 || int64(n) > math.MaxUint32 {
			return usageError(op, driver.CodeInvalidValue, "kernel %s: grid %v, block %v", f.name, cfg.Grid, cfg.Block)
		}
		dims[i] = max(n, 1)
	}
	fh, err := f.prepare(op, ctx, cfg.SharedBytes)
	if err != nil {
		return err
	}
	var block unsafe.Pointer
	if len(params) != 0 {
		block = unsafe.Pointer(&params[0])
	}
	dependent := C.int(0)
	if cfg.Dependent {
		dependent = 1
	}
	rc := C.moecu_launch(s.dev.drv.lib.t, ctx, fh,
		C.uint(dims[0]), C.uint(dims[1]), C.uint(dims[2]), C.uint(dims[3]), C.uint(dims[4]), C.uint(dims[5]),
		C.uint(cfg.SharedBytes), h, block, C.uint64_t(len(params)), dependent)
	if rc == 0 {
		s.dev.last.Store(&f.note)
		return nil
	}
	err = s.dev.err(op, rc)
	if e, ok := err.(*driver.Error); ok && !sticky(e.Code) {
		e.Text += " (kernel " + f.name + ")"
	}
	return err
}

func (s *stream) CopyAsync(dst, src driver.DevicePtr, size uint64) error {
	const op = "cuMemcpyAsync"
	if size == 0 {
		return nil
	}
	ctx, h, err := s.get(op)
	if err != nil {
		return err
	}
	return s.dev.err(op, C.moecu_copy(s.dev.drv.lib.t, ctx, C.CUdeviceptr(dst), C.CUdeviceptr(src), C.uint64_t(size), h))
}

func (s *stream) MemsetAsync(dst driver.DevicePtr, value byte, size uint64) error {
	const op = "cuMemsetD8Async"
	if size == 0 {
		return nil
	}
	ctx, h, err := s.get(op)
	if err != nil {
		return err
	}
	return s.dev.err(op, C.moecu_memset(s.dev.drv.lib.t, ctx, C.CUdeviceptr(dst), C.int(value), C.uint64_t(size), h))
}

func (s *stream) Record(ev driver.Event) error {
	const op = "cuEventRecord"
	ctx, h, err := s.get(op)
	if err != nil {
		return err
	}
	_, eh, err := s.dev.drv.ourEvent(op, ev)
	if err != nil {
		return err
	}
	return s.dev.err(op, C.moecu_event_record(s.dev.drv.lib.t, ctx, eh, h))
}

func (s *stream) Wait(ev driver.Event) error {
	const op = "cuStreamWaitEvent"
	ctx, h, err := s.get(op)
	if err != nil {
		return err
	}
	_, eh, err := s.dev.drv.ourEvent(op, ev)
	if err != nil {
		return err
	}
	return s.dev.err(op, C.moecu_stream_wait(s.dev.drv.lib.t, ctx, h, eh))
}

func (s *stream) Synchronize() error {
	const op = "cuStreamSynchronize"
	ctx, h, err := s.get(op)
	if err != nil {
		return err
	}
	return s.dev.err(op, C.moecu_stream_sync(s.dev.drv.lib.t, ctx, h))
}

func (s *stream) Close() error {
	h := s.handle.Swap(0)
	ctx := s.dev.ctx.Load()
	if h == 0 || ctx == 0 {
		return nil // closed already, or gone with the context
	}
	return s.dev.err("cuStreamDestroy", C.moecu_stream_destroy(s.dev.drv.lib.t, C.CUcontext(ctx), C.CUstream(h)))
}

type event struct {
	dev    *device
	handle atomic.Uint64
}

var _ driver.Event = (*event)(nil)

func (d *device) NewEvent() (driver.Event, error) {
	const op = "cuEventCreate"
	ctx, err := d.context(op)
	if err != nil {
		return nil, err
	}
	out := C.moecu_event_create(d.drv.lib.t, ctx)
	if err := d.err(op, out.rc); err != nil {
		return nil, err
	}
	e := &event{dev: d}
	e.handle.Store(uint64(out.a))
	return e, nil
}

func (d *cudaDriver) ourEvent(op string, ev driver.Event) (*event, C.CUevent, error) {
	e, ok := ev.(*event)
	if !ok || e.dev.drv != d {
		return nil, 0, usageError(op, driver.CodeInvalidHandle, "the event is not one of this driver")
	}
	h := e.handle.Load()
	if h == 0 {
		return nil, 0, usageError(op, driver.CodeInvalidHandle, "the event is closed")
	}
	return e, C.CUevent(h), nil
}

func (e *event) Synchronize() error {
	const op = "cuEventSynchronize"
	_, h, err := e.dev.drv.ourEvent(op, e)
	if err != nil {
		return err
	}
	ctx, err := e.dev.context(op)
	if err != nil {
		return err
	}
	return e.dev.err(op, C.moecu_event_sync(e.dev.drv.lib.t, ctx, h))
}

func (e *event) Since(earlier driver.Event) (time.Duration, error) {
	const op = "cuEventElapsedTime"
	_, end, err := e.dev.drv.ourEvent(op, e)
	if err != nil {
		return 0, err
	}
	_, start, err := e.dev.drv.ourEvent(op, earlier)
	if err != nil {
		return 0, err
	}
	ctx, err := e.dev.context(op)
	if err != nil {
		return 0, err
	}
	var ms C.float
	rc := C.moecu_event_elapsed(e.dev.drv.lib.t, ctx, start, end, &ms)
	return time.Duration(float64(ms) * float64(time.Millisecond)), e.dev.err(op, rc)
}

func (e *event) Close() error {
	h := e.handle.Swap(0)
	ctx := e.dev.ctx.Load()
	if h == 0 || ctx == 0 {
		return nil // closed already, or gone with the context
	}
	return e.dev.err("cuEventDestroy", C.moecu_event_destroy(e.dev.drv.lib.t, C.CUcontext(ctx), C.CUevent(h)))
}
