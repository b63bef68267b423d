package gpu

import (
	"strings"
	"testing"

	"github.com/moegen/moegen/cmd/moegen/bench"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/spec"
)

// limits are microseconds that a dispatch and a combine of so many tokens may
// take on two H200.
var limits = map[int][2]float64{1: {2.4, 2.5}, 8: {2.8, 3}, 64: {5, 5.2}, 256: {12.5, 13}, 1024: {42, 43}}

// TestLatency measures operations of deepseek-v3 on two ranks against what the
// link can do and against NCCL, all in one run.
func TestLatency(t *testing.T) {
	m := gpus(t, 2)
	s := specs(t, func(s *spec.Spec) {
		s.SMLimit, s.MaxTokens = 132, pick(m, 1024, 16)
	})["deepseek-v3"]
	c := bench.Config{
		Spec: s, Program: program(t, s), Devices: m.ranks(2), Share: m.oneGPU, Transport: moert.P2P,
		Tokens: pick(m, []int{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024}, []int{1, 2, 8}), Layers: pick(m, 61, 2),
		Options: []moert.Option{moert.WithLogger(quiet)},
	}
	result, err := bench.Run(t.Context(), c)
	if result != nil { // what there is is kept whatever happened later
		writeResult(t, "latency.json", result)
		writeResult(t, "latency.svg", result.SVG())
		var table strings.Builder
		result.Print(&table)
		t.Log("\n" + table.String())
	}
	if err != nil {
		t.Fatal(err)
	}
	if result.NoNCCL != "" {
		t.Errorf("no baseline: %s", result.NoNCCL)
	}
	if len(result.Rows) != len(c.Tokens) {
		t.Errorf("%d rows for token counts %v", len(result.Rows), c.Tokens)
	}
	if !m.real || m.oneGPU || !strings.Contains(result.Machine, "H200") {
		t.Log("no limits on times here: they are two H200's")
		return
	}
	for _, row := range result.Rows {
		for i, time := range []*bench.Time{row.Dispatch, row.Combine} {
			if limit, ok := limits[row.Tokens]; ok && time.Median > limit[i] {
				t.Errorf("%s of %d tokens takes %.2f us, more than %v", []string{"dispatch", "combine"}[i], row.Tokens, time.Median, limit[i])
			}
		}
	}
}
