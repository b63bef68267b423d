package judge

import (
	"fmt"
	"slices"
	"testing"

	"github.com/moegen/moegen/cmd/moegen/gen"
	"github.com/moegen/moegen/cmd/moegen/layer"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/emu"
)

// wide is a model whose rows take several warps, and so many ranks, tokens and
// blocks.
func wide(ranks, tokens, sms int, more string) string {
	return fmt.Sprintf("hidden_dim: 384\ntopk: 2\ndtype: bf16\nep_size: %d\nmax_tokens: %d\nnum_experts: 24\nsm_limit: %d\n%s", ranks, tokens, sms, more)
}

const (
	inRankOrder = "combine: {order: rank}\n"
	fused       = "combine: {epilogue: [add_shared, scale, residual, rmsnorm], scale: 2.5, rmsnorm: {weight: bf16}, output: fp8_e4m3_block128}\n"
	fusedInRank = "combine: {order: rank, epilogue: [add_shared, residual, rmsnorm], rmsnorm: {weight: bf16}}\n"
	fusedFlat   = "combine: {epilogue: [add_shared, scale, residual], scale: 2.5, output: fp8_e4m3_block128}\n"
)

// TestCleanCombine: rank order and epilogues have nothing to report either,
// whoever keeps the partial sums.
func TestCleanCombine(t *testing.T) {
	seeds := uint64(12)
	if testing.Short() {
		seeds = 2
	}
	for name, more := range map[string]string{"rank order": inRankOrder, "fused": fused, "fused in rank order": fusedInRank, "fused, by elements": fusedFlat} {
		for _, way := range []struct {
			transport moert.Transport
			protocol  gen.Protocol
		}{{moert.NVLS, gen.Bulk}, {moert.P2P, gen.Bulk}, {moert.P2P, gen.LL}, {moert.NCCL, gen.Auto}} {
			t.Run(fmt.Sprintf("%s-%s-%s", name, way.transport, way.protocol), func(t *testing.T) {
				j := job{text: wide(2, 5, 2, more), transport: way.transport, protocol: way.protocol, tokens: counts(2, 5, 3), layers: 2, config: emu.Config{Mode: emu.Check}}
				clean(t, j)
				seeds := seeds
				if way.protocol == gen.LL {
					seeds = min(seeds, 3) // its grids are larger, so a schedule takes a second
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

// combineDamages are what can be wrong with rank order and epilogues only.
var combineDamages = []struct {
	name, more, from, to string
	transports           []moert.Transport
	kinds                []emu.ReportKind
}{
	{
		name: "no barrier before a row is summed", more: fused,
		from: "  __syncthreads();\n  float sum = 0.0f;", to: "  float sum = 0.0f;",
		kinds: []emu.ReportKind{emu.DataRace},
	},
	{
		name: "no barrier after a row is summed", more: fused,
		from: "  __syncthreads();  // before the next call's stores\n", to: "",
		kinds: []emu.ReportKind{emu.DataRace},
	},
	{
		name: "stages other rows than its peers read", more: fusedInRank,
		from:  "for (Index row = blockIdx.x; row < rows; row += gridDim.x) {\n      const size_t first = (step",
		to:    "for (Index row = gridDim.x - 1 - blockIdx.x; row < rows; row += gridDim.x) {\n      const size_t first = (step",
		kinds: []emu.ReportKind{emu.DataRace},
	},
	{
		name: "reads other rows than its peers stage", more: fusedInRank,
		from:  "for (Index row = blockIdx.x; row < rows; row += gridDim.x) {\n    const size_t first",
		to:    "for (Index row = gridDim.x - 1 - blockIdx.x; row < rows; row += gridDim.x) {\n    const size_t first",
		kinds: []emu.ReportKind{emu.DataRace},
	},
	{
		name: "no barrier after staging rows", more: fusedInRank,
		from: "    stage_partial(g, partial);\n    __syncthreads();", to: "    stage_partial(g, partial);",
		kinds: []emu.ReportKind{emu.DataRace},
	},
	{
		// It is for the gathered tensors, which experts read and the next dispatch
		// stores through the multicast address.
		name: "no alias fence in a combine that reads by unicast", more: inRankOrder, transports: []moert.Transport{moert.NVLS},
		from: "  Transport::fence();\n", to: "  if (phase != kPhaseCombine) Transport::fence();\n",
		kinds: []emu.ReportKind{emu.MissingAliasFence},
	},
	{
		name: "unicast loads in rank order do not wait", more: inRankOrder,
		from: "if (!wait_flag(g, phase,", to: "if (phase != kPhaseCombine && !wait_flag(g, phase,",
		kinds: []emu.ReportKind{emu.DataRace},
	},
	{
		name: "unicast loads through the multicast address", more: inRankOrder, transports: []moert.Transport{moert.NVLS},
		from: "(g.symm[r] + offset); }));", to: "(g.multicast + offset); }));",
		kinds: []emu.ReportKind{emu.WrongAddressKind},
	},
	{
		name: "a switch's sum from a unicast address", more: fusedFlat, transports: []moert.Transport{moert.NVLS},
		from: "\"l\"(g.multicast + offset + i * 4)", to: "\"l\"(g.symm[0] + offset + i * 4)",
		kinds: []emu.ReportKind{emu.WrongAddressKind},
	},
}

// TestCombineDamage: they are found, in every schedule.
func TestCombineDamage(t *testing.T) {
	seeds := uint64(4)
	if testing.Short() {
		seeds = 2
	}
	for _, d := range combineDamages {
		transports := d.transports
		if transports == nil {
			transports = []moert.Transport{moert.NVLS, moert.P2P}
		}
		for _, tr := range transports {
			t.Run(fmt.Sprintf("%s-%s", d.name, tr), func(t *testing.T) {
				// Blocks have several rows, and both layers the caller's partial sums.
				j := job{text: wide(2, 5, 2, d.more+"timeout: 1s\n"), transport: tr, tokens: [][]int{{5, 4}, {0, 5}, {3, 3}}, layers: 2,
					partials: layer.PartialsOwn, protocol: gen.Bulk, damage: [2]string{d.from, d.to}}
				for seed := range seeds {
					j.config = emu.Config{Mode: emu.Check + emu.Mode(seed%2), Seed: seed}
					reports, err := j.run(t)
					if !slices.ContainsFunc(reports, func(r emu.Report) bool { return slices.Contains(d.kinds, r.Kind) }) {
						t.Fatalf("seed %d: want one of %v, got %v\n%v", seed, d.kinds, err, reports)
					}
				}
			})
		}
	}
}
