package runtime

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/moegen/moegen/runtime/driver"
)

// prefill is a step outside graphs: how many tokens the rank brings, in how
// many exchanges all ranks' tokens travel, and which of them comes next.
type prefill struct {
	tokens, exchanges, next int
}

// MaxPrefill is the most tokens that a rank may bring to Prefill.
func (p *Program) MaxPrefill() int { return max(p.MaxTokens, p.MaxPrefillTokens) }

// SetGraphed says how steps run from now on; all ranks say the same between
// the same steps. In graphed mode, the default, a step begins with BeginStep or
// NextStep, brings at most the capacity, and may be captured. Outside it a step
// begins with Prefill, whose counts all hosts know, may bring up to MaxPrefill
// tokens, and must not be captured. Both modes use the same buffers and
// kernels, and give the same bits for a token. What was captured before may be
// replayed in either mode, between steps.
func (d *Dispatcher) SetGraphed(graphed bool) error {
	if err := d.alive("SetGraphed"); err != nil {
		return err
	}
	if d.state == stateDispatched {
		return fmt.Errorf("SetGraphed: %w: it comes between Dispatch and Combine", ErrOrder)
	}
	if graphed == (d.eager == nil) {
		return nil
	}
	if err := d.layerDone("SetGraphed"); err != nil {
		return err
	}
	if graphed {
		d.capacity, d.eager = d.graphedCapacity, nil
	} else {
		d.graphedCapacity, d.capacity, d.eager = d.capacity, d.prog.MaxTokens, &prefill{}
	}
	d.state, d.first = stateNew, nil
	return nil
}

// Prefill begins a step outside graphs to which this rank brings so many
// tokens, and returns in how many exchanges they travel, the same number on
// all ranks: for each layer the caller does Dispatch, experts and Combine that
// often, always with the whole tensors. Exchange i moves rows i*MaxTokens and
// on; what Dispatch gathers belongs to that exchange alone, while Combine fills
// in one output for all of them.
//
// It waits until all ranks have called it, for no longer than ctx allows; where
// that sets no deadline, for no longer than kernels wait for a rank. If a rank
// brings too many tokens it fails on all of them (errors.Is ErrTokens), and
// nothing has changed.
func (d *Dispatcher) Prefill(ctx context.Context, tokens int) (exchanges int, err error) {
	if d.eager == nil && d.state != stateClosed {
		return 0, fmt.Errorf("Prefill: %w: steps are graphed; call SetGraphed(false) first", ErrOrder)
	}
	if err := d.allowed("Prefill", stateNew, stateStep); err != nil {
		return 0, err
	}
	if err := d.layerDone("Prefill"); err != nil {
		return 0, err
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.timeout)
		defer cancel()
	}
	msgs, err := d.group.AllGather(ctx, d.rank, binary.LittleEndian.AppendUint64(nil, uint64(tokens)))
	if err != nil {
		return 0, fmt.Errorf("Prefill: %w", err)
	}
	// All ranks see the same counts, and come to the same end.
	most := 0
	for rank, m := range msgs {
		if len(m) != 8 {
			return 0, fmt.Errorf("Prefill: %w: rank %d sent %d bytes instead of a token count: all ranks call Prefill at once", ErrGroup, rank, len(m))
		}
		n := int(int64(binary.LittleEndian.Uint64(m)))
		if limit := d.prog.MaxPrefill(); n < 0 || n > limit {
			return 0, fmt.Errorf("Prefill: %w: rank %d brings %d, allowed are 0 to %d (%s)", ErrTokens, rank, n, limit, d.prog.prefillLimit())
		}
		most = max(most, n)
	}
	exchanges = max(1, (most+d.prog.MaxTokens-1)/d.prog.MaxTokens)
	*d.eager = prefill{tokens: tokens, exchanges: exchanges}
	d.state = stateStep
	d.nextExchange()
	return exchanges, nil
}

// prefillLimit names the field of the spec that MaxPrefill is.
func (p *Program) prefillLimit() string {
	if p.MaxPrefillTokens > 0 {
		return "max_prefill_tokens"
	}
	return "max_tokens"
}

// layerDone checks that no exchange of a layer is left to do.
func (d *Dispatcher) layerDone(call string) error {
	if e := d.eager; e != nil && e.next != 0 {
		return fmt.Errorf("%s: %w: exchange %d of a layer's %d comes first", call, ErrOrder, e.next, e.exchanges)
	}
	return nil
}

// nextExchange says which tokens travel with the next dispatch. Counts that
// the GPU has already need not travel again.
func (d *Dispatcher) nextExchange() {
	first, end := d.eager.rows(d.prog)
	d.first = &Tokens{n: end - first}
	d.tally.brings = d.first.n
}

// rows returns the first of the rank's rows in the coming exchange, and the
// one after the last.
func (e *prefill) rows(p *Program) (first, end int) {
	return min(e.next*p.MaxTokens, e.tokens), min((e.next+1)*p.MaxTokens, e.tokens)
}

// ended says that a Combine has been enqueued: the next exchange, or the next
// layer, may follow.
func (d *Dispatcher) ended() {
	d.state = stateStep
	if e := d.eager; e != nil && e.exchanges > 1 {
		e.next = (e.next + 1) % e.exchanges
		d.nextExchange()
	}
}

// rows is how many rows the caller's tensors of a rank's own tokens must have.
func (d *Dispatcher) rows() int {
	if d.eager != nil {
		return d.eager.tokens
	}
	return d.capacity
}

// readable is how many rows of them the coming dispatch may read.
func (d *Dispatcher) readable() int {
	if d.eager != nil {
		first, end := d.eager.rows(d.prog)
		return end - first
	}
	return d.capacity
}

// part is where the rows of the coming exchange are in a tensor of a rank's own
// tokens.
func (d *Dispatcher) part(t Tensor, rowBytes int) driver.DevicePtr {
	if d.eager == nil || t.Ptr == 0 {
		return t.Ptr
	}
	first, _ := d.eager.rows(d.prog)
	return t.Ptr + driver.DevicePtr(first*rowBytes)
}

// partRows is local with no more than the rows of the coming exchange.
func (d *Dispatcher) partRows(local Rows) Rows {
	p := d.prog
	for _, t := range []struct {
		*Tensor
		rowBytes int
	}{{&local.Routing, p.RoutingRowBytes()}, {&local.Probs, p.ProbsRowBytes()}, {&local.Scales, p.ScaleRowBytes()}, {&local.Hidden, p.InputRowBytes()}} {
		t.Ptr = d.part(*t.Tensor, t.rowBytes)
		if d.eager != nil {
			first, end := d.eager.rows(p)
			t.Rows = min(t.Rows, end-first)
		}
	}
	return local
}

// passesThrough reports whether dispatch has nothing to do. In a padded layout a
// prefill's last rows are followed by padding that the caller need not have.
func (d *Dispatcher) passesThrough() bool {
	return d.prog.passesThrough() && !(d.eager != nil && d.prog.Padded)
}

// uncaptured refuses what a graph would repeat with the host's counts of today.
func (d *Dispatcher) uncaptured(call string, s driver.Stream) error {
	if d.eager == nil {
		return nil
	}
	if capturing, err := s.Capturing(); err != nil || capturing {
		return errors.Join(err, fmt.Errorf("%s: %w: steps outside graphs cannot be captured; call SetGraphed(true) before BeginCapture", call, ErrOrder))
	}
	return nil
}
