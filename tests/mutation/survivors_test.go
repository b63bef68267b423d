package mutation

import (
	"slices"
	"strings"
	"testing"

	"github.com/moegen/moegen/runtime/emu/ptx"
)

// An equivalence is a class of mutants that nothing can tell from the original,
// and the argument why. It names what was done and what the instruction is for,
// no line and no kernel: all mutants of the class have to survive, in every
// kernel. One that is killed refutes the argument, and is an error; so is a
// mutant that survives and is in no class, and a class without mutants.
type equivalence struct {
	op    string   // as operators name it
	roles []string // the instruction accesses one of these areas and no other; or
	holds func(j *job) bool
	why   string
}

var equivalences = []equivalence{
	{"flag to the next rank", []string{flagRole, countRole, headerRole}, nil, "Thread r tells rank r+1 in place of rank r. Every rank still gets " +
		"one signal of the block, in the same word and with the same value: the epochs of a block's pairs are equal, as each grows by " +
		"one in every launch that succeeds, and nothing is sent after one that fails. What the signal's release covers is the same " +
		"for all threads of the block, since it lies before a barrier of the block or before the kernel. Whether the group has failed " +
		"is an own look of each thread, at a word that may change between them, so renaming the threads makes no new outcome."},
	{"poll the peer's word", []string{flagRole, countRole, headerRole}, nil, "A rank tells itself what it tells the others: with the same release, " +
		"after the same barrier, the same value, in the same slot of its own memory. A poll of that slot reads a signal of the same " +
		"meaning and acquires the same. It is not overwritten too early: the peer writes its next signal of this block when it has " +
		"ours, and the same count slot only at the epoch after next. That the peer's thread for itself signals and its thread for us " +
		"does not, having seen a failure, is an outcome of the original with the threads renamed: they look one by one. (It polls over " +
		"the link, which costs time alone.)"},
	{"alias fence", nil, overP2P, "No group over p2p accesses anything through a multicast address, so there are no two ways " +
		"to its memory that a fence would order. (The counts, which both transports share, are mutated over nvls.)"},
	{"delete barrier", nil, lastBarrier, "Behind the last barrier of the counts' kernel one thread stores to a word of its own " +
		"block's, which no other thread of the launch accesses, and the kernel ends, which orders all the rest."},
	{"delete store", nil, besideCounts, "The look before a header is sent, in a first dispatch, does not tell the host of a failure. " +
		"The looks for the counts do. Should these come too early to see it, the rank waits for the header that it has not sent to " +
		"itself, and tells its host when that wait looks."},
	{"sys to gpu", nil, toItself, "The line goes to this rank's own memory, where its own GPU reads it and no other."},
	{"area ", nil, comparedToNull, "The compiler keeps an address twice, and this one is only compared with null, which it is as little " +
		"when it is shifted."},
	{"more bytes a row", nil, roundsOnly, "A thread goes through more rounds, in which no rank has so many rows."},
}

const maxAt = 68 // the step's most rows of a rank, of the private state

// roundsOnly says whether a combine with ll only finds out there how many rounds it
// goes through: from how many rows a rank has at most.
func roundsOnly(j *job) bool {
	if !strings.HasSuffix(j.kernel, "combine_ll") {
		return false
	}
	f, i := j.at()
	src := f.Body[i].Src
	if len(src) == 0 || src[0].Kind != ptx.RegOperand {
		return false
	}
	k := &kernel{Func: f}
	d := k.def(i, src[0].Reg)
	if d < 0 || f.Body[d].Op != ptx.Ld || !j.target.roles.is(f.Body[d].Line, stepRole) {
		return false
	}
	from := f.Body[d].Src[0]
	at := from.Off
	if base := k.def(d, from.Reg); base >= 0 && f.Body[base].Op == ptx.Add {
		n, ok := immediate(&f.Body[base])
		if !ok {
			return false // of a rank that only runs tell
		}
		at += n
	}
	return at == maxAt
}

// besideCounts says whether the store is that of the look before a header, in a
// kernel that sends counts as well.
func besideCounts(j *job) bool {
	f, i := j.at()
	if !strings.HasSuffix(j.kernel, "_first_dispatch_ll") || !j.target.roles.is(j.line, statusRole) {
		return false
	}
	for k := i + 1; k < len(f.Body); k++ {
		if f.Body[k].Op == ptx.St && j.target.roles.is(f.Body[k].Line, statusRole, headerRole, countRole) {
			return j.target.roles.is(f.Body[k].Line, headerRole)
		}
	}
	return false
}

