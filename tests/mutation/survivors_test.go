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
	{"one rank more", nil, looksOnly, "A thread that speaks with no peer loads words that it does not use, or looks whether the group " +
		"has failed and tells its host, as every thread may."},
	{"delete store", nil, beforeCounts, "The look before a header is sent, in a first dispatch, does not tell the host of a failure. " +
		"The looks for the counts do. Should these come too early to see it, the rank waits for the header that it has not sent to " +
		"itself, and tells its host when that wait looks."},
	{"sys to gpu", nil, toItself, "The line goes to this rank's own memory, where its own GPU reads it and no other."},
	{"bytes a row", nil, ofRankZero, "The rows of rank 0 are the first ones of the gathered tensors, however many bytes a row has."},
	{"area ", nil, comparedToNull, "The compiler keeps an address twice, and this one is only compared with null, which it is as little " +
		"when it is shifted."},
	{"more bytes a row", nil, roundsOnly, "A thread goes through more rounds, in which no rank has so many rows."},
	{"fewer bytes a row", nil, firstRound, "A thread that does not push at first, having nothing to wait for yet, does so when it next may."},
	{"address up by one", nil, earlierRounds, "A thread that has not received all of its own rows looks at their number in place of the " +
		"greatest. It pushes all the same before it waits for what others push in the same round, and what is behind its own rows when it " +
		"has received those, by a look that is none of these."},
	{"load through the non-coherent path", nil, ownSums, "What the load reads nobody writes while the kernel runs, which is all that the " +
		"non-coherent path asks for. It reads partial sums of this rank alone, in the rank's own memory or where the caller has them: other " +
		"ranks write only what they push, elsewhere. The kernel has no store to them. The rank's experts have ended, as earlier work of the " +
		"stream; the caller keeps a tensor of its own as it is until the combine has ended (docs/integration.md), and writes the other one " +
		"only between a dispatch's end and the combine. The judge reports bytes that were written after the kernel began, and does so " +
		"of protocol bulk, which reads other ranks' sums."},
}

// loadsOf are a kernel's loads of a word of the step, which is at so many bytes of
// the rank's private state.
func (j *job) loadsOf(f body, at int64) (loads []int) {
	k := &kernel{Func: f.Func}
	for i := range f.Body {
		in := &f.Body[i]
		if in.Op != ptx.Ld || in.Space != ptx.Global || len(in.Src) == 0 || in.Src[0].Kind != ptx.MemOperand || !j.target.roles.is(in.Line, stepRole) {
			continue
		}
		sum := in.Src[0].Off
		if d := k.def(i, in.Src[0].Reg); d >= 0 && f.Body[d].Op == ptx.Add {
			n, ok := immediate(&f.Body[d])
			if !ok {
				continue // of a rank that only runs tell
			}
			sum += n
		}
		if sum == at {
			loads = append(loads, i)
		}
	}
	return loads
}

const (
	stepAt     = 64 // of the private state
	stepBefore = 6  // words before the counts
)

// loaded is which of those loads the mutant changes, or what is made of it; -1 if
// none.
func (j *job) loaded(at int64) (which, of int) {
	f, i := j.at()
	k := &kernel{Func: f.Func}
	loads := j.loadsOf(f, at)
	if w := slices.Index(loads, i); w >= 0 {
		return w, len(loads)
	}
	if src := f.Body[i].Src; len(src) > 0 && src[0].Kind == ptx.RegOperand {
		return slices.Index(loads, k.def(i, src[0].Reg)), len(loads)
	}
	return -1, 0
}

func ofRankZero(j *job) bool {
	if !strings.HasSuffix(j.kernel, "combine_ll") {
		return false // where numbers of rows are looked up by rank
	}
	w, _ := j.loaded(stepAt + 4*int64(stepBefore+j.target.trial.prog.Ranks))
	return w >= 0
}

// greatest is which load of the step's max it is about, of a combine with ll.
func greatest(j *job) (which, of int) {
	if !strings.HasSuffix(j.kernel, "combine_ll") {
		return -1, 0
	}
	return j.loaded(stepAt + 4)
}

func roundsOnly(j *job) bool { w, _ := greatest(j); return w >= 0 }
func firstRound(j *job) bool { w, _ := greatest(j); return w == 0 }

// earlierRounds says whether packs are polled in the kernel behind the load.
func earlierRounds(j *job) bool {
	w, _ := greatest(j)
	f, i := j.at()
	return w >= 0 && slices.ContainsFunc(f.Body[i:], func(in ptx.Instr) bool {
		return in.Op == ptx.Ld && j.target.roles.is(in.Line, packRole)
	})
}

// ownSums says whether a combine with ll reads partial sums there, which are in
// the rank's own memory or an input, and never anything else.
func ownSums(j *job) bool {
	at := j.target.roles[j.line]
	for name := range at {
		if name != partialRole && name != inputRole {
			return false
		}
	}
	return at[partialRole] && strings.HasSuffix(j.kernel, "combine_ll")
}

// beforeCounts says whether the store is the first one in a kernel that sends a
// header, then counts: that of the look before the header.
func beforeCounts(j *job) bool {
	f, i := j.at()
	if !strings.HasSuffix(j.kernel, "_first_dispatch_ll") || !j.target.roles.is(j.line, statusRole) {
		return false
	}
	for k := range f.Body[:i] {
		if f.Body[k].Op == ptx.St && j.target.roles.is(f.Body[k].Line, statusRole, headerRole, countRole) {
			return false
		}
	}
	return true
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

// looksOnly says whether what more threads would execute, and nothing depends on
// besides, stores nothing but a failure that they have seen.
func looksOnly(j *job) bool {
	f, i := j.at()
	end := f.branch(i)
	if cmp := f.Body[i].Cmp; end < 0 || f.Body[end].Target <= end || cmp != ptx.GT && cmp != ptx.GE {
		return false
	}
	for k := i; k < f.Body[end].Target; k++ {
		switch in := &f.Body[k]; in.Op {
		case ptx.Ld:
			if in.Space == ptx.Shared || j.target.roles.is(in.Line, epochRole) {
				return false
			}
		case ptx.St, ptx.Atom, ptx.Red, ptx.BarSync, ptx.BarRed:
			if !j.target.roles.is(in.Line, statusRole) {
				return false
			}
		}
	}
	return true
}

// body is a kernel's.
type body struct{ *ptx.Func }

// branch is the branch that a comparison is made for, -1 if it is made for
// anything else, too.
func (f body) branch(i int) int {
	at, reg := -1, f.Body[i].Dst[0].Reg
	for k := range f.Body {
		in := &f.Body[k]
		reads := slices.ContainsFunc(in.Src, func(o ptx.Operand) bool { return o.Kind == ptx.RegOperand && o.Reg == reg })
		switch {
		case k <= i || in.Guard.Reg != reg && !reads:
		case in.Op != ptx.Bra || at >= 0:
			return -1
		default:
			at = k
		}
	}
	return at
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
func (j *job) at() (body, int) {
	for _, f := range j.target.source.mod.Funcs {
		if f.Name == j.kernel {
			return body{f}, slices.IndexFunc(f.Body, func(in ptx.Instr) bool { return in.Line == j.line })
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
