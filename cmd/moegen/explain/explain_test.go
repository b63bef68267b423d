package explain

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moegen/moegen/cmd/moegen/gen"
	"github.com/moegen/moegen/spec"
)

var update = flag.Bool("update", false, "write the golden files")

var specs = map[string]string{
	"plain":     "hidden_dim: 2048\ntopk: 8\ndtype: bf16\nep_size: 8\n",
	"tuned":     "hidden_dim: 2880\ntopk: 4\ndtype: bf16\nep_size: 2\nmax_tokens: 256\nsm_limit: 132\ntransports: [p2p]\n",
	"quantised": "hidden_dim: 7168\ntopk: 8\ndtype: bf16\nep_size: 4\nmax_prefill_tokens: 4096\ndispatch: {quantize: fp8_e4m3_block128}\ncombine: {epilogue: [residual, rmsnorm], rmsnorm: {weight: bf16}, output: fp8_e4m3_block128}\n",
	"alone":     "hidden_dim: 2048\ntopk: 8\ndtype: bf16\nep_size: 1\n",
}

const plan = `version: 1
shape: hidden 2880 bf16, top 4 int32 fp32, wire bf16 any, ep_size 2, sm_limit 132
measured: "2026-11-25 on two GPUs, transport p2p"
rows:
  - {tokens: 1, protocol: ll, blocks: 1, threads: 256, pair: 4.61, built_in: 4.66}
  - {tokens: 64, protocol: bulk, blocks: 64, threads: 512, pair: 8.2, built_in: 9.1}
`

// TestGolden: what is said about specs of all kinds, as text and as JSON.
func TestGolden(t *testing.T) {
	for name, text := range specs {
		s, err := spec.Parse(name+".yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if name == "tuned" {
			if s.Plan, err = spec.ParsePlan("tuned_plan.yaml", []byte(plan), s); err != nil {
				t.Fatal(err)
			}
		}
		x := Of(s, []byte(text))
		var printed bytes.Buffer
		x.Print(&printed)
		asJSON, err := json.MarshalIndent(x, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		for file, got := range map[string][]byte{name + ".txt": printed.Bytes(), name + ".json": append(asJSON, '\n')} {
			path := filepath.Join("testdata", file)
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), string(got)); d != "" {
				t.Errorf("%s (-update writes it): %s", file, d)
			}
		}
	}
}

// TestMemory: the parts make up what a dispatcher allocates.
func TestMemory(t *testing.T) {
	for name, text := range specs {
		s, err := spec.Parse(name+".yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		l := gen.LaunchOf(s).Layout
		row := map[string]int{"plain": 2 * 2048, "tuned": 2 * 2880, "quantised": 7168 + 4*56 + 2*7168, "alone": 2 * 2048}[name]
		out := uint64(max(s.MaxTokens, s.MaxPrefillTokens) * row)
		if x := Of(s, []byte(text)); x.Total != l.Bytes+l.ControlBytes+out {
			t.Errorf("%s: %d bytes, and a dispatcher has %d + %d + %d", name, x.Total, l.Bytes, l.ControlBytes, out)
		}
	}
}

// TestKernels: each has a description.
func TestKernels(t *testing.T) {
	for name, text := range specs {
		s, err := spec.Parse(name+".yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range Of(s, []byte(text)).Kernels {
			if k.What == "" {
				t.Errorf("%s: %s is not described", name, k.Name)
			}
		}
	}
}
