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

// Texts of the source that several damages replace.
const (
	tokensBefore = "for (int i = 0; i < r; ++i) {\n      const uint32_t n = failed"
	fillsPadded  = "Index i = Index(step.offset[r] + step.count[r]) * kRoutingPacks"
	fillsCompact = "Index i = Index(step.total) * kRoutingPacks"
	pushesScale  = "if (brings_scale(i)) push_scale("
	storesScale  = "if (i % kQuantPacks == 0) {\n      Transport::store_all"
)

var (
	onlyLow  = []gen.Protocol{gen.LL}
	onlyBulk = []gen.Protocol{gen.Bulk}
)

// dispatchDamages are what can be wrong with the modes of dispatch and with
// counts in band, and a part of what has to be said of each.
var dispatchDamages = []struct {
	name, mode string         // one of dispatchModes
	protocols  []gen.Protocol // nil: both
	from, to   string
	says       string
}{
	// Layouts.
	{"padded steps have compact offsets", "padded", nil, "step->offset[r] = uint32_t(r) * bring.capacity;", "step->offset[r] = before;", "step: offset 1 is"},
	{"padded steps are a row too far apart", "padded", nil, "step->offset[r] = uint32_t(r) * bring.capacity;", "step->offset[r] = uint32_t(r) * (bring.capacity + 1);", "step: offset 1 is"},
	{"padded total is that of tokens", "padded", nil, "step->total = kRanks * bring.capacity;", "step->total = before;", "step: total is"},
	{"padded rows go to compact offsets", "padded", onlyBulk, "const size_t row = step.offset[g.rank];",
		"size_t row = 0;\n  for (int r = 0; r < g.rank; ++r) row += step.count[r];", "gathered routing: 1 of rank 1's 1 rows differ"},
	{"padded packs go to the neighbouring row", "padded", onlyLow, "size_t(step.offset[r]) * kHiddenPacks", "(size_t(step.offset[r]) + r) * kHiddenPacks", "gathered hidden"},
	{"compact offsets leave the own rank out", "top 1", onlyBulk, tokensBefore, tokensBefore + " || i == g.rank", "step: offset"},
	{"compact offsets leave the own rank out", "top 1", onlyLow, tokensBefore, tokensBefore + " || i == g.rank", "data race"},

	// The fill of rows without a token.
	{"no fill", "fill", onlyBulk, "if (!turn.failed) fill_routing(g, step);", "", "not filled with -1"},
	{"no fill", "padded fill", onlyLow, "wait.look(missing);\n  fill_routing(g, step);", "wait.look(missing);", "not filled with -1"},
	{"fill ends a row early", "fill", nil, "Index end = Index(kRanks * step.capacity) * kRoutingPacks", "Index end = (Index(kRanks * step.capacity) - 1) * kRoutingPacks", "not filled with -1"},
	{"fill ends a row early", "padded fill", nil, "Index end = Index(step.offset[r] + step.capacity) * kRoutingPacks",
		"Index end = (Index(step.offset[r] + step.capacity) - 1) * kRoutingPacks", "not filled with -1"},
	{"fill ends a row late", "fill", onlyLow, "Index end = Index(kRanks * step.capacity) * kRoutingPacks", "Index end = (Index(kRanks * step.capacity) + 1) * kRoutingPacks", "past the capacity was written"},
	{"fill begins a row late", "half words", nil, fillsCompact, "Index i = (Index(step.total) + 1) * kRoutingPacks", "not filled with -1"},
	{"fill takes the last token's row", "fill", nil, fillsCompact, "Index i = (Index(step.total) - 1) * kRoutingPacks", "data race"},
	{"fill takes each rank's last row", "padded fill", nil, fillsPadded,
		"Index i = Index(step.offset[r] + step.count[r] - (step.count[r] > 0)) * kRoutingPacks", "data race"},

	// Rows of half words.
	{"half words to the place of words", "top 1", onlyBulk, "kRouting + row * kRoutingPacks * sizeof(RoutingPack)",
		"kRouting + row * kRoutingPacks * sizeof(uint32_t)", "gathered routing"},
	{"half words to the place of words", "top 1", onlyLow, "* words + i) * sizeof(*source);", "* words + i) * sizeof(uint32_t);", "gathered routing"},
	{"probs on the lines of routing", "half words", onlyLow, "from.probs), kLowProbsLines,", "from.probs), size_t(0),", "gathered routing"},
	{"a line of any epoch is taken", "half words", onlyLow, "while (uint32_t((line = load_relaxed(here)) >> 32) != epoch)", "while (uint32_t((line = load_relaxed(here)) >> 32) == 0)", "gathered routing"},

	// Quantised and given payloads. All 16 lanes have their block's scale, so that
	// another one stores it is no damage.
	{"a scale of the neighbouring block", "fp8 of fp16", onlyBulk, "scale_to + size_t(i / kQuantPacks)", "scale_to + size_t(i / kQuantPacks ^ 1)", "gathered scales"},
	{"a scale of the neighbouring block", "fp8 of fp16", onlyLow, "scales[i / kQuantPacks]", "scales[i / kQuantPacks ^ 1]", "gathered scales"},
	{"half a block has a say in its scale", "fp8", nil, "for (int other = kLanes / 2; other > 0; other /= 2)", "for (int other = kLanes / 4; other > 0; other /= 2)", "gathered "},
	{"the first scale stays away", "fp8 of fp32", onlyBulk, storesScale, "if (i % kQuantPacks == 0 && i > 0) {\n      Transport::store_all", "gathered scales"},
	{"the first scale stays away", "fp8", onlyLow, pushesScale, "if (brings_scale(i) && i > 0) push_scale(", "stall"},
	{"scales are not awaited", "fp8", onlyLow, "(!arrived(v[b]) || !beside.arrived(b))", "!arrived(v[b])", "gathered scales"},
	{"a scale of any epoch is taken", "fp8", onlyLow, "uint32_t(line[b] >> 32) == epoch", "uint32_t(line[b] >> 32) != 0", "gathered scales"},
	{"the own scales stay away", "fp8 of whole warps", onlyLow, "keep(g.rank, mine, push, own);", "keep(g.rank, mine, push, {own.v, 0.0f});", "gathered scales"},
	{"given scales stay away", "given fp4", onlyBulk, "all_gather<Transport>(g, from.scales,", "if (false) all_gather<Transport>(g, from.scales,", "gathered scales"},
	{"given scales stay away", "given fp8", onlyLow, "push_line(g, lines(g.rank) + at + i", "if (at < kLowScaleLines) push_line(g, lines(g.rank) + at + i", "stall"},
	{"all packs are the stand-in", "given fp8", onlyLow, "return w == kAbsent ? kStandIn : w;", "return kStandIn;", "gathered hidden"},

	// Counts in band.
	{"the step is not kept", "padded", onlyBulk, "if (blockIdx.x == 0 && threadIdx.x == 0) g.control->step = *step;", "", "step: "},
	{"the step is not kept", "padded", onlyLow, "if (blockIdx.x == 0 && threadIdx.x == 0) g.control->step = step;", "", "step: "},
	{"counts to the other parity's slot", "padded", nil, "count_slots(turn.epoch)) + g.rank", "count_slots(turn.epoch + 1)) + g.rank", "stall"},
	{"counts are not awaited", "padded", nil, "uint32_t((word = load_acquire(slot)) >> 32) != turn.epoch;", "(word = load_acquire(slot)) == 0 && polls < 2;", "rank"},
	{"no barrier behind the step", "padded", nil, "return !__syncthreads_or(!ok);", "return ok;", "data race"},
	{"no barrier behind a step that is known", "fill", onlyLow, "step->capacity = part.capacity;\n  __syncthreads();", "step->capacity = part.capacity;", "data race"},
}

