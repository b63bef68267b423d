package bench

import (
	"context"
	"fmt"

	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/nccl"
)

// baseline is NCCL doing the same exchange: all ranks bring the same number of
// tokens, which is what its all-gather and reduce-scatter can do.
type baseline struct {
	*bench
	version   string
	noWindows string // why there are no symmetric windows
	comms     []driver.Collective
	plain     []buffers
	symmetric []buffers // in windows; nil if there are none
}

// buffers are one rank's.
type buffers struct {
	send, recv  [3]driver.DevicePtr // of routing, probabilities and hidden states
	parts, sums driver.DevicePtr    // [ranks][tokens] rows of fp32, and [tokens]
}

// sizes are the buffers' in the order of each, for so many tokens.
func (b *bench) sizes(tokens int) []uint64 {
	p, ranks := b.Program, len(b.members)
	var out []uint64
	for _, times := range []int{tokens, ranks * tokens} {
		for _, bytes := range rowBytes(p) {
			out = append(out, uint64(times*bytes))
		}
	}
	return append(out, uint64(4*ranks*tokens*p.HiddenDim), uint64(4*tokens*p.HiddenDim))
}

func (x *buffers) each() []*driver.DevicePtr {
	return []*driver.DevicePtr{&x.send[0], &x.send[1], &x.send[2], &x.recv[0], &x.recv[1], &x.recv[2], &x.parts, &x.sums}
}

// rowBytes are the sizes of a token's row of what is gathered. Scales, where
// there are any, would be a fourth tensor; NCCL is spared it.
func rowBytes(p *moert.Program) [3]int {
	return [3]int{p.RoutingRowBytes(), p.ProbsRowBytes(), p.PayloadRowBytes()}
}

func (b *bench) newBaseline() (*baseline, error) {
	x := &baseline{bench: b, comms: make([]driver.Collective, len(b.members)), plain: make([]buffers, len(b.members))}
	x.version = "the emulator's stand-in"
	if !b.effort.emulated {
		lib, err := nccl.Open()
		if err != nil {
			return nil, err
		}
		x.version = "NCCL " + lib.Version()
	}
	err := b.each(func(ctx context.Context, rank int) error {
		var err error
		if x.comms[rank], err = b.session.Group().Collective(ctx, rank); err != nil {
			return err
		}
		for i, p := range x.plain[rank].each() {
			t, err := b.members[rank].Dispatcher.NewTensor(1, int(b.sizes(b.most())[i]))
			if err != nil {
				return err
			}
			*p = t.Ptr
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	windows := make([]buffers, len(b.members))
	if err := x.openWindows(windows); err != nil {
		x.noWindows = err.Error()
	} else {
		x.symmetric = windows
	}
	return x, nil
}

// registrar is a communicator that makes symmetric windows: NCCL's, and not the
// emulator's stand-in.
type registrar interface {
	MemAlloc(size uint64) (driver.DevicePtr, error)
	MemFree(p driver.DevicePtr) error
	RegisterWindow(p driver.DevicePtr, size uint64) (nccl.Window, error)
	Deregister(w nccl.Window) error
}

// openWindows makes one window a rank and lays the buffers out in it.
func (x *baseline) openWindows(windows []buffers) error {
	const align = 4096
	size := uint64(0)
	for _, bytes := range x.sizes(x.most()) {
		size += (bytes + align - 1) / align * align
	}
	size = (size + 2<<20 - 1) / (2 << 20) * (2 << 20)
	closers := make([][]func() error, len(windows))
	err := x.each(func(_ context.Context, rank int) error {
		comm, ok := x.comms[rank].(registrar)
		if !ok {
			return fmt.Errorf("%s has none", x.version)
		}
		base, err := comm.MemAlloc(size)
		if err != nil {
			return err
		}
		closers[rank] = append(closers[rank], func() error { return comm.MemFree(base) })
		w, err := comm.RegisterWindow(base, size)
		if err != nil {
			return err
		}
		closers[rank] = append(closers[rank], func() error { return comm.Deregister(w) })
		at := base
		for i, p := range windows[rank].each() {
			*p = at
			at += driver.DevicePtr((x.sizes(x.most())[i] + align - 1) / align * align)
		}
		return nil
	})
	// Deregistering waits for the other ranks.
	x.undo = append(x.undo, func() error {
		return x.each(func(_ context.Context, rank int) error {
			for i := len(closers[rank]) - 1; i >= 0; i-- {
				if err := closers[rank][i](); err != nil {
					return err
				}
			}
			return nil
		})
	})
	return err
}

func (x *baseline) measure(row *Row) error {
	if x == nil {
		return nil
	}
	row.NCCL = &NCCLRow{}
	gather := func(all []buffers) enqueue {
		return func(rank int, s driver.Stream) error {
			for i, bytes := range rowBytes(x.Program) {
				err := x.comms[rank].AllGather(s, all[rank].send[i], all[rank].recv[i], uint64(row.Tokens*bytes))
				if err != nil {
					return err
				}
			}
			return nil
		}
	}
	grouped := func(all []buffers) enqueue {
		return func(rank int, s driver.Stream) error {
			if err := x.comms[rank].GroupStart(); err != nil {
				return err
			}
			err := gather(all)(rank, s)
			if endErr := x.comms[rank].GroupEnd(); err == nil {
				err = endErr
			}
			return err
		}
	}
	reduce := func(all []buffers, typ driver.ElementType) enqueue {
		return func(rank int, s driver.Stream) error {
			return x.comms[rank].ReduceScatter(s, all[rank].parts, all[rank].sums, uint64(row.Tokens*x.Program.HiddenDim), typ)
		}
	}
	type measurement struct {
		to **Time
		op enqueue
	}
	list := []measurement{
		{&row.NCCL.ThreeAllGathers, gather(x.plain)}, {&row.NCCL.Grouped, grouped(x.plain)},
		{&row.NCCL.ReduceBF16, reduce(x.plain, driver.BFloat16)}, {&row.NCCL.ReduceFP32, reduce(x.plain, driver.Float32)},
	}
	if x.symmetric != nil {
		list = append(list,
			measurement{&row.NCCL.SymmetricGrouped, grouped(x.symmetric)},
			measurement{&row.NCCL.SymmetricReduceBF16, reduce(x.symmetric, driver.BFloat16)},
			measurement{&row.NCCL.SymmetricReduceFP32, reduce(x.symmetric, driver.Float32)})
	}
	nodes := max(x.effort.nodes(row.Tokens)/2, 1)
	for _, m := range list {
		// Once without a capture: that is when NCCL connects.
		err := x.each(func(_ context.Context, rank int) error {
			s := x.members[rank].Stream
			if err := m.op(rank, s); err != nil {
				return err
			}
			return s.Synchronize()
		})
		if err != nil {
			return fmt.Errorf("NCCL: %w", err)
		}
		t, err := x.graph(nodes, x.effort.replays, func(rank int, s driver.Stream) error {
			for range nodes {
				if err := m.op(rank, s); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("NCCL: %w", err)
		}
		*m.to = &t
	}
	return nil
}
