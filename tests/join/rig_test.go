// Package join tests groups of processes: the same dispatchers as in one
// process, over the rendezvous, on emulated GPUs.
package join

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/moegen/moegen/cmd/moegen/layer"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/emu"
	"github.com/moegen/moegen/runtime/nvcc"
	"github.com/moegen/moegen/spec"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

const token = "a secret for tests only"

// shape is a spec that compiles and runs fast.
func shape(ranks int) string {
	return fmt.Sprintf("hidden_dim: 64\ntopk: 2\ndtype: bf16\nep_size: %d\nmax_tokens: 16\nnum_experts: 8\nsm_limit: 4\n", ranks)
}

// load generates and compiles the program.
func load(ranks int) (*moert.Program, error) {
	s, err := spec.Parse("moe.yaml", []byte(shape(ranks)))
	if err != nil {
		return nil, err
	}
	p, err := layer.Program(s)
	if err != nil {
		return nil, err
	}
	source, target := nvcc.Source{Name: "moe.cu", Text: p.Source}, nvcc.Target{Arch: "sm_90a", PTX: true}
	var im nvcc.Image
	if c, ferr := nvcc.Find(context.Background()); ferr == nil {
		im, err = c.Compile(context.Background(), source, target)
	} else if im, err = nvcc.Cached(source, target); err != nil {
		err = errors.Join(ferr, err) // make test installs a compiler
	}
	p.PTX = im.Data
	return p, err
}

func program(t testing.TB, ranks int) *moert.Program {
	t.Helper()
	p, err := load(ranks)
	if err != nil {
		t.Fatal(err)
	}
	return p
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

func freeAddress(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// privateDir gives the test a runtime directory of its own.
func privateDir(t testing.TB) {
	t.Helper()
	dir, err := os.MkdirTemp("", "moegen") // t.TempDir's paths are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Setenv("MOEGEN_RUNTIME_DIR", dir)
}

func options(address string, rank, size int) moert.JoinOptions {
	return moert.JoinOptions{Place: moert.Place{Rank: rank, Size: size, LocalRank: rank, Address: address, Group: "test"},
		Token: token, Logger: quiet, Heartbeat: 20 * time.Millisecond, Silence: 10 * time.Second}
}

// member is one rank: its group, dispatcher, stream and inputs.
type member struct {
	group                  *moert.ProcessGroup
	d                      *moert.Dispatcher
	stream                 driver.Stream
	routing, probs, hidden moert.Tensor
}

// enlist joins one rank and builds its dispatcher.
func enlist(ctx context.Context, drv driver.Driver, o moert.JoinOptions, p *moert.Program, opts ...moert.Option) (*member, error) {
	g, err := moert.Join(ctx, drv, o)
	if err != nil {
		return nil, err
	}
	m := &member{group: g}
	if m.d, err = moert.NewDispatcher(ctx, g, o.Place.Rank, p, append([]moert.Option{moert.WithLogger(quiet)}, opts...)...); err != nil {
		return m, err
	}
	if m.stream, err = m.d.NewStream(); err != nil {
		return m, err
	}
	for _, x := range []struct {
		t     *moert.Tensor
		bytes int
	}{{&m.routing, p.RoutingRowBytes()}, {&m.probs, p.ProbsRowBytes()}, {&m.hidden, p.HiddenRowBytes()}} {
		if *x.t, err = m.d.NewTensor(p.MaxTokens, x.bytes); err != nil {
			return m, err
		}
		if err := m.d.Device().Write(x.t.Ptr, make([]byte, p.MaxTokens*x.bytes)); err != nil {
			return m, err
		}
	}
	return m, nil
}

// step enqueues a step of one layer.
func (m *member) step(tokens int) error {
	if err := m.d.BeginStep(m.stream, moert.HostTokens(tokens)); err != nil {
		return err
	}
	if _, err := m.d.Dispatch(m.stream, moert.Rows{Routing: m.routing, Probs: m.probs, Hidden: m.hidden}); err != nil {
		return err
	}
	_, err := m.d.Combine(m.stream, moert.CombineArgs{Partial: m.d.PartialBuffer()})
	return err
}

func (m *member) run(tokens int) error {
	if err := m.step(tokens); err != nil {
		return err
	}
	return m.d.Synchronize(m.stream)
}

func (m *member) close() error {
	var errs []error
	if m.stream != nil {
		errs = append(errs, m.stream.Close())
	}
	if m.d != nil {
		errs = append(errs, m.d.Close())
	}
	if m.group != nil {
		errs = append(errs, m.group.Close())
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// party joins all ranks as goroutines of this process, each with a group of its
// own, on one emulated machine.
func party(t testing.TB, drv driver.Driver, p *moert.Program, change func(rank int, o *moert.JoinOptions), opts ...moert.Option) []*member {
	t.Helper()
	privateDir(t)
	address := freeAddress(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ms := make([]*member, p.Ranks)
	for r, err := range all(p.Ranks, func(r int) (err error) {
		o := options(address, r, p.Ranks)
		if change != nil {
			change(r, &o)
		}
		ms[r], err = enlist(ctx, drv, o, p, opts...)
		return err
	}) {
		if err != nil {
			t.Fatalf("rank %d: %v", r, err)
		}
	}
	return ms
}

// all calls f for 0 to n-1 at the same time.
func all(n int, f func(i int) error) []error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	return errs
}

func good(t testing.TB, what string, errs []error) {
	t.Helper()
	for r, err := range errs {
		if err != nil {
			t.Fatalf("%s: rank %d: %v", what, r, err)
		}
	}
}

func free(t testing.TB, drv driver.Driver) []uint64 {
	t.Helper()
	var out []uint64
	for _, d := range drv.Devices() {
		f, _, err := d.MemInfo()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, f)
	}
	return out
}
