package gen

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moegen/moegen/spec"
)

const plannedSpec = "hidden_dim: 1024\ntopk: 2\ndtype: bf16\nep_size: 2\nmax_tokens: 64\nsm_limit: 16\n"

// planned is the spec with a plan of these rows.
func planned(t *testing.T, rows string) *spec.Spec {
	t.Helper()
	s, err := spec.Parse("moe.yaml", []byte(plannedSpec))
	if err != nil {
		t.Fatal(err)
	}
	text := "version: 1\nshape: " + s.Shape() + "\nmeasured: \"2026-11-25 on two GPUs\"\nrows:\n" + rows
	if s.Plan, err = spec.ParsePlan("moe_plan.yaml", []byte(text), s); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestMeasuredPlan: rows alike become one; what was not measured is as built in;
// limits that were lowered later hold; a plan for another shape does not.
func TestMeasuredPlan(t *testing.T) {
	s := planned(t, `
  - {tokens: 1, protocol: ll, blocks: 2, threads: 256}
  - {tokens: 4, protocol: ll, blocks: 2, threads: 256}
  - {tokens: 20, protocol: bulk, blocks: 12, threads: 512}
`)
	if err := CheckPlan(s); err != nil {
		t.Fatal(err)
	}
	builtIn := *s
	builtIn.Plan = nil
	rest := Plan(&builtIn, Auto)
	want := []PlanRow{{Tokens: 4, Low: true, Blocks: 2, Threads: 256}, {Tokens: 20, Blocks: 12, Threads: 512}}
	for _, row := range rest {
		if row.Tokens > 20 {
			want = append(want, row)
		}
	}
	if d := cmp.Diff(want, Plan(s, Auto)); d != "" || len(want) < 3 {
		t.Error(d)
	}
	if d := cmp.Diff(rest, Plan(s, LL)); d != "" {
		t.Error("-protocol ll is not by the measured plan:", d)
	}
	s.MaxTokens = 10
	want = []PlanRow{{Tokens: 4, Low: true, Blocks: 2, Threads: 256}, {Tokens: 10, Blocks: 12, Threads: 512}}
	if d := cmp.Diff(want, Plan(s, Auto)); d != "" {
		t.Error(d)
	}
	for name, change := range map[string]func(*spec.Spec){
		"2 ranks is used for 4": func(s *spec.Spec) { s.EPSize = 4 },
		"16 SMs is used for 8":  func(s *spec.Spec) { s.SMLimit = 8 },
	} {
		c := *s
		change(&c)
		builtIn := c
		builtIn.Plan = nil
		if d := cmp.Diff(Plan(&builtIn, Auto), Plan(&c, Auto)); d != "" {
			t.Errorf("a plan for %s: %s", name, d)
		}
	}
}

// TestMixedPlan: a row that was measured where ll had no room is ll's, and right,
// where max_tokens is less.
func TestMixedPlan(t *testing.T) {
	s := planned(t, "  - {tokens: 16384, protocol: mixed, blocks: 12, threads: 512}\n")
	for _, c := range []struct {
		most int
		want PlanRow
	}{
		{16384, PlanRow{Tokens: 16384, Mixed: true, Blocks: 12, Threads: 512}},
		{8192, PlanRow{Tokens: 8192, Low: true, Blocks: 12, Threads: 512}},
	} {
		s.MaxTokens = c.most
		if err := CheckPlan(s); err != nil {
			t.Error(err)
		}
		if d := cmp.Diff([]PlanRow{c.want}, Plan(s, Auto)); d != "" {
			t.Error(d)
		}
	}
}

func TestCheckPlan(t *testing.T) {
	for _, c := range []struct {
		row, want string
		change    func(*spec.Spec)
	}{
		{"{tokens: 4, protocol: bulk, blocks: 2, threads: 256}", "moe_plan.yaml:5:53: rows[0].threads: kernels of protocols bulk and mixed have blocks of one size (got 256; allowed: 512)", nil},
		{"{tokens: 4, protocol: ll, blocks: 2, threads: 64}", "rows[0].threads: out of range (got 64; allowed: 128..1024)", nil},
		{"{tokens: 4, protocol: ll, blocks: 2, threads: 1024}", "rows[0].protocol: this spec has no kernels of protocol ll (got ll; allowed: bulk)", func(s *spec.Spec) { s.Transports = []spec.Transport{spec.NCCL} }},
		{"{tokens: 4, protocol: mixed, blocks: 2, threads: 512}", "rows[0].protocol: this spec has no kernels of protocols ll and mixed (got mixed; allowed: bulk)", func(s *spec.Spec) { s.Transports = []spec.Transport{spec.NCCL} }},
		{"{tokens: 60000, protocol: ll, blocks: 2, threads: 512}", "rows[0].tokens: more tokens than the buffers of protocol ll have room for (got 60000; allowed: 1..8192, or protocol bulk)", func(s *spec.Spec) { s.MaxTokens = 65536 }},
		{"{tokens: 4, protocol: ll, blocks: 2, threads: 256}", "rows[0].threads: kernels with RMSNorm have blocks of one size (got 256; allowed: 512)", func(s *spec.Spec) { s.Combine.Epilogue = []spec.Epilogue{spec.RMSNorm} }},
	} {
		s := planned(t, "  - "+c.row+"\n")
		if c.change != nil {
			c.change(s)
		}
		if err := CheckPlan(s); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.row, err, c.want)
		}
	}
}

// TestBuiltInPlan: of four ranks, mixed kernels come where small blocks do not hold
// all; without them, blocks are no longer than theirs. Of two, blocks are as long
// as ll allows.
func TestBuiltInPlan(t *testing.T) {
	const text = "hidden_dim: 7168\ntopk: 8\ndtype: bf16\nsm_limit: 132\n"
	for _, c := range []struct {
		ranks, most int
		want        []PlanRow
	}{
		{4, 1024, []PlanRow{{Tokens: 64, Mixed: true, Blocks: 114, Threads: 512}, {Tokens: 1024, Mixed: true, Blocks: 132, Threads: 512}}},
		{4, 256, []PlanRow{{Tokens: 64, Low: true, Blocks: 121, Threads: 512}, {Tokens: 256, Low: true, Blocks: 132, Threads: 512}}},
		{2, 256, []PlanRow{{Tokens: 64, Low: true, Blocks: 117, Threads: 512}, {Tokens: 256, Low: true, Blocks: 132, Threads: 1024}}},
	} {
		s, err := spec.Parse("moe.yaml", fmt.Appendf(nil, "%sep_size: %d\nmax_tokens: %d\n", text, c.ranks, c.most))
		if err != nil {
			t.Fatal(err)
		}
		plan := Plan(s, Auto)
		for plan[0].Tokens < 64 {
			if !plan[0].Low || plan[0].Threads != 256 {
				t.Errorf("%d ranks: %+v", c.ranks, plan[0])
			}
			plan = plan[1:]
		}
		if d := cmp.Diff(c.want, plan); d != "" {
			t.Errorf("%d ranks, %d tokens: %s", c.ranks, c.most, d)
		}
	}
}
