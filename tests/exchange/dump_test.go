package exchange

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moegen/moegen/cmd/moegen/gen"
	"github.com/moegen/moegen/cmd/moegen/layer"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/emu"
	"github.com/moegen/moegen/spec"
)

const three = "hidden_dim: 64\ntopk: 2\ndtype: bf16\nep_size: 3\nmax_tokens: 16\nnum_experts: 6\nsm_limit: 4\n"

// protocolled is a program that plans one protocol only.
func protocolled(t *testing.T, text string, protocol gen.Protocol) *moert.Program {
	t.Helper()
	s, err := spec.Parse("moe.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	p := program(t, text)
	layer.SetProtocol(p, s, protocol)
	return p
}

// stall has ranks 0 and 1 do a step of which rank 2 leaves out the phase and
// what follows, and returns the failures.
func (r *rig) stall(t *testing.T, phase moert.Phase) []*moert.FailedError {
	t.Helper()
	for rank := range r.d[:2] {
		if err := r.step(rank, moert.HostTokens(2)); err != nil {
			t.Fatal(err)
		}
	}
	d, s := r.d[2], r.streams[2]
	var err error
	if phase > moert.PhaseCounts {
		err = d.BeginStep(s, moert.HostTokens(1))
	}
	if phase > moert.PhaseDispatch && err == nil {
		_, err = d.Dispatch(s, r.in[2].rows())
	}
	if err != nil {
		t.Fatal(err)
	}
	fs := make([]*moert.FailedError, 2)
	for rank := range fs {
		if err := r.d[rank].Synchronize(r.streams[rank]); !errors.As(err, &fs[rank]) {
			t.Fatalf("rank %d: %v, want a failure", rank, err)
		}
	}
	return fs
}

// TestDump: after a timeout in each phase the dump names the rank that is
// behind, and its epoch, as every rank sees it; the log has it once.
func TestDump(t *testing.T) {
	const good = 3 // steps before
	for _, way := range []struct {
		name      string
		transport moert.Transport
		protocol  gen.Protocol
	}{{"nvls", moert.NVLS, gen.Bulk}, {"p2p", moert.P2P, gen.Bulk}, {"ll", moert.P2P, gen.LL}} {
		for _, first := range []uint32{0, 1<<32 - 2} { // from there epochs wrap
			for _, phase := range []moert.Phase{moert.PhaseCounts, moert.PhaseDispatch, moert.PhaseCombine} {
				t.Run(fmt.Sprintf("%s from %d %s", way.name, first, phase), func(t *testing.T) {
					var out syncBuffer
					r := newRig(t, machine(t, emu.Config{Devices: 3}), protocolled(t, three, way.protocol), moert.WithTransport(way.transport),
						moert.WithTimeout(50*time.Millisecond), moert.WithFirstEpoch(first), moert.WithLogger(slog.New(slog.NewTextHandler(&out, nil))))
					for range good {
						r.good(t, 4)
					}
					for _, l := range lagging(r.d[0].Dump()) {
						t.Errorf("before: %s", l)
					}
					fs := r.stall(t, phase)
					if fs[0].Dump == nil || fs[0].Dump != fs[1].Dump || !fs[0].Timeout() {
						t.Fatalf("dumps %p and %p of one failure", fs[0].Dump, fs[1].Dump)
					}
					protocol := ""
					if phase != moert.PhaseCounts {
						protocol = string(way.protocol)
					}
					at := first + good
					want := fmt.Sprintf("%s %q: rank 2 at %d, want %d", phase, protocol, at, at+1)
					for _, dump := range []*moert.Dump{fs[0].Dump, r.d[2].Dump()} {
						if got := lagging(dump); len(got) != 3 || got[0] != "rank 0: "+want || got[1] != "rank 1: "+want || got[2] != "rank 2: "+want {
							t.Errorf("got %q, want %q of every rank\n%s", got, want, dump)
						}
						for rank, x := range dump.Ranks {
							if x.Rank != rank || x.Error != "" || rank < 2 && !strings.Contains(x.Failure, "rank 2 did not come") {
								t.Errorf("%+v", x)
							}
							if n := len(x.Phases); n != 5 {
								t.Errorf("rank %d: %d phases", rank, n)
							}
						}
						if s := dump.Summary(); !strings.Contains(s, fmt.Sprintf("rank 2 is at %s", phase)) || strings.Contains(s, ";") {
							t.Errorf("summary %q", s)
						}
					}
					log := out.String()
					if n := strings.Count(log, "level=ERROR"); n != 2 {
						t.Errorf("%d errors of two ranks are logged:\n%s", n, log)
					}
					if n := strings.Count(log, " dump="); n != 1 || !strings.Contains(log, " behind=") {
						t.Errorf("%d dumps are logged:\n%s", n, log)
					}
					for range 3 { // no more of the same
						r.d[0].Err()
						r.d[0].BeginStep(r.streams[0], moert.HostTokens(1))
					}
					if after := out.String(); after != log {
						t.Errorf("logged again: %s", after[len(log):])
					}
				})
			}
		}
	}
}

// lagging lists who is behind, as each rank sees it.
func lagging(d *moert.Dump) (lags []string) {
	for _, r := range d.Ranks {
		for _, p := range r.Phases {
			for _, l := range p.Behind {
				lags = append(lags, fmt.Sprintf("rank %d: %s %q: rank %d at %d, want %d", r.Rank, p.Phase, p.Protocol, l.Rank, l.Epoch, l.Want))
			}
		}
	}
	return lags
}

// TestDumpBlocks: how many blocks wait, and Dump while kernels do.
func TestDumpBlocks(t *testing.T) {
	p := protocolled(t, "hidden_dim: 4096\ntopk: 2\ndtype: bf16\nep_size: 2\nmax_tokens: 64\nsm_limit: 4\n", gen.Bulk)
	r := newRig(t, machine(t, emu.Config{Devices: 2}), p, moert.WithTransport(moert.P2P), moert.WithTimeout(time.Minute))
	r.good(t, 64)
	if err := r.step(0, moert.HostTokens(64)); err != nil {
		t.Fatal(err)
	}
	if err := r.d[1].BeginStep(r.streams[1], moert.HostTokens(64)); err != nil {
		t.Fatal(err)
	}
	var dump *moert.Dump
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		dump = r.d[0].Dump()
		x := dump.Ranks[0].Phases[1]
		if len(x.Behind) == 1 && x.Behind[0] == (moert.Lag{Rank: 1, Epoch: 1, Want: 2, Blocks: 4}) && x.Ended == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no dump of a wait in 4 blocks:\n%s", dump)
		}
	}
	t.Logf("\n%s", dump)
	if _, err := r.d[1].Dispatch(r.streams[1], r.in[1].rows()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.d[1].Combine(r.streams[1], moert.CombineArgs{Partial: r.d[1].PartialBuffer()}); err != nil {
		t.Fatal(err)
	}
	for rank, d := range r.d {
		if err := d.Synchronize(r.streams[rank]); err != nil {
			t.Fatal(err)
		}
	}
	if s := r.d[1].Dump().Summary(); s != "no rank is behind" {
		t.Error(s)
	}
}

