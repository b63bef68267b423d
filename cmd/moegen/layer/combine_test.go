package layer

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/moegen/moegen/cmd/moegen/gen"
	moert "github.com/moegen/moegen/runtime"
)

const everyEpilogue = "epilogue: [add_shared, scale, residual, rmsnorm], scale: 2.5, rmsnorm: {weight: bf16}"

// combineSpecs ask for each of what combine can do, alone and together, at sizes
// whose units do not divide by threads. The second number is the ranks.
var combineSpecs = []struct {
	name, text string
	ranks      int
}{
	{"rank order", "hidden_dim: 72\ndtype: bf16\ncombine: {order: rank}\n", 3},
	{"rank order, fp16, fp32 wire", "hidden_dim: 4104\ndtype: fp16\ncombine: {order: rank, wire: fp32}\n", 2},
	{"shared", "hidden_dim: 72\ndtype: bf16\ncombine: {epilogue: [add_shared]}\n", 2},
	{"scale", "hidden_dim: 72\ndtype: fp16\ncombine: {epilogue: [scale], scale: -0.3}\n", 3},
	{"residual", "hidden_dim: 4104\ndtype: bf16\ncombine: {epilogue: [residual], order: rank}\n", 2},
	{"rmsnorm", "hidden_dim: 72\ndtype: bf16\ncombine: {epilogue: [rmsnorm], rmsnorm: {weight: fp32, eps: 1e-5}}\n", 2},
	{"rmsnorm, fp32", "hidden_dim: 2052\ndtype: fp32\ncombine: {epilogue: [rmsnorm], rmsnorm: {weight: fp16}, output: bf16}\n", 3},
	{"cast up", "hidden_dim: 72\ndtype: bf16\ncombine: {output: fp32}\n", 2},
	{"cast across", "hidden_dim: 72\ndtype: fp16\ncombine: {output: bf16, epilogue: [residual]}\n", 2},
	{"cast down", "hidden_dim: 20\ndtype: fp32\ncombine: {output: fp16, epilogue: [add_shared, residual]}\n", 2},
	{"fp8", "hidden_dim: 384\ndtype: bf16\ncombine: {output: fp8_e4m3_block128}\n", 2},
	{"fp8 of fp32", "hidden_dim: 128\ndtype: fp32\ncombine: {output: fp8_e4m3_block128, epilogue: [residual], order: rank}\n", 3},
	{"everything", "hidden_dim: 640\ndtype: bf16\ncombine: {" + everyEpilogue + ", output: fp8_e4m3_block128}\n", 2},
	{"everything, fp32 wire", "hidden_dim: 4232\ndtype: bf16\ncombine: {" + everyEpilogue + ", wire: fp32}\n", 2},
	{"everything, twelve ranks", "hidden_dim: 128\ndtype: fp16\ncombine: {" + everyEpilogue + ", output: fp32, order: rank}\n", 12},
	{"long rows", "hidden_dim: 12296\ndtype: bf16\ncombine: {" + everyEpilogue + "}\n", 2},
	{"long rows, fp8", "hidden_dim: 8320\ndtype: fp32\ncombine: {epilogue: [rmsnorm], rmsnorm: {weight: bf16}, output: fp8_e4m3_block128}\n", 2},
	{"padded, quantised both ways", "hidden_dim: 256\ndtype: bf16\nlayout: padded\ndispatch: {quantize: fp8_e4m3_block128}\ncombine: {" + everyEpilogue + ", output: fp8_e4m3_block128, order: rank}\n", 2},
	{"one rank, everything", "hidden_dim: 256\ndtype: bf16\ncombine: {" + everyEpilogue + ", output: fp8_e4m3_block128}\n", 1},
	{"one rank, cast", "hidden_dim: 72\ndtype: bf16\ncombine: {output: fp16}\n", 1},
}

