package gpu

import (
	"context"
	"testing"
	"time"

	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/spec"
	"github.com/moegen/moegen/tests/internal/beside"
)

// testRoomForOthers: with sm_limit 8, another kernel that fills the rest of the
// GPU runs while a step waits for a rank, and steps end while the other goes on.
func testRoomForOthers(t *testing.T, m machine) {
	s, err := spec.Parse("beside.yaml", []byte("hidden_dim: 4096\ntopk: 2\ndtype: bf16\nep_size: 2\nmax_tokens: 64\nsm_limit: 8\ntransports: [p2p]\n"))
	if err != nil {
		t.Fatal(err)
	}
	p := program(t, s)
	// As many blocks as are allowed, for any number of tokens.
	p.Plan = []moert.PlanRow{{Tokens: p.MaxTokens, Blocks: p.MaxBlocks, Threads: p.Threads}}
	r := open(t, m, p, moert.WithTransport(moert.P2P), moert.WithTimeout(10*time.Second))
	steps := func(n int) func(context.Context, int) error {
		return func(_ context.Context, rank int) error {
			for range n {
				if err := r.step(rank, 40); err != nil {
					return err
				}
			}
			return r.d[rank].Synchronize(r.streams[rank])
		}
	}
	if err := r.each(steps(2)); err != nil { // what is loaded at a first launch is there now
		t.Fatal(err)
	}
	many := pick(m, 100, 5)
	start := time.Now()
	if err := r.each(steps(many)); err != nil {
		t.Fatal(err)
	}
	alone := time.Since(start)

	// As a matrix product does, a block takes a multiprocessor for itself, by its
	// shared memory.
	d := m.ranks(2)[0]
	taken := p.MaxBlocks
	if m.oneGPU {
		taken *= 2
	}
	blocks, threads := pick(m, d.Info().SMs-taken, 8), pick(m, 1024, 32)
	k, err := beside.New(d, blocks, threads, pick(m, uint64(200<<10), 0))
	if err != nil {
		t.Fatal(err)
	}
	if err := layerOf(r, 0); err != nil { // waits for rank 1, all its blocks
		t.Fatal(err)
	}
	if err := k.Launch(); err != nil {
		t.Fatal(err)
	}
	answered := k.Answers(5 * time.Second)
	if answered != nil {
		t.Errorf("beside a step that waits: %v", answered)
	}
	start = time.Now()
	err = r.each(func(ctx context.Context, rank int) error {
		if rank == 1 {
			if err := layerOf(r, 1); err != nil {
				return err
			}
		}
		return steps(many)(ctx, rank)
	})
	if err != nil {
		t.Errorf("beside another kernel: %v", err)
	}
	took := time.Since(start)
	if err := k.Answers(5 * time.Second); err != nil {
		t.Errorf("when the steps have ended: %v", err)
	}
	if err := k.Stop(); err != nil {
		t.Error(err)
	}
	t.Logf("%d steps on %d multiprocessors: %v alone, %v beside a kernel of %d blocks of %d threads", many, p.MaxBlocks, alone, took, blocks, threads)
}

// layerOf enqueues a step of one layer whose counts travel with its dispatch:
// all its blocks wait for the other rank.
func layerOf(r *rig, rank int) error {
	d, s, in := r.d[rank], r.streams[rank], r.in[rank]
	if err := d.NextStep(moert.HostTokens(40)); err != nil {
		return err
	}
	if _, err := d.Dispatch(s, moert.Rows{Routing: in[0], Probs: in[1], Hidden: in[2]}); err != nil {
		return err
	}
	_, err := d.Combine(s, moert.CombineArgs{Partial: d.PartialBuffer()})
	return err
}
