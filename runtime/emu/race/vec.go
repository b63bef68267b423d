package race

import "slices"

// vec is an immutable vector clock. base[s] = e says that all events of all
// lanes in slot s up to epoch e are known; extra adds single lanes that are
// known further. Immutability lets the warps of a block, releases and stream
// clocks share one vector.
type vec struct {
	base  []uint32
	extra []laneEpoch // sorted by key
}

type laneEpoch struct {
	key uint64 // slot<<5 | lane
	ep  uint32
}

type slotEpoch struct{ slot, ep uint32 }

func laneKey(slot uint32, lane uint8) uint64 { return uint64(slot)<<5 | uint64(lane) }

func (v *vec) slot(s uint32) uint32 {
	if v == nil || int(s) >= len(v.base) {
		return 0
	}
	return v.base[s]
}

func (v *vec) covers(slot uint32, lane uint8, ep uint32) bool {
	if v == nil {
		return false
	}
	if int(slot) < len(v.base) && v.base[slot] >= ep {
		return true
	}
	return v.coversExtra(slot, lane, ep)
}

func (v *vec) coversExtra(slot uint32, lane uint8, ep uint32) bool {
	if len(v.extra) == 0 {
		return false
	}
	i, ok := slices.BinarySearchFunc(v.extra, laneKey(slot, lane), cmpKey)
	return ok && v.extra[i].ep >= ep
}

func cmpKey(a laneEpoch, k uint64) int {
	switch {
	case a.key < k:
		return -1
	case a.key > k:
		return 1
	}
	return 0
}

func sameBase(a, b *vec) bool {
	return len(a.base) == len(b.base) && (len(a.base) == 0 || &a.base[0] == &b.base[0])
}

// geq says whether a knows all that b knows.
func geq(a, b *vec) bool {
	if b == nil || a == b {
		return true
	}
	if a == nil {
		return false
	}
	if !sameBase(a, b) {
		ab, bb := a.base, b.base
		if len(bb) > len(ab) {
			for _, e := range bb[len(ab):] {
				if e > 0 {
					return false
				}
			}
			bb = bb[:len(ab)]
		}
		ab = ab[:len(bb)]
		for i, e := range bb {
			if e > ab[i] {
				return false
			}
		}
	}
	i := 0
	for _, x := range b.extra {
		if a.slot(uint32(x.key>>5)) >= x.ep {
			continue
		}
		for i < len(a.extra) && a.extra[i].key < x.key {
			i++
		}
		if i == len(a.extra) || a.extra[i].key != x.key || a.extra[i].ep < x.ep {
			return false
		}
	}
	return true
}

// join returns the least clock that knows what a and b know.
func join(a, b *vec) *vec {
	if geq(a, b) {
		return a
	}
	if geq(b, a) {
		return b
	}
	r := &vec{base: a.base}
	if !sameBase(a, b) {
		r.base = make([]uint32, max(len(a.base), len(b.base)))
		n := copy(r.base, a.base)
		for i, e := range b.base {
			if i >= n || e > r.base[i] {
				r.base[i] = e
			}
		}
	}
	r.extra = mergeExtra(r, a.extra, b.extra)
	return r
}

func mergeExtra(r *vec, a, b []laneEpoch) []laneEpoch {
	if len(a)+len(b) == 0 {
		return nil
	}
	out := make([]laneEpoch, 0, len(a)+len(b))
	for len(a) > 0 || len(b) > 0 {
		var x laneEpoch
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].key < b[0].key:
			x, a = a[0], a[1:]
		case len(a) == 0 || b[0].key < a[0].key:
			x, b = b[0], b[1:]
		default:
			x = a[0]
			x.ep = max(x.ep, b[0].ep)
			a, b = a[1:], b[1:]
		}
		if r.slot(uint32(x.key>>5)) < x.ep {
			out = append(out, x)
		}
	}
	return out
}

// raised returns v with whole slots known further.
func (v *vec) raised(up ...slotEpoch) *vec {
	need, top := false, uint32(0)
	for _, u := range up {
		if v.slot(u.slot) < u.ep {
			need, top = true, max(top, u.slot+1)
		}
	}
	if !need {
		return v
	}
	var base []uint32
	var extra []laneEpoch
	if v != nil {
		base, extra = v.base, v.extra
	}
	r := &vec{base: make([]uint32, max(len(base), int(top)))}
	copy(r.base, base)
	for _, u := range up {
		if u.ep > 0 {
			r.base[u.slot] = max(r.base[u.slot], u.ep)
		}
	}
	r.extra = mergeExtra(r, extra, nil)
	return r
}

// with returns v with the lanes in mask of one slot known up to ep.
func (v *vec) with(slot uint32, mask, ep uint32) *vec {
	var add []laneEpoch
	for l := range uint8(32) {
		if mask>>l&1 != 0 {
			add = append(add, laneEpoch{laneKey(slot, l), ep})
		}
	}
	r := &vec{}
	var extra []laneEpoch
	if v != nil {
		r.base, extra = v.base, v.extra
	}
	r.extra = mergeExtra(r, extra, add)
	return r
}