// TestRunCombine: every epilogue, order and output is right over every
// transport, in eager steps and in graphs.
func TestRunCombine(t *testing.T) {
	for _, c := range combineSpecs {
		ways := []struct {
			transport moert.Transport
			protocol  gen.Protocol
		}{{moert.NVLS, gen.Bulk}, {moert.P2P, gen.Bulk}, {moert.P2P, gen.LL}, {moert.NCCL, gen.Auto}}
		if c.ranks == 1 {
			ways = ways[:1]
			ways[0].transport = ""
		}
		for _, way := range ways {
			t.Run(fmt.Sprintf("%s %s %s", c.name, way.transport, way.protocol), func(t *testing.T) {
				t.Parallel()
				const most = 5
				cfg := emulated(t, fmt.Sprintf("%stopk: 3\nnum_experts: 24\nmax_tokens: %d\nsm_limit: 3\nep_size: %d\n", c.text, most, c.ranks))
				SetProtocol(cfg.Program, cfg.Spec, way.protocol)
				cfg.Transport, cfg.Tokens, cfg.Steps, cfg.Replays = way.transport, uneven(c.ranks, most), 3, 3
				result := runOK(t, cfg)
				if worst := result.MaxError(); worst < 0.01 {
					t.Errorf("the largest error is %v of the bound: it would not find anything", worst)
				}
			})
		}
	}
}

// TestRunFindsWrongEpilogue: kernels with one mistake each are found out.
func TestRunFindsWrongEpilogue(t *testing.T) {
	for _, c := range []struct{ name, old, replacement, want string }{
		{"scales after the residual", "o.residual.unpack(y);", "o.residual.unpack(y);\n#pragma unroll\n  for (int i = 0; i < kUnit; ++i) y[i] *= kScale;", "output: token"},
		{"another eps", "constexpr float kEps = 0.25f", "constexpr float kEps = 0.26f", "output: token"},
		{"counts a row's last element twice", "float(kUnits * kUnit)", "float(kUnits * kUnit - 1)", "output: token"},
		{"leaves a warp out", "w < kThreads / 32", "w < kThreads / 32 - 15", "output: token"},
		{"writes a wrong sum", "e.sum[first + unit] = HiddenUnit::pack(v);", "e.sum[first + unit] = HiddenUnit::pack(v);\n        if (unit == 3) e.sum[first + unit].w[0] ^= 1 << 4;", "sum: token"},
		{"another row's residual", "residual = e.residual[i];", "residual = e.residual[i < kUnits ? i : i - kUnits];", "output: token"},
		{"shifted weight", "e.weight[unit].unpack(weight);", "e.weight[(unit + 1) % kUnits].unpack(weight);", "output: token"},
		{"scale of another block", "e.scales[i / 16] = scale;", "e.scales[i / 16] = scale * 1.0001f;", "scales of the output: token"},
		{"saturates too early", "factor = over_amax(amax)", "factor = over_amax(amax) * 1.125f", "output: token"},
		{"stages a unit too few", "i < kUnits; i += kThreads", "i < kUnits - 1; i += kThreads", "output: token"},
		{"stages the first rank's rows for all", "(step.offset[r] + size_t(row)) * kUnits;", "(step.offset[0] + size_t(row)) * kUnits;", "output: token"},
		{"leaves rows out", "row += gridDim.x) {\n    const size_t first = size_t(row)", "row += 2 * gridDim.x) {\n    const size_t first = size_t(row)", "output: token"},
		{"adds a rank's unit twice", "(g.symm[r] + offset);", "(g.symm[r & ~1] + offset);", "output: token"},
		{"no shared expert", "o.shared.unpack(y);", "for (int i = 0; i < kUnit; ++i) y[i] = 0;", "output: token"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cfg := emulated(t, "hidden_dim: 384\ntopk: 2\nnum_experts: 8\ndtype: bf16\nmax_tokens: 9\nsm_limit: 3\nep_size: 2\n"+
				"combine: {epilogue: [add_shared, scale, residual, rmsnorm], scale: 2.5, rmsnorm: {weight: bf16, eps: 0.25}, output: fp8_e4m3_block128}\n")
			if !bytes.Contains(cfg.Program.Source, []byte(c.old)) {
				t.Fatalf("the kernels have no %q any more", c.old)
			}
			SetProtocol(cfg.Program, cfg.Spec, gen.Bulk)
			cfg.Program.Source = bytes.ReplaceAll(cfg.Program.Source, []byte(c.old), []byte(c.replacement))
			cfg.Tokens, cfg.Steps, cfg.Transport = [][]int{{7, 5}}, 1, moert.P2P
			result, err := Run(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(faults(result), "\n"); result.OK() || !strings.Contains(got, c.want) {
				t.Errorf("found %q, not %q", got, c.want)
			}
		})
	}
}
