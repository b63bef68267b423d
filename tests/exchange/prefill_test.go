package exchange

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/emu"
)

// large is small with steps outside graphs of up to three exchanges.
const large = small + "max_prefill_tokens: 40\n"

// setGraphed says it on all ranks.
func (r *rig) setGraphed(t testing.TB, graphed bool) {
	t.Helper()
	for rank, d := range r.d {
		if err := d.SetGraphed(graphed); err != nil {
			t.Fatalf("rank %d: %v", rank, err)
		}
	}
}

// prefill begins a step outside graphs on all ranks at once.
func (r *rig) prefill(tokens ...int) (exchanges []int, errs []error) {
	exchanges, errs = make([]int, len(r.d)), make([]error, len(r.d))
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	for rank, d := range r.d {
		wg.Go(func() { exchanges[rank], errs[rank] = d.Prefill(ctx, tokens[rank]) })
	}
	wg.Wait()
	return exchanges, errs
}

// begun is prefill, which has to go well.
func (r *rig) begun(t testing.TB, tokens ...int) (exchanges int) {
	t.Helper()
	all, errs := r.prefill(tokens...)
	for rank, err := range errs {
		if err != nil || all[rank] != all[0] {
			t.Fatalf("rank %d: %d exchanges, %v; rank 0: %d", rank, all[rank], err, all[0])
		}
	}
	return all[0]
}

// dispatchAll and combineAll do one exchange's half on all ranks.
func (r *rig) dispatchAll(t testing.TB) {
	t.Helper()
	for rank, d := range r.d {
		if _, err := d.Dispatch(r.streams[rank], r.in[rank].rows()); err != nil {
			t.Fatalf("rank %d: %v", rank, err)
		}
	}
}

func (r *rig) combineAll(t testing.TB) {
	t.Helper()
	for rank, d := range r.d {
		if _, err := d.Combine(r.streams[rank], moert.CombineArgs{Partial: d.PartialBuffer()}); err != nil {
			t.Fatalf("rank %d: %v", rank, err)
		}
	}
}

func (r *rig) synchronize(t testing.TB) {
	t.Helper()
	for rank, d := range r.d {
		if err := d.Synchronize(r.streams[rank]); err != nil {
			t.Fatalf("rank %d: %v", rank, err)
		}
	}
}

