package emu

import (
	"unsafe"

	"github.com/moegen/moegen/runtime/emu/ptx"
	"github.com/moegen/moegen/runtime/emu/race"
)

// skipAfter is the number of polls in vain after which the judge is not told of
// further ones: they say nothing new.
const skipAfter = 4

// resume makes the split go on with the next instruction whatever Fast mode's
// function wanted, as turns are this scheduler's business.
func resume(s *split, pc int) bool {
	s.pc = pc
	return true
}

func (c *checker) load(in *inst, orig execFn, op race.OpID) execFn {
	m := in.mem
	if !m.strong {
		return func(w *warp, s *split, in *inst, mask uint32) bool {
			a := *w.src(m.base)
			orig(w, s, in, mask)
			c.access(w, m, op, mask, &a, false)
			return true
		}
	}
	return func(w *warp, s *split, in *inst, mask uint32) bool {
		a, pc := *w.src(m.base), s.pc
		orig(w, s, in, mask)
		if s.repeats < skipAfter || w.comes(in, mask) < skipAfter {
			if c.explore {
				c.weakLoad(w, s, m, op, mask, &a)
			} else {
				c.access(w, m, op, mask, &a, false)
			}
		}
		c.polled(w, s, in, m, mask, &a)
		return resume(s, pc)
	}
}

func (c *checker) store(in *inst, orig execFn, op race.OpID) execFn {
	m := in.mem
	return func(w *warp, s *split, in *inst, mask uint32) bool {
		a, pc := w.src(m.base), s.pc
		if c.explore && m.strong {
			c.perLane(w, s, in, orig, op, mask, func(i int) unsafe.Pointer { return w.ptr(in, m, i, a[i]+m.off) })
			return resume(s, pc)
		}
		orig(w, s, in, mask)
		c.access(w, m, op, mask, a, true)
		return resume(s, pc)
	}
}

// perLane performs a strong store or atomic lane by lane, with the contents of
// memory before and after, for the store histories of Explore.
func (c *checker) perLane(w *warp, s *split, in *inst, orig execFn, op race.OpID, mask uint32, ptr func(i int) unsafe.Pointer) {
	m := in.mem
	a, pc := *w.src(m.base), s.pc
	w.addresses(in)
	for k := mask; k != 0; k &= k - 1 {
		i := lane(k)
		p := ptr(i)
		var old [16]uint64
		n := m.size / m.elem
		for e := range n {
			old[e] = loadWord(unsafe.Add(p, e*m.elem), m.elem, false)
		}
		s.pc = pc
		orig(w, s, in, 1<<i)
		al, off := c.find(w, m, a[i]+m.off)
		for e := range n {
			o := uint64(e * m.elem)
			c.det.ExploreStore(w.ck.rw, i, op, al.a, 0, off+o, uint64(m.elem), old[e], loadWord(unsafe.Add(p, o), m.elem, false))
		}
		c.wrote(al, off, off+uint64(m.size))
	}
}

func (c *checker) atomic(in *inst, orig execFn, op race.OpID) execFn {
	m := in.mem
	return func(w *warp, s *split, in *inst, mask uint32) bool {
		a, pc := *w.src(m.base), s.pc
		ptr := func(i int) unsafe.Pointer { return w.ptr(in, m, i, a[i]+m.off) }
		w.addresses(in)
		sum := c.contents(m, mask, ptr)
		if c.explore {
			c.perLane(w, s, in, orig, op, mask, ptr)
		} else {
			orig(w, s, in, mask)
			if s.repeats < skipAfter || w.comes(in, mask) < skipAfter {
				c.access(w, m, op, mask, &a, false)
			}
		}
		if c.contents(m, mask, ptr) != sum {
			c.eachEnvelope(w, m, mask, &a, func(al *checkAlloc, lo, hi uint64) { c.wrote(al, lo, hi) })
		} else {
			c.polled(w, s, in, m, mask, &a)
		}
		return resume(s, pc)
	}
}

