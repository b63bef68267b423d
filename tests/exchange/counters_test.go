package exchange

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/moegen/moegen/cmd/moegen/gen"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/emu"
)

// counters reads a dispatcher's counters. Slow waits are left out of what is
// compared: a busy machine makes some.
func counters(t *testing.T, d *moert.Dispatcher) moert.Counters {
	t.Helper()
	c, err := d.Counters()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// bytesOf is what one layer moves for a rank's tokens.
func bytesOf(p *moert.Program, tokens int) uint64 {
	row := p.HiddenRowBytes() + p.RoutingRowBytes() + p.ProbsRowBytes() + p.WireRowBytes()
	return uint64(tokens * row * (p.Ranks - 1))
}

// TestCounters: eager steps and replays are counted as what they are.
func TestCounters(t *testing.T) {
	for _, way := range []struct {
		name      string
		transport moert.Transport
		protocol  gen.Protocol
	}{{"nvls", moert.NVLS, gen.Bulk}, {"p2p", moert.P2P, gen.Bulk}, {"ll", moert.P2P, gen.LL}, {"nccl", moert.NCCL, gen.Bulk}} {
		for _, first := range []uint32{0, 1<<32 - 3} {
			t.Run(fmt.Sprintf("%s from %d", way.name, first), func(t *testing.T) {
				p := protocolled(t, small, way.protocol)
				r := newRig(t, machine(t, emu.Config{Devices: 2}), p, moert.WithTransport(way.transport), moert.WithFirstEpoch(first))
				if c := counters(t, r.d[0]); c != (moert.Counters{}) {
					t.Errorf("at first: %+v", c)
				}
				// Kernels of one layer, which NCCL's do not count.
				ran := func(n uint64) uint64 {
					if way.transport == moert.NCCL {
						return 0
					}
					return n
				}
				for range 4 {
					r.good(t, 5)
				}
				want := moert.Counters{Steps: 4, Dispatches: ran(4), Combines: ran(4),
					LastStep: moert.StepCounts{Epoch: first + 4, Tokens: 5, AllTokens: 10, Bytes: bytesOf(p, 5)},
					Enqueued: moert.Enqueued{Steps: 4, Dispatches: 4, Combines: 4, Tokens: 20, Bytes: 4 * bytesOf(p, 5)}}
				for rank, d := range r.d {
					c := counters(t, d)
					if c.SlowWaits = 0; c != want {
						t.Errorf("rank %d: %+v, want %+v", rank, c, want)
					}
				}

				// A captured step of two layers with counts on the GPU.
				graphs := make([]driver.GraphExec, len(r.d))
				memory := make([]*fenced, len(r.d))
				for rank, d := range r.d {
					memory[rank] = newFenced(t, d, 16)
					graphs[rank] = captureLayers(t, d, r.streams[rank], memory[rank], false)
					defer graphs[rank].Close()
				}
				want.Enqueued.Steps, want.Enqueued.Dispatches, want.Enqueued.Combines = 5, 6, 6
				for i := range 3 {
					for rank, d := range r.d {
						memory[rank].bring(t, d, int32(7*rank+i))
					}
					for rank, g := range graphs {
						if err := g.Launch(r.streams[rank]); err != nil {
							t.Fatal(err)
						}
					}
					for rank, d := range r.d {
						if err := d.Synchronize(r.streams[rank]); err != nil {
							t.Fatal(err)
						}
						n := uint64(i + 1)
						want.Steps, want.Dispatches, want.Combines = 4+n, ran(4+2*n), ran(4+2*n)
						want.LastStep = moert.StepCounts{Epoch: first + 5 + uint32(i), Tokens: uint64(7*rank + i), AllTokens: uint64(7 + 2*i), Bytes: bytesOf(p, 7*rank+i)}
						c := counters(t, d)
						if c.SlowWaits = 0; c != want {
							t.Errorf("replay %d, rank %d: %+v, want %+v", i, rank, c, want)
						}
					}
				}
			})
		}
	}
}

// TestCountersPrefill: a prefill in several exchanges.
func TestCountersPrefill(t *testing.T) {
	p := program(t, small+"max_prefill_tokens: 64\n")
	r := newRig(t, machine(t, emu.Config{Devices: 2}), p)
	tokens := []int{40, 3}
	err := r.group.Each(context.Background(), func(ctx context.Context, rank int) error {
		d, s := r.d[rank], r.streams[rank]
		var rows [3]moert.Tensor
		for i, bytes := range []int{p.RoutingRowBytes(), p.ProbsRowBytes(), p.HiddenRowBytes()} {
			var err error
			if rows[i], err = d.NewTensor(64, bytes); err != nil {
				return err
			}
			if err := d.Device().Write(rows[i].Ptr, make([]byte, 64*bytes)); err != nil {
				return err
			}
		}
		if err := d.SetGraphed(false); err != nil {
			return err
		}
		n, err := d.Prefill(ctx, tokens[rank])
		if err != nil {
			return err
		}
		for range n {
			if _, err := d.Dispatch(s, moert.Rows{Routing: rows[0], Probs: rows[1], Hidden: rows[2]}); err != nil {
				return err
			}
			if _, err := d.Combine(s, moert.CombineArgs{Partial: d.PartialBuffer()}); err != nil {
				return err
			}
		}
		return d.Synchronize(s)
	})
	if err != nil {
		t.Fatal(err)
	}
	for rank, d := range r.d {
		c, n := counters(t, d), uint64(tokens[rank])
		if c.Steps != 3 || c.Dispatches != 3 || c.Combines != 3 || c.Enqueued != (moert.Enqueued{Steps: 3, Dispatches: 3, Combines: 3, Tokens: n, Bytes: bytesOf(p, int(n))}) {
			t.Errorf("rank %d: %+v", rank, c)
		}
	}
}

// late returns when a stream has nothing to do and some milliseconds of emulated
// time have passed: it goes on while others wait.
func late(t *testing.T, dev driver.Device, s driver.Stream) {
	t.Helper()
	mark := func() driver.Event {
		e, err := dev.NewEvent()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		})
		if err := errors.Join(s.Record(e), e.Synchronize()); err != nil {
			t.Fatal(err)
		}
		return e
	}
	first := mark()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		passed, err := mark().Since(first)
		if err != nil {
			t.Fatal(err)
		}
		if passed > 5*time.Millisecond {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("in 20 s only %v of emulated time have passed", passed)
		}
	}
}

