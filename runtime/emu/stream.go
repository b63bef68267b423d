package emu

import (
	"time"

	"github.com/moegen/moegen/runtime/driver"
)

// stream is an ordered queue: every operation depends on the one before.
type stream struct {
	dev    *Device
	tail   *node
	closed bool
	// Capture state: what the next captured operation depends on.
	cap     *capture
	capDeps []*gnode
}

var (
	_ driver.Stream    = (*stream)(nil)
	_ driver.Event     = (*event)(nil)
	_ driver.Graph     = (*graph)(nil)
	_ driver.GraphExec = (*graphExec)(nil)
)

// NewStream makes a stream.
func (v *Device) NewStream() (driver.Stream, error) {
	if err := v.d.enter("cuStreamCreate", v); err != nil {
		return nil, err
	}
	s := &stream{dev: v}
	v.mu.Lock()
	v.streams[s] = struct{}{}
	v.mu.Unlock()
	return s, nil
}

// NewEvent makes an event.
func (v *Device) NewEvent() (driver.Event, error) {
	if err := v.d.enter("cuEventCreate", v); err != nil {
		return nil, err
	}
	return &event{dev: v}, nil
}

// idle waits for all streams of the device and returns its error.
func (v *Device) idle() error {
	v.mu.Lock()
	var tails []*node
	for s := range v.streams {
		if s.tail != nil {
			tails = append(tails, s.tail)
		}
	}
	v.mu.Unlock()
	for _, n := range tails {
		v.d.sched.wait(n)
	}
	v.prune()
	return v.stickyErr("cuCtxSynchronize")
}

func (v *Device) stickyErr(op string) error {
	if e := v.sticky.Load(); e != nil {
		return &driver.Error{Op: op, Code: e.Code, Name: e.Name, Text: e.Text}
	}
	return nil
}

// Synchronize waits for all streams of the device.
func (v *Device) Synchronize() error {
	const op = "cuCtxSynchronize"
	if err := v.d.enter(op, v); err != nil {
		return err
	}
	v.mu.Lock()
	for s := range v.streams {
		if s.cap != nil {
			s.cap.invalid.Store(true)
			v.mu.Unlock()
			return fail(op, driver.CodeCaptureUnsupported, "a stream of the device is capturing: synchronising is not permitted, and the capture is now invalid")
		}
	}
	v.mu.Unlock()
	return v.d.judged(v.idle())
}

func (s *stream) Device() driver.Device { return s.dev }

func (s *stream) Handle() uintptr { return 0 }

// enter starts a call on the stream.
func (s *stream) enter(op string) error {
	if err := s.dev.d.enter(op, s.dev); err != nil {
		return err
	}
	if s.closed {
		return fail(op, driver.CodeInvalidHandle, "the stream was closed")
	}
	if s.cap != nil && s.cap.invalid.Load() {
		return fail(op, driver.CodeCaptureInvalidated, "the stream's capture was invalidated by an earlier error")
	}
	return nil
}

// setTail makes n the stream's last operation.
func (s *stream) setTail(n *node) *node {
	s.dev.mu.Lock()
	defer s.dev.mu.Unlock()
	old := s.tail
	s.tail = n
	return old
}

// do enqueues n, or captures what makes it.
func (s *stream) do(kind, name string, dependent bool, build func() *node) {
	if s.cap != nil {
		s.cap.add(s, kind, name, dependent, build)
		return
	}
	n := build()
	old := s.setTail(n)
	if dependent && old != nil && old.launch != nil {
		s.dev.d.sched.enqueue(n, nil, old)
		return
	}
	s.dev.d.sched.enqueue(n, []*node{old}, nil)
}

func dims(d driver.Dim3) driver.Dim3 {
	return driver.Dim3{X: max(d.X, 1), Y: max(d.Y, 1), Z: max(d.Z, 1)}
}

