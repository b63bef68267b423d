package gpu

import (
	"fmt"
	"strings"
	"testing"

	"github.com/moegen/moegen/cmd/moegen/bench"
	"github.com/moegen/moegen/cmd/moegen/gen"
	"github.com/moegen/moegen/cmd/moegen/layer"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/spec"
)

// version is a program that is measured beside another.
type version struct {
	name string
	spec *spec.Spec
	prog *moert.Program
}

// difference is the medians of two versions' operations of so many tokens.
type difference struct {
	protocol      string
	tokens        int
	operation     string
	first, second float64 // microseconds
}

// alternate measures dispatch and combine of two versions in turn, with both
// protocols; all times go to a file of results, the medians to the log.
func alternate(t *testing.T, m machine, name string, tokens []int, versions [2]version) []difference {
	t.Helper()
	var all []bench.Alternated
	defer func() { writeResult(t, name+".json", all) }() // what there is, also if something fails
	var found []difference
	table := &strings.Builder{}
	fmt.Fprintf(table, "%-8s %6s %-9s %10s %10s %10s %6s\n", "protocol", "tokens", "operation",
		versions[0].name, versions[1].name, "difference", "ratio")
	for _, protocol := range []gen.Protocol{gen.LL, gen.Bulk} {
		var measured []bench.Version
		for _, v := range versions {
			p := *v.prog
			layer.SetProtocol(&p, v.spec, protocol)
			measured = append(measured, bench.Version{Name: v.name, Config: bench.Config{
				Spec: v.spec, Program: &p, Devices: m.ranks(2), Share: m.oneGPU, Transport: moert.P2P, Layers: 1,
				Options: []moert.Option{moert.WithLogger(quiet)},
			}})
		}
		list, err := bench.Alternate(t.Context(), tokens, pick(m, 9, 1), measured...)
		all = append(all, list...)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(list); i += 2 {
			a, b := list[i], list[i+1]
			for _, d := range []difference{
				{a.Protocol, a.Tokens, "dispatch", bench.Median(a.Dispatch), bench.Median(b.Dispatch)},
				{a.Protocol, a.Tokens, "combine", bench.Median(a.Combine), bench.Median(b.Combine)},
			} {
				found = append(found, d)
				fmt.Fprintf(table, "%-8s %6d %-9s %10.3f %10.3f %10.3f %6.3f\n", d.protocol, d.tokens, d.operation,
					d.first, d.second, d.second-d.first, d.second/d.first)
			}
		}
	}
	t.Logf("microseconds, medians of rounds in turn:\n%s", table)
	return found
}
