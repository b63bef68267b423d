package runtime

import (
	"fmt"
	"slices"

	"github.com/moegen/moegen/runtime/driver"
)

// Tokens is how many tokens a rank brings to a step: a number that the host
// knows, or the address of an int32 that kernels read when they run. A captured
// graph keeps a host number for ever and reads an address at every replay.
type Tokens struct {
	n   int
	ptr driver.DevicePtr
}

// HostTokens is a count that the host knows.
func HostTokens(n int) Tokens { return Tokens{n: n} }

// DeviceTokens is the address of an int32 count in device memory.
func DeviceTokens(p driver.DevicePtr) Tokens { return Tokens{ptr: p} }

// Rows are tensors with one row for each token.
type Rows struct {
	Routing, Probs, Hidden Tensor
	Scales                 Tensor // of Hidden, where it is quantised
}

// Gathered is what Dispatch yields: views of the rank's gather buffers, valid
// until the next Dispatch. Rows is the most there can be. Rank r's tokens are
// in rows Step.Offsets[r] to Step.Offsets[r]+Step.Counts[r].
type Gathered struct {
	Rows
	Step Step
}

// Step locates a step's counts in device memory: uint32 words that expert
// kernels may read, after BeginStep or after the step's first Dispatch.
type Step struct {
	Total    driver.DevicePtr // rows of the gathered tensors to look at: all ranks' tokens, and the padding of a padded layout
	Max      driver.DevicePtr // most tokens that one rank has
	Local    driver.DevicePtr // tokens of this rank
	Tokens   driver.DevicePtr // tokens of all ranks
	Capacity driver.DevicePtr // most tokens that a rank might have had
	Counts   driver.DevicePtr // [ranks] tokens of each rank
	Offsets  driver.DevicePtr // [ranks+1] first gathered row of each rank
}

// Step returns where the step's counts are.
func (d *Dispatcher) Step() Step {
	word := func(i int) driver.DevicePtr {
		return d.control + driver.DevicePtr(d.prog.Layout.Step) + driver.DevicePtr(4*i)
	}
	return Step{Total: word(0), Max: word(1), Local: word(2), Tokens: word(4), Capacity: word(5),
		Counts: word(6), Offsets: word(6 + d.prog.Ranks)}
}

// SetCapacity says that until further notice no rank brings more than n tokens
// to a step; n must be the same on all ranks. Kernels are launched with grids
// that suit it, and a captured graph keeps them: capture one graph for each
// batch-size bucket. The default is MaxTokens. A rank that brings more makes
// the step fail on all ranks.
func (d *Dispatcher) SetCapacity(n int) error {
	if d.state == stateClosed {
		return ErrClosed
	}
	if d.state == stateDispatched {
		return fmt.Errorf("SetCapacity: %w: it comes between Dispatch and Combine", ErrOrder)
	}
	if d.eager != nil {
		return fmt.Errorf("SetCapacity: %w: it concerns graphed steps; call SetGraphed(true) first", ErrOrder)
	}
	if n < 1 || n > d.prog.MaxTokens {
		return fmt.Errorf("SetCapacity: %w: %d, allowed are 1 to %d (max_tokens)", ErrTokens, n, d.prog.MaxTokens)
	}
	// The counts that the GPU has were checked against the old capacity.
	d.capacity, d.state = n, stateNew
	return nil
}

// Capacity returns the most tokens a rank may bring to a step now.
func (d *Dispatcher) Capacity() int { return d.capacity }

// BeginStep makes every rank's token count known to every rank, on the GPU, in
// a launch of its own: for callers that want the counts before the first
// Dispatch. NextStep costs none.
func (d *Dispatcher) BeginStep(s driver.Stream, t Tokens) error {
	if err := d.ready("BeginStep", s, stateNew, stateStep); err != nil {
		return err
	}
	if err := d.checkTokens("BeginStep", t); err != nil {
		return err
	}
	if err := d.engine.counts(s, t); err != nil {
		return fmt.Errorf("BeginStep: %w", err)
	}
	d.state, d.first = stateStep, nil
	d.tally.brings = t.n
	d.tally.step()
	return nil
}

// NextStep says how many tokens this rank brings to the next step. It launches
// nothing: the counts travel with the step's first Dispatch.
func (d *Dispatcher) NextStep(t Tokens) error {
	if err := d.allowed("NextStep", stateNew, stateStep); err != nil {
		return err
	}
	if err := d.checkTokens("NextStep", t); err != nil {
		return err
	}
	d.state, d.first = stateStep, &t
	d.tally.brings = t.n
	return nil
}

func (d *Dispatcher) checkTokens(call string, t Tokens) error {
	if d.eager != nil {
		return fmt.Errorf("%s: %w: outside graphs a step begins with Prefill; call SetGraphed(true) for graphed ones", call, ErrOrder)
	}
	if t.ptr == 0 && (t.n < 0 || t.n > d.capacity) {
		return fmt.Errorf("%s: %w: %d, allowed are 0 to %d (the capacity)", call, ErrTokens, t.n, d.capacity)
	}
	if t.ptr%4 != 0 {
		return fmt.Errorf("%s: %w: token count at %#x is not 4-byte aligned", call, ErrTensor, uint64(t.ptr))
	}
	return nil
}