// TestSlowWaits: a rank that comes late is seen as a slow wait by the others, in
// each phase. That other waits are not is what tests/mutation looks at, where time
// does not depend on how busy the machine is.
func TestSlowWaits(t *testing.T) {
	for _, protocol := range []gen.Protocol{gen.Bulk, gen.LL} {
		t.Run(string(protocol), func(t *testing.T) {
			r := newRig(t, machine(t, emu.Config{Devices: 2}), protocolled(t, small, protocol), moert.WithTransport(moert.P2P), moert.WithTimeout(time.Minute))
			r.good(t, 16)
			if err := r.step(0, moert.HostTokens(16)); err != nil {
				t.Fatal(err)
			}
			d, s := r.d[1], r.streams[1]
			for _, next := range []func() error{
				func() error { return d.BeginStep(s, moert.HostTokens(16)) },
				func() error { _, err := d.Dispatch(s, r.in[1].rows()); return err },
				func() error { _, err := d.Combine(s, moert.CombineArgs{Partial: d.PartialBuffer()}); return err },
			} {
				late(t, d.Device(), s)
				if err := next(); err != nil {
					t.Fatal(err)
				}
			}
			for rank, d := range r.d {
				if err := d.Synchronize(r.streams[rank]); err != nil {
					t.Fatal(err)
				}
			}
			if n := counters(t, r.d[0]).SlowWaits; n < 3 {
				t.Errorf("%d slow waits for a rank that was late three times", n)
			}
		})
	}
}

