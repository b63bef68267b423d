package gpu

import (
	"context"
	"testing"

	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
)

// baseline is NCCL doing the same exchange.
type baseline struct {
	*timer
	comms [2]driver.Collective
	send  [2][3]moert.Tensor // routing, probs, hidden
	recv  [2][3]moert.Tensor
	parts [2]moert.Tensor // [2 ranks][tokens] rows of fp32
	sums  [2]moert.Tensor
}

func newBaseline(t *testing.T, x *timer) *baseline {
	t.Helper()
	if x.oneGPU {
		return nil
	}
	b := &baseline{timer: x}
	err := x.each(func(ctx context.Context, rank int) error {
		var err error
		if b.comms[rank], err = x.group.Collective(ctx, rank); err != nil {
			return err
		}
		d, p := x.d[rank], x.prog
		b.send[rank] = x.in[rank]
		for i, bytes := range rowBytes(p) {
			if b.recv[rank][i], err = d.NewTensor(2*p.MaxTokens, bytes); err != nil {
				return err
			}
		}
		if b.parts[rank], err = d.NewTensor(2*p.MaxTokens, 4*p.HiddenDim); err != nil {
			return err
		}
		b.sums[rank], err = d.NewTensor(p.MaxTokens, 4*p.HiddenDim)
		return err
	})
	if err != nil {
		t.Errorf("no baseline: NCCL: %v", err) // moegen's own times are wanted all the same
		return nil
	}
	return b
}

func (b *baseline) measure(t *testing.T, row *row) {
	t.Helper()
	if b == nil {
		return
	}
	gather := func(rank int, s driver.Stream) error {
		for i, bytes := range rowBytes(b.prog) {
			err := b.comms[rank].AllGather(s, b.send[rank][i].Ptr, b.recv[rank][i].Ptr, uint64(row.Tokens*bytes))
			if err != nil {
				return err
			}
		}
		return nil
	}
	grouped := func(rank int, s driver.Stream) error {
		if err := b.comms[rank].GroupStart(); err != nil {
			return err
		}
		err := gather(rank, s)
		if endErr := b.comms[rank].GroupEnd(); err == nil {
			err = endErr
		}
		return err
	}
	reduce := func(typ driver.ElementType) func(int, driver.Stream) error {
		return func(rank int, s driver.Stream) error {
			return b.comms[rank].ReduceScatter(s, b.parts[rank].Ptr, b.sums[rank].Ptr, uint64(row.Tokens*b.prog.HiddenDim), typ)
		}
	}
	for _, x := range []struct {
		us *float64
		op func(int, driver.Stream) error
	}{
		{&row.ThreeAllGathers, gather}, {&row.GroupedAllGathers, grouped},
		{&row.ReduceBF16, reduce(driver.BFloat16)}, {&row.ReduceFP32, reduce(driver.Float32)},
	} {
		// Once without a capture: that is when NCCL connects.
		err := b.each(func(_ context.Context, rank int) error {
			s := b.streams[rank].Stream
			if err := x.op(rank, s); err != nil {
				return err
			}
			return s.Synchronize()
		})
		if err != nil {
			t.Fatalf("NCCL: %v", err)
		}
		nodes := pick(b.machine, 32, 2)
		*x.us, err = b.graphs(nodes, func(rank int, s driver.Stream) error {
			for range nodes {
				if err := x.op(rank, s); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatalf("NCCL: %v", err)
		}
	}
}
