package exchange

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/moegen/moegen/cmd/moegen/layer"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/emu"
	"github.com/moegen/moegen/runtime/nvcc"
	"github.com/moegen/moegen/spec"
)

// small is a shape that compiles and runs fast.
const small = "hidden_dim: 64\ntopk: 2\ndtype: bf16\nep_size: 2\nmax_tokens: 16\nnum_experts: 8\nsm_limit: 4\n"

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func program(t testing.TB, text string) *moert.Program {
	t.Helper()
	s, err := spec.Parse("moe.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	p, err := layer.Program(s)
	if err != nil {
		t.Fatal(err)
	}
	c, err := nvcc.Find(context.Background())
	if err != nil {
		t.Fatal(err) // make test installs one
	}
	im, err := c.Compile(context.Background(), nvcc.Source{Name: "moe.cu", Text: p.Source}, nvcc.Target{Arch: "sm_90a", PTX: true})
	if err != nil {
		t.Fatal(err)
	}
	p.PTX = im.Data
	return p
}

// rig is a group of dispatchers on an emulated machine, and one stream a rank.
type rig struct {
	drv     driver.Driver
	group   *moert.LocalGroup
	d       []*moert.Dispatcher
	streams []driver.Stream
	in      []inputs
}

// inputs are a rank's tensors, with the capacity's rows.
type inputs struct{ routing, probs, hidden moert.Tensor }

func (in inputs) rows() moert.Rows {
	return moert.Rows{Routing: in.routing, Probs: in.probs, Hidden: in.hidden}
}

func machine(t testing.TB, c emu.Config) driver.Driver {
	t.Helper()
	d, err := emu.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// dispatchers builds one dispatcher a rank.
func dispatchers(drv driver.Driver, p *moert.Program, opts ...moert.Option) (*moert.LocalGroup, []*moert.Dispatcher, error) {
	group, err := moert.NewLocalGroup(drv.Devices()...)
	if err != nil {
		return nil, nil, err
	}
	ds := make([]*moert.Dispatcher, group.Size())
	opts = append([]moert.Option{moert.WithLogger(quiet)}, opts...)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err = group.Each(ctx, func(ctx context.Context, rank int) error {
		var err error
		ds[rank], err = moert.NewDispatcher(ctx, group, rank, p, opts...)
		return err
	})
	return group, ds, err
}

func newRig(t testing.TB, drv driver.Driver, p *moert.Program, opts ...moert.Option) *rig {
	t.Helper()
	group, ds, err := dispatchers(drv, p, opts...)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{drv: drv, group: group, d: ds, in: make([]inputs, len(ds))}
	for rank, d := range ds {
		s, err := d.NewStream()
		if err != nil {
			t.Fatal(err)
		}
		r.streams = append(r.streams, s)
		for _, x := range []struct {
			t     *moert.Tensor
			bytes int
		}{{&r.in[rank].routing, p.RoutingRowBytes()}, {&r.in[rank].probs, p.ProbsRowBytes()}, {&r.in[rank].hidden, p.HiddenRowBytes()}} {
			if *x.t, err = d.NewTensor(p.MaxTokens, x.bytes); err != nil {
				t.Fatal(err)
			}
			if err := d.Device().Write(x.t.Ptr, make([]byte, p.MaxTokens*x.bytes)); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Cleanup(func() { r.close(t) })
	return r
}

// close ends everything; a second call does nothing.
func (r *rig) close(t testing.TB) {
	t.Helper()
	for _, s := range r.streams {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	r.streams = nil
	for _, d := range r.d {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := r.group.Close(); err != nil {
		t.Error(err)
	}
}

// step enqueues one step of one layer on one rank.
func (r *rig) step(rank int, tokens moert.Tokens) error {
	d, s, in := r.d[rank], r.streams[rank], r.in[rank]
	if err := d.BeginStep(s, tokens); err != nil {
		return err
	}
	if _, err := d.Dispatch(s, in.rows()); err != nil {
		return err
	}
	_, err := d.Combine(s, moert.CombineArgs{Partial: d.PartialBuffer()})
	return err
}

// good runs a step on all ranks and fails the test unless it goes well.
func (r *rig) good(t testing.TB, tokens int) {
	t.Helper()
	for rank := range r.d {
		if err := r.step(rank, moert.HostTokens(tokens)); err != nil {
			t.Fatalf("rank %d: %v", rank, err)
		}
	}
	for rank, d := range r.d {
		if err := d.Synchronize(r.streams[rank]); err != nil {
			t.Fatalf("rank %d: %v", rank, err)
		}
	}
}