// Launch enqueues a kernel.
func (s *stream) Launch(f driver.Function, cfg driver.LaunchConfig, params []byte) error {
	const op = "cuLaunchKernelEx"
	if err := s.enter(op); err != nil {
		return err
	}
	ef, ok := f.(*function)
	switch {
	case !ok || ef == nil || ef.m.dev.d != s.dev.d:
		return fail(op, driver.CodeInvalidHandle, "%v is not a function of this driver", f)
	case ef.m.dev != s.dev:
		return fail(op, driver.CodeInvalidHandle, "kernel %s was loaded on device %d, the stream is on device %d", f.Name(), ef.m.dev.ordinal, s.dev.ordinal)
	case ef.m.unloaded.Load():
		return fail(op, driver.CodeInvalidHandle, "the module of kernel %s was unloaded", f.Name())
	}
	cfg.Grid, cfg.Block = dims(cfg.Grid), dims(cfg.Block)
	if cfg.Grid.Y > 65535 || cfg.Grid.Z > 65535 || cfg.Grid.X > 1<<31-1 {
		return fail(op, driver.CodeInvalidValue, "a grid of %dx%dx%d blocks", cfg.Grid.X, cfg.Grid.Y, cfg.Grid.Z)
	}
	threads := cfg.Block.X * cfg.Block.Y * cfg.Block.Z
	if threads > maxThreadsPerBlock || cfg.Block.X > 1024 || cfg.Block.Y > 1024 || cfg.Block.Z > 64 {
		return fail(op, driver.CodeInvalidValue, "a block of %dx%dx%d threads: the limit is %d", cfg.Block.X, cfg.Block.Y, cfg.Block.Z, maxThreadsPerBlock)
	}
	fn := ef.p.fn
	if m := fn.MaxNTID; m[0] > 0 && threads > max(m[0], 1)*max(m[1], 1)*max(m[2], 1) {
		return fail(op, driver.CodeLaunchResources, "kernel %s was compiled for at most %v threads, %d wanted", fn.Name, m, threads)
	}
	if n := uint64(ef.p.dynBase) + cfg.SharedBytes; n > sharedPerBlock {
		return fail(op, driver.CodeInvalidValue, "kernel %s needs %d bytes of shared memory, a block can have %d", fn.Name, n, sharedPerBlock)
	}
	end := 0
	if n := len(fn.Params); n > 0 {
		end = fn.Params[n-1].Offset + fn.Params[n-1].Size()
	}
	if len(params) < end || len(params) > int(alignUp(uint64(max(fn.ParamBytes, end)), 16)) {
		return fail(op, driver.CodeInvalidValue, "kernel %s takes %d bytes of parameters, %d given", fn.Name, end, len(params))
	}
	occ := s.dev.d.occupancy(ef.p, threads, cfg.SharedBytes)
	if occ == 0 {
		return fail(op, driver.CodeLaunchResources, "a block of kernel %s with %d threads does not fit a multiprocessor", fn.Name, threads)
	}
	packed := make([]uint64, (max(fn.ParamBytes, len(params))+7)/8+1)
	if len(params) > 0 {
		copy(bytesAt(ptrOf(packed), uint64(len(packed)*8)), params)
	}
	l := launch{prog: ef.p, cfg: cfg, params: packed, occ: occ}
	s.do("kernel", fn.Name, cfg.Dependent, func() *node {
		l := l
		return &node{dev: s.dev, name: fn.Name, launch: &l}
	})
	return nil
}

// CopyAsync enqueues a copy between any two addresses.
func (s *stream) CopyAsync(dst, src driver.DevicePtr, size uint64) error {
	const op = "cuMemcpyAsync"
	if err := s.enter(op); err != nil {
		return err
	}
	if err := s.check(op, uint64(dst), size); err != nil {
		return err
	}
	if err := s.check(op, uint64(src), size); err != nil {
		return err
	}
	mem := &s.dev.d.mem
	s.do("memcpy", op, false, func() *node {
		ck := &nodeCheck{dst: uint64(dst), src: uint64(src), size: size}
		return &node{dev: s.dev, name: op, ck: ck, run: func() error {
			return mem.copyWithin(op, uint64(dst), uint64(src), size)
		}}
	})
	return nil
}

// check refuses a bad address at the call, as the driver does.
func (s *stream) check(op string, addr, size uint64) error {
	if size == 0 {
		return nil
	}
	mem := &s.dev.d.mem
	mem.use.RLock()
	defer mem.use.RUnlock()
	_, err := mem.pieces(op, addr, size)
	return err
}

// MemsetAsync enqueues filling memory with a byte.
func (s *stream) MemsetAsync(dst driver.DevicePtr, value byte, size uint64) error {
	const op = "cuMemsetD8Async"
	if err := s.enter(op); err != nil {
		return err
	}
	if err := s.check(op, uint64(dst), size); err != nil {
		return err
	}
	mem := &s.dev.d.mem
	s.do("memset", op, false, func() *node {
		ck := &nodeCheck{dst: uint64(dst), size: size}
		return &node{dev: s.dev, name: op, ck: ck, run: func() error {
			return mem.fill(op, uint64(dst), value, size)
		}}
	})
	return nil
}

// Record marks the stream's present end.
func (s *stream) Record(e driver.Event) error {
	const op = "cuEventRecord"
	if err := s.enter(op); err != nil {
		return err
	}
	ev, ok := e.(*event)
	if !ok || ev.dev.d != s.dev.d || ev.closed {
		return fail(op, driver.CodeInvalidHandle, "the event was closed or belongs to another driver")
	}
	if ev.dev != s.dev {
		return fail(op, driver.CodeInvalidHandle, "the event belongs to device %d, the stream to device %d", ev.dev.ordinal, s.dev.ordinal)
	}
	if s.cap != nil {
		ev.set(nil, s.cap, append([]*gnode(nil), s.capDeps...))
		return nil
	}
	n := &node{dev: s.dev, name: op}
	ev.set(n, nil, nil)
	s.dev.d.sched.enqueue(n, []*node{s.setTail(n)}, nil)
	return nil
}