// largeRig has tensors for the largest prefill.
func largeRig(t testing.TB, opts ...moert.Option) *rig {
	t.Helper()
	p := program(t, large)
	r := newRig(t, machine(t, emu.Config{Devices: 2}), p, opts...)
	for rank, d := range r.d {
		in := &r.in[rank]
		for _, x := range []struct {
			t     *moert.Tensor
			bytes int
		}{{&in.routing, p.RoutingRowBytes()}, {&in.probs, p.ProbsRowBytes()}, {&in.hidden, p.HiddenRowBytes()}} {
			var err error
			if *x.t, err = d.NewTensor(p.MaxPrefill(), x.bytes); err != nil {
				t.Fatal(err)
			}
			if err := d.Device().Write(x.t.Ptr, make([]byte, p.MaxPrefill()*x.bytes)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return r
}

// TestPrefillMistakes: what comes out of turn outside graphs, or is too small,
// is a typed error before any launch, and the step goes on.
func TestPrefillMistakes(t *testing.T) {
	r := largeRig(t)
	d, s := r.d[0], r.streams[0]
	const rows, exchanges = 35, 3
	short := func(name string) error {
		in := r.in[0]
		*map[string]*int{"routing": &in.routing.Rows, "probs": &in.probs.Rows, "hidden": &in.hidden.Rows}[name] = rows - 1
		_, err := d.Dispatch(s, in.rows())
		return err
	}
	combine := func(a moert.CombineArgs) error { _, err := d.Combine(s, a); return err }
	prefill := func() error { _, err := d.Prefill(t.Context(), 1); return err }
	for _, c := range []struct {
		name string
		done int // halves of exchanges before the call, -1: not even Prefill
		call func() error
		want error
		says string
	}{
		{"Dispatch before Prefill", -1, func() error { return short("hidden") }, moert.ErrOrder, "next comes Prefill"},
		{"Combine before Prefill", -1, func() error { return combine(moert.CombineArgs{Partial: d.PartialBuffer()}) }, moert.ErrOrder, "next comes Prefill"},
		{"BeginStep", -1, func() error { return d.BeginStep(s, moert.HostTokens(1)) }, moert.ErrOrder, "SetGraphed(true)"},
		{"NextStep", -1, func() error { return d.NextStep(moert.HostTokens(1)) }, moert.ErrOrder, "SetGraphed(true)"},
		{"SetCapacity", -1, func() error { return d.SetCapacity(1) }, moert.ErrOrder, "SetGraphed(true)"},
		{"BeginStep after Prefill", 0, func() error { return d.BeginStep(s, moert.HostTokens(1)) }, moert.ErrOrder, "SetGraphed(true)"},
		{"NextStep between layers", 2 * exchanges, func() error { return d.NextStep(moert.HostTokens(1)) }, moert.ErrOrder, "SetGraphed(true)"},
		{"routing too small", 0, func() error { return short("routing") }, moert.ErrTensor, "34 rows and 35 are needed"},
		{"probs too small", 2, func() error { return short("probs") }, moert.ErrTensor, "34 rows and 35 are needed"},
		{"hidden too small", 4, func() error { return short("hidden") }, moert.ErrTensor, "34 rows and 35 are needed"},
		{"no hidden", 2, func() error { in := r.in[0]; in.hidden.Ptr = 0; _, err := d.Dispatch(s, in.rows()); return err }, moert.ErrTensor, "no memory"},
		{"partial too small", 1, func() error {
			return combine(moert.CombineArgs{Partial: moert.Tensor{Ptr: r.in[0].hidden.Ptr, Rows: 31}})
		}, moert.ErrTensor, "32 are needed"},
		{"out too small", 3, func() error {
			return combine(moert.CombineArgs{Partial: d.PartialBuffer(), Out: moert.Tensor{Ptr: r.in[0].hidden.Ptr, Rows: rows - 1}})
		}, moert.ErrTensor, "35 are needed"},
		{"SetGraphed before Combine", 1, func() error { return d.SetGraphed(true) }, moert.ErrOrder, "between Dispatch and Combine"},
		{"SetGraphed to what it is before Combine", 5, func() error { return d.SetGraphed(false) }, moert.ErrOrder, "between Dispatch and Combine"},
		{"SetGraphed in a layer", 2, func() error { return d.SetGraphed(true) }, moert.ErrOrder, "exchange 1 of a layer's 3"},
		{"Prefill before Combine", 1, prefill, moert.ErrOrder, "next comes Combine"},
		{"Prefill in a layer", 4, prefill, moert.ErrOrder, "exchange 2 of a layer's 3"},
		{"captured", 0, func() error {
			if err := s.BeginCapture(); err != nil {
				return err
			}
			_, err := d.Dispatch(s, r.in[0].rows())
			g, endErr := s.EndCapture()
			if endErr == nil {
				endErr = g.Close()
			}
			return errors.Join(err, endErr)
		}, moert.ErrOrder, "before BeginCapture"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.setGraphed(t, false)
			half := 0
			next := func() {
				if half%2 == 0 {
					r.dispatchAll(t)
				} else {
					r.combineAll(t)
				}
				half++
			}
			if c.done >= 0 {
				if n := r.begun(t, rows, 2); n != exchanges {
					t.Fatalf("%d exchanges, want %d", n, exchanges)
				}
				for half < c.done {
					next()
				}
			}
			err := c.call()
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %v: %s", err, c.want, c.says)
			}
			if c.done < 0 {
				r.begun(t, rows, 2)
			}
			for half < 2*2*exchanges { // two layers
				next()
			}
			r.synchronize(t)
			r.setGraphed(t, true)
			r.good(t, 3)
			if _, err := d.Prefill(t.Context(), 1); !errors.Is(err, moert.ErrOrder) || !strings.Contains(err.Error(), "SetGraphed(false)") {
				t.Errorf("Prefill of graphed steps: %v", err)
			}
		})
	}
	t.Run("SetGraphed in a graphed layer", func(t *testing.T) {
		for rank, d := range r.d {
			if err := d.NextStep(moert.HostTokens(rank)); err != nil {
				t.Fatal(err)
			}
		}
		r.dispatchAll(t)
		if err := d.SetGraphed(false); !errors.Is(err, moert.ErrOrder) {
			t.Errorf("between Dispatch and Combine: %v", err)
		}
		r.combineAll(t)
		r.synchronize(t)
	})
	r.close(t)
	if err := d.SetGraphed(false); !errors.Is(err, moert.ErrClosed) {
		t.Errorf("SetGraphed after Close: %v", err)
	}
	if err := prefill(); !errors.Is(err, moert.ErrClosed) {
		t.Errorf("Prefill after Close: %v", err)
	}
}

// TestPrefillTooManyTokens: one rank's wrong count is an error on all of them,
// which names it, and the step before goes on as if nothing had been said.
func TestPrefillTooManyTokens(t *testing.T) {
	for _, transport := range []moert.Transport{moert.NVLS, moert.P2P, moert.NCCL} {
		r := largeRig(t, moert.WithTransport(transport))
		r.setGraphed(t, false)
		for _, wrong := range []int{41, -1, 1 << 40} {
			for bad := range r.d {
				r.begun(t, 20, 3)
				tokens := []int{7, 7}
				tokens[bad] = wrong
				_, errs := r.prefill(tokens...)
				for rank, err := range errs {
					if !errors.Is(err, moert.ErrTokens) || err.Error() != errs[0].Error() ||
						!strings.Contains(err.Error(), "allowed are 0 to 40 (max_prefill_tokens)") {
						t.Errorf("%s: %d tokens on rank %d: rank %d: %v", transport, wrong, bad, rank, err)
					}
				}
				for range 2 {
					r.dispatchAll(t)
					r.combineAll(t)
				}
				r.synchronize(t)
				for rank, d := range r.d {
					word := make([]byte, 4)
					if err := d.Device().Read(word, d.Step().Tokens); err != nil || binary.LittleEndian.Uint32(word) != 4 {
						t.Errorf("%s: rank %d: the second exchange had %v tokens (%v), not 4", transport, rank, word, err)
					}
				}
			}
		}
		r.setGraphed(t, true)
		r.good(t, 16)
	}
	// Without the field it is max_tokens.
	r := newRig(t, machine(t, emu.Config{Devices: 2}), program(t, small))
	r.setGraphed(t, false)
	_, errs := r.prefill(1, 17)
	for rank, err := range errs {
		if !errors.Is(err, moert.ErrTokens) || !strings.Contains(err.Error(), "rank 1 brings 17, allowed are 0 to 16 (max_tokens)") {
			t.Errorf("rank %d: %v", rank, err)
		}
	}
	if n := r.begun(t, 16, 0); n != 1 {
		t.Errorf("16 tokens travel in %d exchanges", n)
	}
	r.dispatchAll(t)
	r.combineAll(t)
	r.synchronize(t)
}

// TestPrefillAlone: a rank that waits for others in vain gets an error that
// names them, with or without a deadline of its own; later all of them succeed.
func TestPrefillAlone(t *testing.T) {
	r := largeRig(t, moert.WithTimeout(50*time.Millisecond))
	r.setGraphed(t, false)
	short, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	for _, ctx := range []context.Context{short, context.Background()} {
		_, err := r.d[0].Prefill(ctx, 20)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "ranks [1] did not come") {
			t.Errorf("got %v", err)
		}
	}
	r.begun(t, 20, 3)
	for range 2 {
		r.dispatchAll(t)
		r.combineAll(t)
	}
	r.synchronize(t)
}

// TestPrefillKeepsCapacity: the capacity of graphed steps is there again after a
// prefill, and a rank without tokens needs no tensors.
func TestPrefillKeepsCapacity(t *testing.T) {
	r := largeRig(t)
	for _, d := range r.d {
		if err := d.SetCapacity(4); err != nil {
			t.Fatal(err)
		}
	}
	kept := r.in[1]
	for range 2 {
		r.setGraphed(t, false)
		r.in[1] = inputs{}
		for range r.begun(t, 40, 0) {
			r.dispatchAll(t)
			r.combineAll(t)
		}
		r.synchronize(t)
		r.in[1] = kept
		r.setGraphed(t, true)
		for rank, d := range r.d {
			if got := d.Capacity(); got != 4 {
				t.Errorf("rank %d: the capacity is %d after a prefill, not 4", rank, got)
			}
			if err := d.NextStep(moert.HostTokens(5)); !errors.Is(err, moert.ErrTokens) {
				t.Errorf("rank %d: 5 tokens: %v", rank, err)
			}
		}
		r.good(t, 4)
	}
}
