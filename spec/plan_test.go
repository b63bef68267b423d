package spec

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const planSpec = "hidden_dim: 1024\ntopk: 2\ndtype: bf16\nep_size: 2\nsm_limit: 16\n"

func TestPlanRoundTrip(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "moe.yaml")
	if err := os.WriteFile(file, []byte(planSpec), 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := Load(file)
	if err != nil || s.Plan != nil {
		t.Fatal(err, s.Plan)
	}
	hash := s.Hash()
	p := &Plan{Shape: s.Shape(), Measured: `2026-11-25 on 2 x "GPU": driver`, Rows: []PlanRow{
		{Tokens: 1, Protocol: "ll", Blocks: 4, Threads: 512, Pair: 4.74, BuiltIn: 5},
		{Tokens: 512, Protocol: "bulk", Blocks: 16, Threads: 512, Pair: 40.25, BuiltIn: 41},
	}}
	if err := os.WriteFile(filepath.Join(dir, "moe_plan.yaml"), p.YAML(), 0o644); err != nil {
		t.Fatal(err)
	}
	if s, err = Load(file); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(p, s.Plan, cmpopts.IgnoreUnexported(Plan{})); d != "" {
		t.Error(d)
	}
	if s.Hash() != hash {
		t.Error("the plan changes the spec's hash")
	}
}

func TestBadPlans(t *testing.T) {
	s, err := Parse("moe.yaml", []byte(planSpec))
	if err != nil {
		t.Fatal(err)
	}
	head := "version: 1\nshape: " + s.Shape() + "\nmeasured: once\n"
	for text, want := range map[string]string{
		"- 1\n": "p.yaml:1:1: must be a mapping",
		strings.Replace(head, "1", "2", 1) + "rows:\n- {tokens: 1, protocol: ll, blocks: 1, threads: 32}\n":                 "p.yaml:1:10: version: out of range (got 2; allowed: 1)",
		strings.Replace(head, "ep_size 2", "ep_size 8", 1) + "rows:\n- {tokens: 1, protocol: ll, blocks: 1, threads: 32}\n": `p.yaml:2:8: shape: the plan is for another shape than the spec: run moegen tune again, or remove the file (got "hidden 1024 bf16, top 2 int32 fp32, wire bf16 any, ep_size 8, sm_limit 16"; allowed: "hidden 1024 bf16, top 2 int32 fp32, wire bf16 any, ep_size 2, sm_limit 16")`,
		head:                "rows: required, but not given",
		head + "rows: []\n": "p.yaml:4:7: rows: a plan has one row at least",
		head + "rows: 7\n":  "p.yaml:4:7: rows: must be a list of rows",
		head + "rows:\n- {tokens: 1, protocol: fast, blocks: 1, threads: 32}\n":                                                    "p.yaml:5:25: rows[0].protocol: not one of the allowed values",
		head + "rows:\n- {tokens: 1, protocol: ll, blocks: 17, threads: 32}\n":                                                     "p.yaml:5:37: rows[0].blocks: out of range (got 17; allowed: 1..16)",
		head + "rows:\n- {tokens: 1, protocol: ll, blocks: 1, threads: 33}\n":                                                      "p.yaml:5:49: rows[0].threads: must be a multiple of 32",
		head + "rows:\n- {tokens: 1, protocol: ll, blocks: 1, threads: 2048}\n":                                                    "rows[0].threads: out of range (got 2048; allowed: 32..1024)",
		head + "rows:\n- {tokens: 0x1, protocol: ll, blocks: 1, threads: 32}\n":                                                    "rows[0].tokens: must be a whole number in plain decimal digits",
		head + "rows:\n- {tokens: 1, protocol: ll, block: 1, threads: 32}\n":                                                       "rows[0].block: unknown key; did you mean blocks?",
		head + "rows:\n- {tokens: 8, protocol: ll, blocks: 1, threads: 32}\n- {tokens: 8, protocol: ll, blocks: 1, threads: 32}\n": "p.yaml:6:12: rows[1].tokens: rows ascend in tokens: must be more than the 8 of the row before",
		head + "rows:\n- {tokens: 8, protocol: ll, blocks: 1, threads: 32, pair: fast}\n":                                          "rows[0].pair: must be a number",
	} {
		if _, err := ParsePlan("p.yaml", []byte(text), s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\nwant %s", text, err, want)
		}
	}
}

// TestShape: whatever a plan depends on is in it.
func TestShape(t *testing.T) {
	s, err := Parse("moe.yaml", []byte(planSpec))
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Spec){
		"hidden": func(s *Spec) { s.HiddenDim *= 2 }, "topk": func(s *Spec) { s.TopK++ }, "ranks": func(s *Spec) { s.EPSize++ }, "SMs": func(s *Spec) { s.SMLimit++ },
		"dtype": func(s *Spec) { s.DType = FP16 }, "routing": func(s *Spec) { s.RoutingDType = Int64 }, "probs": func(s *Spec) { s.ProbsDType = BF16 },
		"wire": func(s *Spec) { s.Combine.Wire = FP32 }, "order": func(s *Spec) { s.Combine.Order = OrderRank },
		"quantize": func(s *Spec) { s.Dispatch.Quantize = QuantizeFP8 }, "epilogue": func(s *Spec) { s.Combine.Epilogue = []Epilogue{Residual} },
		"output": func(s *Spec) { s.Combine.Output = FP32 }, "layout": func(s *Spec) { s.Layout = Padded }, "fill": func(s *Spec) { s.RoutingFill = FillMinusOne },
		"input": func(s *Spec) { s.Dispatch.Input, s.Dispatch.ScaleDType, s.Dispatch.ScaleBlock = FP4, UE8M0, 32 },
	} {
		c := *s
		if change(&c); c.Shape() == s.Shape() {
			t.Errorf("%s does not change %q", name, s.Shape())
		}
	}
}
