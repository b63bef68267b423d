package race

import (
	"fmt"
	"strings"
)

// The definitions of the package comment, written down once more with no
// clocks: relations over the events of one interleaving, and closures.

type thr struct{ dev, blk, warp, lane int }

type event struct {
	threads   []int // one; all participants of a barrier
	op        Op
	fence     bool
	alias     bool
	barrier   bool
	off, size uint64
}

func (e event) mem() bool   { return !e.fence && !e.alias && !e.barrier }
func (e event) write() bool { return e.mem() && e.op.Kind != Read }
func (e event) read() bool  { return e.mem() && e.op.Kind != Write }
func (e event) String() string {
	switch {
	case e.barrier:
		return fmt.Sprintf("barrier%v", e.threads)
	case e.alias:
		return fmt.Sprintf("t%d fence.proxy.alias", e.threads[0])
	case e.fence:
		return fmt.Sprintf("t%d fence.%v.%v", e.threads[0], e.op.Sem, e.op.Scope)
	}
	return fmt.Sprintf("t%d %v.%v.%v [%d:%d] %v", e.threads[0], e.op.Kind, e.op.Sem, e.op.Scope, e.off, e.size, e.op.Path)
}

type rel [][]bool

func newRel(n int) rel {
	r := make(rel, n)
	for i := range r {
		r[i] = make([]bool, n)
	}
	return r
}

func (r rel) close() {
	for k := range r {
		for i := range r {
			for j := range r {
				r[i][j] = r[i][j] || r[i][k] && r[k][j]
			}
		}
	}
}

type axioms struct {
	ev  []event
	thr []thr
	cfg Config
	rf  []int // what reads returned, -1 the initial value; nil: the latest
	cau rel   // causality, set by races
}

func (a *axioms) po(i, j int) bool {
	if i >= j {
		return false
	}
	for _, t := range a.ev[i].threads {
		for _, u := range a.ev[j].threads {
			if t == u {
				return true
			}
		}
	}
	return false
}

func (a *axioms) inScopes(i, j int) bool {
	t, u := a.thr[a.ev[i].threads[0]], a.thr[a.ev[j].threads[0]]
	in := func(s Scope) bool {
		switch s {
		case CTA, Cluster:
			return t.dev == u.dev && t.blk == u.blk
		case GPU:
			return t.dev == u.dev
		}
		return true
	}
	return in(a.ev[i].op.Scope) && in(a.ev[j].op.Scope)
}

func (a *axioms) ms(i, j int) bool {
	e, f := a.ev[i], a.ev[j]
	if e.op.Sem == Weak || f.op.Sem == Weak || !a.inScopes(i, j) && e.threads[0] != f.threads[0] {
		return false
	}
	if e.mem() && f.mem() {
		return e.off == f.off && e.size == f.size && (a.cfg.Alias != Strict || e.op.Path == f.op.Path)
	}
	return true
}

func (a *axioms) overlap(i, j int) bool {
	e, f := a.ev[i], a.ev[j]
	return e.off < f.off+f.size && f.off < e.off+e.size
}

func (a *axioms) standsIn(v, i int) bool {
	e, f := a.ev[i], a.ev[v]
	if !e.mem() || !f.write() || e.op.Sem == Weak || f.op.Sem == Weak {
		return false
	}
	t, u := a.thr[e.threads[0]], a.thr[f.threads[0]]
	return t.dev == u.dev && t.blk == u.blk && e.off == f.off && e.size == f.size &&
		(a.cfg.Alias == Off || e.op.Path == f.op.Path) && e.op.Scope >= f.op.Scope
}

// races returns the racing pairs.
func (a *axioms) races() map[[2]int]bool {
	n := len(a.ev)
	obs := newRel(n)
	for j := range a.ev {
		if !a.ev[j].read() {
			continue
		}
		for i := j - 1; i >= 0; i-- {
			if a.rf != nil {
				if i = a.rf[j]; i < 0 {
					break
				}
			}
			if a.ev[i].write() && a.overlap(i, j) {
				e, f := a.ev[i], a.ev[j]
				obs[i][j] = e.off == f.off && e.size == f.size && a.ms(i, j)
				break
			}
		}
	}
	for j := range n { // in order: chains of RMWs
		for z := range j {
			if obs[z][j] && a.ev[z].op.Kind == RMW {
				for i := range z {
					obs[i][j] = obs[i][j] || obs[i][z]
				}
			}
		}
	}
	base := newRel(n)
	for i := range n {
		for j := range n {
			base[i][j] = a.po(i, j)
		}
	}
	sameM := func(i, j int) bool {
		return a.ev[i].mem() && a.ev[j].mem() && a.ev[i].off == a.ev[j].off && a.ev[i].size == a.ev[j].size &&
			(a.cfg.Alias != Strict || a.ev[i].op.Path == a.ev[j].op.Path)
	}
	releases := func(f, w int) bool {
		e := a.ev[f]
		if e.barrier || e.alias || !e.op.Sem.releases() || !a.ev[w].write() || a.ev[w].op.Sem == Weak {
			return false
		}
		return f == w || a.po(f, w) && (e.fence || e.write() && sameM(f, w))
	}
	acquires := func(r, l int) bool {
		e := a.ev[l]
		if e.barrier || e.alias || !e.op.Sem.acquires() || !a.ev[r].read() || a.ev[r].op.Sem == Weak {
			return false
		}
		return r == l || a.po(r, l) && (e.fence || e.read() && sameM(r, l))
	}
	for w := range n {
		for r := range n {
			if !obs[w][r] {
				continue
			}
			for f := range n {
				for l := range n {
					if releases(f, w) && acquires(r, l) && a.ms(f, l) {
						base[f][l] = true
					}
				}
			}
		}
	}
	if a.cfg.SC == SCExact {
		for i := range n {
			for j := i + 1; j < n; j++ {
				if a.ev[i].fence && a.ev[j].fence && a.ev[i].op.Sem == SC && a.ev[j].op.Sem == SC && a.ms(i, j) {
					base[i][j] = true
				}
			}
		}
	}
	base.close()
	ppbc := func(i, j int) bool {
		if !base[i][j] {
			return false
		}
		if a.cfg.Alias == Off || a.ev[i].op.Path == a.ev[j].op.Path {
			return true
		}
		for f := range n {
			if a.ev[f].alias && base[i][f] && base[f][j] {
				return true
			}
		}
		return false
	}
	a.cau = newRel(n)
	for i := range n {
		for j := range n {
			a.cau[i][j] = ppbc(i, j)
			for z := range n {
				a.cau[i][j] = a.cau[i][j] || obs[i][z] && ppbc(z, j)
			}
		}
	}
	out := map[[2]int]bool{}
	for i := range n {
	next:
		for j := i + 1; j < n; j++ {
			if !a.ev[i].mem() || !a.ev[j].mem() || !a.overlap(i, j) || !a.ev[i].write() && !a.ev[j].write() || a.ms(i, j) || ppbc(i, j) {
				continue
			}
			for v := range n {
				// The exception in the package comment: v stands in for i.
				if v != i && !(base[i][v] && a.standsIn(v, i)) {
					continue
				}
				for z := range n {
					if obs[v][z] && ppbc(z, j) {
						continue next
					}
				}
			}
			out[[2]int{i, j}] = true
		}
	}
	return out
}

func (a *axioms) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "threads %v config %+v\n", a.thr, a.cfg)
	for i, e := range a.ev {
		fmt.Fprintf(&s, "  %d: %v\n", i, e)
	}
	return s.String()
}
