package judge

import (
	"strings"
	"testing"

	"github.com/moegen/moegen/cmd/moegen/gen"
	moert "github.com/moegen/moegen/runtime"
)

// TestStuck: an exchange in which all ranks wait for each other, with many rows
// left to receive, ends by its timeout, and soon after it. The damage makes
// ranks wait for rows that nobody pushes.
func TestStuck(t *testing.T) {
	j := job{
		text: "hidden_dim: 4096\ntopk: 2\ndtype: bf16\nep_size: 2\nmax_tokens: 64\nsm_limit: 1\ntimeout: 100ms\n" +
			"dispatch: {quantize: fp8_e4m3_block128}\n",
		transport: moert.P2P, protocol: gen.LL, tokens: [][]int{{64, 64}}, layers: 1,
		damage: [2]string{"for (int k = 1; k < kRanks; ++k) store_relaxed(reinterpret_cast<uint4*>", "for (int k = 2; k < kRanks; ++k) store_relaxed(reinterpret_cast<uint4*>"},
	}
	if _, err := j.run(t); err == nil || !strings.Contains(err.Error(), "did not come before the timeout") {
		t.Errorf("%v, want a timeout", err)
	}
}