// contents hashes what the lanes' addresses hold.
func (c *checker) contents(m *memOp, mask uint32, ptr func(i int) unsafe.Pointer) uint64 {
	h := uint64(0)
	for k := mask; k != 0; k &= k - 1 {
		p := ptr(lane(k))
		for e := 0; e < m.size; e += m.elem {
			h = (h ^ loadWord(unsafe.Add(p, e), m.elem, false)) * hashMul
		}
	}
	return h
}

// spaceOf resolves a generic address.
func spaceOf(m *memOp, addr uint64) (ptx.Space, uint64) {
	if m.space != ptx.Generic {
		return m.space, addr
	}
	switch {
	case addr-sharedWindow < windowSize:
		return ptx.Shared, addr - sharedWindow
	case addr-localWindow < windowSize:
		return ptx.Local, addr - localWindow
	case addr-paramWindow < windowSize:
		return ptx.Param, addr - paramWindow
	}
	return ptx.Global, addr
}

// find returns the memory behind a lane's address, nil where only the thread
// itself can see it.
func (c *checker) find(w *warp, m *memOp, addr uint64) (*checkAlloc, uint64) {
	al, lo, _, off := c.stretch(w, m, addr)
	return al, addr - lo + off
}

// access tells the judge of a performed access of all lanes in mask.
func (c *checker) access(w *warp, m *memOp, op race.OpID, mask uint32, a *vec, write bool) {
	c.accessSized(w.ck.rw, w, m, op, mask, a, uint64(m.size), write)
}

func (c *checker) accessSized(rw *race.Warp, w *warp, m *memOp, op race.OpID, mask uint32, a *vec, size uint64, write bool) {
	var offs [32]uint64
	for mask != 0 {
		first := lane(mask)
		al, lo, n, off := c.stretch(w, m, a[first]+m.off)
		if al == nil {
			mask &^= 1 << first
			continue
		}
		same, least, most := uint32(0), ^uint64(0), uint64(0)
		for k := mask; k != 0; k &= k - 1 {
			i := lane(k)
			if o := a[i] + m.off - lo; o < n {
				offs[i] = o + off
				least, most = min(least, o+off), max(most, o+off)
				same |= 1 << i
			}
		}
		c.det.AccessWarp(rw, same, op, al.a, 0, &offs, size)
		if write {
			c.wrote(al, least, most+size)
		}
		mask &^= same
	}
}

// stretch returns the memory behind an address, and the addresses [lo, lo+n)
// around it that belong to it, from offset off on; nil where only the thread
// itself can see it.
func (c *checker) stretch(w *warp, m *memOp, addr uint64) (al *checkAlloc, lo, n, off uint64) {
	switch sp, a := spaceOf(m, addr); sp {
	case ptx.Shared:
		return c.sharedOf(w.b), addr - a, uint64(len(w.b.shared) * 8), 0
	case ptx.Global:
		if e := c.at(a); e != nil {
			return e.al, e.lo, e.hi - e.lo, e.off
		}
	}
	return nil, 0, 0, 0
}

// eachEnvelope calls f with the memory that the lanes' accesses lie in and the
// bounds of what they touch there.
func (c *checker) eachEnvelope(w *warp, m *memOp, mask uint32, a *vec, f func(al *checkAlloc, lo, hi uint64)) {
	size := uint64(m.size)
	var cur *checkAlloc
	var lo, hi uint64
	for k := mask; k != 0; k &= k - 1 {
		i := lane(k)
		al, off := c.find(w, m, a[i]+m.off)
		if al != cur {
			if cur != nil {
				f(cur, lo, hi)
			}
			cur, lo, hi = al, off, off+size
			continue
		}
		lo, hi = min(lo, off), max(hi, off+size)
	}
	if cur != nil {
		f(cur, lo, hi)
	}
}