// Wait makes later work wait for what e marked. An event that was never
// recorded is no condition.
func (s *stream) Wait(e driver.Event) error {
	const op = "cuStreamWaitEvent"
	if err := s.enter(op); err != nil {
		return err
	}
	ev, ok := e.(*event)
	if !ok || ev.dev.d != s.dev.d || ev.closed {
		return fail(op, driver.CodeInvalidHandle, "the event was closed or belongs to another driver")
	}
	mark, c, deps := ev.get()
	switch {
	case c != nil && c.done:
		return fail(op, codeCapturedEvent, "the event was recorded in a capture that has ended")
	case c != nil && s.cap == nil:
		s.join(c, deps)
	case c != nil && c != s.cap:
		s.cap.invalid.Store(true)
		c.invalid.Store(true)
		return fail(op, codeCaptureMerge, "the event belongs to another capture: the two would merge")
	case c != nil:
		s.capDeps = union(s.capDeps, deps)
	case s.cap != nil && mark != nil:
		s.cap.invalid.Store(true)
		return fail(op, codeCaptureIsolation, "the event was recorded outside of the stream's capture")
	case mark != nil:
		n := &node{dev: s.dev, name: op}
		s.dev.d.sched.enqueue(n, []*node{s.setTail(n), mark}, nil)
	}
	return nil
}

// Synchronize waits for everything enqueued so far.
func (s *stream) Synchronize() error {
	const op = "cuStreamSynchronize"
	if err := s.enter(op); err != nil {
		return err
	}
	if s.cap != nil {
		s.cap.invalid.Store(true)
		return fail(op, driver.CodeCaptureUnsupported, "the stream is capturing: synchronising it is not permitted, and the capture is now invalid")
	}
	if s.tail != nil {
		s.dev.d.sched.wait(s.tail)
	}
	return s.dev.d.judged(s.dev.stickyErr(op))
}

// Close drops the stream; its work continues.
func (s *stream) Close() error {
	const op = "cuStreamDestroy"
	if err := s.dev.d.enter(op, nil); err != nil {
		return err
	}
	if s.closed {
		return fail(op, driver.CodeInvalidHandle, "the stream was closed before")
	}
	if s.cap != nil {
		s.cap.invalid.Store(true)
		s.cap.leave(s)
	}
	s.dev.mu.Lock()
	s.closed = true
	s.dev.mu.Unlock()
	s.dev.prune()
	return nil
}

// prune forgets the streams that are closed and have no work left. Until then
// the device, which they keep busy, knows them.
func (v *Device) prune() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for s := range v.streams {
		if !s.closed {
			continue
		}
		if s.tail != nil {
			if done, _ := v.d.sched.ended(s.tail); !done {
				continue
			}
		}
		delete(v.streams, s)
	}
}

// event marks a point in a stream or in a capture.
type event struct {
	dev    *Device
	closed bool
	mark   *node // under dev.mu, like the rest
	cap    *capture
	deps   []*gnode
}

func (e *event) set(n *node, c *capture, deps []*gnode) {
	e.dev.mu.Lock()
	defer e.dev.mu.Unlock()
	e.mark, e.cap, e.deps = n, c, deps
}

func (e *event) get() (*node, *capture, []*gnode) {
	e.dev.mu.Lock()
	defer e.dev.mu.Unlock()
	return e.mark, e.cap, e.deps
}

// Synchronize waits until what the event marks has ended.
func (e *event) Synchronize() error {
	const op = "cuEventSynchronize"
	if err := e.dev.d.enter(op, e.dev); err != nil {
		return err
	}
	n, c, _ := e.get()
	if c != nil {
		return fail(op, codeCapturedEvent, "the event was last recorded in a capturing stream")
	}
	if n != nil {
		e.dev.d.sched.wait(n)
	}
	return e.dev.d.judged(e.dev.stickyErr(op))
}

// Since returns the virtual time from earlier to e.
func (e *event) Since(earlier driver.Event) (time.Duration, error) {
	const op = "cuEventElapsedTime"
	if err := e.dev.d.enter(op, e.dev); err != nil {
		return 0, err
	}
	o, ok := earlier.(*event)
	if !ok || o.dev.d != e.dev.d {
		return 0, fail(op, driver.CodeInvalidHandle, "%T is not an event of this driver", earlier)
	}
	var t [2]int64
	for i, ev := range []*event{o, e} {
		n, c, _ := ev.get()
		if n == nil || c != nil {
			return 0, fail(op, driver.CodeInvalidHandle, "the event was not recorded")
		}
		done, at := e.dev.d.sched.ended(n)
		if !done {
			return 0, fail(op, driver.CodeNotReady, "the event has not happened yet")
		}
		t[i] = at
	}
	return time.Duration(t[1] - t[0]), nil
}

// Close drops the event.
func (e *event) Close() error {
	const op = "cuEventDestroy"
	if err := e.dev.d.enter(op, nil); err != nil {
		return err
	}
	if e.closed {
		return fail(op, driver.CodeInvalidHandle, "the event was closed before")
	}
	e.closed = true
	return nil
}
