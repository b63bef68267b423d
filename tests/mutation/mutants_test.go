package mutation

import (
	"fmt"
	"slices"
	"testing"

	moert "github.com/moegen/moegen/runtime"
)

// target is a program over one transport, and the kernels that this transport
// runs.
type target struct {
	trial    *trial
	source   *source
	kernels  []string
	roles    roles
	protocol bool // only the operators about the protocol
}

func (t *target) name() string { return t.trial.shape.name + "/" + string(t.trial.transport) }

// targets are all programs to mutate. The kernel of the counts is the same for
// both transports.
func targets(t testing.TB) []*target {
	var out []*target
	for i, s := range shapes {
		for _, transport := range []moert.Transport{moert.NVLS, moert.P2P} {
			x := newTrial(t, s, transport)
			tg := &target{trial: x, source: parseSource(t, x.prog.PTX), protocol: i == 0}
			for _, k := range []string{"dispatch", "combine"} {
				tg.kernels = append(tg.kernels, fmt.Sprintf("moegen_%s_%s", k, transport))
			}
			tg.source.keep(append([]string{"moegen_counts"}, tg.kernels...))
			if transport == moert.P2P {
				tg.kernels = append(tg.kernels, "moegen_counts")
			}
			out = append(out, tg)
		}
	}
	return out
}

// mutants are all mutants of a target. Each loads, or is refused: what this
// package gets wrong itself is an error.
func (tg *target) mutants(t *testing.T) []*mutant {
	t.Helper()
	tg.roles = tg.trial.observe(t)
	var out []*mutant
	for _, f := range tg.source.mod.Funcs {
		if slices.Contains(tg.kernels, f.Name) {
			k := &kernel{Func: f, src: tg.source, roles: tg.roles, ranks: tg.trial.prog.Ranks, protocolOnly: tg.protocol}
			out = append(out, operators(k)...)
		}
	}
	return out
}
