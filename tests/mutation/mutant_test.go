package mutation

import (
	"fmt"

	"github.com/moegen/moegen/runtime/emu/ptx"
	"github.com/moegen/moegen/runtime/emu/race"
)

// mutant is one change of a program.
type mutant struct {
	op     string // what was done
	kernel string
	text   string // the instruction it was done to, see normal
	n      int    // which of those with one op, kernel and text, from 0
	line   int
	edits  []edit
	want   *want
}

func (m *mutant) String() string {
	return fmt.Sprintf("%s: %s: line %d: %s #%d", m.kernel, m.op, m.line, m.text, m.n)
}

// key is what an instruction's mutants are numbered by.
type key struct{ op, kernel, text string }

// want is what the judge must say of a mutant: a report of one of the kinds,
// with one side at one of the lines.
type want struct {
	kinds []race.ReportKind
	lines map[int]bool
	// others: or of other kernels, whose accesses the instruction orders.
	others bool
}

// collector gathers the mutants of one kernel.
type collector struct {
	*kernel
	out  []*mutant
	seen map[key]int
}

// add makes a mutant of instruction i. The edits' lines are its own where they
// say 0.
func (c *collector) add(op string, i int, edits ...edit) *mutant {
	in := &c.Body[i]
	m := &mutant{op: op, kernel: c.Name, text: normal(in.Text), line: in.Line}
	k := key{op: op, kernel: c.Name, text: m.text}
	m.n = c.seen[k]
	c.seen[k]++
	for _, e := range edits {
		if e.line == 0 {
			e.line = in.Line
		}
		m.edits = append(m.edits, e)
	}
	c.out = append(c.out, m)
	return m
}

// replace makes a mutant in which instruction i is other text. A text that is
// the same is no mutant.
func (c *collector) replace(op string, i int, text string) *mutant {
	if text == c.line(&c.Body[i]) {
		return nil
	}
	return c.add(op, i, edit{text: text})
}

// lines are the lines of instructions that the condition holds for.
func (c *collector) linesOf(cond func(in *ptx.Instr) bool) map[int]bool {
	out := map[int]bool{}
	for i := range c.Body {
		if cond(&c.Body[i]) {
			out[c.Body[i].Line] = true
		}
	}
	return out
}

func (m *mutant) wants(lines map[int]bool, kinds ...race.ReportKind) {
	if m != nil && len(lines) > 0 {
		m.want = &want{kinds: kinds, lines: lines}
	}
}

// isMem says whether the instruction accesses memory that threads share, in
// some scenario. Code of the failure is mutated in one shape alone.
func (k *kernel) isMem(in *ptx.Instr) bool {
	switch in.Op {
	case ptx.Ld, ptx.St, ptx.Atom, ptx.Red, ptx.MultimemSt, ptx.MultimemLdReduce, ptx.MultimemRed:
		return (in.Space == ptx.Global || in.Space == ptx.Shared) && len(k.roles[in.Line]) > 0 &&
			!(k.protocolOnly && k.roles.is(in.Line, failureRole, statusRole))
	}
	return false
}

func isMultimem(in *ptx.Instr) bool {
	return in.Op == ptx.MultimemSt || in.Op == ptx.MultimemLdReduce || in.Op == ptx.MultimemRed
}

// bytes is how many bytes one lane accesses.
func bytesOf(in *ptx.Instr) int { return max(in.Vec, 1) * in.Type.Size() }

// operators makes all mutants of a kernel. Those of the protocol are the ones
// worth repeating for another number of ranks.
func operators(k *kernel) []*mutant {
	c := &collector{kernel: k, seen: map[key]int{}}
	for _, op := range []func(*collector){
		barriers, fences, waits, weaken, scopes, epochs, worlds, peers, moves, slots, marks,
	} {
		op(c)
	}
	if !k.protocolOnly {
		for _, op := range []func(*collector){atomics, unseen, reports, deadlines, addresses, deletions, windows, layouts, caching} {
			op(c)
		}
	}
	return c.out
}