// Dispatch gathers the rows of all ranks on every rank. Each of local's tensors
// has at least as many rows as the rank may bring tokens: the capacity, or what
// it told Prefill.
func (d *Dispatcher) Dispatch(s driver.Stream, local Rows) (Gathered, error) {
	if err := d.ready("Dispatch", s, stateStep); err != nil {
		return Gathered{}, err
	}
	for _, t := range []struct {
		name string
		Tensor
		used bool
	}{{"routing", local.Routing, true}, {"probs", local.Probs, true}, {"hidden", local.Hidden, true}, {"scales", local.Scales, d.prog.GivenScales()}} {
		if !t.used {
			continue
		}
		if err := checkTensor("Dispatch", t.name, t.Tensor, d.rows()); err != nil {
			return Gathered{}, err
		}
	}
	local = d.partRows(local)
	g := d.Gathered()
	var err error
	switch {
	case !d.passesThrough():
		err = d.engine.dispatch(s, local, d.first)
	case d.first != nil:
		err = d.engine.counts(s, *d.first)
		fallthrough
	default:
		g.Rows = local
	}
	if err != nil {
		return Gathered{}, fmt.Errorf("Dispatch: %w", err)
	}
	if d.first != nil {
		d.tally.step()
	}
	d.tally.operation(&d.tally.dispatches, d.prog.dispatchBytes(d.tally.brings))
	d.state, d.first = stateDispatched, nil
	return g, nil
}

// Gathered returns the views that Dispatch fills. Where one rank has nothing to
// do Dispatch returns its arguments instead.
func (d *Dispatcher) Gathered() Gathered {
	base, rows := d.mem.Unicast[d.rank], d.prog.Ranks*d.prog.MaxTokens
	at := func(offset uint64) Tensor { return Tensor{Ptr: base + driver.DevicePtr(offset), Rows: rows} }
	l := d.prog.Layout
	g := Gathered{Rows: Rows{Routing: at(l.Routing), Probs: at(l.Probs), Hidden: at(l.Hidden)}, Step: d.Step()}
	if d.prog.ScaleBlock > 0 {
		g.Scales = at(l.Scales)
	}
	return g
}

// PartialBuffer is where experts should write their sums, one row for each
// gathered row: Combine need not copy them then.
func (d *Dispatcher) PartialBuffer() Tensor {
	return Tensor{Ptr: d.mem.Unicast[d.rank] + driver.DevicePtr(d.prog.Layout.Partial), Rows: d.prog.Ranks * d.prog.MaxTokens}
}

// ready checks what all calls of a step that launch something need.
func (d *Dispatcher) ready(call string, s driver.Stream, in ...state) error {
	if err := d.alive(call); err != nil {
		return err
	}
	if s == nil {
		return fmt.Errorf("%s: %w: the stream is nil", call, ErrDevice)
	}
	if s.Device() != d.dev {
		return fmt.Errorf("%s: %w: the stream is on GPU %d and rank %d on GPU %d", call, ErrDevice, s.Device().Ordinal(), d.rank, d.dev.Ordinal())
	}
	if err := d.allowed(call, in...); err != nil {
		return err
	}
	return d.uncaptured(call, s)
}

// alive checks that the dispatcher can still be used.
func (d *Dispatcher) alive(call string) error {
	if d.state == stateClosed {
		return fmt.Errorf("%s: %w", call, ErrClosed)
	}
	// Not for a *StepError: a host that sees it early must launch the rest of the
	// step like those that have launched it already.
	if d.reported(); d.failed != nil {
		return fmt.Errorf("%s: %w", call, d.failed)
	}
	return nil
}

// allowed checks that a call comes in its turn.
func (d *Dispatcher) allowed(call string, in ...state) error {
	if err := d.alive(call); err != nil {
		return err
	}
	if slices.Contains(in, d.state) {
		return nil
	}
	begin := "BeginStep or NextStep"
	if d.eager != nil {
		begin = "Prefill"
	}
	next := map[state]string{stateNew: begin, stateStep: "Dispatch, or " + begin + " for a new step", stateDispatched: "Combine"}
	return fmt.Errorf("%s: %w: next comes %s", call, ErrOrder, next[d.state])
}

func checkTensor(call, name string, t Tensor, rows int) error {
	switch {
	case t.Ptr == 0 && rows > 0:
		return fmt.Errorf("%s: %w: %s has no memory", call, ErrTensor, name)
	case t.Ptr%16 != 0:
		return fmt.Errorf("%s: %w: %s at %#x is not 16-byte aligned", call, ErrTensor, name, uint64(t.Ptr))
	case t.Rows < rows:
		return fmt.Errorf("%s: %w: %s has %d rows and %d are needed", call, ErrTensor, name, t.Rows, rows)
	}
	return nil
}
