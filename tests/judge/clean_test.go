package judge

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/moegen/moegen/cmd/moegen/gen"
	"github.com/moegen/moegen/cmd/moegen/layer"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/emu"
	"github.com/moegen/moegen/spec"
)

// TestClean: the generated kernels have nothing to report, in any schedule that
// is tried, and their results are right.
func TestClean(t *testing.T) {
	seeds := uint64(6) // TestGenerated has more, on request
	if testing.Short() {
		seeds = 3
	}
	for _, ranks := range []int{2, 3, 4} {
		for _, way := range []struct {
			transport moert.Transport
			protocol  gen.Protocol
		}{{moert.NVLS, gen.Bulk}, {moert.P2P, gen.Bulk}, {moert.P2P, gen.LL}} {
			t.Run(fmt.Sprintf("%s-%s-%d", way.transport, way.protocol, ranks), func(t *testing.T) {
				j := job{text: shape(ranks, 5, 2, ""), transport: way.transport, protocol: way.protocol, tokens: counts(ranks, 5, 3), layers: 2}
				for seed := range uint64(2) {
					j.config = emu.Config{Mode: emu.Check, Seed: seed}
					clean(t, j)
				}
				for seed := range seeds {
					j.config = emu.Config{Mode: emu.Explore, Seed: seed, Judge: emu.Judge{Schedule: emu.Schedule(seed % 2), PCTDepth: 2 + int(seed%3)}}
					j.partials = layer.Partials(seed % 3)
					clean(t, j)
				}
			})
		}
	}
}

func clean(t *testing.T, j job) {
	t.Helper()
	reports, err := j.run(t)
	if err != nil || len(reports) > 0 {
		t.Fatalf("mode %d, seed %d: %v\n%v", j.config.Mode, j.config.Seed, err, reports)
	}
}

// TestCleanShapes: other shapes, types and transports, in a few schedules.
func TestCleanShapes(t *testing.T) {
	for _, c := range []struct {
		name string
		job
	}{
		{"several blocks", job{text: shape(2, 200, 4, ""), transport: moert.NVLS, protocol: gen.Bulk, tokens: [][]int{{200, 3}, {0, 150}}}},
		{"several blocks", job{text: shape(2, 200, 4, ""), transport: moert.P2P, protocol: gen.Bulk, tokens: [][]int{{200, 3}, {0, 150}}}},
		{"fp32 wire", job{text: shape(3, 4, 1, "combine:\n  wire: fp32\n"), transport: moert.NVLS, protocol: gen.Bulk, tokens: counts(3, 4, 3)}},
		{"fp32 wire", job{text: shape(3, 4, 1, "combine:\n  wire: fp32\n"), transport: moert.P2P, protocol: gen.Bulk, tokens: counts(3, 4, 3)}},
		{"collectives", job{text: shape(2, 5, 2, ""), transport: moert.NCCL, tokens: counts(2, 5, 3)}},
		{"twelve ranks", job{text: shape(12, 2, 1, ""), transport: moert.P2P, protocol: gen.Bulk, tokens: counts(12, 2, 2)}},
		{"twelve ranks", job{text: shape(12, 2, 1, ""), transport: moert.NVLS, protocol: gen.Bulk, tokens: counts(12, 2, 2)}},
		{"several blocks", job{text: shape(2, 30, 4, ""), transport: moert.P2P, protocol: gen.LL, tokens: [][]int{{30, 3}, {0, 25}}}},
		{"fp32 wire", job{text: shape(3, 4, 1, "combine:\n  wire: fp32\n"), transport: moert.P2P, protocol: gen.LL, tokens: counts(3, 4, 2)}},
	} {
		t.Run(fmt.Sprintf("%s-%s-%s", c.name, c.transport, c.protocol), func(t *testing.T) {
			c.layers = 2
			c.config = emu.Config{Mode: emu.Check}
			clean(t, c.job)
			for seed := range uint64(2) {
				c.config = emu.Config{Mode: emu.Explore, Seed: seed}
				clean(t, c.job)
			}
		})
	}
}

