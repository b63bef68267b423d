package exchange

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/moegen/moegen/cmd/moegen/gen"
	"github.com/moegen/moegen/cmd/moegen/layer"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/emu"
	"github.com/moegen/moegen/spec"
)

// fenced is the memory of one rank that kernels read and write, filled with one
// byte: the caller's tensors between guards, and the dispatcher's.
type fenced struct {
	rows   moert.Rows
	args   moert.CombineArgs
	count  moert.Tensor
	blocks []block
}

// block is memory and what it should hold.
type block struct {
	name        string
	at          driver.DevicePtr
	bytes       []byte
	start, size int // what a step that goes well may change
}

const (
	guardBytes = 4096
	guardFill  = 0xa5
)

func (f *fenced) add(t *testing.T, d *moert.Dispatcher, b block) {
	t.Helper()
	if err := d.Device().Write(b.at, b.bytes); err != nil {
		t.Fatal(err)
	}
	f.blocks = append(f.blocks, b)
}

// tensor allocates a tensor with guards before and behind it.
func (f *fenced) tensor(t *testing.T, d *moert.Dispatcher, name string, rows, rowBytes int, written bool) moert.Tensor {
	t.Helper()
	size := rows * rowBytes
	all, err := d.NewTensor(1, size+2*guardBytes)
	if err != nil {
		t.Fatal(err)
	}
	b := block{name: name, at: all.Ptr, bytes: bytes.Repeat([]byte{guardFill}, size+2*guardBytes), start: guardBytes}
	if written {
		b.size = size
	}
	f.add(t, d, b)
	return moert.Tensor{Ptr: all.Ptr + guardBytes, Rows: rows}
}

// newFenced makes a rank's tensors with rows for the capacity.
func newFenced(t *testing.T, d *moert.Dispatcher, capacity int) *fenced {
	t.Helper()
	p, f := d.Program(), &fenced{}
	f.count = f.tensor(t, d, "count", 1, 4, false)
	f.rows = moert.Rows{
		Routing: f.tensor(t, d, "routing", capacity, p.RoutingRowBytes(), false),
		Probs:   f.tensor(t, d, "probs", capacity, p.ProbsRowBytes(), false),
		Hidden:  f.tensor(t, d, "hidden", capacity, p.HiddenRowBytes(), false),
	}
	f.args = moert.CombineArgs{
		Partial: f.tensor(t, d, "partial sums", p.Ranks*capacity, p.WireRowBytes(), false),
		Out:     f.tensor(t, d, "output", capacity, p.HiddenRowBytes(), true),
	}
	// The dispatcher's own: the guard of each are the rows past those of the
	// capacity, and what lies before the next one.
	l := p.Layout
	for _, x := range []struct {
		name      string
		from, end uint64
		rowBytes  int
	}{
		{"gathered routing", l.Routing, l.Probs, p.RoutingRowBytes()}, {"gathered probs", l.Probs, l.Hidden, p.ProbsRowBytes()},
		{"gathered hidden", l.Hidden, l.Partial, p.PayloadRowBytes()}, {"the dispatcher's partial sums", l.Partial, l.Staging, p.WireRowBytes()},
	} {
		f.add(t, d, block{name: x.name, at: d.Gathered().Routing.Ptr + driver.DevicePtr(x.from-l.Routing),
			bytes: bytes.Repeat([]byte{guardFill}, int(x.end-x.from)), size: p.Ranks * capacity * x.rowBytes})
	}
	// Protocol ll leaves its staging buffers as it found them.
	f.add(t, d, block{name: "staging", at: d.Gathered().Routing.Ptr + driver.DevicePtr(l.Staging-l.Routing),
		bytes: bytes.Repeat([]byte{0xff}, int(l.Bytes-l.Staging))})
	return f
}

// bring sets the count of the next replay.
func (f *fenced) bring(t *testing.T, d *moert.Dispatcher, n int32) {
	t.Helper()
	count := &f.blocks[0]
	binary.LittleEndian.PutUint32(count.bytes[guardBytes:], uint32(n))
	if err := d.Device().Write(count.at, count.bytes); err != nil {
		t.Fatal(err)
	}
}

// intact fails the test where memory is not what it was. After a step that went
// well its results may differ.
func (f *fenced) intact(t *testing.T, d *moert.Dispatcher, well bool, when string) {
	t.Helper()
	for _, b := range f.blocks {
		got := make([]byte, len(b.bytes))
		if err := d.Device().Read(got, b.at); err != nil {
			t.Fatal(err)
		}
		if well {
			copy(got[b.start:b.start+b.size], b.bytes[b.start:])
		}
		if bytes.Equal(got, b.bytes) {
			continue
		}
		at := 0
		for got[at] == b.bytes[at] {
			at++
		}
		t.Fatalf("%s: rank %d: %s, byte %d is %#x, not %#x", when, d.Rank(), b.name, at-b.start, got[at], b.bytes[at])
	}
}

