package runtime

import (
	"fmt"

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

// Gathered is what Dispatch yields: views of the rank's gather buffers, valid
// until the next Dispatch. Only the first *Step.Total rows hold tokens.
type Gathered struct {
	Routing, Probs, Hidden Tensor // Rows is the most there can be
	Step                   Step
}

// Step locates a step's counts in device memory: uint32 words that expert
// kernels may read after BeginStep.
type Step struct {
	Total   driver.DevicePtr // tokens of all ranks: rows of the gathered tensors
	Max     driver.DevicePtr // most tokens that one rank has
	Local   driver.DevicePtr // tokens of this rank
	Counts  driver.DevicePtr // [ranks] tokens of each rank
	Offsets driver.DevicePtr // [ranks+1] first gathered row of each rank
}

// Step returns where the step's counts are.
func (d *Dispatcher) Step() Step {
	base := d.control + driver.DevicePtr(d.prog.Layout.Step)
	return Step{Total: base, Max: base + 4, Local: base + 8, Counts: base + 16,
		Offsets: base + 16 + driver.DevicePtr(4*d.prog.Ranks)}
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
	if n < 1 || n > d.prog.MaxTokens {
		return fmt.Errorf("SetCapacity: %w: %d, allowed are 1 to %d (max_tokens)", ErrTokens, n, d.prog.MaxTokens)
	}
	// The counts that the GPU has were checked against the old capacity.
	d.capacity, d.state = n, stateNew
	return nil
}

// Capacity returns the most tokens a rank may bring to a step now.
func (d *Dispatcher) Capacity() int { return d.capacity }

// BeginStep makes every rank's token count known to every rank, on the GPU.
func (d *Dispatcher) BeginStep(s driver.Stream, t Tokens) error {
	if err := d.ready("BeginStep", s, stateNew, stateStep); err != nil {
		return err
	}
	if t.ptr == 0 && (t.n < 0 || t.n > d.capacity) {
		return fmt.Errorf("BeginStep: %w: %d, allowed are 0 to %d (the capacity)", ErrTokens, t.n, d.capacity)
	}
	if t.ptr%4 != 0 {
		return fmt.Errorf("BeginStep: %w: token count at %#x is not 4-byte aligned", ErrTensor, uint64(t.ptr))
	}
	if err := d.engine.counts(s, t); err != nil {
		return fmt.Errorf("BeginStep: %w", err)
	}
	d.state = stateStep
	return nil
}

// Dispatch gathers the routing, probabilities and hidden states of all ranks.
// Each tensor has at least as many rows as the step has local tokens; where
// the host does not know the count, as many as the capacity.
func (d *Dispatcher) Dispatch(s driver.Stream, routing, probs, hidden Tensor) (Gathered, error) {
	if err := d.ready("Dispatch", s, stateStep); err != nil {
		return Gathered{}, err
	}
	for _, t := range []struct {
		name string
		Tensor
	}{{"routing", routing}, {"probs", probs}, {"hidden", hidden}} {
		if err := checkTensor("Dispatch", t.name, t.Tensor, d.capacity); err != nil {
			return Gathered{}, err
		}
	}
	g := d.Gathered()
	if d.prog.Ranks == 1 {
		g.Routing, g.Probs, g.Hidden = routing, probs, hidden
	} else if err := d.engine.dispatch(s, routing.Ptr, probs.Ptr, hidden.Ptr); err != nil {
		return Gathered{}, fmt.Errorf("Dispatch: %w", err)
	}
	d.state = stateDispatched
	return g, nil
}

// Gathered returns the views that Dispatch fills; with one rank Dispatch
// returns its arguments instead.
func (d *Dispatcher) Gathered() Gathered {
	base, rows := d.mem.Unicast[d.rank], d.prog.Ranks*d.prog.MaxTokens
	at := func(offset uint64) Tensor { return Tensor{Ptr: base + driver.DevicePtr(offset), Rows: rows} }
	l := d.prog.Layout
	return Gathered{Routing: at(l.Routing), Probs: at(l.Probs), Hidden: at(l.Hidden), Step: d.Step()}
}

// PartialBuffer is where experts should write their sums, one row for each
// gathered row: Combine need not copy them then.
func (d *Dispatcher) PartialBuffer() Tensor {
	return Tensor{Ptr: d.mem.Unicast[d.rank] + driver.DevicePtr(d.prog.Layout.Partial), Rows: d.prog.Ranks * d.prog.MaxTokens}
}

// ready checks what all calls of a step need.
func (d *Dispatcher) ready(call string, s driver.Stream, allowed ...state) error {
	if d.state == stateClosed {
		return fmt.Errorf("%s: %w", call, ErrClosed)
	}
	// Not for a *StepError: a host that sees it early must launch the rest of the
	// step like those that have launched it already.
	if d.reported(); d.failed != nil {
		return fmt.Errorf("%s: %w", call, d.failed)
	}
	if s == nil {
		return fmt.Errorf("%s: %w: the stream is nil", call, ErrDevice)
	}
	if s.Device() != d.dev {
		return fmt.Errorf("%s: %w: the stream is on GPU %d and rank %d on GPU %d", call, ErrDevice, s.Device().Ordinal(), d.rank, d.dev.Ordinal())
	}
	for _, a := range allowed {
		if d.state == a {
			return nil
		}
	}
	next := map[state]string{stateNew: "BeginStep", stateStep: "Dispatch, or BeginStep for a new step", stateDispatched: "Combine"}
	return fmt.Errorf("%s: %w: next comes %s", call, ErrOrder, next[d.state])
}

func checkTensor(call, name string, t Tensor, rows int) error {
	switch {
	case t.Ptr == 0:
		return fmt.Errorf("%s: %w: %s has no memory", call, ErrTensor, name)
	case t.Ptr%16 != 0:
		return fmt.Errorf("%s: %w: %s at %#x is not 16-byte aligned", call, ErrTensor, name, uint64(t.Ptr))
	case t.Rows < rows:
		return fmt.Errorf("%s: %w: %s has %d rows and %d are needed", call, ErrTensor, name, t.Rows, rows)
	}
	return nil
}
