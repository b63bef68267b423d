package race

import "maps"

// view is an immutable map from location to the oldest store a thread may
// still read there. It travels with the clocks.
type view struct{ m map[uint32]uint64 }

func (v *view) get(loc uint32) uint64 {
	if v == nil {
		return 0
	}
	return v.m[loc]
}

func viewGeq(a, b *view) bool {
	if b == nil || a == b {
		return true
	}
	for k, s := range b.m {
		if a.get(k) < s {
			return false
		}
	}
	return true
}

func joinView(a, b *view) *view {
	switch {
	case viewGeq(a, b):
		return a
	case viewGeq(b, a):
		return b
	}
	n := &view{maps.Clone(a.m)}
	for k, s := range b.m {
		n.m[k] = max(n.m[k], s)
	}
	return n
}

func oneView(loc uint32, seq uint64) *view { return &view{map[uint32]uint64{loc: seq}} }

func (w *Warp) floor(l uint8, loc uint32) uint64 {
	f := w.base.v.get(loc)
	if w.deltas>>l&1 != 0 {
		f = max(f, w.delta[l].v.get(loc))
	}
	return f
}
