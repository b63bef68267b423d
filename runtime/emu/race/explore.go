package race

// Weak visibility. The coherence order of an element is the order in which its
// stores are executed. A load may return any store that is not superseded for
// its thread: the thread's view, which travels along all synchronisation and
// the Fence-SC order, holds for each element the newest store that the thread
// has made or observed in causality. Alias classes apart, the stores offered
// are exactly those, among the stores executed before the load, that the model
// allows; a load never returns a store executed after it.
//
// In explore mode each store of at most 8 bytes should go through
// ExploreStore, element by element. One that goes through Access has no known
// value: it hides the older ones, and loads get the contents of memory.

// Candidates returns the stores that a load of an element of at most 8 bytes
// may return, the oldest first; nil means that only the contents of memory
// will do. A read-modify-write may return the last only.
func (d *Detector) Candidates(w *Warp, lane int, op OpID, a *Alloc, rep int, off, size uint64) []*Store {
	if a.freed || !d.cfg.Explore {
		return nil
	}
	l := a.reps[rep].find(off, size)
	if l == nil || l.last == nil || !l.last.valued || size > 8 {
		return nil
	}
	if d.ops[op].Kind == RMW {
		return []*Store{l.last}
	}
	h := l.hist[l.from:]
	f := w.floor(uint8(lane), l.id)
	for len(h) > 1 && h[0].Seq < f {
		h = h[1:]
	}
	return append([]*Store(nil), h...)
}

// Observe is Access for a load that returns the given store.
func (d *Detector) Observe(w *Warp, lane int, op OpID, a *Alloc, rep int, off, size uint64, s *Store) {
	d.pick = s
	d.Access(w, lane, op, a, rep, off, size)
	d.pick = nil
}

// ExploreStore is Access for a store or read-modify-write of one element of at
// most 8 bytes, with the value in memory before and after it.
func (d *Detector) ExploreStore(w *Warp, lane int, op OpID, a *Alloc, rep int, off, size, old, val uint64) {
	if a.freed || off+size > a.size || !d.cfg.Explore {
		d.Access(w, lane, op, a, rep, off, size)
		return
	}
	r := &a.reps[rep]
	d.valued = true
	defer func() { d.valued = false }()
	if l := d.loc(r, off, size); l.last == nil {
		l.forget()
		d.seq++
		l.push(&Store{Seq: d.seq, Value: old, valued: true, Initial: true, loc: l})
	} else if !l.last.valued {
		l.last.Value, l.last.valued = old, true
	}
	d.Access(w, lane, op, a, rep, off, size)
	if l := r.find(off, size); l.last != nil {
		l.last.Value, l.last.valued = val, true
	}
}