// TestObserver: what happens is told, in order, and failures once.
func TestObserver(t *testing.T) {
	var mu sync.Mutex
	events := map[int][]string{}
	last := map[int]moert.Counters{}
	observe := func(e moert.Event) {
		c, err := e.Dispatcher.Counters()
		mu.Lock()
		defer mu.Unlock()
		rank := e.Dispatcher.Rank()
		text := string(e.Kind)
		if err != nil {
			text += ": " + err.Error()
		}
		var f *moert.FailedError
		switch {
		case errors.As(e.Err, &f):
			text += fmt.Sprintf(" %s %d: %s", f.Phase, f.Epoch, f.Dump.Summary())
		case errors.Is(e.Err, moert.ErrTokens):
			text += " tokens"
		case e.Err != nil:
			text += " " + e.Err.Error()
		}
		events[rank], last[rank] = append(events[rank], text), c
	}
	r := newRig(t, machine(t, emu.Config{Devices: 3}), protocolled(t, three, gen.Bulk), moert.WithObserver(observe), moert.WithTimeout(50*time.Millisecond))
	r.good(t, 1)
	count := r.in[1].probs.Ptr
	if err := r.drv.Devices()[1].Write(count, binary.LittleEndian.AppendUint32(nil, 99)); err != nil {
		t.Fatal(err)
	}
	for rank, tokens := range []moert.Tokens{moert.HostTokens(2), moert.DeviceTokens(count), moert.HostTokens(2)} {
		if err := r.step(rank, tokens); err != nil {
			t.Fatal(err)
		}
	}
	for rank, d := range r.d {
		d.Synchronize(r.streams[rank])
		d.Err()
	}
	r.stall(t, moert.PhaseCombine)
	s := r.group.Status()
	r.d[2].BeginStep(r.streams[2], moert.HostTokens(1)) // it may or may not have been told
	r.close(t)
	failed := "failed Combine 3: rank 2 is at Combine (bulk) 2 and 3 is awaited"
	for rank := range 2 {
		if want := []string{"formed", "step failed tokens", failed, "closed"}; !slices.Equal(events[rank], want) {
			t.Errorf("rank %d: %q, want %q", rank, events[rank], want)
		}
		c := last[rank]
		if c.StepErrors != 1 || c.Failures != 1 || c.Timeouts != 1 || c.Steps != 3 || c.Combines != 2 {
			t.Errorf("rank %d: %+v", rank, c)
		}
	}
	if got := r.group.Status(); len(s.Dispatchers) != 3 || s.Dispatchers[0].Error == "" || s.LastFailure == "" || len(got.Dispatchers) != 0 || got.LastFailure == "" {
		t.Errorf("%+v, after Close %+v", s, got)
	}
	t.Log(s)
}

// TestCountersBeside: counters, dumps and status may be read while steps run.
func TestCountersBeside(t *testing.T) {
	r := newRig(t, machine(t, emu.Config{Devices: 2}), program(t, small))
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		var before moert.Counters
		for {
			select {
			case <-done:
				return
			default:
			}
			c, err := r.d[0].Counters()
			if err != nil || c.Steps < before.Steps || c.Combines < before.Combines || c.Enqueued.Bytes < before.Enqueued.Bytes {
				t.Errorf("%+v after %+v: %v", c, before, err)
				return
			}
			before = c
			r.d[1].Dump()
			if _, err := json.Marshal(r.group.Status()); err != nil {
				t.Error(err)
			}
		}
	})
	for range 50 {
		r.good(t, 3)
	}
	close(done)
	wg.Wait()
	if c := counters(t, r.d[0]); c.Steps != 50 || c.Combines != 50 {
		t.Errorf("%+v", c)
	}
	d := r.d[0]
	r.close(t)
	if c, err := d.Counters(); !errors.Is(err, moert.ErrClosed) || c.Steps != 50 || c.Enqueued.Combines != 50 {
		t.Errorf("after Close: %+v, %v", c, err)
	}
}
