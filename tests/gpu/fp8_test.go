package gpu

import (
	"os"
	"testing"

	"github.com/moegen/moegen/spec"
)

// TestFP8 measures dispatch that quantises to fp8 beside dispatch of the same
// bf16 rows. At 256 tokens it takes 0.63 of the time; the goal, 0.6, is missed for
// the reasons in docs/performance.md.
func TestFP8(t *testing.T) {
	m := gpus(t, 2)
	file := "features/fp8.yaml" // of a bundle
	if _, err := os.Stat(file); err != nil {
		file = "../features/fp8.yaml"
	}
	load := func(quantize bool) *spec.Spec {
		s, err := spec.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		if s.HiddenDim != 7168 || s.Dispatch.Quantize != spec.QuantizeFP8 {
			t.Fatalf("%s has hidden_dim %d and quantize %q", file, s.HiddenDim, s.Dispatch.Quantize)
		}
		s.Transports, s.MaxTokens, s.SMLimit = []spec.Transport{spec.P2P}, pick(m, 256, 8), pick(m, s.SMLimit, 4)
		if !quantize {
			s.Dispatch.Quantize = spec.QuantizeNone
		}
		if err := s.Validate(); err != nil {
			t.Fatal(err)
		}
		return s
	}
	narrow, wide := load(true), load(false)
	best := map[string][2]float64{} // by operation: bf16's and fp8's with its faster protocol, at the most tokens
	tokens := pick(m, []int{1, 8, 64, 256}, []int{1, 8})
	for _, d := range alternate(t, m, "fp8", tokens, [2]version{{"bf16", wide, program(t, wide)}, {"fp8", narrow, program(t, narrow)}}) {
		if d.tokens != tokens[len(tokens)-1] {
			continue
		}
		b, ok := best[d.operation]
		if !ok {
			b = [2]float64{d.first, d.second}
		}
		best[d.operation] = [2]float64{min(b[0], d.first), min(b[1], d.second)}
	}
	const most = 0.65
	d := best["dispatch"]
	ratio := d[1] / d[0]
	t.Logf("dispatch of %d tokens: fp8 takes %.3f of bf16's time, each with its faster protocol", tokens[len(tokens)-1], ratio)
	if m.real && !m.oneGPU && ratio > most {
		t.Errorf("fp8 takes %.3f of bf16's time, more than %v", ratio, most)
	}
}
