package emu

import (
	"math"
	"unsafe"

	"github.com/moegen/moegen/runtime/emu/ptx"
)

func (l *lowerer) lowerMultimem(out *inst, in *ptx.Instr, size int) bool {
	m := l.addr(in.Src[0], ptx.Global, size)
	m.multi = true
	m.strong = in.Sem != ptx.Weak || in.Op == ptx.MultimemRed
	out.mem, out.a = m, m.base
	switch in.Op {
	case ptx.MultimemSt:
		l.elements(m, in.Src[1], false)
		m.atomic = atomicStore(in, m)
		out.exec = execMultimemStore
		if !m.atomic && len(m.regs) == 4 && m.size == 16 {
			out.exec = execMultimemStore16
		}
		return true
	case ptx.MultimemRed:
		f := atomFn(in.Atom, in.Type)
		if f == nil {
			return false
		}
		l.elements(m, in.Src[1], false)
		out.exec = func(w *warp, s *split, in *inst, mask uint32) bool {
			a := w.addresses(in)
			for k := mask; k != 0; k &= k - 1 {
				i := lane(k)
				addr := a[i] + m.off
				win := w.window(in, m, i, addr)
				for _, r := range win.replicas {
					p := unsafe.Add(r.base, addr-win.lo)
					for e, reg := range m.regs {
						v := w.src(reg)[i]
						rmw(unsafe.Add(p, e*m.elem), m.elem, func(old uint64) uint64 { return f(old, v, 0) })
					}
				}
			}
			w.noteAccess(in, m, RMWAccess, mask, a)
			w.moved(s)
			return true
		}
		return true
	}
	l.elements(m, in.Dst[0], true)
	if in.Type == ptx.BF16x2 && in.Atom == ptx.AtomAdd && len(m.regs) == 4 && in.Sem != ptx.Acquire {
		out.exec = reduceBF16x8
		return true
	}
	f := reduceFn(in)
	if f == nil {
		return false
	}
	out.exec = func(w *warp, s *split, in *inst, mask uint32) bool {
		a := *w.addresses(in)
		em := widthMask(m.elem)
		word := min(m.size, 8)
		// Replicas' words of one lane, replica-major; 32 bytes are the most.
		var buf [4 * 16]uint64
		words := buf[:0]
		h := uint64(0)
		for k := mask; k != 0; k &= k - 1 {
			i := lane(k)
			addr := a[i] + m.off
			win := w.window(in, m, i, addr)
			words = words[:0]
			for _, r := range win.replicas {
				p := unsafe.Add(r.base, addr-win.lo)
				for o := 0; o < m.size; o += word {
					words = append(words, loadWord(unsafe.Add(p, o), word, m.strong))
				}
			}
			n, per := m.size/word, word/m.elem
			for e, reg := range m.regs {
				v := f(words, e/per, n, 8*m.elem*(e%per), em)
				h = (h ^ v) * hashMul
				w.regs[reg][i] = v
			}
		}
		w.noteAccess(in, m, ReadAccess, mask, &a)
		if m.strong {
			return w.next(s, w.poll(s, lanesKey(s.pc, mask, &a), h))
		}
		return true
	}
	return true
}

func execMultimemStore(w *warp, s *split, in *inst, mask uint32) bool {
	m := in.mem
	a := w.addresses(in)
	for k := mask; k != 0; k &= k - 1 {
		i := lane(k)
		addr := a[i] + m.off
		win := w.window(in, m, i, addr)
		w.putElements(m, i, func(o, n int, v uint64) {
			for _, r := range win.replicas {
				storeWord(unsafe.Add(r.base, addr-win.lo+uint64(o)), n, v, m.atomic)
			}
		})
	}
	w.noteAccess(in, m, WriteAccess, mask, a)
	w.moved(s)
	return true
}

// execMultimemStore16 is multimem.st.v4.f32 and its likes.
func execMultimemStore16(w *warp, s *split, in *inst, mask uint32) bool {
	m := in.mem
	a := w.addresses(in)
	r0, r1, r2, r3 := w.src(m.regs[0]), w.src(m.regs[1]), w.src(m.regs[2]), w.src(m.regs[3])
	for k := mask; k != 0; k &= k - 1 {
		i := lane(k)
		addr := a[i] + m.off
		win := w.window(in, m, i, addr)
		x, y := r0[i]&0xffffffff|r1[i]<<32, r2[i]&0xffffffff|r3[i]<<32
		for j := range win.replicas {
			p := (*[2]uint64)(unsafe.Add(win.replicas[j].base, addr-win.lo))
			p[0], p[1] = x, y
		}
	}
	w.noteAccess(in, m, WriteAccess, mask, a)
	w.moved(s)
	return true
}

