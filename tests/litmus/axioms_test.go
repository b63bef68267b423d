package litmus

// consistent checks the axioms.
func (x *execution) consistent() bool {
	n := len(x.ev)
	obs := x.observation()
	base := newRelation(n) // base causality
	for i := range n {
		for j := range n {
			base[i][j] = x.po[i][j] || x.synchronises(i, j, obs) ||
				x.isSC(i) && x.isSC(j) && x.ms[i][j] && x.sc[i] < x.sc[j]
		}
	}
	if !base.close() {
		return false // the Fence-SC order contradicts causality
	}
	cause := newRelation(n)
	for i := range n {
		for j := range n {
			cause[i][j] = base[i][j]
			for k := range n {
				cause[i][j] = cause[i][j] || obs[i][k] && base[k][j]
			}
		}
	}
	loc := newRelation(n) // SC per location
	for i, e := range x.ev {
		for j, f := range x.ev {
			if !e.mem() || !f.mem() || e.loc != f.loc || i == j {
				continue
			}
			before := x.before(i, j) // i reads before the write j, or i is co-before j
			reads := f.reads() && x.rf[j] == i
			switch {
			case e.writes() && f.writes() && cause[i][j] && x.co[i] > x.co[j]:
				return false // coherence
			case (before && e.reads() || reads) && cause[j][i]:
				return false // causality
			}
			loc[i][j] = x.po[i][j] || x.ms[i][j] && (before || reads)
		}
	}
	return loc.close() && x.atomic()
}

func (x *execution) isSC(i int) bool { return x.ev[i].kind == fence && x.ev[i].sem == sc }

// before says whether j writes over what i wrote or read.
func (x *execution) before(i, j int) bool {
	if !x.ev[j].writes() || i == j {
		return false
	}
	if x.ev[i].reads() && (x.rf[i] < 0 || x.rf[i] != j && x.co[x.rf[i]] < x.co[j]) {
		return true
	}
	return x.ev[i].writes() && x.co[i] < x.co[j]
}

// observation: a write is observed by a read that returns its value and is
// morally strong with it, also through a chain of atoms.
func (x *execution) observation() relation {
	obs := newRelation(len(x.ev))
	for j, e := range x.ev {
		// Two accesses of one thread are morally strong, but only strong
		// ones are part of a pattern, which synchronises asks.
		if e.reads() && x.rf[j] >= 0 && x.ms[x.rf[j]][j] {
			obs[x.rf[j]][j] = true
		}
	}
	obs.close()
	return obs
}

// synchronises says whether i begins a release pattern and j ends an acquire
// pattern that observes it.
func (x *execution) synchronises(i, j int, obs relation) bool {
	if !x.ms[i][j] || x.ev[i].thread == x.ev[j].thread {
		return false
	}
	for w, e := range x.ev {
		if !e.writes() || !x.releases(i, w) {
			continue
		}
		for r, f := range x.ev {
			if f.reads() && x.acquires(r, j) && obs[w][r] {
				return true
			}
		}
	}
	return false
}

// releases says whether i and the write w make a release pattern.
func (x *execution) releases(i, w int) bool {
	e, f := x.ev[i], x.ev[w]
	if !f.strong() || i != w && !x.po[i][w] {
		return false
	}
	if e.kind == fence {
		return true
	}
	return e.writes() && (e.sem == release || e.sem == acqRel) && e.loc == f.loc
}

// acquires says whether the read r and j make an acquire pattern.
func (x *execution) acquires(r, j int) bool {
	e, f := x.ev[r], x.ev[j]
	if !e.strong() || r != j && !x.po[r][j] {
		return false
	}
	if f.kind == fence {
		return true
	}
	return f.reads() && (f.sem == acquire || f.sem == acqRel) && e.loc == f.loc
}

// atomic: no write comes between what an atom reads and what it writes.
func (x *execution) atomic() bool {
	for i, e := range x.ev {
		if e.kind != add {
			continue
		}
		for j, f := range x.ev {
			after := x.rf[i] < 0 || j != x.rf[i] && f.writes() && f.loc == e.loc && x.co[j] > x.co[x.rf[i]]
			if j != i && f.writes() && f.loc == e.loc && after && x.co[j] < x.co[i] && x.ms[i][j] {
				return false
			}
		}
		// It reads what is before itself.
		if x.rf[i] >= 0 && x.ms[i][x.rf[i]] && x.co[x.rf[i]] > x.co[i] {
			return false
		}
	}
	return true
}
