package race

// syncRead lets the strong read x observe the stores in memory.
func (d *Detector) syncRead(r *replica, w *Warp, x *acc, i *opInfo, off, size uint64) {
	elements(x, off, size, func(o, n uint64) {
		l := r.find(o, n)
		if l == nil {
			return
		}
		if i.Sem.acquires() && !i.Red {
			d.acquireLoc(w, x, l, i.Scope)
		}
		switch {
		case d.pick != nil:
			d.observe(w, x, i, d.pick)
		case l.last != nil:
			d.observe(w, x, i, l.last)
		}
	})
}

// acquireLoc is the second form of an acquire pattern: what earlier strong
// reads of the element observed is acquired now.
func (d *Detector) acquireLoc(w *Warp, x *acc, l *syncLoc, scope Scope) {
	if w.lanes == nil || w.lanes[x.lane] == nil {
		return
	}
	for j := range w.lanes[x.lane].acq {
		if p := &w.lanes[x.lane].acq[j]; p.loc == l && d.samePath(p.path, x.path) {
			w.take(x.lane, &p.pend, scope)
			w.learnWide(x.lane, p.wide)
		}
	}
}

// samePath says whether strong accesses through the two paths synchronise.
func (d *Detector) samePath(p, q Path) bool {
	return d.cfg.Alias != Strict || p == q || p == PathAny || q == PathAny
}

// take acquires what is pending for the scope or a narrower one, and notes
// what a wider scope would have acquired.
func (w *Warp) take(l uint8, pend *[numScopes]clk, scope Scope) {
	for s := range pend {
		k := pend[s]
		if k == (clk{}) {
			continue
		}
		if Scope(s) <= scope {
			w.learn(l, k)
			pend[s] = clk{}
		} else {
			w.learnWide(l, k.c)
		}
	}
}

func (w *Warp) learnWide(l uint8, v *vec) {
	if v != nil {
		w.learn(l, clk{w: v})
	}
}

// observe makes x, a strong read, return the store s.
func (d *Detector) observe(w *Warp, x *acc, i *opInfo, s *Store) {
	own := s.acc.warp == w.id && s.acc.lane == x.lane
	acquires := i.Sem.acquires() && !i.Red
	if s.Initial {
		return
	}
	if !d.morallyStrong(&s.acc, x) {
		if s.agg != nil && !own {
			d.missed(w, x, s)
			wide := s.agg.wide()
			switch ls := w.sync(x.lane); {
			case acquires:
				w.learnWide(x.lane, wide)
			case !i.Red:
				ls.pendWide = join(ls.pendWide, wide)
			}
		}
		return
	}
	if d.cfg.Explore {
		w.stored(x.lane, s.loc.id, s.Seq)
	}
	if !own || s.acc.path != x.path {
		d.observed = append(d.observed, s) // entered after the checks of x
	}
	if s.agg == nil || i.Red {
		if s.agg == nil && !own {
			d.noRelease(w, x, s)
		}
		return
	}
	ls := w.sync(x.lane)
	p := ls.pending(s.loc, x.path)
	if p.seen == s && !acquires {
		return // a poll that returns the same store again
	}
	p.seen = s
	if s.agg.all != nil {
		p.wide = join(p.wide, s.agg.all)
		ls.pendWide = join(ls.pendWide, s.agg.all)
		if acquires {
			d.missed(w, x, s)
			w.learnWide(x.lane, s.agg.all)
		}
	}
	for sc := CTA; sc <= Sys; sc++ {
		k, ok := s.agg.get(w.place, sc)
		switch {
		case !ok:
		case acquires && sc <= i.Scope:
			w.learn(x.lane, k)
		default:
			if acquires {
				d.missed(w, x, s)
				w.learnWide(x.lane, k.c)
			}
			ls.pend[sc] = ls.pend[sc].join(k)
			p.pend[sc] = p.pend[sc].join(k)
		}
	}
}

func (s *Store) addObserver(w *Warp, x *acc) {
	for i := len(s.obs) - 1; i >= 0; i-- {
		if s.obs[i].warp == w.id && s.obs[i].lane == x.lane && s.obs[i].path == x.path {
			return // the earliest is the one that counts
		}
	}
	if len(s.obs) < maxObs {
		s.obs = append(s.obs, *x)
	}
}

// observedBefore says whether e is a strong write that some read observed which
// happened before x.
func (d *Detector) observedBefore(w *Warp, e, x *acc) bool {
	if !e.write() {
		return false
	}
	r := &d.at.a.reps[d.at.rep]
	for _, l := range r.locs(d.at.cell) {
		// The newest first: e is the lane's last store of its epoch.
		for i := len(l.hist) - 1; i >= 0; i-- {
			s := l.hist[i]
			if s.acc.warp != e.warp || s.acc.lane != e.lane || s.acc.epoch != e.epoch || s.acc.op != e.op {
				continue
			}
			for ; s != nil; s = s.next {
				for i := range s.obs {
					if o := &s.obs[i]; d.precedes(w, o, x) {
						return true
					}
				}
			}
			return false
		}
	}
	return false
}
