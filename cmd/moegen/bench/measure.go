package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
)

// Run measures. What it measured before it failed is in the result, if that is
// not nil.
func Run(ctx context.Context, c Config) (result *Result, err error) {
	b, err := open(ctx, c)
	defer func() { err = errors.Join(err, b.close()) }()
	if err != nil {
		return nil, err
	}
	result = b.newResult()
	total := 1 + len(c.Tokens) + len(b.effort.skews)
	b.progress(total, "the floor")
	if result.Floor, err = b.measureFloor(); err != nil {
		return result, fmt.Errorf("floor: %w", err)
	}
	var baseline *baseline
	if !c.NoNCCL && !c.Share {
		if baseline, err = b.newBaseline(); err != nil {
			result.NoNCCL = err.Error() // moegen's own times are wanted all the same
			baseline = nil
		} else {
			result.NCCL, result.NoWindows = baseline.version, baseline.noWindows
		}
	}
	for _, tokens := range c.Tokens {
		b.progress(total, "%d tokens a rank", tokens)
		row := b.newRow(tokens)
		if err := b.measureRow(ctx, row, baseline); err != nil {
			return result, fmt.Errorf("%d tokens: %w", tokens, err)
		}
		result.Rows = append(result.Rows, row)
		if err := ctx.Err(); err != nil {
			return result, err
		}
	}
	result.finish()
	result.Skew, err = b.measureSkew(ctx, total)
	return result, err
}

// measureRow measures one token count, between two verified runs.
func (b *bench) measureRow(ctx context.Context, row *Row, baseline *baseline) error {
	if err := b.verify(ctx, row.Tokens); err != nil {
		return fmt.Errorf("before measuring: %w", err)
	}
	for _, measure := range []func(*Row) error{b.measureKernels, b.measureStores, b.measureSteps, baseline.measure, b.measureFewer} {
		if err := measure(row); err != nil {
			return err
		}
	}
	if err := b.verifyUneven(ctx, row.Tokens); err != nil {
		return fmt.Errorf("after measuring: %w", err)
	}
	return nil
}

// launches runs a step of so many tokens on all ranks, for steps of up to
// capacity tokens, and returns each rank's launches of BeginStep, Dispatch and
// Combine.
func (b *bench) launches(capacity, tokens int) ([][]launch, error) {
	all := make([][]launch, len(b.members))
	err := b.each(func(_ context.Context, rank int) error {
		m := b.members[rank]
		s := &recorder{Stream: m.Stream}
		if err := m.Dispatcher.SetCapacity(capacity); err != nil {
			return err
		}
		if err := m.Dispatcher.BeginStep(s, moert.HostTokens(tokens)); err != nil {
			return err
		}
		if err := b.exchange(rank, s, false); err != nil {
			return err
		}
		all[rank] = s.launches
		return m.Dispatcher.Synchronize(m.Stream)
	})
	if err != nil {
		return nil, err
	}
	for rank, l := range all {
		if len(l) != 3 {
			return nil, fmt.Errorf("rank %d: a step is %d launches, not BeginStep, Dispatch and Combine", rank, len(l))
		}
	}
	return all, nil
}

// exchange enqueues a dispatch and a combine, and the experts between them if
// they are wanted.
func (b *bench) exchange(rank int, s driver.Stream, experts bool) error {
	m := b.members[rank]
	g, err := m.Dispatcher.Dispatch(s, m.In)
	if err != nil {
		return err
	}
	args := m.Args
	args.Partial = m.Dispatcher.PartialBuffer()
	if experts {
		if err := m.Experts(s, g, args.Partial); err != nil {
			return err
		}
	}
	_, err = m.Dispatcher.Combine(s, args)
	return err
}

// measureKernels measures the operations each for itself. Over NCCL they are
// calls of a library, which are measured in turn only.
func (b *bench) measureKernels(row *Row) error {
	if b.members[0].Dispatcher.Transport() == moert.NCCL {
		return nil
	}
	all, err := b.launches(row.Tokens, row.Tokens)
	if err != nil {
		return err
	}
	row.Blocks, row.Threads = all[0][1].config.Grid.X, all[0][1].config.Block.X
	row.Protocol = protocolOf(b.Program, row.Tokens)
	nodes := b.effort.nodes(row.Tokens)
	for i, to := range []**Time{&row.Counts, &row.Dispatch, &row.Combine} {
		t, err := b.graph(nodes, b.effort.replays, func(rank int, s driver.Stream) error {
			return repeat(nodes, s, all[rank][i])
		})
		if err != nil {
			return err
		}
		*to = &t
	}
	return nil
}

// protocolOf is what the program's plan says for a capacity.
func protocolOf(p *moert.Program, capacity int) string {
	for _, row := range p.Plan {
		if capacity <= row.Tokens {
			switch {
			case row.Low:
				return "ll"
			case row.Mixed:
				return "mixed"
			}
			break
		}
	}
	return "bulk"
}

