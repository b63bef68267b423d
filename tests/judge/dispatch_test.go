package judge

import (
	"fmt"
	"testing"

	"github.com/moegen/moegen/cmd/moegen/gen"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/emu"
)

// dispatchModes are specs that ask for what dispatch can do beyond sending rows
// as they are, each with what it needs of the shape.
var dispatchModes = []struct{ name, text string }{
	{"padded", "hidden_dim: 64\ntopk: 2\ndtype: bf16\nlayout: padded\n"},
	{"fill", "hidden_dim: 64\ntopk: 2\ndtype: bf16\nrouting_fill: -1\n"},
	{"padded fill", "hidden_dim: 64\ntopk: 3\ndtype: fp16\nlayout: padded\nrouting_fill: -1\nrouting_dtype: int64\n"},
	{"half words", "hidden_dim: 64\ntopk: 3\ndtype: bf16\nrouting_dtype: int16\nprobs_dtype: bf16\nrouting_fill: -1\n"},
	{"top 1", "hidden_dim: 8\ntopk: 1\ndtype: bf16\nrouting_dtype: int16\nprobs_dtype: bf16\n"},
	{"top 32", "hidden_dim: 4\ntopk: 32\ndtype: fp32\nrouting_dtype: int16\nnum_experts: 40\n"},
	{"fp8", "hidden_dim: 128\ntopk: 2\ndtype: bf16\ndispatch: {quantize: fp8_e4m3_block128}\n"},
	{"fp8 of fp32", "hidden_dim: 384\ntopk: 2\ndtype: fp32\nlayout: padded\nrouting_fill: -1\ndispatch: {quantize: fp8_e4m3_block128}\n"},
	{"fp8 of fp16", "hidden_dim: 256\ntopk: 2\ndtype: fp16\ncombine: {wire: fp32}\ndispatch: {quantize: fp8_e4m3_block128}\n"},
	{"fp8 of whole warps", "hidden_dim: 512\ntopk: 2\ndtype: bf16\ndispatch: {quantize: fp8_e4m3_block128}\n"},
	{"given fp8", "hidden_dim: 256\ntopk: 2\ndtype: bf16\ndispatch: {input: fp8_e4m3, scale_dtype: fp32, scale_block: 128}\n"},
	{"given fp4", "hidden_dim: 96\ntopk: 2\ndtype: bf16\ndispatch: {input: fp4_e2m1, scale_dtype: fp8_e4m3, scale_block: 16}\n"},
	{"given mxfp4", "hidden_dim: 64\ntopk: 2\ndtype: bf16\ndispatch: {input: fp4_e2m1, scale_dtype: ue8m0, scale_block: 32}\n"},
}

// TestDispatchModes: every mode over every transport, in the fast mode of the
// emulator and under its judge, with counts that travel early and in band.
func TestDispatchModes(t *testing.T) {
	for _, m := range dispatchModes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			for _, way := range []struct {
				transport moert.Transport
				protocol  gen.Protocol
			}{{moert.P2P, gen.LL}, {moert.P2P, gen.Bulk}, {moert.NVLS, gen.LL}, {moert.NVLS, gen.Bulk}, {moert.NCCL, gen.Auto}} {
				for _, ranks := range []int{2, 3} {
					j := job{text: m.text + fmt.Sprintf("ep_size: %d\nmax_tokens: 5\nsm_limit: 3\n", ranks), transport: way.transport,
						protocol: way.protocol, tokens: counts(ranks, 5, 3), layers: 2}
					clean(t, j)
					// Every way is judged, every mode at 2 ranks.
					if ranks > 2 {
						continue
					}
					j.layers = 1
					j.config = emu.Config{Mode: emu.Check}
					clean(t, j)
					j.config = emu.Config{Mode: emu.Explore, Seed: 1, Judge: emu.Judge{Schedule: emu.PCT}}
					clean(t, j)
				}
			}
			// One rank has nothing to exchange, but what it asks for is done.
			clean(t, job{text: m.text + "ep_size: 1\nmax_tokens: 5\n", tokens: [][]int{{3}, {0}, {5}}, layers: 2})
		})
	}
}