// TestDumpUnreadable: what cannot be read is said, rank by rank, and so is that a
// dispatcher is closed.
func TestDumpUnreadable(t *testing.T) {
	broken := false
	drv := machine(t, emu.Config{Devices: 3, Inject: func(op string, device int) driver.Code {
		if broken && op == "cuMemcpyDtoH" && device == 1 {
			return 700
		}
		return 0
	}})
	r := newRig(t, drv, protocolled(t, three, gen.Bulk))
	r.good(t, 1)
	broken = true
	dump := r.d[0].Dump()
	for rank, x := range dump.Ranks {
		if (x.Error != "") != (rank == 1) || (x.Phases == nil) != (rank == 1) || rank == 1 && !strings.Contains(x.Error, "700") {
			t.Errorf("%+v", x)
		}
	}
	before, err := r.d[1].Counters()
	if err == nil || before.Enqueued.Steps != 1 {
		t.Errorf("%+v, %v", before, err)
	}
	broken = false
	d := r.d[2]
	r.close(t)
	if x := d.Dump().Ranks; len(x) != 1 || x[0].Rank != 2 || x[0].Error == "" || !strings.Contains(d.Dump().String(), "closed") {
		t.Errorf("after Close: %+v", x)
	}
}

// TestDumpNCCL: there are counts and no signals.
func TestDumpNCCL(t *testing.T) {
	r := newRig(t, machine(t, emu.Config{Devices: 2}), program(t, small), moert.WithTransport(moert.NCCL))
	r.good(t, 1)
	r.good(t, 2)
	dump := r.d[0].Dump()
	for _, x := range dump.Ranks {
		if len(x.Phases) != 1 || x.Phases[0].Ended != 2 || x.Phases[0].Signals != nil || x.Step.Tokens != 2 || x.Step.AllTokens != 4 {
			t.Errorf("%+v", x)
		}
	}
}

