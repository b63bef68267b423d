package gpu

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/spec"
	"github.com/moegen/moegen/tests/internal/soak"
)

var (
	soakFor  = flag.Duration("soak", 0, "how long TestSoak runs; default: 20 s, a moment in a rehearsal")
	soakSeed = flag.Uint64("soak-seed", 0, "what TestSoak chooses its steps from; default: the time")
)

// TestSoak runs random steps of every kind for as long as -soak says, all of
// them verified, and looks for what leaks. How times drift is only told. It takes
// two GPUs, or as many as MOEGEN_RANKS says.
func TestSoak(t *testing.T) {
	ranks := 2
	if text := os.Getenv("MOEGEN_RANKS"); text != "" {
		var err error
		if ranks, err = strconv.Atoi(text); err != nil {
			t.Fatalf("MOEGEN_RANKS=%q: want a number", text)
		}
	}
	m := gpus(t, ranks)
	text := pick(m, "hidden_dim: 1024\ntopk: 8\nnum_experts: 64\nmax_tokens: 32\nmax_prefill_tokens: 80\nsm_limit: 32\n",
		"hidden_dim: 64\ntopk: 2\nnum_experts: 12\nmax_tokens: 8\nmax_prefill_tokens: 20\nsm_limit: 4\n")
	s, err := spec.Parse("soak.yaml", fmt.Appendf(nil, "%sdtype: bf16\nep_size: %d\ntransports: [p2p]\n", text, ranks))
	if err != nil {
		t.Fatal(err)
	}
	c := soak.Config{
		Spec: s, Devices: m.ranks(ranks), Share: m.oneGPU, Transport: moert.P2P, Seed: *soakSeed, For: *soakFor, Least: 30,
		// The driver's heaps: what is lost a step would be more.
		MemorySlack: pick(m, uint64(16<<20), 0),
		Options:     []moert.Option{moert.WithLogger(quiet)},
	}
	if c.For == 0 {
		c.For = pick(m, 20*time.Second, time.Second)
	}
	if c.Seed == 0 {
		c.Seed = uint64(time.Now().UnixNano() % 1e9)
	}
	t.Logf("-soak=%v -soak-seed=%d", c.For, c.Seed)
	r, err := soak.Run(t.Context(), c)
	if r != nil {
		writeResult(t, "soak.json", r)
		t.Logf("%d steps of ll among %v, %d captures in %.0f s\nbefore %+v\nafter  %+v", r.Low, r.Steps, r.Captures, r.Seconds, r.Before, r.After)
		for _, d := range r.Drift {
			t.Logf("%s steps: median %.1f us in the first tenth, %.1f us in the last", d.Kind, d.First, d.Last)
		}
		for _, f := range r.Faults {
			t.Error(f)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}