// toItself says whether the store is of a line that a rank pushes to itself: the
// first of each row of stores to all ranks.
func toItself(j *job) bool {
	if !strings.HasSuffix(j.kernel, "dispatch_ll") || !j.target.roles.is(j.line, lineRole) {
		return false
	}
	f, i := j.at()
	if f.Body[i].Op != ptx.St {
		return false
	}
	before := 0
	for k := range f.Body[:i] {
		if f.Body[k].Op == ptx.St && j.target.roles.is(f.Body[k].Line, lineRole) {
			before++
		}
	}
	return before%j.target.trial.prog.Ranks == 0
}

// comparedToNull says whether what the instruction makes is compared with zero and
// used for nothing else.
func comparedToNull(j *job) bool {
	f, i := j.at()
	if len(f.Body[i].Dst) != 1 {
		return false
	}
	used := false
	reg := f.Body[i].Dst[0].Reg
	for k := range f.Body {
		in := &f.Body[k]
		reads := slices.ContainsFunc(slices.Concat(in.Src, in.Dst), func(o ptx.Operand) bool {
			return o.Kind == ptx.MemOperand && o.Reg == reg
		}) || slices.ContainsFunc(in.Src, func(o ptx.Operand) bool {
			return o.Kind == ptx.RegOperand && o.Reg == reg ||
				slices.ContainsFunc(o.Vec, func(e ptx.Operand) bool { return e.Kind == ptx.RegOperand && e.Reg == reg })
		})
		if !reads {
			continue
		}
		if used = in.Op == ptx.Setp && in.Src[1].Kind == ptx.ImmOperand && in.Src[1].Imm == 0; !used {
			return false
		}
	}
	return used
}

// at is the instruction that was changed.
func (j *job) at() (*ptx.Func, int) {
	for _, f := range j.target.source.mod.Funcs {
		if f.Name == j.kernel {
			return f, slices.IndexFunc(f.Body, func(in ptx.Instr) bool { return in.Line == j.line })
		}
	}
	panic("no kernel " + j.kernel)
}

// overP2P says whether the mutated kernel is one that runs over p2p only.
func overP2P(j *job) bool { return strings.HasSuffix(j.kernel, "_p2p") }

// lastBarrier says whether nothing but an epoch is accessed behind the barrier.
func lastBarrier(j *job) bool {
	for _, f := range j.target.source.mod.Funcs {
		if f.Name != j.kernel {
			continue
		}
		for i := range f.Body {
			in := &f.Body[i]
			if in.Line > j.line && (len(j.target.roles[in.Line]) > 0 && !j.target.roles.is(in.Line, epochRole) || in.Op == ptx.Bra && in.Target <= i) {
				return false
			}
		}
	}
	return true
}

// is says whether the mutated instruction accesses one of the areas and no
// other.
func (j *job) is(names []string) bool {
	at := j.target.roles[j.line]
	return len(at) == 1 && slices.ContainsFunc(names, func(n string) bool { return at[n] })
}

// equivalence is the index of the class the mutant is in, -1 if it is in none.
func (j *job) equivalence() int {
	return slices.IndexFunc(equivalences, func(e equivalence) bool {
		if e.holds != nil {
			return strings.Contains(j.op, e.op) && e.holds(j)
		}
		return e.op == j.op && j.is(e.roles)
	})
}

// checkSurvivors holds what has survived against the equivalences.
func checkSurvivors(t *testing.T, jobs []*job, all bool) {
	t.Helper()
	members := make([]int, len(equivalences))
	for _, j := range jobs {
		at := j.equivalence()
		switch survives := j.verdict.kind == ""; {
		case at < 0 && survives:
			t.Errorf("%s %v: survives, and nobody has shown that it is equivalent", j.target.name(), j.mutant)
		case at >= 0 && !survives:
			t.Errorf("%s %v: is said to be equivalent, and is killed by %s: %s", j.target.name(), j.mutant, j.where, j.verdict.text)
		case at >= 0:
			members[at]++
		}
	}
	for i, e := range equivalences {
		if all && members[i] == 0 {
			t.Errorf("there is no mutant %q any more to argue for", e.op)
		}
		t.Logf("%3d mutants %q are equivalent. %s", members[i], e.op, e.why)
	}
}
