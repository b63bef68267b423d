package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/moegen/moegen/cmd/moegen/layer"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/spec"
)

// Config says what to measure.
type Config struct {
	Spec    *spec.Spec
	Program *moert.Program  // of Spec
	Devices []driver.Device // of each rank, two at least
	Share   bool            // ranks may share a device: times say nothing about a link
	// Transport is the one to measure; "" takes the first that works.
	Transport moert.Transport
	Tokens    []int // token counts of every rank, ascending
	Layers    int   // of a whole step
	NoNCCL    bool  // leave NCCL out
	Options   []moert.Option
	// Progress, if set, is told what comes next.
	Progress func(done, total int, what string)
}

func (c *Config) check() error {
	switch {
	case c.Spec == nil || c.Program == nil:
		return fmt.Errorf("bench: no spec or no program")
	case len(c.Devices) < 2:
		return fmt.Errorf("bench: with ep_size %d nothing is exchanged, so there is nothing to measure: 2 ranks at least", len(c.Devices))
	case c.Layers < 1:
		return fmt.Errorf("bench: %d layers", c.Layers)
	case len(c.Tokens) == 0:
		return fmt.Errorf("bench: no token counts")
	}
	for i, n := range c.Tokens {
		if n < 1 || n > c.Spec.MaxTokens || i > 0 && n <= c.Tokens[i-1] {
			return fmt.Errorf("bench: token counts %v: ascending ones from 1 to max_tokens %d", c.Tokens, c.Spec.MaxTokens)
		}
	}
	return nil
}

func (c *Config) most() int { return c.Tokens[len(c.Tokens)-1] }

// effort is how much is done for a figure.
type effort struct {
	replays   int
	rounds    int    // of an exchange of flags
	copyBytes uint64 // of the peer copy
	skews     []int  // microseconds by which rank 0 comes late
	emulated  bool
}

// nodes is how many operations of so many tokens a graph gets: fewer of long
// ones.
func (e effort) nodes(tokens int) int {
	if e.emulated {
		return 2
	}
	return max(8, min(64, 64*256/tokens))
}

// layers is the number of replays for whole steps, which are long.
func (e effort) steps(tokens int) int {
	if e.emulated {
		return e.replays
	}
	return max(11, min(e.replays, e.replays*256/tokens))
}

// bench is a measurement under way.
type bench struct {
	Config
	effort  effort
	session *layer.Session
	members []layer.Member
	kernels map[string][]driver.Function // by name and rank
	windows []driver.DevicePtr           // by rank: memory that all ranks reach
	counts  []moert.Tensor               // by rank: one int32, the tokens of captured steps
	undo    []func() error
	done    int
}

// open builds the dispatchers. The caller closes it, whether or not there is an
// error.
func open(ctx context.Context, c Config) (*bench, error) {
	b := &bench{Config: c, effort: effort{replays: 101, rounds: 2000, copyBytes: 256 << 20, skews: []int{1, 2, 5, 10, 20}}}
	if err := c.check(); err != nil {
		return b, err
	}
	if c.Devices[0].Driver().Name() == "emu" {
		b.effort = effort{replays: 3, rounds: 20, copyBytes: 1 << 20, skews: []int{20}, emulated: true}
	}
	all := make([]int, len(c.Devices))
	for i := range all {
		all[i] = c.most()
	}
	var err error
	b.session, err = layer.Open(ctx, layer.Config{
		Spec: c.Spec, Program: c.Program, Devices: c.Devices, Share: c.Share, Transport: c.Transport,
		Tokens: [][]int{all}, Capacity: c.most(), Layers: 1, Seed: 1, Options: c.Options,
		Partials: layer.PartialsBuffer,
	})
	if err != nil {
		return b, err
	}
	for rank := range c.Devices {
		b.members = append(b.members, b.session.Member(rank))
		count, err := b.members[rank].Dispatcher.NewTensor(1, 4)
		if err != nil {
			return b, err
		}
		b.counts = append(b.counts, count)
	}
	return b, b.loadKernels()
}

func (b *bench) close() error {
	err := b.release()
	if b.session != nil {
		err = errors.Join(err, b.session.Close())
	}
	return err
}

// each calls f for every rank at once, as calls of NCCL need it.
func (b *bench) each(f func(ctx context.Context, rank int) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	return b.session.Group().Each(ctx, f)
}

func (b *bench) progress(total int, format string, args ...any) {
	if b.Progress != nil {
		b.Progress(b.done, total, fmt.Sprintf(format, args...))
	}
	b.done++
}

// slowToVerify is how many tokens take the host seconds to verify.
const slowToVerify = 1024

// verify runs and verifies steps on the dispatchers that are measured, with so
// many tokens on every rank: an eager one and a replay, of many tokens only the
// replay.
func (b *bench) verify(ctx context.Context, tokens int) error {
	counts := make([]int, len(b.members))
	for r := range counts {
		counts[r] = tokens
	}
	steps := 1
	if tokens > slowToVerify {
		steps = 0
	}
	return b.verifyCounts(ctx, tokens, counts, steps)
}

// verifyUneven verifies a replay with fewer tokens on every rank than on the one
// before.
func (b *bench) verifyUneven(ctx context.Context, tokens int) error {
	counts := make([]int, len(b.members))
	for r := range counts {
		counts[r] = tokens * (len(counts) - r) / len(counts)
	}
	return b.verifyCounts(ctx, tokens, counts, 0)
}

func (b *bench) verifyCounts(ctx context.Context, capacity int, counts []int, steps int) error {
	result, err := b.session.Run(ctx, [][]int{counts}, capacity, steps, 1)
	if err != nil {
		return err
	}
	for _, step := range result.Steps {
		for _, rank := range step.Ranks {
			if !rank.OK() {
				return fmt.Errorf("rank %d got wrong results with %d tokens: %s", rank.Rank, rank.Tokens, rank.Faults[0])
			}
		}
	}
	return nil
}
