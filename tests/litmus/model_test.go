package litmus

// The axioms of the PTX memory model (ISA section 8.10), for accesses of one
// size and with no dependencies but those inside a read-modify-write. Virtual
// aliases are not part of it, see alias_test.go.

type relation [][]bool

func newRelation(n int) relation {
	r := make(relation, n)
	for i := range r {
		r[i] = make([]bool, n)
	}
	return r
}

// close makes the relation transitive, and says whether it has no cycle.
func (r relation) close() bool {
	for k := range r {
		for i := range r {
			if r[i][k] {
				for j := range r {
					r[i][j] = r[i][j] || r[k][j]
				}
			}
		}
	}
	for i := range r {
		if r[i][i] {
			return false
		}
	}
	return true
}

// execution is a candidate: what each load returns, and orders of the writes to
// each location and of the fence.sc's.
type execution struct {
	p      *program
	ev     []*event
	po, ms relation
	rf     []int // by event: the write that it reads; -1 is the initial value
	co     []int // by event: place among all writes of its location
	sc     []int // by event: place among the fence.sc's
}

// allowed returns all outcomes that the model allows.
func allowed(p *program) map[string]bool {
	x := &execution{p: p}
	for _, t := range p.threads {
		x.ev = append(x.ev, t...)
	}
	n := len(x.ev)
	x.po, x.ms = newRelation(n), newRelation(n)
	x.rf, x.co, x.sc = make([]int, n), make([]int, n), make([]int, n)
	for i, e := range x.ev {
		for j, f := range x.ev {
			x.po[i][j] = i < j && e.thread == f.thread
			near := e.thread == f.thread || e.strong() && f.strong() && p.includes(e) && p.includes(f)
			x.ms[i][j] = i != j && near && (!e.mem() || !f.mem() || e.loc == f.loc)
		}
	}
	out := map[string]bool{}
	x.reads(0, func() {
		x.orders(func() {
			if regs, final, ok := x.values(); ok && x.consistent() {
				out[p.outcome(regs, final)] = true
			}
		})
	})
	return out
}

// includes says whether the event's scope includes the other threads: all are
// equally far apart.
func (p *program) includes(e *event) bool {
	rank := map[string]int{cta: 0, gpu: 1, sys: 2}
	return rank[e.scope] >= rank[p.where]
}

// reads tries all choices of what loads return.
func (x *execution) reads(i int, f func()) {
	if i == len(x.ev) {
		f()
		return
	}
	if !x.ev[i].reads() {
		x.reads(i+1, f)
		return
	}
	for w := -1; w < len(x.ev); w++ {
		if w < 0 || w != i && x.ev[w].writes() && x.ev[w].loc == x.ev[i].loc {
			x.rf[i] = w
			x.reads(i+1, f)
		}
	}
}

// orders tries all orders of the writes to each location and of the fences.
func (x *execution) orders(f func()) {
	var groups [][]int
	var places []*[]int
	for i := range len(x.p.locs) {
		var ws []int
		for j, e := range x.ev {
			if e.writes() && e.loc == x.p.locs[i] {
				ws = append(ws, j)
			}
		}
		groups, places = append(groups, ws), append(places, &x.co)
	}
	var fs []int
	for j, e := range x.ev {
		if e.kind == fence && e.sem == sc {
			fs = append(fs, j)
		}
	}
	groups, places = append(groups, fs), append(places, &x.sc)
	var next func(g int)
	next = func(g int) {
		if g == len(groups) {
			f()
			return
		}
		permute(groups[g], 0, func(order []int) {
			for place, e := range order {
				(*places[g])[e] = place
			}
			next(g + 1)
		})
	}
	next(0)
}

func permute(list []int, k int, f func([]int)) {
	if k >= len(list) {
		f(list)
		return
	}
	for i := k; i < len(list); i++ {
		list[k], list[i] = list[i], list[k]
		permute(list, k+1, f)
		list[k], list[i] = list[i], list[k]
	}
}

// values computes what was read and is left; false if an atom's value would
// depend on itself.
func (x *execution) values() (regs []int, final map[byte]int, ok bool) {
	regs, final = make([]int, x.p.regs), map[byte]int{}
	var value func(w, depth int) int
	value = func(w, depth int) int {
		switch {
		case w < 0:
			return 0
		case depth > len(x.ev):
			ok = false
			return 0
		case x.ev[w].kind == store:
			return x.ev[w].value
		}
		return x.ev[w].value + value(x.rf[w], depth+1)
	}
	ok = true
	last := map[byte]int{}
	for i, e := range x.ev {
		if e.reads() {
			regs[e.reg] = value(x.rf[i], 0)
		}
		if e.writes() {
			if l, seen := last[e.loc]; !seen || x.co[i] > x.co[l] {
				last[e.loc] = i
			}
		}
	}
	for loc, w := range last {
		final[loc] = value(w, 0)
	}
	return regs, final, ok
}
