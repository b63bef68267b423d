package emu

import (
	"unsafe"

	"github.com/moegen/moegen/runtime/emu/race"
)

// weakLoad is a strong load that has been performed on memory: each lane now
// gets any of the values that the memory model lets it see. After MaxStale old
// values in a row it gets the newest, as stores become visible in the end.
func (c *checker) weakLoad(w *warp, s *split, m *memOp, op race.OpID, mask uint32, a *vec) {
	size := uint64(m.elem)
	for k := mask; k != 0; k &= k - 1 {
		i := lane(k)
		al, off := c.find(w, m, a[i]+m.off)
		if al == nil {
			continue
		}
		old := false
		for e, reg := range m.regs {
			o := off + uint64(e)*size
			stores := c.det.Candidates(w.ck.rw, i, op, al.a, 0, o, size)
			if len(stores) == 0 {
				c.det.Access(w.ck.rw, i, op, al.a, 0, o, size)
				continue
			}
			n := len(stores) - 1
			if n > 0 && int(w.ck.stale[i]) < c.judge.MaxStale && c.rand.Uint32()&1 == 0 {
				n = c.rand.IntN(n)
				old = true
				v := stores[n].Value
				if m.sext {
					v = uint64(signExtend(v, m.elem)) & m.dstM
				}
				w.regs[reg][i] = v
			}
			c.det.Observe(w.ck.rw, i, op, al.a, 0, o, size, stores[n])
		}
		if !old {
			w.ck.stale[i] = 0
			continue
		}
		w.ck.stale[i]++
		s.repeats = 0 // memory holds something else: this is no wait in vain
	}
}

// replay is a multimem.st under way: which copies are left.
type replay struct {
	order []int
	next  int
}

// copyByCopy performs multimem.st for one copy a turn, in a random order: the
// copies are separate stores, which others see at different times.
func (c *checker) copyByCopy(op race.OpID) execFn {
	return func(w *warp, s *split, in *inst, mask uint32) bool {
		m := in.mem
		a := w.addresses(in)
		if s.ck.replay == nil {
			for k := mask; k != 0; k &= k - 1 {
				w.window(in, m, lane(k), a[lane(k)]+m.off) // or fault, before anything is stored
			}
			n := len(w.window(in, m, lane(mask), a[lane(mask)]+m.off).replicas)
			s.ck.replay = &replay{order: c.rand.Perm(n)}
		}
		r := s.ck.replay
		n := r.order[r.next]
		r.next++
		for k := mask; k != 0; k &= k - 1 {
			i := lane(k)
			addr := a[i] + m.off
			win := w.window(in, m, i, addr)
			if n >= len(win.replicas) {
				continue
			}
			c.storeCopy(w, m, op, i, &win.replicas[n], addr-win.lo)
		}
		w.moved(s)
		if r.next < len(r.order) {
			return false // and once more from here
		}
		s.ck.replay = nil
		return true
	}
}

func (c *checker) storeCopy(w *warp, m *memOp, op race.OpID, i int, r *replica, at uint64) {
	al, off := c.alloc(r.ph), r.off+at
	base := unsafe.Add(r.base, at)
	if !m.strong {
		w.putElements(m, i, func(o, n int, v uint64) { storeWord(unsafe.Add(base, o), n, v, false) })
		c.det.Access(w.ck.rw, i, op, al.a, 0, off, uint64(m.size))
	} else {
		for e, reg := range m.regs {
			o := e * m.elem
			p := unsafe.Add(base, o)
			v := w.src(reg)[i] & widthMask(m.elem)
			old := loadWord(p, m.elem, true)
			storeWord(p, m.elem, v, true)
			c.det.ExploreStore(w.ck.rw, i, op, al.a, 0, off+uint64(o), uint64(m.elem), old, v)
		}
	}
	c.wrote(al, off, off+uint64(m.size))
}

// reduceAnyOrder is multimem.ld_reduce over the copies in a random order, with
// one rounding in the end, or with Judge.NativeReduce one after every addition.
func (c *checker) reduceAnyOrder(in *inst) execFn {
	m, f := in.mem, reduceFn(in.src)
	return func(w *warp, s *split, in *inst, mask uint32) bool {
		a := *w.addresses(in)
		em := widthMask(m.elem)
		word := min(m.size, 8)
		n, per := m.size/word, word/m.elem
		var buf [4 * 16]uint64
		for k := mask; k != 0; k &= k - 1 {
			i := lane(k)
			addr := a[i] + m.off
			win := w.window(in, m, i, addr)
			words := buf[:0]
			for _, r := range c.rand.Perm(len(win.replicas)) {
				p := unsafe.Add(win.replicas[r].base, addr-win.lo)
				for o := 0; o < m.size; o += word {
					words = append(words, loadWord(unsafe.Add(p, o), word, m.strong))
				}
			}
			for e, reg := range m.regs {
				sh := 8 * m.elem * (e % per)
				if !c.judge.NativeReduce {
					w.regs[reg][i] = f(words, e/per, n, sh, em)
					continue
				}
				acc := words[e/per] >> sh & em
				for at := e/per + n; at < len(words); at += n {
					acc = f([]uint64{acc, words[at] >> sh & em}, 0, 1, 0, em)
				}
				w.regs[reg][i] = acc
			}
		}
		return true
	}
}