// TestOverflow replays graphs with counts over their capacity, which only the
// GPU knows: the step fails on all ranks with a typed error, writes nothing at
// all, and the group goes on.
func TestOverflow(t *testing.T) {
	const capacity = 8
	for _, way := range []struct {
		name      string
		transport moert.Transport
		protocol  gen.Protocol
	}{{"nvls", moert.NVLS, gen.Bulk}, {"p2p", moert.P2P, gen.Bulk}, {"p2p ll", moert.P2P, gen.LL}, {"nccl", moert.NCCL, gen.Bulk}} {
		for _, layout := range []spec.Layout{spec.Compact, spec.Padded} {
			for _, early := range []bool{true, false} {
				name := fmt.Sprintf("%s %s %s", way.name, layout, map[bool]string{true: "early", false: "in band"}[early])
				t.Run(name, func(t *testing.T) {
					s, err := spec.Parse("moe.yaml", fmt.Appendf(nil, "%slayout: %s\n", small, layout))
					if err != nil {
						t.Fatal(err)
					}
					p := program(t, fmt.Sprintf("%slayout: %s\n", small, layout))
					layer.SetProtocol(p, s, way.protocol)
					testOverflow(t, newRig(t, machine(t, emu.Config{Devices: 2}), p, moert.WithTransport(way.transport)), capacity, early)
				})
			}
		}
	}
}

func testOverflow(t *testing.T, r *rig, capacity int, early bool) {
	graphs, memory := make([]driver.GraphExec, len(r.d)), make([]*fenced, len(r.d))
	for rank, d := range r.d {
		if err := d.SetCapacity(capacity); err != nil {
			t.Fatal(err)
		}
		memory[rank] = newFenced(t, d, capacity)
		graphs[rank] = captureLayers(t, d, r.streams[rank], memory[rank], early)
		defer graphs[rank].Close()
	}
	replay := func(counts ...int32) []error {
		t.Helper()
		for rank, d := range r.d {
			memory[rank].bring(t, d, counts[rank])
		}
		for rank, g := range graphs {
			if err := g.Launch(r.streams[rank]); err != nil {
				t.Fatal(err)
			}
		}
		errs := make([]error, len(r.d))
		for rank, d := range r.d {
			errs[rank] = d.Synchronize(r.streams[rank])
		}
		return errs
	}
	for _, n := range []int32{int32(capacity) + 1, 16, 17, -1, 1 << 24, math.MaxInt32, math.MinInt32} {
		for bad := range r.d {
			counts := []int32{3, 3}
			counts[bad] = n
			for rank, err := range replay(counts...) {
				var se *moert.StepError
				if !errors.As(err, &se) || se.Peer != bad || !errors.Is(err, moert.ErrTokens) {
					t.Fatalf("%d tokens on rank %d: rank %d: %v, want a StepError", n, bad, rank, err)
				}
				memory[rank].intact(t, r.d[rank], false, fmt.Sprintf("%d tokens on rank %d", n, bad))
			}
		}
	}
	// As many as there may be.
	for rank, err := range replay(int32(capacity), int32(capacity)) {
		if err != nil {
			t.Fatalf("rank %d: the group does not go on: %v", rank, err)
		}
		d, m := r.d[rank], memory[rank]
		m.intact(t, d, true, "a full step")
		tokens := make([]byte, 4)
		if err := d.Device().Read(tokens, d.Step().Tokens); err != nil || binary.LittleEndian.Uint32(tokens) != uint32(2*capacity) {
			t.Errorf("rank %d: %v tokens (%v), not %d", rank, tokens, err, 2*capacity)
		}
	}
}

// captureLayers captures a step of two layers: partial sums of the caller's
// and of the dispatcher's.
func captureLayers(t *testing.T, d *moert.Dispatcher, s driver.Stream, m *fenced, early bool) driver.GraphExec {
	t.Helper()
	if err := s.BeginCapture(); err != nil {
		t.Fatal(err)
	}
	step := func() error {
		tokens := moert.DeviceTokens(m.count.Ptr)
		if early {
			if err := d.BeginStep(s, tokens); err != nil {
				return err
			}
		} else if err := d.NextStep(tokens); err != nil {
			return err
		}
		for _, partial := range []moert.Tensor{m.args.Partial, d.PartialBuffer()} {
			if _, err := d.Dispatch(s, m.rows); err != nil {
				return err
			}
			if _, err := d.Combine(s, moert.CombineArgs{Partial: partial, Out: m.args.Out}); err != nil {
				return err
			}
		}
		return nil
	}
	err := step()
	g, endErr := s.EndCapture()
	if err := errors.Join(err, endErr); err != nil {
		t.Fatal(err)
	}
	exec, err := g.Instantiate()
	if err := errors.Join(err, g.Close()); err != nil {
		t.Fatal(err)
	}
	return exec
}
