package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/moegen/moegen/cmd/moegen/gen"
	"github.com/moegen/moegen/cmd/moegen/layer"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/spec"
)

// Tuned is what Tune found.
type Tuned struct {
	Plan      spec.Plan // but for when and on what it was measured
	Machine   string
	Transport moert.Transport
	// Emulated: the plan is as good as any, because times mean nothing.
	Emulated bool
	Tries    int // launches that were measured
}

// within is how much slower than the fastest the built-in launch may be and still
// be planned: less than that differs from run to run.
const within = 1.02

// Tune measures pairs of a dispatch and a combine, for each token count with
// every protocol, grid and block size worth a try, and returns the plan of the
// fastest. A plan that the spec has already plays no part. The plan is run and
// verified, and measured against the built-in one.
func Tune(ctx context.Context, c Config) (*Tuned, error) {
	if c.Transport == moert.NCCL {
		return nil, errors.New("tune: over nccl there is nothing to choose: NCCL launches its own kernels")
	}
	s := *c.Spec
	s.Plan = nil
	c.Spec = &s
	t := &Tuned{Plan: spec.Plan{Shape: s.Shape()}}
	found := make([]try, len(c.Tokens))
	builtIn := make([]Time, len(c.Tokens))
	stages := []struct {
		name string
		plan func(p *moert.Program)
		run  func(b *bench, i, tokens int) error
	}{
		{"protocol ll", func(p *moert.Program) { layer.SetProtocol(p, &s, gen.LL) }, func(b *bench, i, tokens int) (err error) {
			if builtIn[i], err = b.pair(tokens, tokens); err != nil {
				return err
			}
			return b.tryAll(gen.LL, tokens, &found[i])
		}},
		{"protocol bulk", func(p *moert.Program) { layer.SetProtocol(p, &s, gen.Bulk) }, func(b *bench, i, tokens int) error {
			return b.tryAll(gen.Bulk, tokens, &found[i])
		}},
		{"the plan", func(p *moert.Program) {
			for i, tokens := range c.Tokens {
				best := found[i].choose()
				t.Tries += len(found[i].list)
				// As bulk, and right for graphs that are replayed with fewer tokens.
				if _, low := gen.ThreadsOf(&s, gen.LL); best.protocol == gen.Bulk && low > 0 {
					best.protocol = gen.Mixed
				}
				t.Plan.Rows = append(t.Plan.Rows, spec.PlanRow{Tokens: tokens, Protocol: string(best.protocol), Blocks: best.blocks, Threads: best.threads})
			}
			s.Plan = &t.Plan
			layer.SetProtocol(p, &s, gen.Auto)
		}, func(b *bench, i, tokens int) error {
			if err := b.verify(ctx, tokens); err != nil {
				return err
			}
			pair, err := b.pair(tokens, tokens)
			t.Plan.Rows[i].Pair, t.Plan.Rows[i].BuiltIn = pair.Median, builtIn[i].Median
			return err
		}},
	}
	for n, stage := range stages {
		p := *c.Program
		stage.plan(&p)
		c.Program = &p
		err := func() (err error) {
			b, err := open(ctx, c)
			defer func() { err = errors.Join(err, b.close()) }()
			if err != nil {
				return err
			}
			b.effort.replays = min(b.effort.replays, 25)
			b.done = n * len(c.Tokens)
			here := b.newResult()
			t.Machine, t.Transport, t.Emulated = here.Machine, here.Transport, here.Emulated
			for i, tokens := range c.Tokens {
				b.progress(len(stages)*len(c.Tokens), "%s, %d tokens a rank", stage.name, tokens)
				if err := errors.Join(stage.run(b, i, tokens), ctx.Err()); err != nil {
					return fmt.Errorf("%s, %d tokens: %w", stage.name, tokens, err)
				}
			}
			return nil
		}()
		if err != nil {
			return nil, fmt.Errorf("tune: %w", err)
		}
	}
	return t, nil
}

// try is the launches that were tried for one token count.
type try struct{ list []tried }

type tried struct {
	protocol        gen.Protocol
	blocks, threads int
	us              float64
	builtIn         bool
}

// choose returns the fastest launch, or the built-in one if that is as good.
func (t *try) choose() tried {
	best := slices.MinFunc(t.list, func(a, b tried) int { return cmp.Compare(a.us, b.us) })
	for _, x := range t.list {
		if x.builtIn && x.us <= within*best.us {
			return x
		}
	}
	return best
}

// tryAll measures a protocol's launches for a token count. Bulk is tried only
// where ll has no room: a graph is replayed with fewer tokens too, and with few
// bulk takes twice as long.
func (b *bench) tryAll(p gen.Protocol, tokens int, to *try) error {
	sizes, most := gen.ThreadsOf(b.Spec, p)
	_, low := gen.ThreadsOf(b.Spec, gen.LL)
	if tokens > most || p == gen.Bulk && tokens <= low {
		return nil
	}
	all, err := b.launches(tokens, tokens)
	if err != nil {
		return err
	}
	planned := all[0][1].config // the built-in plan's launch
	pairs := max(b.effort.nodes(tokens)/4, 1)
	if n := b.full(tokens, sizes[len(sizes)-1]); n > sizes[0] && !slices.Contains(sizes, n) {
		sizes = append(sizes, n)
	}
	for _, threads := range sizes {
		grids := b.grids(tokens, threads)
		if threads == planned.Block.X && !slices.Contains(grids, planned.Grid.X) {
			grids = append(grids, planned.Grid.X)
		}
		for _, blocks := range grids {
			t, err := b.graph(pairs, b.effort.replays, func(rank int, s driver.Stream) error {
				return repeat(pairs, s, all[rank][1].with(blocks, threads), all[rank][2].with(blocks, threads))
			})
			if err != nil {
				return fmt.Errorf("%d blocks of %d threads: %w", blocks, threads, err)
			}
			builtIn := blocks == planned.Grid.X && threads == planned.Block.X
			to.list = append(to.list, tried{p, blocks, threads, t.Median, builtIn})
		}
	}
	return nil
}

// full is the block size that fills the last round, too, in which the largest
// grid's threads move a pack each: in no more rounds than with most threads a
// block.
func (b *bench) full(tokens, most int) int {
	packs, blocks := tokens*b.Program.PayloadRowBytes()/16, b.Program.MaxBlocks
	rounds := (packs + blocks*most - 1) / (blocks * most)
	warps := (packs + rounds*blocks*32 - 1) / (rounds * blocks * 32)
	return 32 * warps
}

// grids are the numbers of blocks to try: not so few that each thread would have
// to move more than 64 packs, and not so many that most have nothing to do.
func (b *bench) grids(tokens, threads int) []int {
	packs := tokens * b.Program.PayloadRowBytes() / 16
	limit := b.Program.MaxBlocks
	var list []int
	for _, n := range []int{1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, limit} {
		few, many := packs > 64*n*threads && n < limit, n > 1 && n*threads > 4*packs+1024
		if n <= limit && !few && !many && !slices.Contains(list, n) {
			list = append(list, n)
		}
	}
	return list
}
