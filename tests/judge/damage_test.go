package judge

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/moegen/moegen/cmd/moegen/gen"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/emu"
)

// damages are the generated source with one thing wrong, and what has to be
// said of each.
var damages = []struct {
	name       string
	from, to   string
	transports []moert.Transport
	kinds      []emu.ReportKind // one of them is among the reports
	says       []string         // in one report
}{
	{
		name: "no alias fence", from: `asm volatile("fence.proxy.alias;" ::: "memory");`, to: "",
		transports: []moert.Transport{moert.NVLS}, kinds: []emu.ReportKind{emu.MissingAliasFence},
		says: []string{"moegen_dispatch_nvls", "moegen_experts", "multimem.st"},
	},
	{
		name: "relaxed flag", from: "st.release.sys.global.u32", to: "st.relaxed.sys.global.u32",
		kinds: []emu.ReportKind{emu.DataRace}, says: []string{"moegen_dispatch", "moegen_experts"},
	},
	{
		name: "flag for the GPU only", from: "st.release.sys.global.u32", to: "st.release.gpu.global.u32",
		kinds: []emu.ReportKind{emu.ScopeTooNarrow}, says: []string{"scope gpu"},
	},
	{
		name: "relaxed poll", from: "ld.acquire.sys.global.u32", to: "ld.relaxed.sys.global.u32",
		kinds: []emu.ReportKind{emu.DataRace}, says: []string{"moegen_dispatch", "moegen_experts"},
	},
	{
		name: "no barrier before the flags", from: "  if (__syncthreads_or(turn.failed)) return;\n  exchange_flags<Transport>(g, kPhaseDispatch", to: "  if (turn.failed) return;\n  exchange_flags<Transport>(g, kPhaseDispatch",
		kinds: []emu.ReportKind{emu.DataRace, emu.MissingAliasFence}, says: []string{"moegen_dispatch"},
	},
	{
		name: "no barrier after staging", from: "    stage_partial(g, partial);\n    __syncthreads();", to: "    stage_partial(g, partial);",
		kinds: []emu.ReportKind{emu.DataRace, emu.MissingAliasFence}, says: []string{"moegen_combine"},
	},
	{
		name: "combine does not wait", from: "if (!wait_flag(g, phase,", to: "if (phase != kPhaseCombine && !wait_flag(g, phase,",
		kinds: []emu.ReportKind{emu.DataRace}, says: []string{"moegen_combine"},
	},
	{
		name: "a block is silent", from: "store_release(reinterpret_cast<uint32_t*>(theirs), turn.epoch);",
		to:    "if (phase != kPhaseCombine) store_release(reinterpret_cast<uint32_t*>(theirs), turn.epoch);",
		kinds: []emu.ReportKind{emu.Stall}, says: []string{"symmetric memory", "ld.acquire.sys", "saw 0x0", "= 0x1", "moegen_combine"},
	},
	{
		name: "wrong slot", from: "flags + (block + g.rank) * sizeof(uint32_t);", to: "flags + (block + peer) * sizeof(uint32_t);",
		kinds: []emu.ReportKind{emu.Stall, emu.DataRace},
	},
	{
		name: "unicast store to the window", from: "multimem.st.weak.global.v4.f32 [%0], {%1, %2, %3, %4};", to: "st.global.v4.f32 [%0], {%1, %2, %3, %4};",
		transports: []moert.Transport{moert.NVLS}, kinds: []emu.ReportKind{emu.WrongAddressKind}, says: []string{"multicast address"},
	},
}

// TestDamage: every damaged kernel is found, in every schedule.
func TestDamage(t *testing.T) {
	seeds := uint64(6)
	if testing.Short() {
		seeds = 2
	}
	for _, d := range damages {
		transports := d.transports
		if transports == nil {
			transports = []moert.Transport{moert.NVLS, moert.P2P}
		}
		for _, tr := range transports {
			t.Run(fmt.Sprintf("%s-%s", d.name, tr), func(t *testing.T) {
				j := job{text: shape(2, 5, 2, "timeout: 1s\n"), transport: tr, protocol: gen.Bulk, tokens: [][]int{{4, 1}, {0, 5}, {3, 3}}, layers: 2, damage: [2]string{d.from, d.to}}
				for seed := range seeds {
					j.config = emu.Config{Mode: emu.Check + emu.Mode(seed%2), Seed: seed}
					reports, err := j.run(t)
					if err == nil {
						t.Errorf("seed %d: the run fails nowhere", seed)
					}
					if !slices.ContainsFunc(reports, func(r emu.Report) bool { return slices.Contains(d.kinds, r.Kind) }) {
						t.Fatalf("seed %d: want one of %v, got %v\n%v", seed, d.kinds, err, reports)
					}
					if !slices.ContainsFunc(reports, func(r emu.Report) bool {
						return !slices.ContainsFunc(d.says, func(s string) bool { return !strings.Contains(r.Text, s) })
					}) {
						t.Fatalf("seed %d: no report has all of %q\n%v", seed, d.says, reports)
					}
				}
			})
		}
	}
}

// TestSameReports: the same seed makes the same reports, to the byte, though
// ranks are set up by goroutines of their own.
func TestSameReports(t *testing.T) {
	for _, mode := range []emu.Mode{emu.Check, emu.Explore} {
		for _, d := range damages[:8] {
			j := job{text: shape(3, 5, 2, "timeout: 1s\n"), transport: moert.NVLS, protocol: gen.Bulk, tokens: [][]int{{4, 1, 5}, {0, 5, 2}}, layers: 2,
				damage: [2]string{d.from, d.to}, config: emu.Config{Mode: mode, Seed: 11}}
			a, _ := j.run(t)
			b, _ := j.run(t)
			if x, y := fmt.Sprint(a), fmt.Sprint(b); x != y || len(a) == 0 {
				t.Errorf("mode %d, %s:\n%s\nand then\n%s", mode, d.name, x, y)
			}
		}
	}
}
