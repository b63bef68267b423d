package race

// syncWrite enters the store x of strong elements (of all, in explore mode)
// and attaches the releases it carries.
func (d *Detector) syncWrite(r *replica, w *Warp, x *acc, i *opInfo, off, size uint64) {
	elements(x, off, size, func(o, n uint64) {
		if n > 8 && !x.strong() {
			return
		}
		for _, l := range r.locs(o / cellSize) {
			if l.off < o+n && o < l.off+l.size && (l.off != o || l.size != n) {
				l.forget() // a store of another size hides what was there
			}
		}
		l := d.loc(r, o, n)
		d.seq++
		s := &Store{Seq: d.seq, acc: *x, loc: l}
		if d.cfg.Explore {
			w.stored(x.lane, l.id, s.Seq)
		}
		if x.strong() {
			d.attach(w, x, i, l, s)
		}
		l.push(s)
		if !d.valued {
			l.from = len(l.hist) - 1
		}
	})
}

// attach computes what an observer of the strong store s can acquire.
func (d *Detector) attach(w *Warp, x *acc, i *opInfo, l *syncLoc, s *Store) {
	if prev := l.last; i.Kind == RMW && prev != nil && d.morallyStrong(&prev.acc, x) {
		prev.next = s
		s.agg = prev.agg
		if d.cfg.Explore && s.agg != nil {
			s.agg = s.agg.clone() // prev can still be read
		}
	}
	if i.Sem.releases() {
		ls := w.sync(x.lane)
		k := w.full(x.lane)
		w.rel[x.lane] = relMark{w.t, x.op}
		w.t++
		s.carry(w, i.Scope, k)
		ls.remember(l, x.path, i.Scope, k)
	}
	if w.lanes == nil || w.lanes[x.lane] == nil {
		return
	}
	ls := w.lanes[x.lane]
	for sc := range ls.fence {
		if ls.fenced[sc] {
			s.carry(w, Scope(sc), ls.fence[sc])
			if ls.fenceT > w.rel[x.lane].ep {
				w.rel[x.lane] = relMark{ls.fenceT, x.op}
			}
		}
	}
	for j := range ls.rel {
		if o := &ls.rel[j]; o.loc == l && d.samePath(o.path, x.path) {
			s.carry(w, o.scope, o.k)
		}
	}
}

func (s *Store) carry(w *Warp, scope Scope, k clk) {
	if s.agg == nil {
		s.agg = new(agg)
	}
	s.agg.publish(w.place, scope, k)
}

// remember keeps a release operation for later strong stores of the lane to
// the same element.
func (ls *laneSync) remember(l *syncLoc, path Path, scope Scope, k clk) {
	keep := ls.rel[:0]
	for _, o := range ls.rel {
		if o.loc != l || o.path != path || o.scope > scope {
			keep = append(keep, o)
		}
	}
	if len(keep) == ringLen {
		keep = append(keep[:0], keep[1:]...)
	}
	ls.rel = append(keep, ownRelease{l, path, scope, k})
}

func (l *syncLoc) push(s *Store) {
	if len(l.hist) == maxHist {
		l.hist = append(l.hist[:0], l.hist[1:]...)
		l.from = max(l.from-1, 0)
	}
	l.hist = append(l.hist, s)
	l.last = s
}

// forget says that memory no longer holds a known store.
func (l *syncLoc) forget() {
	l.last = nil
	l.from = len(l.hist)
}

// weakOnFlag deals with a weak access to bytes that strong ones use.
func (d *Detector) weakOnFlag(r *replica, w *Warp, x *acc, lo, hi uint64) {
	for _, l := range r.locs(lo / cellSize) {
		switch {
		case l.off >= hi || lo >= l.off+l.size:
		case x.write():
			// In explore mode syncWrite enters the store after this.
			if !d.cfg.Explore || uint64(x.elem) != l.size || l.size > 8 {
				l.forget()
			}
		case l.last != nil && l.last.agg != nil && l.last.acc.warp != w.id:
			d.missed(w, x, l.last)
		}
	}
}

// Fence executes fence.sem.scope (membar.sys is fence.sc.sys) in the lanes of
// mask; only Sem, Scope and the place in the source of the Op count.
func (d *Detector) Fence(w *Warp, mask uint32, op OpID) {
	i := &d.ops[op]
	for l := range uint8(32) {
		if mask>>l&1 == 0 {
			continue
		}
		ls := w.sync(l)
		if i.Sem.acquires() {
			w.take(l, &ls.pend, i.Scope)
			w.learnWide(l, ls.pendWide)
		}
		if i.Sem == SC {
			for s := CTA; s <= i.Scope; s++ {
				if k, ok := d.scAgg.get(w.place, s); ok {
					w.learn(l, d.scPart(k))
				}
			}
		}
		if !i.Sem.releases() {
			continue
		}
		k := w.full(l)
		for s := CTA; s <= i.Scope; s++ {
			ls.fence[s], ls.fenced[s] = clk{}, false // outdone
		}
		ls.fence[i.Scope], ls.fenced[i.Scope] = k, true
		ls.fenceT = w.t
		if i.Sem == SC && (d.cfg.SC == SCExact || d.cfg.Explore) {
			d.scAgg.publish(w.place, i.Scope, d.scPart(k))
		}
	}
	w.t++
}

// scPart is what the Fence-SC order passes on.
func (d *Detector) scPart(k clk) clk {
	if d.cfg.SC == SCExact {
		return k
	}
	return clk{v: k.v}
}

// FenceAlias executes fence.proxy.alias in the lanes of mask.
func (d *Detector) FenceAlias(w *Warp, mask uint32) {
	d.proxyFence(w, mask, func(k *clk, c *vec) { k.a = c })
}

// FenceAsync executes fence.proxy.async in the lanes of mask.
func (d *Detector) FenceAsync(w *Warp, mask uint32) {
	d.proxyFence(w, mask, func(k *clk, c *vec) { k.p = c })
}

func (d *Detector) proxyFence(w *Warp, mask uint32, set func(*clk, *vec)) {
	for l := range uint8(32) {
		if mask>>l&1 != 0 {
			c := w.full(l).c
			w.learn(l, clk{})
			set(&w.delta[l], c) // c holds all that was there
		}
	}
	w.t++
}
