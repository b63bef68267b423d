package mutation

import (
	"maps"
	"slices"
	"testing"

	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/emu/ptx"
)

// target is a program over one transport, and the kernels to mutate in it.
type target struct {
	trial    *trial
	source   *source
	kernels  []string
	roles    roles
	accessed map[string]map[int]bool    // lines, by scenario
	ran      map[string]map[string]bool // kernels, by scenario
	protocol bool                       // only the operators about the protocol
}

func (t *target) name() string { return t.trial.shape.name + "/" + string(t.trial.transport) }

// targets are all programs to mutate. A target's kernels are those that its
// scenarios run; one that is the same for both transports is mutated once.
func targets(t testing.TB) []*target {
	t.Helper()
	var out []*target
	for i, s := range shapes {
		taken := map[string]bool{}
		for _, transport := range []moert.Transport{moert.NVLS, moert.P2P} {
			x := newTrial(t, s, transport)
			tg := &target{trial: x, source: parseSource(t, x.prog.PTX), protocol: i == 0}
			tg.roles, tg.accessed, tg.ran = x.observe(t)
			ran := map[string]bool{}
			for _, kernels := range tg.ran {
				maps.Copy(ran, kernels)
			}
			tg.source.keep(ran)
			for _, k := range slices.Sorted(maps.Keys(ran)) {
				if !taken[k] {
					taken[k] = true
					tg.kernels = append(tg.kernels, k)
				}
			}
			out = append(out, tg)
		}
		for _, f := range out[len(out)-1].source.mod.Funcs {
			if !taken[f.Name] {
				t.Errorf("%s: no scenario runs the kernel %s", s.name, f.Name)
			}
		}
	}
	return out
}

// mutants are all mutants of a target.
func (tg *target) mutants() []*mutant {
	var out []*mutant
	for _, f := range tg.source.mod.Funcs {
		if slices.Contains(tg.kernels, f.Name) {
			k := &kernel{Func: f, src: tg.source, roles: tg.roles, ranks: tg.trial.prog.Ranks, protocolOnly: tg.protocol}
			out = append(out, operators(k)...)
		}
	}
	return out
}

// accesses says whether a kernel accesses an area.
func (tg *target) accesses(kernel, role string) bool {
	for _, f := range tg.source.mod.Funcs {
		if f.Name == kernel {
			return slices.ContainsFunc(f.Body, func(in ptx.Instr) bool { return tg.roles.is(in.Line, role) })
		}
	}
	return false
}
