package runtime

import (
	"context"
	"errors"
	"slices"

	"github.com/moegen/moegen/runtime/driver"
)

// ncclEngine runs NCCL's collectives, which move the same number of rows from
// every rank, between kernels that pad and compact.
type ncclEngine struct {
	d    *Dispatcher
	comm driver.Collective

	announceFn, countsFn, padFn, compactFn, expandFn, combineFn driver.Function

	word, words        driver.DevicePtr // this rank's count word, and all ranks'
	send, recv         Rows             // [capacity] and [ranks][capacity]
	partials, received driver.DevicePtr // [ranks][capacity] wire rows, for each rank and of each
}

func newNCCLEngine(ctx context.Context, d *Dispatcher) (*ncclEngine, error) {
	e := &ncclEngine{d: d}
	var err error
	if e.comm, err = d.group.Collective(ctx, d.rank); err != nil {
		return nil, err
	}
	err = d.functions(map[string]*driver.Function{
		"moegen_nccl_announce": &e.announceFn, "moegen_nccl_counts": &e.countsFn, "moegen_nccl_pad": &e.padFn,
		"moegen_nccl_compact": &e.compactFn, "moegen_nccl_expand": &e.expandFn, "moegen_nccl_combine": &e.combineFn,
	})
	if err != nil {
		return nil, err
	}
	p := d.prog
	rows, all := p.MaxTokens, p.MaxTokens*p.Ranks
	for _, b := range []struct {
		at    *driver.DevicePtr
		bytes int
		sent  bool // padding rows travel too: let them be zeros rather than anything
	}{
		{&e.word, 8, true}, {&e.words, 8 * p.Ranks, false},
		{&e.send.Routing.Ptr, rows * p.RoutingRowBytes(), true}, {&e.recv.Routing.Ptr, all * p.RoutingRowBytes(), false},
		{&e.send.Probs.Ptr, rows * p.ProbsRowBytes(), true}, {&e.recv.Probs.Ptr, all * p.ProbsRowBytes(), false},
		{&e.send.Scales.Ptr, rows * p.ScaleRowBytes(), true}, {&e.recv.Scales.Ptr, all * p.ScaleRowBytes(), false},
		{&e.send.Hidden.Ptr, rows * p.PayloadRowBytes(), true}, {&e.recv.Hidden.Ptr, all * p.PayloadRowBytes(), false},
		{&e.partials, all * p.WireRowBytes(), true}, {&e.received, all * p.WireRowBytes(), false},
	} {
		if *b.at, err = d.alloc(uint64(b.bytes)); err != nil {
			return nil, err
		}
		if b.sent {
			if err := fillMemory(d.dev, *b.at, 0, uint64(b.bytes)); err != nil {
				return nil, err
			}
		}
	}
	return e, nil
}

// fillMemory sets bytes, and is done when it returns.
func fillMemory(d driver.Device, p driver.DevicePtr, value byte, bytes uint64) error {
	chunk := slices.Repeat([]byte{value}, int(min(bytes, 1<<20)))
	for bytes > 0 {
		n := min(bytes, uint64(len(chunk)))
		if err := d.Write(p, chunk[:n]); err != nil {
			return err
		}
		p, bytes = p+driver.DevicePtr(n), bytes-n
	}
	return nil
}

// collect runs f's collectives as one launch.
func (e *ncclEngine) collect(f func() error) error {
	if err := e.comm.GroupStart(); err != nil {
		return err
	}
	return errors.Join(f(), e.comm.GroupEnd())
}

func (e *ncclEngine) counts(s driver.Stream, t Tokens) error {
	d := e.d
	blocks := d.prog.plan(d.capacity).Blocks
	p := d.begin()
	p.bring(t, blocks, d.capacity)
	p.ptr(e.word)
	if err := s.Launch(e.announceFn, oneBlock(32), *p); err != nil {
		return err
	}
	if err := e.comm.AllGather(s, e.word, e.words, 8); err != nil {
		return err
	}
	p = d.begin()
	p.bring(t, blocks, d.capacity)
	p.ptr(e.words)
	return s.Launch(e.countsFn, oneBlock(d.prog.CountThreads), *p)
}

// dispatch exchanges a step's counts before the rows: NCCL's collectives take
// sizes from the host.
func (e *ncclEngine) dispatch(s driver.Stream, r Rows, first *Tokens) error {
	if first != nil {
		if err := e.counts(s, *first); err != nil {
			return err
		}
	}
	d, capacity := e.d, uint64(e.d.capacity)
	p := d.begin()
	p.rows(d.prog, r, d.readable())
	p.travelling(d.prog, e.send)
	if err := s.Launch(e.padFn, d.bulkGrid(), *p); err != nil {
		return err
	}
	err := e.collect(func() error {
		var errs []error
		for _, t := range []struct {
			send, recv Tensor
			rowBytes   int
		}{
			{e.send.Routing, e.recv.Routing, d.prog.RoutingRowBytes()}, {e.send.Probs, e.recv.Probs, d.prog.ProbsRowBytes()},
			{e.send.Scales, e.recv.Scales, d.prog.ScaleRowBytes()}, {e.send.Hidden, e.recv.Hidden, d.prog.PayloadRowBytes()},
		} {
			if t.rowBytes > 0 {
				errs = append(errs, e.comm.AllGather(s, t.send.Ptr, t.recv.Ptr, capacity*uint64(t.rowBytes)))
			}
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return err
	}
	p = d.begin()
	p.travelling(d.prog, e.recv)
	p.i32(d.capacity)
	return s.Launch(e.compactFn, d.bulkGrid(), *p)
}

// combine sends each rank its rows of the partial sums and adds up what all
// ranks have sent: NCCL's own reductions round at every hop, in an order that
// depends on the ring.
func (e *ncclEngine) combine(s driver.Stream, a CombineArgs) error {
	d := e.d
	p := d.begin()
	p.ptr(a.Partial.Ptr)
	p.ptr(e.partials)
	p.i32(d.capacity)
	if err := s.Launch(e.expandFn, d.bulkGrid(), *p); err != nil {
		return err
	}
	if err := e.comm.AllToAll(s, e.partials, e.received, uint64(d.capacity*d.prog.WireRowBytes())); err != nil {
		return err
	}
	p = d.begin()
	p.ptr(e.received)
	p.i32(d.capacity)
	p.combine(d.prog, a)
	return s.Launch(e.combineFn, d.bulkGrid(), *p)
}
