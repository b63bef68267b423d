package exchange

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/moegen/moegen/cmd/moegen/layer"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/emu"
	"github.com/moegen/moegen/spec"
)

// TestMistakes: what the host can see is a typed error before any launch, and
// the group stays usable.
func TestMistakes(t *testing.T) {
	p := program(t, small)
	r := newRig(t, machine(t, emu.Config{Devices: 2}), p)
	d, s, in := r.d[0], r.streams[0], r.in[0]
	begun := func() {
		t.Helper()
		for rank := range r.d {
			if err := r.d[rank].BeginStep(r.streams[rank], moert.HostTokens(1)); err != nil {
				t.Fatal(err)
			}
		}
	}
	dispatched := func() {
		t.Helper()
		begun()
		for rank := range r.d {
			if _, err := r.d[rank].Dispatch(r.streams[rank], r.in[rank].rows()); err != nil {
				t.Fatal(err)
			}
		}
	}
	finish := func() { // back to where BeginStep is legal
		for rank := range r.d {
			r.d[rank].Combine(r.streams[rank], moert.CombineArgs{Partial: r.d[rank].PartialBuffer()})
		}
	}
	dispatch := func(in inputs) error {
		_, err := d.Dispatch(s, in.rows())
		return err
	}
	with := func(change func(*inputs)) func() error {
		changed := in
		change(&changed)
		return func() error { return dispatch(changed) }
	}
	for _, c := range []struct {
		name   string
		before func()
		call   func() error
		want   error
	}{
		{"dispatch before BeginStep", nil, func() error { return dispatch(in) }, moert.ErrOrder},
		{"combine before dispatch", begun, func() error { _, err := d.Combine(s, moert.CombineArgs{Partial: d.PartialBuffer()}); return err }, moert.ErrOrder},
		{"BeginStep before combine", dispatched, func() error { return d.BeginStep(s, moert.HostTokens(1)) }, moert.ErrOrder},
		{"capacity before combine", dispatched, func() error { return d.SetCapacity(1) }, moert.ErrOrder},
		{"too many tokens", nil, func() error { return d.BeginStep(s, moert.HostTokens(17)) }, moert.ErrTokens},
		{"negative tokens", nil, func() error { return d.BeginStep(s, moert.HostTokens(-1)) }, moert.ErrTokens},
		{"misaligned count", nil, func() error { return d.BeginStep(s, moert.DeviceTokens(in.hidden.Ptr+2)) }, moert.ErrTensor},
		{"capacity 0", nil, func() error { return d.SetCapacity(0) }, moert.ErrTokens},
		{"capacity over max_tokens", nil, func() error { return d.SetCapacity(17) }, moert.ErrTokens},
		{"nil stream", nil, func() error { return d.BeginStep(nil, moert.HostTokens(1)) }, moert.ErrDevice},
		{"another GPU's stream", nil, func() error { return d.BeginStep(r.streams[1], moert.HostTokens(1)) }, moert.ErrDevice},
		{"no hidden", begun, with(func(i *inputs) { i.hidden.Ptr = 0 }), moert.ErrTensor},
		{"misaligned hidden", begun, with(func(i *inputs) { i.hidden.Ptr += 8 }), moert.ErrTensor},
		{"too few rows of probs", begun, with(func(i *inputs) { i.probs.Rows = 15 }), moert.ErrTensor},
		{"too few rows of partial", dispatched, func() error {
			_, err := d.Combine(s, moert.CombineArgs{Partial: moert.Tensor{Ptr: in.hidden.Ptr, Rows: 31}})
			return err
		}, moert.ErrTensor},
		{"too few rows of out", dispatched, func() error {
			_, err := d.Combine(s, moert.CombineArgs{Partial: d.PartialBuffer(), Out: moert.Tensor{Ptr: in.hidden.Ptr, Rows: 15}})
			return err
		}, moert.ErrTensor},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.before != nil {
				c.before()
			}
			err := c.call()
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			t.Log(err)
			if c.before != nil {
				for rank := range r.d {
					if _, err := r.d[rank].Dispatch(r.streams[rank], r.in[rank].rows()); err != nil && !errors.Is(err, moert.ErrOrder) {
						t.Fatal(err)
					}
				}
				finish()
			}
			r.good(t, 3)
			// So that "before BeginStep" means that again.
			for _, d := range r.d {
				if err := d.SetCapacity(16); err != nil {
					t.Fatal(err)
				}
			}
		})
	}

	r.close(t)
	if err := d.BeginStep(s, moert.HostTokens(1)); !errors.Is(err, moert.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestWrongGroup(t *testing.T) {
	drv := machine(t, emu.Config{Devices: 3})
	_, _, err := dispatchers(drv, program(t, small))
	if !errors.Is(err, moert.ErrGroup) {
		t.Fatalf("3 ranks, ep_size 2: %v", err)
	}
	if _, err := moert.NewLocalGroup(drv.Devices()[0], drv.Devices()[0]); err == nil {
		t.Error("one GPU for two ranks was accepted")
	}
	if _, err := moert.NewLocalGroup(); err == nil {
		t.Error("an empty group was accepted")
	}
}

// TestTooManyTokens: a count that only the GPU knows fails the step on every
// rank, and no more than the step.
func TestTooManyTokens(t *testing.T) {
	for _, transport := range []moert.Transport{moert.NVLS, moert.P2P, moert.NCCL} {
		t.Run(string(transport), func(t *testing.T) {
			r := newRig(t, machine(t, emu.Config{Devices: 2}), program(t, small), moert.WithTransport(transport))
			count := r.in[1].probs.Ptr // any int32 on rank 1's GPU
			for _, n := range []int32{17, -1, 1 << 24, 1<<31 - 1} {
				if err := r.drv.Devices()[1].Write(count, binary.LittleEndian.AppendUint32(nil, uint32(n))); err != nil {
					t.Fatal(err)
				}
				for rank, tokens := range []moert.Tokens{moert.HostTokens(2), moert.DeviceTokens(count)} {
					if err := r.step(rank, tokens); err != nil {
						t.Fatal(err)
					}
				}
				for rank, d := range r.d {
					err := d.Synchronize(r.streams[rank])
					var se *moert.StepError
					if !errors.As(err, &se) || se.Peer != 1 || !errors.Is(err, moert.ErrTokens) {
						t.Errorf("%d tokens: rank %d: %v, want a StepError about rank 1", n, rank, err)
					}
				}
				r.good(t, 5)
			}
		})
	}
}

// TestTooManyTokensSeenEarly: a host that notices in the middle of the step
// still launches the rest of it, as its peers have.
func TestTooManyTokensSeenEarly(t *testing.T) {
	r := newRig(t, machine(t, emu.Config{Devices: 2}), program(t, small))
	count := r.in[1].probs.Ptr
	if err := r.drv.Devices()[1].Write(count, []byte{99, 0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	if err := r.step(0, moert.HostTokens(2)); err != nil { // the whole step
		t.Fatal(err)
	}
	d, s, in := r.d[1], r.streams[1], r.in[1]
	if err := d.BeginStep(s, moert.DeviceTokens(count)); err != nil {
		t.Fatal(err)
	}
	if err := s.Synchronize(); err != nil { // the report is there now
		t.Fatal(err)
	}
	if _, err := d.Dispatch(s, in.rows()); err != nil {
		t.Errorf("Dispatch: %v", err)
	}
	if _, err := d.Combine(s, moert.CombineArgs{Partial: d.PartialBuffer()}); err != nil {
		t.Errorf("Combine: %v", err)
	}
	for rank, d := range r.d {
		var se *moert.StepError
		if err := d.Synchronize(r.streams[rank]); !errors.As(err, &se) || se.Peer != 1 {
			t.Errorf("rank %d: %v, want a StepError about rank 1", rank, err)
		}
	}
	r.good(t, 5)
}

// TestMissingRank: a rank that does not come makes the others fail in time,
// with its number, and everything after that fails at once.
func TestMissingRank(t *testing.T) {
	for _, transport := range []moert.Transport{moert.NVLS, moert.P2P} {
		for phase, skip := range map[moert.Phase]int{moert.PhaseCounts: 0, moert.PhaseDispatch: 1, moert.PhaseCombine: 2} {
			t.Run(string(transport)+" "+phase.String(), func(t *testing.T) {
				p := program(t, "hidden_dim: 64\ntopk: 2\ndtype: bf16\nep_size: 3\nmax_tokens: 16\nsm_limit: 4\n")
				r := newRig(t, machine(t, emu.Config{Devices: 3}), p, moert.WithTransport(transport), moert.WithTimeout(50*time.Millisecond))
				r.good(t, 4)
				for rank := range r.d {
					if rank != 2 {
						if err := r.step(rank, moert.HostTokens(2)); err != nil {
							t.Fatal(err)
						}
						continue
					}
					d, s, in := r.d[2], r.streams[2], r.in[2]
					if skip > 0 {
						d.BeginStep(s, moert.HostTokens(1))
					}
					if skip > 1 {
						d.Dispatch(s, in.rows())
					}
				}
				for rank, d := range r.d[:2] {
					start := time.Now()
					err := d.Synchronize(r.streams[rank])
					var fe *moert.FailedError
					if !errors.As(err, &fe) || fe.Phase != phase || fe.Peer != 2 {
						t.Errorf("rank %d: %v, want a failure of %v for rank 2", rank, err, phase)
					}
					if took := time.Since(start); took > 5*time.Second {
						t.Errorf("rank %d: took %v", rank, took)
					}
					if err := r.step(rank, moert.HostTokens(1)); !errors.As(err, &fe) {
						t.Errorf("rank %d goes on after a failure: %v", rank, err)
					}
				}
				// The late rank finds out as well.
				if skip == 0 {
					r.step(2, moert.HostTokens(1))
				}
				if err := r.d[2].Synchronize(r.streams[2]); skip == 0 && err == nil {
					t.Error("rank 2 was not told")
				}
			})
		}
	}
}

// TestCapacityMismatch: ranks that launch different grids fail instead of
// waiting for blocks that do not exist.
func TestCapacityMismatch(t *testing.T) {
	p := program(t, "hidden_dim: 4096\ntopk: 2\ndtype: bf16\nep_size: 2\nmax_tokens: 16\n")
	r := newRig(t, machine(t, emu.Config{Devices: 2}), p)
	if err := r.d[0].SetCapacity(1); err != nil {
		t.Fatal(err)
	}
	var fe *moert.FailedError
	for rank := range r.d {
		// A host may see the failure before it has enqueued the whole step.
		if err := r.step(rank, moert.HostTokens(1)); err != nil && !errors.As(err, &fe) {
			t.Fatal(err)
		}
	}
	for rank, d := range r.d {
		if err := d.Synchronize(r.streams[rank]); !errors.As(err, &fe) || fe.Phase != moert.PhaseCounts {
			t.Errorf("rank %d: %v, want a failure of BeginStep", rank, err)
		}
	}
}

// TestWrap starts the epochs shortly before they wrap, or change sign, and
// verifies everything that is exchanged.
func TestWrap(t *testing.T) {
	s, err := spec.Parse("moe.yaml", []byte(small))
	if err != nil {
		t.Fatal(err)
	}
	for _, transport := range []moert.Transport{moert.NVLS, moert.P2P} {
		for _, first := range []uint32{1<<32 - 1, 1<<32 - 4, 1<<31 - 1, 1<<31 - 4} {
			result, err := layer.Run(context.Background(), layer.Config{
				Spec: s, Program: program(t, small), Devices: machine(t, emu.Config{Devices: 2}).Devices(), Transport: transport,
				Tokens: [][]int{{7, 3}, {0, 16}, {5, 0}}, Steps: 6, Replays: 3, Layers: 2, Seed: 1,
				Options: []moert.Option{moert.WithFirstEpoch(first), moert.WithLogger(quiet)},
			})
			if err != nil {
				t.Fatal(err)
			}
			if !result.OK() {
				t.Errorf("%s from epoch %d: %+v", transport, first, result)
			}
		}
	}
}
