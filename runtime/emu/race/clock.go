package race

// clk is what a thread knows: c causality, a the part of c followed by an
// alias fence, p the part followed by a proxy.async fence, w what c would hold
// in addition were every scope sys and every alias class the same (nil in
// programs without such a fault; serves reports only), v the coherence view
// of explore mode.
type clk struct {
	c, a, p, w *vec
	v          *view
}

func (x clk) join(y clk) clk {
	return clk{join(x.c, y.c), join(x.a, y.a), join(x.p, y.p), join(x.w, y.w), joinView(x.v, y.v)}
}

// Clock is a point in the happens-before order, such as the end of a grid, an
// event or the tail of a stream. The zero Clock knows nothing.
type Clock struct{ k clk }

// Join returns the clock that is after both.
func (c Clock) Join(o Clock) Clock { return Clock{c.k.join(o.k)} }

// place is where a thread sits; it decides what a scope includes.
type place struct{ device, cluster, block int }

func (s Scope) includes(p, q place) bool {
	switch s {
	case CTA:
		return p.block == q.block
	case Cluster:
		return p.cluster == q.cluster
	case GPU:
		return p.device == q.device
	}
	return true
}

// agg collects the releases a write carries (more than one through RMW chains
// and fences), by publisher and scope, such that a reader finds those that are
// mutually inclusive with its own scope: level s of agg holds what was released
// with scope s or wider by the threads of one block, cluster, device, and of
// the whole system.
type agg struct {
	level [numScopes][]aggEntry
	all   *vec // releases narrower than sys, for reports
}

type aggEntry struct {
	id int
	k  clk
}

func (p place) at(s Scope) int {
	return [numScopes]int{p.block, p.cluster, p.device, 0}[s]
}

func (g *agg) publish(p place, scope Scope, k clk) {
	if scope < Sys {
		g.all = join(g.all, k.c)
	}
	for s := CTA; s <= scope; s++ {
		g.put(s, p.at(s), k)
	}
}

func (g *agg) put(s Scope, id int, k clk) {
	for i := range g.level[s] {
		if g.level[s][i].id == id {
			g.level[s][i].k = g.level[s][i].k.join(k)
			return
		}
	}
	g.level[s] = append(g.level[s], aggEntry{id, k})
}

func (g *agg) get(p place, s Scope) (clk, bool) {
	id := p.at(s)
	for i := range g.level[s] {
		if g.level[s][i].id == id {
			return g.level[s][i].k, true
		}
	}
	return clk{}, false
}

// wide returns everything released here whatever its scope.
func (g *agg) wide() *vec {
	w := g.all
	for _, e := range g.level[Sys] {
		w = join(w, e.k.c)
	}
	return w
}

func (g *agg) clone() *agg {
	n := &agg{all: g.all}
	for s := range g.level {
		n.level[s] = append([]aggEntry(nil), g.level[s]...)
	}
	return n
}