// reduceBF16x8 is multimem.ld_reduce.add.v4.bf16x2, the loop of every
// reduce-scatter: the same sums as reduceFn's, without its generality.
func reduceBF16x8(w *warp, s *split, in *inst, mask uint32) bool {
	m := in.mem
	a := *w.addresses(in)
	h := uint64(0)
	d := [4]*vec{&w.regs[m.regs[0]], &w.regs[m.regs[1]], &w.regs[m.regs[2]], &w.regs[m.regs[3]]}
	for k := mask; k != 0; k &= k - 1 {
		i := lane(k)
		addr := a[i] + m.off
		win := w.window(in, m, i, addr)
		var lo, hi [4]float32
		for j := range win.replicas {
			p := (*[4]uint32)(unsafe.Add(win.replicas[j].base, addr-win.lo))
			for e, x := range p {
				if j == 0 {
					lo[e], hi[e] = math.Float32frombits(x<<16), math.Float32frombits(x&0xffff0000)
				} else {
					lo[e] += math.Float32frombits(x << 16)
					hi[e] += math.Float32frombits(x & 0xffff0000)
				}
			}
		}
		for e := range d {
			v := uint64(toBF16(hi[e]))<<16 | uint64(toBF16(lo[e]))
			h = (h ^ v) * hashMul
			d[e][i] = v
		}
	}
	w.noteAccess(in, m, ReadAccess, mask, &a)
	if m.strong {
		return w.next(s, w.poll(s, lanesKey(s.pc, mask, &a), h))
	}
	return true
}

// reducer reduces one element over the replicas: word number at of each n, at
// bit sh.
type reducer func(words []uint64, at, n, sh int, m uint64) uint64

// reduceFn returns the reduction of multimem.ld_reduce. Replicas are taken in
// the order in which devices were added. Halves and narrower floats are summed
// in float32 and rounded once, with or without .acc::f32: PTX fixes neither the
// order nor the precision in between, so results that depend on them are not
// to be relied on.
func reduceFn(in *ptx.Instr) reducer {
	t := in.Type
	switch {
	case isInt(t) || t == ptx.F64:
		f := atomFn(in.Atom, t)
		if f == nil {
			return nil
		}
		return func(words []uint64, at, n, sh int, m uint64) uint64 {
			acc := words[at] >> sh & m
			for i := at + n; i < len(words); i += n {
				acc = f(acc, words[i]>>sh&m, 0)
			}
			return acc
		}
	case t == ptx.F32:
		return func(words []uint64, at, n, sh int, _ uint64) uint64 {
			acc := math.Float32frombits(uint32(words[at] >> sh))
			for i := at + n; i < len(words); i += n {
				acc += math.Float32frombits(uint32(words[i] >> sh))
			}
			return bits32(acc)
		}
	case t == ptx.BF16x2 && in.Atom == ptx.AtomAdd:
		return func(words []uint64, at, n, sh int, _ uint64) uint64 {
			x := uint32(words[at] >> sh)
			lo, hi := math.Float32frombits(x<<16), math.Float32frombits(x&0xffff0000)
			for i := at + n; i < len(words); i += n {
				x := uint32(words[i] >> sh)
				lo += math.Float32frombits(x << 16)
				hi += math.Float32frombits(x & 0xffff0000)
			}
			return uint64(toBF16(hi))<<16 | uint64(toBF16(lo))
		}
	}
	f, ok := formatOf(t)
	if !ok {
		return nil
	}
	size := (1 + f.exp + f.man) / 8 // of a scalar
	per := t.Size() / size
	sat := size == 1
	var step func(a, b float32) float32
	switch in.Atom {
	case ptx.AtomAdd:
		step = func(a, b float32) float32 { return a + b }
	case ptx.AtomMin, ptx.AtomMax:
		wantMax := in.Atom == ptx.AtomMax
		step = func(a, b float32) float32 { return float32(minmax(float64(a), float64(b), wantMax, false)) }
	default:
		return nil
	}
	return func(words []uint64, at, n, sh int, _ uint64) uint64 {
		var r uint64
		for j := range per {
			s := sh + 8*size*j
			get := func(w uint64) float32 { return float32(f.decode(uint32(w >> s & widthMask(size)))) }
			acc := get(words[at])
			for i := at + n; i < len(words); i += n {
				acc = step(acc, get(words[i]))
			}
			r |= uint64(f.encode(float64(acc), ptx.RN, sat)) << (8 * size * j)
		}
		return r
	}
}
