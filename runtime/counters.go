package runtime

import (
	"fmt"
	"sync/atomic"
)

// Counters say what a dispatcher has done. They only grow; can be written as
// JSON; and summed over dispatchers.
//
// The first ones are counted by kernels when they run, so that replays of graphs
// are among them. Each is exact by itself; while kernels run one may be some
// operations ahead of another. They are extended from 32 bits, so read them
// more often than once in 2^32 operations. Kernels that leave at once because
// the group has failed may count too.
type Counters struct {
	// Steps whose counts were exchanged: of a prefill in several exchanges, each
	// exchange.
	Steps uint64
	// Dispatches and Combines ended, with all ranks. Over NCCL, and for a group of
	// one that has nothing to do, nobody counts them: see Enqueued.
	Dispatches, Combines uint64
	// SlowWaits for another rank lasted longer than 100 us. Threads of this rank
	// that find that within 100 us of each other count once, so an operation that
	// waits counts, as a rule, once. Over NCCL nobody counts them.
	SlowWaits uint64

	// LastStep is the latest of Steps, not a sum: kernels do not add up tokens,
	// which would cost time in every step.
	LastStep StepCounts

	// Enqueued is what this host has enqueued. What was captured counts once, and
	// its replays never.
	Enqueued Enqueued

	// Failures that a call of the dispatcher has noticed: StepErrors failed a step
	// (*StepError); a Failure ends the dispatcher, so there is one at most, and it
	// is a Timeout where a rank did not come before the kernels' deadline.
	StepErrors, Failures, Timeouts uint64
}

// StepCounts are the token counts of a step. While kernels run, they may be
// partly those of the next one.
type StepCounts struct {
	Epoch     uint32 // number of the step, modulo 2^32
	Tokens    uint64 // that this rank brought
	AllTokens uint64 // that all ranks brought
	Bytes     uint64 // that one layer moves for this rank's tokens, see Enqueued
}

// Enqueued counts calls of a dispatcher.
type Enqueued struct {
	Steps, Dispatches, Combines uint64
	// Tokens of those steps, and Bytes that their Dispatches and Combines move for
	// them: rows sent to each other rank, and partial sums received from each. The
	// bytes of all ranks' tokens are therefore all bytes that are sent. They are
	// those of the rows: marks of protocol ll and NCCL's padding come on top, and
	// by multicast (nvls) a row, or a sum, passes this rank's link once for all
	// ranks. DeviceTokens, which the host does not know, are in neither.
	Tokens, Bytes uint64
}

// dispatchBytes and combineBytes are what one layer moves for tokens.
func (p *Program) dispatchBytes(tokens int) uint64 {
	row := p.PayloadRowBytes() + p.ScaleRowBytes() + p.RoutingRowBytes() + p.ProbsRowBytes()
	return uint64(tokens) * uint64(p.Ranks-1) * uint64(row)
}

func (p *Program) combineBytes(tokens int) uint64 {
	return uint64(tokens) * uint64(p.Ranks-1) * uint64(p.WireRowBytes())
}

// tally is the host's side of the counters. One goroutine adds, any reads.
type tally struct {
	brings                                     int // tokens of the current step, 0 where only the GPU knows
	steps, dispatches, combines, tokens, bytes atomic.Uint64
	stepErrors, failures, timeouts             atomic.Uint64
}

func (t *tally) step() {
	t.steps.Add(1)
	t.tokens.Add(uint64(t.brings))
}

func (t *tally) operation(calls *atomic.Uint64, bytes uint64) {
	calls.Add(1)
	t.bytes.Add(bytes)
}

// extended is a 32-bit counter of a kernel, continued.
type extended struct {
	last  uint32
	total uint64
}

func (e *extended) to(now uint32) {
	e.total += uint64(now - e.last)
	e.last = now
}

// deviceCounts is the kernels' side of the counters, as last read.
type deviceCounts struct {
	steps, dispatches, lowDispatches, combines, lowCombines, slowWaits extended
	step                                                               StepCounts
}

func (c *deviceCounts) begin(epoch uint32) {
	for _, e := range []*extended{&c.steps, &c.dispatches, &c.lowDispatches, &c.combines, &c.lowCombines} {
		e.last = epoch
	}
}

// Counters returns the counters as they are now. Any goroutine may call it, also
// while steps run or a graph is captured; it waits for no stream. It costs a
// copy of some kilobytes from the GPU, beside the kernels, and costs steps nothing.
//
// An error says that the GPU could not be read, or that the dispatcher is
// closed; what kernels count is then what it was at the last reading.
func (d *Dispatcher) Counters() (Counters, error) {
	d.reading.Lock()
	defer d.reading.Unlock()
	err := d.readCounts()
	g, t := &d.counted, &d.tally
	return Counters{
		Steps: g.steps.total, Dispatches: g.dispatches.total + g.lowDispatches.total, Combines: g.combines.total + g.lowCombines.total,
		SlowWaits: g.slowWaits.total, LastStep: g.step,
		Enqueued: Enqueued{Steps: t.steps.Load(), Dispatches: t.dispatches.Load(), Combines: t.combines.Load(),
			Tokens: t.tokens.Load(), Bytes: t.bytes.Load()},
		StepErrors: t.stepErrors.Load(), Failures: t.failures.Load(), Timeouts: t.timeouts.Load(),
	}, err
}

func (d *Dispatcher) readCounts() error {
	if d.closed {
		return ErrClosed
	}
	control, err := readWords(d.dev, d.control, d.prog.Layout.Control)
	if err != nil {
		return fmt.Errorf("counters of rank %d: %w", d.rank, err)
	}
	p, w, g := d.prog, d.prog.words(), &d.counted
	g.steps.to(word(control, w.countEpochs))
	g.dispatches.to(p.ended(control, w.dispatchEpochs))
	g.combines.to(p.ended(control, w.combineEpochs))
	if p.low() {
		g.lowDispatches.to(word(control, w.lowDispatchEpochs))
		g.lowCombines.to(word(control, w.lowCombineEpochs))
	}
	g.slowWaits.to(word(control, slowWaitsOffset))
	g.step = p.stepCounts(control)
	return nil
}

// stepCounts decodes struct Step.
func (p *Program) stepCounts(control []byte) StepCounts {
	at := p.Layout.Step
	s := StepCounts{Epoch: word(control, at+12), Tokens: uint64(word(control, at+8)), AllTokens: uint64(word(control, at+16))}
	s.Bytes = p.dispatchBytes(int(s.Tokens)) + p.combineBytes(int(s.Tokens))
	return s
}
