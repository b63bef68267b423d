package judge

import (
	"fmt"
	"testing"

	"github.com/moegen/moegen/cmd/moegen/gen"
	"github.com/moegen/moegen/cmd/moegen/layer"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/emu"
)

// TestPrefill: steps of several exchanges, between replays of a graph, with the
// same protocol inside graphs and outside, and with both.
func TestPrefill(t *testing.T) {
	for _, way := range []struct {
		name      string
		transport moert.Transport
		protocol  gen.Protocol
		capacity  int
	}{
		{"bulk", moert.P2P, gen.Bulk, 0}, {"ll", moert.P2P, gen.LL, 0}, {"both", moert.P2P, gen.Bulk, 3},
		{"bulk", moert.NVLS, gen.Bulk, 0}, {"both", moert.NVLS, gen.Bulk, 3},
		{"collectives", moert.NCCL, gen.Auto, 0},
	} {
		for _, layout := range []string{"layout: compact\n", "layout: padded\nrouting_fill: -1\n"} {
			t.Run(fmt.Sprintf("%s %s %.14s", way.transport, way.name, layout), func(t *testing.T) {
				t.Parallel()
				j := job{text: shape(2, 5, 2, layout+"max_prefill_tokens: 16\n"), transport: way.transport, protocol: way.protocol,
					tokens: [][]int{{3, 0}, {12, 2}, {2, 3}, {0, 6}, {10, 10}}, layers: 2, capacity: way.capacity}
				clean(t, j)
				j.config = emu.Config{Mode: emu.Check}
				clean(t, j)
				for seed := range uint64(4) {
					j.config = emu.Config{Mode: emu.Explore, Seed: seed, Judge: emu.Judge{Schedule: emu.Schedule(seed % 2)}}
					j.partials = layer.Partials(seed % 3)
					clean(t, j)
				}
			})
		}
	}
}
