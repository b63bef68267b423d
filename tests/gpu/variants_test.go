package gpu

import (
	"cmp"
	_ "embed"
	"fmt"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/moegen/moegen/cmd/moegen/bench"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/spec"
)

//go:embed testdata/variants.yaml
var variantsFile []byte

// experiment is an entry of the file, which says what its fields mean.
type experiment struct {
	Expect   string
	Tokens   []int
	SMs      int
	Hidden   int
	Ranks    int
	Spec     string
	Variants []variant
}

type variant struct {
	Name    string
	Wrong   bool
	Threads int
	Edits   []struct{ From, To string }
}

func experiments(t testing.TB) []experiment {
	t.Helper()
	d := yaml.NewDecoder(strings.NewReader(string(variantsFile)))
	d.KnownFields(true)
	var list []experiment
	if err := d.Decode(&list); err != nil {
		t.Fatal(err)
	}
	return list
}

// spec is the shape that variants are measured with, smaller on the emulator.
func (x *experiment) spec(t testing.TB, small bool) *spec.Spec {
	t.Helper()
	ranks, sms, hidden, most := cmp.Or(x.Ranks, 2), cmp.Or(x.SMs, 132), cmp.Or(x.Hidden, 7168), x.Tokens[len(x.Tokens)-1]
	if small {
		sms, hidden, most = 4, 1024, 16
	}
	text := fmt.Sprintf("hidden_dim: %d\ntopk: 8\ndtype: bf16\nep_size: %d\nmax_tokens: %d\nsm_limit: %d\ntransports: [p2p]\n%s", hidden, ranks, most, sms, x.Spec)
	s, err := spec.Parse("variants.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// of makes the variant of the spec's program.
func (v *variant) of(t testing.TB, s *spec.Spec) *moert.Program {
	t.Helper()
	p := program(t, s)
	text := string(p.Source)
	for _, e := range v.Edits {
		if !strings.Contains(text, e.From) {
			t.Fatalf("%s: the source does not have %q", v.Name, e.From)
		}
		text = strings.ReplaceAll(text, e.From, e.To)
	}
	p.Source = []byte(text)
	for i := range p.Plan {
		row := &p.Plan[i]
		if v.Threads > 0 {
			row.Blocks, row.Threads = min((row.Blocks*row.Threads+v.Threads-1)/v.Threads, s.SMLimit), v.Threads
		}
	}
	return p
}

// TestVariantsApply needs no GPU: what is to be measured can still be made of the
// kernels as they are.
func TestVariantsApply(t *testing.T) {
	for _, x := range experiments(t) {
		if len(x.Tokens) == 0 || len(x.Variants) == 0 || x.Expect == "" {
			t.Fatalf("%q: nothing to measure, or nothing expected", x.Expect)
		}
		for _, v := range x.Variants {
			v.of(t, x.spec(t, true))
		}
	}
}

// TestVariants measures variants of the kernels beside those as they are, which
// come first and last: dispatch, combine, both in turn, and the graph of that
// replayed with few tokens.
func TestVariants(t *testing.T) {
	for i, x := range experiments(t) {
		t.Run(x.Variants[0].Name, func(t *testing.T) {
			ranks := cmp.Or(x.Ranks, 2)
			m := gpus(t, ranks)
			s := x.spec(t, !m.real)
			var versions []bench.Version
			for _, v := range append(append([]variant{{Name: "as they are"}}, x.Variants...), variant{Name: "as they are, again"}) {
				versions = append(versions, bench.Version{Name: v.Name, Wrong: v.Wrong, Config: bench.Config{
					Spec: s, Program: v.of(t, s), Devices: m.ranks(ranks), Share: m.oneGPU, Transport: moert.P2P, Layers: 1,
					Options: []moert.Option{moert.WithLogger(quiet)},
				}})
			}
			list, err := bench.Alternate(t.Context(), pick(m, x.Tokens, []int{1, 16}), pick(m, 5, 1), versions...)
			writeResult(t, fmt.Sprintf("variants-%d.json", i+1), list)
			if err != nil {
				t.Fatal(err)
			}
			var table strings.Builder
			fmt.Fprintf(&table, "%6s  %-24s %9s %9s %9s %9s\n", "tokens", "", "dispatch", "combine", "in turn", "few")
			for _, r := range list {
				fmt.Fprintf(&table, "%6d  %-24s %9.2f %9.2f %9.2f %9.2f\n", r.Tokens, r.Version,
					bench.Median(r.Dispatch), bench.Median(r.Combine), bench.Median(r.Pair), bench.Median(r.Few))
			}
			t.Logf("expected: %smicroseconds, medians of rounds in turn:\n%s", x.Expect, &table)
		})
	}
}
