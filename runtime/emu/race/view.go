package race

// view is an immutable map from location to the oldest store a thread may
// still read there. It travels with the clocks. It is a radix tree over the
// locations' ids, which are dense: views share the parts that they have in
// common, and a join looks only at those that differ.
type view struct {
	level uint            // 0: a leaf
	kids  [viewFan]*view  // of what is not a leaf, or nil
	seqs  [viewFan]uint64 // of a leaf
}

const (
	viewBits = 4
	viewFan  = 1 << viewBits
)

func (v *view) digit(loc uint32) uint32 { return loc >> (v.level * viewBits) % viewFan }

func (v *view) get(loc uint32) uint64 {
	if v == nil || loc>>(v.level*viewBits) >= viewFan {
		return 0
	}
	for v.level > 0 {
		if v = v.kids[v.digit(loc)]; v == nil {
			return 0
		}
	}
	return v.seqs[v.digit(loc)]
}

// with returns v with a location's store at least seq.
func (v *view) with(loc uint32, seq uint64) *view {
	if v.get(loc) >= seq {
		return v
	}
	if v == nil {
		v = new(view)
	}
	for loc>>(v.level*viewBits) >= viewFan {
		v = v.raised()
	}
	return v.set(loc, seq)
}

func (v *view) set(loc uint32, seq uint64) *view {
	n := *v
	i := n.digit(loc)
	if n.level == 0 {
		n.seqs[i] = seq
		return &n
	}
	kid := n.kids[i]
	if kid == nil {
		kid = &view{level: n.level - 1}
	}
	n.kids[i] = kid.set(loc, seq)
	return &n
}

// raised returns v as a tree of one more level.
func (v *view) raised() *view {
	n := &view{level: v.level + 1}
	n.kids[0] = v
	return n
}

// joinView returns the newer of two views everywhere: one of them where it is
// that.
func joinView(a, b *view) *view {
	v, _, _ := mergeViews(a, b)
	return v
}

// mergeViews says in addition whether the result holds what a and what b does.
func mergeViews(a, b *view) (v *view, isA, isB bool) {
	switch {
	case a == b:
		return a, true, true
	case b == nil:
		return a, true, false
	case a == nil:
		return b, false, true
	}
	for a.level < b.level {
		a = a.raised()
	}
	for b.level < a.level {
		b = b.raised()
	}
	isA, isB = true, true
	n := view{level: a.level}
	for i := range viewFan {
		kidA, kidB := true, true
		if n.level == 0 {
			n.seqs[i] = max(a.seqs[i], b.seqs[i])
			kidA, kidB = n.seqs[i] == a.seqs[i], n.seqs[i] == b.seqs[i]
		} else {
			n.kids[i], kidA, kidB = mergeViews(a.kids[i], b.kids[i])
		}
		isA, isB = isA && kidA, isB && kidB
	}
	switch {
	case isA:
		return a, isA, isB
	case isB:
		return b, isA, isB
	}
	kept := n
	return &kept, isA, isB
}

// stored notes the newest store that a lane has made or seen at a location.
func (w *Warp) stored(l uint8, loc uint32, seq uint64) {
	if w.delta == nil {
		w.delta = new([32]clk)
	}
	w.deltas |= 1 << l
	w.delta[l].v = w.delta[l].v.with(loc, seq)
}

func (w *Warp) floor(l uint8, loc uint32) uint64 {
	f := w.base.v.get(loc)
	if w.deltas>>l&1 != 0 {
		f = max(f, w.delta[l].v.get(loc))
	}
	return f
}