// sharedOf is a block's shared memory.
func (c *checker) sharedOf(b *block) *checkAlloc {
	if b.ck.shared == nil {
		const name = "shared memory of a block"
		b.ck.shared = &checkAlloc{a: c.det.NewAlloc(name, uint64(len(b.shared)*8), 1), name: name}
	}
	return b.ck.shared
}

func (c *checker) multimemRed(in *inst, orig execFn, op race.OpID) execFn {
	m := in.mem
	return func(w *warp, s *split, in *inst, mask uint32) bool {
		a, pc := *w.src(m.base), s.pc
		w.addresses(in)
		if !c.explore {
			orig(w, s, in, mask)
			c.replicas(w, in, m, op, mask, &a, true)
			return resume(s, pc)
		}
		for k := mask; k != 0; k &= k - 1 {
			i := lane(k)
			addr := a[i] + m.off
			win := w.window(in, m, i, addr)
			old := make([]uint64, len(win.replicas))
			for n, r := range win.replicas {
				old[n] = loadWord(unsafe.Add(r.base, addr-win.lo), m.elem, false)
			}
			s.pc = pc
			orig(w, s, in, 1<<i)
			for n, r := range win.replicas {
				al, off := c.alloc(r.ph), r.off+(addr-win.lo)
				if m.size == m.elem {
					c.det.ExploreStore(w.ck.rw, i, op, al.a, 0, off, uint64(m.elem), old[n], loadWord(unsafe.Add(r.base, addr-win.lo), m.elem, false))
				} else {
					c.det.Access(w.ck.rw, i, op, al.a, 0, off, uint64(m.size))
				}
				c.wrote(al, off, off+uint64(m.size))
			}
		}
		return resume(s, pc)
	}
}

func (c *checker) multimemLoad(in *inst, orig execFn, op race.OpID) execFn {
	m := in.mem
	if c.explore {
		orig = c.reduceAnyOrder(in)
	}
	return func(w *warp, s *split, in *inst, mask uint32) bool {
		a, pc := *w.src(m.base), s.pc
		w.addresses(in)
		orig(w, s, in, mask)
		if !m.strong || s.repeats < skipAfter || w.comes(in, mask) < skipAfter {
			c.replicas(w, in, m, op, mask, &a, false)
		}
		return resume(s, pc)
	}
}

func (c *checker) multimemStore(in *inst, orig execFn, op race.OpID) execFn {
	if c.explore {
		return c.copyByCopy(op)
	}
	m := in.mem
	return func(w *warp, s *split, in *inst, mask uint32) bool {
		pc := s.pc
		orig(w, s, in, mask)
		c.replicas(w, in, m, op, mask, w.src(m.base), true)
		return resume(s, pc)
	}
}

// replicas tells the judge of a multimem access: one for each copy.
func (c *checker) replicas(w *warp, in *inst, m *memOp, op race.OpID, mask uint32, a *vec, write bool) {
	for mask != 0 {
		first := lane(mask)
		win := w.window(in, m, first, a[first]+m.off)
		same := uint32(0)
		for k := mask; k != 0; k &= k - 1 {
			if i := lane(k); a[i]+m.off-win.lo < win.hi-win.lo {
				same |= 1 << i
			}
		}
		for n := range win.replicas {
			c.replicaAccess(w, m, op, same, a, win, n, write)
		}
		mask &^= same
	}
}

func (c *checker) replicaAccess(w *warp, m *memOp, op race.OpID, mask uint32, a *vec, win *mcWindow, n int, write bool) {
	var offs [32]uint64
	r := &win.replicas[n]
	lo, hi := ^uint64(0), uint64(0)
	for k := mask; k != 0; k &= k - 1 {
		i := lane(k)
		o := a[i] + m.off - win.lo + r.off
		offs[i] = o
		lo, hi = min(lo, o), max(hi, o)
	}
	al := c.alloc(r.ph)
	c.det.AccessWarp(w.ck.rw, mask, op, al.a, 0, &offs, uint64(m.size))
	if write {
		c.wrote(al, lo, hi+uint64(m.size))
	}
}
