package layer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
)

// Session is the dispatchers, experts and buffers of all ranks, on which steps
// are run and verified, one Run after the other, and which can be measured in
// between.
type Session struct {
	*run
	group    *moert.LocalGroup
	captured int // the capacity of what was captured last; 0: nothing
}

// Open builds a session. Config's token counts and capacity are the most that
// any Run will have.
func Open(ctx context.Context, c Config) (*Session, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	newGroup := moert.NewLocalGroup
	if c.Share {
		newGroup = moert.NewSharedGroup
	}
	group, err := newGroup(c.Devices...)
	if err != nil {
		return nil, err
	}
	x := &Session{group: group, run: newRun(c, group.Size())}
	err = group.Each(ctx, func(ctx context.Context, id int) error {
		var err error
		x.ranks[id], err = newRank(ctx, &x.config, group, id)
		return err
	})
	if err != nil {
		return nil, errors.Join(err, x.Close())
	}
	return x, nil
}

// Run runs and verifies steps and then replays of a graph, of the given token
// counts and for a capacity, neither more than what the session was opened for.
// Each has inputs of its own. What it found wrong with results is in the Result.
func (x *Session) Run(ctx context.Context, tokens [][]int, capacity, steps, replays int) (*Result, error) {
	most := x.config
	defer func() { x.config = most }()
	x.config.Tokens, x.config.Capacity, x.config.Steps, x.config.Replays = tokens, capacity, steps, replays
	if err := x.config.check(); err != nil {
		return nil, err
	}
	if x.config.mostTokens() > most.mostTokens() || capacity > most.Capacity {
		return nil, fmt.Errorf("layer: %d tokens for a capacity of %d, and the session is for %d and %d",
			x.config.mostTokens(), capacity, most.mostTokens(), most.Capacity)
	}
	for _, r := range x.ranks {
		if err := r.dispatcher.SetCapacity(capacity); err != nil {
			return nil, err
		}
	}
	x.describe()
	if err := x.steps(ctx); err != nil {
		return nil, err
	}
	x.done += steps + replays
	return x.result, nil
}

// Capture captures a step of up to capacity tokens a rank, for Replay, in place
// of what was captured before. Its counts travel early, in a launch of their
// own, or with its first dispatch.
func (x *Session) Capture(capacity int, early bool) error {
	if err := x.setCapacity(capacity); err != nil {
		return err
	}
	x.captured = capacity
	return x.drive(func(r *rank) error { return r.capture(early) })
}

// Replay runs and verifies a replay of what was captured last, whatever steps
// have come since.
func (x *Session) Replay(ctx context.Context, counts []int) (*Step, error) {
	if x.captured == 0 {
		return nil, errors.New("layer: nothing is captured")
	}
	return x.one(ctx, Step{Graph: true}, counts, x.captured, false)
}

// Eager runs and verifies a step that is not captured: if a rank brings more than
// capacity, a prefill. Its counts travel as those of Capture.
func (x *Session) Eager(ctx context.Context, counts []int, capacity int, early bool) (*Step, error) {
	if err := x.setCapacity(capacity); err != nil {
		return nil, err
	}
	return x.one(ctx, Step{Prefill: slices.Max(counts) > capacity}, counts, capacity, early)
}

func (x *Session) setCapacity(capacity int) error {
	for _, r := range x.ranks {
		if err := errors.Join(r.dispatcher.SetGraphed(true), r.dispatcher.SetCapacity(capacity)); err != nil {
			return fmt.Errorf("rank %d: %w", r.id, err)
		}
	}
	return nil
}

// one runs and verifies one step. The rows that are looked at are those that
// the session was opened for, so that a graph copies them whatever comes.
func (x *Session) one(ctx context.Context, s Step, counts []int, capacity int, early bool) (*Step, error) {
	if most := x.config.mostTokens(); len(counts) != len(x.ranks) || slices.Max(counts) > most || s.Graph && slices.Max(counts) > capacity {
		return nil, fmt.Errorf("layer: tokens %v, in a session of %d ranks for up to %d, and a capacity of %d", counts, len(x.ranks), most, capacity)
	}
	opened := x.config.Capacity
	defer func() { x.config.Capacity = opened }()
	x.config.Capacity = capacity
	x.describe()
	s.Index = x.done
	if err := x.step(ctx, x.done, s, counts, early); err != nil {
		return nil, err
	}
	x.done++
	return &x.result.Steps[0], nil
}

// Close closes the dispatchers and the group.
func (x *Session) Close() error { return errors.Join(x.close(), x.group.Close()) }

// Group is the ranks' group.
func (x *Session) Group() *moert.LocalGroup { return x.group }

// Member is what a rank of a session has, for steps that a caller makes.
type Member struct {
	Dispatcher *moert.Dispatcher
	Stream     driver.Stream
	In         moert.Rows        // inputs, as many rows as the capacity
	Args       moert.CombineArgs // of Combine, but for the partial sums
	experts    *experts
}

// Member returns a rank's.
func (x *Session) Member(id int) Member {
	r := x.ranks[id]
	return Member{Dispatcher: r.dispatcher, Stream: r.stream, In: r.layers[0].in, Args: r.layers[0].args, experts: r.experts}
}

// Experts enqueues the demonstration experts, from what a Dispatch has gathered
// to partial.
func (m Member) Experts(s driver.Stream, g moert.Gathered, partial moert.Tensor) error {
	return m.experts.launch(s, g, partial)
}