// TestMixed: kernels that take ll for steps of at most two tokens a rank and bulk
// for others, in turn, have nothing to report, in as many schedules as TestGenerated
// explores.
func TestMixed(t *testing.T) {
	for _, tokens := range [][][]int{
		{{1, 2}, {0, 3}, {2, 0}, {0, 0}, {4, 1}},
		{{1, 2, 0, 2}, {0, 3, 1, 0}, {2, 0, 1, 1}, {0, 0, 0, 0}, {4, 1, 0, 3}},
	} {
		ranks := len(tokens[0])
		// More tokens than ll's staging buffers have room for.
		text := fmt.Sprintf("hidden_dim: 256\ntopk: 2\ndtype: bf16\nep_size: %d\nmax_tokens: 40000\nnum_experts: 24\nsm_limit: 2\ntimeout: 300ms\n", ranks)
		s, err := spec.Parse("moe.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		p := planned(*shrunkProgram(t, s), s, gen.Mixed)
		// with is the program whose kernels choose like that.
		with := func(few string) *moert.Program {
			q := p
			if q.Source = bytes.ReplaceAll(p.Source, []byte("step.max <= kFewTokens"), []byte(few)); bytes.Equal(q.Source, p.Source) {
				t.Fatal("the kernels choose otherwise")
			}
			return &q
		}
		for _, tr := range []moert.Transport{moert.NVLS, moert.P2P} {
			j := job{spec: s, prog: with("step.max <= 2 && 2 < kFewTokens"), transport: tr, layers: 2, tokens: tokens, config: emu.Config{Mode: emu.Check}}
			t.Run(fmt.Sprintf("%s/%d/check", tr, ranks), func(t *testing.T) {
				clean(t, j)
				// Ranks that choose by their own counts are found out.
				own := j
				own.prog = with("step.count[g.rank] <= 2 && 2 < kFewTokens")
				if reports, err := own.run(t); err == nil && len(reports) == 0 {
					t.Error("ranks that choose by their own counts are right")
				}
			})
			for first := 0; first < *schedules; first += part {
				t.Run(fmt.Sprintf("%s/%d/%d", tr, ranks, first), func(t *testing.T) {
					t.Parallel()
					for n := first; n < min(first+part, *schedules); n++ {
						j, seed := j, *firstSeed+uint64(n)
						j.layers, j.eager = 1, true
						j.config = emu.Config{Mode: emu.Explore, Seed: seed, Judge: emu.Judge{Schedule: emu.Schedule(seed % 2), PCTDepth: 2 + int(seed/2%3)}}
						clean(t, j)
					}
				})
			}
		}
	}
}

// TestOverlap: kernels that are launched before those before them have ended, and
// do not wait for that, are found out.
func TestOverlap(t *testing.T) {
	for _, protocol := range []gen.Protocol{gen.Bulk, gen.LL} {
		t.Run(string(protocol), func(t *testing.T) {
			j := job{
				text: shape(2, 5, 2, "timeout: 1s\n"), transport: moert.P2P, protocol: protocol, tokens: [][]int{{4, 1}, {0, 5}, {3, 3}}, layers: 2,
				damage: [2]string{`asm volatile("griddepcontrol.wait;" ::: "memory");`, ""},
			}
			for seed := range uint64(4) {
				j.config = emu.Config{Mode: emu.Check + emu.Mode(seed%2), Seed: seed}
				reports, _ := j.run(t)
				if !slices.ContainsFunc(reports, func(r emu.Report) bool { return r.Kind == emu.DataRace }) {
					t.Errorf("seed %d: no data race in %v", seed, reports)
				}
			}
		})
	}
}

// TestSpeed reports how fast judging is; it fails only where something is far
// out of line.
func TestSpeed(t *testing.T) {
	if testing.Short() {
		t.Skip("measures")
	}
	j := job{text: shape(2, 4, 2, ""), transport: moert.NVLS, tokens: [][]int{{3, 0}, {4, 1}, {0, 4}}, layers: 1}
	const n = 50
	start := time.Now()
	for seed := range uint64(n) {
		j.config = emu.Config{Mode: emu.Explore, Seed: seed}
		clean(t, j)
	}
	each := time.Since(start) / n
	t.Logf("a schedule of 2 ranks, 3 steps and 3 replays: %v", each)
	if each > time.Second {
		t.Errorf("a schedule takes %v", each)
	}
}