// begin runs a step's BeginStep on all ranks, with so many tokens, for steps of
// up to capacity tokens: what is enqueued next is a layer of that step.
func (b *bench) begin(capacity, tokens int) error {
	return b.each(func(_ context.Context, rank int) error {
		m := b.members[rank]
		if err := m.Dispatcher.SetCapacity(capacity); err != nil {
			return err
		}
		if err := m.Dispatcher.BeginStep(m.Stream, moert.HostTokens(tokens)); err != nil {
			return err
		}
		return m.Dispatcher.Synchronize(m.Stream)
	})
}

// pair measures dispatch and combine in turn, as layers have them, of steps of
// so many tokens, launched for up to capacity tokens.
func (b *bench) pair(capacity, tokens int) (Time, error) {
	if err := b.begin(capacity, tokens); err != nil {
		return Time{}, err
	}
	pairs := max(b.effort.nodes(tokens)/2, 1)
	return b.graph(pairs, b.effort.replays, func(rank int, s driver.Stream) error {
		for range pairs {
			if err := b.exchange(rank, s, false); err != nil {
				return err
			}
		}
		return nil
	})
}

// measureSteps measures pairs and whole steps: the counts with the first
// dispatch, and layers of dispatch, experts and combine, in one graph.
func (b *bench) measureSteps(row *Row) error {
	var err error
	if row.Pair, err = b.pair(row.Tokens, row.Tokens); err != nil {
		return err
	}
	count := binary.LittleEndian.AppendUint32(nil, uint32(row.Tokens))
	for rank, m := range b.members {
		if err := m.Dispatcher.Device().Write(b.counts[rank].Ptr, count); err != nil {
			return err
		}
	}
	row.Step, err = b.graph(1, b.effort.steps(row.Tokens), func(rank int, s driver.Stream) error {
		if err := b.members[rank].Dispatcher.NextStep(moert.DeviceTokens(b.counts[rank].Ptr)); err != nil {
			return err
		}
		for range b.Layers {
			if err := b.exchange(rank, s, true); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	row.Experts, err = b.graph(1, b.effort.steps(row.Tokens), func(rank int, s driver.Stream) error {
		m := b.members[rank]
		for range b.Layers {
			if err := m.Experts(s, m.Dispatcher.Gathered(), m.Dispatcher.PartialBuffer()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	// Without a graph, where the host may be what takes long.
	times, err := b.run(warm, b.effort.replays, func(rank int, s driver.Stream) error {
		if err := b.members[rank].Dispatcher.NextStep(moert.HostTokens(row.Tokens)); err != nil {
			return err
		}
		return b.exchange(rank, s, false)
	})
	if err != nil {
		return err
	}
	row.Eager = slowest(times, 1)
	return nil
}

// measureFewer replays graphs that were captured for row.Tokens with fewer: every
// third of the smaller counts.
func (b *bench) measureFewer(row *Row) error {
	for i := 0; i < len(b.Tokens) && b.Tokens[i] < row.Tokens; i += 3 {
		tokens := b.Tokens[i]
		t, err := b.pair(row.Tokens, tokens)
		if err != nil {
			return err
		}
		row.Fewer = append(row.Fewer, Fewer{Tokens: tokens, Pair: t})
	}
	return nil
}

// measureSkew measures what it costs the other ranks that rank 0 comes late to
// each dispatch, with few tokens.
func (b *bench) measureSkew(ctx context.Context, total int) ([]Skew, error) {
	tokens := min(8, b.most())
	if err := b.begin(tokens, tokens); err != nil {
		return nil, err
	}
	pairs := max(b.effort.nodes(tokens)/2, 1)
	late := func(us int) (alone, others float64, err error) {
		node := b.single("late", 0, nil, us*1000)
		alones, err := b.replay(b.effort.replays, func(rank int, s driver.Stream) error {
			if rank != 0 { // a graph of nothing is better not put to the test
				return b.single("empty", rank, nil).on(s)
			}
			return repeat(pairs, s, node)
		})
		if err != nil {
			return 0, 0, err
		}
		times, err := b.replay(b.effort.replays, func(rank int, s driver.Stream) error {
			for range pairs {
				if rank == 0 {
					if err := node.on(s); err != nil {
						return err
					}
				}
				if err := b.exchange(rank, s, false); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return 0, 0, err
		}
		return slowest(alones[:1], pairs).Median, slowest(times[1:], pairs).Median, nil
	}
	alone, others, err := late(0)
	if err != nil {
		return nil, fmt.Errorf("rank skew: %w", err)
	}
	var list []Skew
	for _, us := range b.effort.skews {
		b.progress(total, "a rank %d us late", us)
		a, o, err := late(us)
		if err := errors.Join(err, ctx.Err()); err != nil {
			return list, fmt.Errorf("rank skew: %w", err)
		}
		list = append(list, Skew{Late: a - alone, Others: o - others})
	}
	return list, nil
}
