package mutation

import (
	"testing"

	moert "github.com/moegen/moegen/runtime"
)

// TestClean: the kernels as they are pass under the budget that mutants get.
func TestClean(t *testing.T) {
	for _, s := range shapes {
		for _, transport := range []moert.Transport{moert.NVLS, moert.P2P} {
			t.Run(s.name+"/"+string(transport), func(t *testing.T) {
				x := newTrial(t, s, transport)
				for _, b := range budgets() {
					if !*full {
						b.runs = min(b.runs, 2)
					}
					for _, s := range b.scenarios {
						if v := x.under(b, s, func(*rig) {}); v.kind != "" {
							t.Errorf("%s: %s: %s: %s", b.name, s.name, v.kind, v.text)
						}
					}
				}
			})
		}
	}
}