// syncBuffer is a log of several ranks.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// TestLog: a group that is formed, in one process, is one line with its transport
// and why; a step that fails is one a rank.
func TestLog(t *testing.T) {
	for _, c := range []struct {
		name   string
		config emu.Config
		env    string
		opts   []moert.Option
		want   []string
	}{
		{"all can", emu.Config{}, "", nil, []string{"transport=nvls", `because="the first of [nvls p2p nccl] that all ranks can use"`, `refused=""`}},
		{"refused", emu.Config{NoMulticast: true}, "", nil, []string{"transport=p2p", `because="the first of`, `refused="rank 0: nvls: `}},
		{"refused when built", emu.Config{Inject: failing("cuMulticastBindMem", 1, 2)}, "", nil, []string{"transport=p2p", `refused="rank `, "(2)"}},
		{"environment", emu.Config{}, "p2p", nil, []string{"transport=p2p", `because="MOEGEN_TRANSPORT asks for it"`}},
		{"option", emu.Config{}, "nvls", []moert.Option{moert.WithTransport(moert.NCCL)}, []string{"transport=nccl", `because="WithTransport asks for it"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.env != "" {
				t.Setenv(moert.TransportEnv, c.env)
			}
			var out syncBuffer
			c.config.Devices = 2
			r := newRig(t, machine(t, c.config), program(t, small), append(c.opts, moert.WithLogger(slog.New(slog.NewTextHandler(&out, nil))))...)
			log := out.String()
			if strings.Count(log, "\n") != 1 {
				t.Errorf("not one line:\n%s", log)
			}
			for _, want := range c.want {
				if !strings.Contains(log, want) {
					t.Errorf("no %s in %s", want, log)
				}
			}
			count := r.in[1].probs.Ptr
			if err := r.drv.Devices()[1].Write(count, []byte{99, 0, 0, 0}); err != nil {
				t.Fatal(err)
			}
			for rank, tokens := range []moert.Tokens{moert.HostTokens(2), moert.DeviceTokens(count)} {
				if err := r.step(rank, tokens); err != nil {
					t.Fatal(err)
				}
			}
			for rank, d := range r.d {
				d.Synchronize(r.streams[rank])
				d.Err()
			}
			r.good(t, 2)
			log = strings.TrimPrefix(out.String(), log)
			if strings.Count(log, "\n") != 2 || strings.Count(log, `level=WARN msg="moegen step failed"`) != 2 {
				t.Errorf("two ranks told of a failed step:\n%s", log)
			}
		})
	}
}

// TestDumpOfDeadGPU: a GPU that never answers costs a dump some seconds, whatever
// the number of ranks, and the others are in it.
func TestDumpOfDeadGPU(t *testing.T) {
	alive := make(chan struct{})
	var dead atomic.Bool
	drv := machine(t, emu.Config{Devices: 3, Inject: func(op string, device int) driver.Code {
		if op == "cuMemcpyDtoH" && device > 0 && dead.Load() {
			<-alive
		}
		return 0
	}})
	r := newRig(t, drv, protocolled(t, three, gen.Bulk))
	r.good(t, 1)
	dead.Store(true)
	start := time.Now()
	dump := r.d[1].Dump()
	if took := time.Since(start); took > 9*time.Second {
		t.Errorf("a dump took %v", took)
	}
	close(alive)
	for rank, x := range dump.Ranks {
		if (x.Error == "") != (rank == 0) || rank > 0 && !strings.Contains(x.Error, "does not answer") {
			t.Errorf("%+v", x)
		}
	}
}
