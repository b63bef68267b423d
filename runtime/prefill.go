package runtime

import (
	"context"
	"encoding/binary"
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
// kernels, and give the same bits for a token.
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
// It waits until all ranks have called it, for no longer than ctx allows.
func (d *Dispatcher) Prefill(ctx context.Context, tokens int) (exchanges int, err error) {
	if err := d.allowed("Prefill", stateNew, stateStep); err != nil {
		return 0, err
	}
	if d.eager == nil {
		return 0, fmt.Errorf("Prefill: %w: steps are graphed; call SetGraphed(false) first", ErrOrder)
	}
	if d.eager.next != 0 {
		return 0, fmt.Errorf("Prefill: %w: exchange %d of %d of a layer comes next", ErrOrder, d.eager.next, d.eager.exchanges)
	}
	if limit := d.prog.MaxPrefill(); tokens < 0 || tokens > limit {
		// The others learn of it in the exchange, and nobody begins.
		err = fmt.Errorf("Prefill: %w: %d, allowed are 0 to %d (max_prefill_tokens)", ErrTokens, tokens, limit)
		tokens = -1
	}
	msgs, xerr := d.group.AllGather(ctx, d.rank, binary.LittleEndian.AppendUint64(nil, uint64(int64(tokens))))
	if xerr != nil {
		return 0, fmt.Errorf("Prefill: %w", xerr)
	}
	exchanges = 1
	for rank, m := range msgs {
		if len(m) != 8 {
			return 0, fmt.Errorf("Prefill: %w: rank %d sent %d bytes instead of a token count: all ranks call Prefill at once", ErrGroup, rank, len(m))
		}
		n := int(int64(binary.LittleEndian.Uint64(m)))
		if n < 0 && err == nil {
			err = fmt.Errorf("Prefill: %w on rank %d", ErrTokens, rank)
		}
		exchanges = max(exchanges, (n+d.prog.MaxTokens-1)/d.prog.MaxTokens)
	}
	if err != nil {
		return 0, err
	}
	*d.eager = prefill{tokens: tokens, exchanges: exchanges}
	d.state, d.first = stateStep, nil
	d.nextExchange()
	return exchanges, nil
}

// nextExchange says which tokens travel with the next dispatch. Counts that
// the GPU has already need not travel again.
func (d *Dispatcher) nextExchange() {
	if e := d.eager; e != nil {
		n := min(max(e.tokens-e.next*d.prog.MaxTokens, 0), d.prog.MaxTokens)
		d.first = &Tokens{n: n}
	}
}

// ended says that a Combine has been enqueued: the next exchange, or the next
// layer, may follow.
func (d *Dispatcher) ended() {
	d.state = stateStep
	if e := d.eager; e != nil {
		e.next = (e.next + 1) % e.exchanges
		if e.exchanges > 1 {
			d.nextExchange()
		}
	}
}

// rows is how many rows the caller's tensors of a rank's own tokens must have.
func (d *Dispatcher) rows() int {
	if d.eager != nil {
		return d.eager.tokens
	}
	return d.capacity
}

// part is where the rows of the coming exchange are in a tensor of a rank's own
// tokens.
func (d *Dispatcher) part(t Tensor, rowBytes int) driver.DevicePtr {
	if d.eager == nil || t.Ptr == 0 {
		return t.Ptr
	}
	return t.Ptr + driver.DevicePtr(d.eager.next*d.prog.MaxTokens*rowBytes)
}
