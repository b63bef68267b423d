package litmus

import (
	"fmt"
	"strings"
)

type kind int

const (
	load kind = iota
	store
	add // atom.add
	fence
)

// Orderings and scopes, as PTX writes them.
const (
	weak    = "weak"
	relaxed = "relaxed"
	acquire = "acquire"
	release = "release"
	acqRel  = "acq_rel"
	sc      = "sc"

	cta = "cta"
	gpu = "gpu"
	sys = "sys"
)

// event is an access or a fence.
type event struct {
	kind   kind
	thread int
	loc    byte
	value  int // stored, or added
	reg    int // that a load or atom writes, counted over the program
	sem    string
	scope  string
}

func (e *event) reads() bool  { return e.kind == load || e.kind == add }
func (e *event) writes() bool { return e.kind == store || e.kind == add }
func (e *event) strong() bool { return e.sem != weak }
func (e *event) mem() bool    { return e.kind != fence }

// program is a litmus test with orderings, a scope and a placement.
type program struct {
	threads [][]*event
	regs    int
	locs    string
	where   string // how far apart the threads are: in one cta, one gpu, or on gpus of their own
}

// order says how the accesses of a shape are ordered. A fence, if there is one,
// stands between any two of a thread.
type order struct {
	name                  string
	load, store, rmw, mid string
}

var orders = []order{
	{"weak", weak, weak, relaxed, ""},
	{"relaxed", relaxed, relaxed, relaxed, ""},
	{"acq-rel", acquire, release, acqRel, ""},
	{"fence.acq_rel", relaxed, relaxed, relaxed, acqRel},
	{"fence.sc", relaxed, relaxed, relaxed, sc},
}

// parse reads a shape, such as "Wx1 Wy1|Ry Rx".
func parse(shape string, o order, scope, where string) *program {
	p := &program{where: where}
	for t, text := range strings.Split(shape, "|") {
		var events []*event
		for i, op := range strings.Fields(text) {
			if i > 0 && o.mid != "" {
				events = append(events, &event{kind: fence, thread: t, sem: o.mid, scope: scope})
			}
			e := &event{thread: t, loc: op[1], scope: scope, reg: -1}
			switch op[0] {
			case 'W':
				e.kind, e.sem, e.value = store, o.store, int(op[2]-'0')
			case 'R':
				e.kind, e.sem = load, o.load
			case 'A':
				e.kind, e.sem, e.value = add, o.rmw, int(op[2]-'0')
			}
			if e.reads() {
				e.reg = p.regs
				p.regs++
			}
			if !strings.ContainsRune(p.locs, rune(e.loc)) {
				p.locs += string(e.loc)
			}
			events = append(events, e)
		}
		p.threads = append(p.threads, events)
	}
	return p
}

// outcome is the registers and the final memory, as "r0=1 r1=0 x=1 y=1".
func (p *program) outcome(regs []int, final map[byte]int) string {
	var b strings.Builder
	for r, v := range regs {
		fmt.Fprintf(&b, "r%d=%d ", r, v)
	}
	for i := range len(p.locs) {
		fmt.Fprintf(&b, "%c=%d ", p.locs[i], final[p.locs[i]])
	}
	return strings.TrimSpace(b.String())
}

// matches says whether an outcome has all of a condition's values.
func matches(outcome, condition string) bool {
	have := strings.Fields(outcome)
	for _, want := range strings.Fields(condition) {
		found := false
		for _, h := range have {
			found = found || h == want
		}
		if !found {
			return false
		}
	}
	return true
}