// TestDispatchDamage: they are found, in one of a few schedules.
func TestDispatchDamage(t *testing.T) {
	const seeds = 4
	for _, d := range dispatchDamages {
		i := slices.IndexFunc(dispatchModes, func(m struct{ name, text string }) bool { return m.name == d.mode })
		if i < 0 {
			t.Fatalf("%s: there is no mode %s", d.name, d.mode)
		}
		protocols := d.protocols
		if protocols == nil {
			protocols = []gen.Protocol{gen.LL, gen.Bulk}
		}
		for _, protocol := range protocols {
			transports, capacity := []moert.Transport{moert.P2P, moert.NVLS}, 0
			if protocol == gen.LL {
				transports = transports[:1] // its kernels are the same over both
				capacity = 5                // of max_tokens 7: there are rows that nobody may write
			}
			for _, tr := range transports {
				t.Run(fmt.Sprintf("%s-%s-%s-%s", d.name, d.mode, protocol, tr), func(t *testing.T) {
					t.Parallel()
					j := job{text: dispatchModes[i].text + "ep_size: 2\nmax_tokens: 7\nsm_limit: 3\ntimeout: 1s\n", transport: tr, protocol: protocol,
						tokens: [][]int{{4, 1}, {0, 5}, {3, 3}}, layers: 2, capacity: capacity, damage: [2]string{d.from, d.to}}
					var said []string
					for seed := range uint64(seeds) {
						j.config = emu.Config{Mode: emu.Check + emu.Mode(seed%2), Seed: seed}
						reports, err := j.run(t)
						text := fmt.Sprint(err, reports)
						if (err != nil || len(reports) > 0) && strings.Contains(text, d.says) {
							return
						}
						said = append(said, text)
					}
					t.Fatalf("in %d schedules nothing says %q:\n%s", seeds, d.says, strings.Join(said, "\n"))
				})
			}
		}
	}
}
