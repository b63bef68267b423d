package gpu

import (
	"context"
	"testing"
	"time"

	"github.com/moegen/moegen/cmd/moegen/layer"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/spec"
)

// small is a shape that compiles and runs fast.
const small = "hidden_dim: 256\ntopk: 2\ndtype: bf16\nep_size: 2\nmax_tokens: 16\nsm_limit: 4\ntransports: [p2p, nccl]\n"

func program(t testing.TB, s *spec.Spec) *moert.Program {
	t.Helper()
	p, err := layer.Program(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func smallProgram(t testing.TB) *moert.Program {
	t.Helper()
	s, err := spec.Parse("small.yaml", []byte(small))
	if err != nil {
		t.Fatal(err)
	}
	return program(t, s)
}

// rig is two ranks' dispatchers, each with a stream that keeps an account of
// what it is asked to do, and input tensors of the most rows.
type rig struct {
	machine
	prog    *moert.Program
	group   *moert.LocalGroup
	d       []*moert.Dispatcher
	streams []*spy
	in      [][3]moert.Tensor // routing, probs, hidden
}

// open builds a rig. It is closed whether or not there is an error.
func open(t testing.TB, m machine, p *moert.Program, opts ...moert.Option) *rig {
	t.Helper()
	r, err := tryOpen(m, p, opts...)
	t.Cleanup(func() { r.close(t) })
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func tryOpen(m machine, p *moert.Program, opts ...moert.Option) (*rig, error) {
	r := &rig{machine: m, prog: p, in: make([][3]moert.Tensor, 2), d: make([]*moert.Dispatcher, 2), streams: make([]*spy, 2)}
	var err error
	if r.group, err = m.group(); err != nil {
		return r, err
	}
	opts = append([]moert.Option{moert.WithLogger(quiet)}, opts...)
	return r, r.each(func(ctx context.Context, rank int) error {
		d, err := moert.NewDispatcher(ctx, r.group, rank, p, opts...)
		if err != nil {
			return err
		}
		r.d[rank] = d
		s, err := d.NewStream()
		if err != nil {
			return err
		}
		r.streams[rank] = &spy{Stream: s}
		for i, bytes := range rowBytes(p) {
			if r.in[rank][i], err = d.NewTensor(p.MaxTokens, bytes); err != nil {
				return err
			}
			if err := d.Device().Write(r.in[rank][i].Ptr, make([]byte, p.MaxTokens*bytes)); err != nil {
				return err
			}
		}
		return nil
	})
}

func rowBytes(p *moert.Program) [3]int {
	return [3]int{p.RoutingRowBytes(), p.ProbsRowBytes(), p.HiddenRowBytes()}
}

// each calls f for both ranks at once, as calls of NCCL need it.
func (r *rig) each(f func(ctx context.Context, rank int) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	return r.group.Each(ctx, f)
}

// close ends everything; a second call does nothing.
func (r *rig) close(t testing.TB) {
	t.Helper()
	for rank, s := range r.streams {
		if s != nil {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		r.streams[rank] = nil
	}
	for _, d := range r.d {
		if d != nil {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if r.group != nil {
		if err := r.group.Close(); err != nil {
			t.Error(err)
		}
		r.group = nil
	}
}

// step enqueues one step of one layer on one rank.
func (r *rig) step(rank, tokens int) error {
	d, in := r.d[rank], r.in[rank]
	var s driver.Stream = r.streams[rank]
	if d.Transport() == moert.NCCL {
		s = r.streams[rank].Stream // collectives know their driver's streams only
	}
	if err := d.BeginStep(s, moert.HostTokens(tokens)); err != nil {
		return err
	}
	if _, err := d.Dispatch(s, moert.Rows{Routing: in[0], Probs: in[1], Hidden: in[2]}); err != nil {
		return err
	}
	_, err := d.Combine(s, moert.CombineArgs{Partial: d.PartialBuffer()})
	return err
}

// good runs a step on both ranks and fails the test unless it goes well.
func (r *rig) good(t testing.TB, tokens ...int) {
	t.Helper()
	err := r.each(func(_ context.Context, rank int) error {
		if err := r.step(rank, tokens[rank%len(tokens)]); err != nil {
			return err
		}
		return r.d[rank].Synchronize(r.streams[rank])
	})
	if err != nil {
		t.Fatal(err)
	}
}

// spy is a stream that counts and keeps what it passes on. Drivers get the
// stream inside: they look at its concrete type only in calls on other objects
// (a graph's launch, a collective), for which tests unwrap it.
type spy struct {
	driver.Stream
	launches []launch
	others   []string // calls that are no launches
}

// launch is one kernel launch.
type launch struct {
	f      driver.Function
	config driver.LaunchConfig
	params []byte
}

func (s *spy) Launch(f driver.Function, c driver.LaunchConfig, params []byte) error {
	s.launches = append(s.launches, launch{f, c, append([]byte(nil), params...)})
	return s.Stream.Launch(f, c, params)
}

func (s *spy) CopyAsync(dst, src driver.DevicePtr, size uint64) error {
	s.others = append(s.others, "CopyAsync")
	return s.Stream.CopyAsync(dst, src, size)
}

func (s *spy) MemsetAsync(dst driver.DevicePtr, value byte, size uint64) error {
	s.others = append(s.others, "MemsetAsync")
	return s.Stream.MemsetAsync(dst, value, size)
}

func (s *spy) Synchronize() error {
	s.others = append(s.others, "Synchronize")
	return s.Stream.Synchronize()
}

func (s *spy) forget() { s.launches, s.others = nil, nil }
