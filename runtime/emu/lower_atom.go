package emu

import (
	"sync/atomic"
	"unsafe"

	"github.com/moegen/moegen/runtime/emu/ptx"
)

// atomFn returns the update of an atomic operation on one element: the new
// value from the old one, the operand and, for cas, the replacement.
func atomFn(op ptx.AtomOp, t ptx.Type) func(old, v, w uint64) uint64 {
	m := widthMask(t.Size())
	norm, lt := normalize(t), less(t)
	switch op {
	case ptx.AtomExch:
		return func(_, v, _ uint64) uint64 { return v & m }
	case ptx.AtomCAS:
		return func(old, v, w uint64) uint64 {
			if old == v&m {
				return w & m
			}
			return old
		}
	case ptx.AtomAnd:
		return func(old, v, _ uint64) uint64 { return old & v & m }
	case ptx.AtomOr:
		return func(old, v, _ uint64) uint64 { return (old | v) & m }
	case ptx.AtomXor:
		return func(old, v, _ uint64) uint64 { return (old ^ v) & m }
	case ptx.AtomInc:
		return func(old, v, _ uint64) uint64 {
			if old >= v&m {
				return 0
			}
			return old + 1
		}
	case ptx.AtomDec:
		return func(old, v, _ uint64) uint64 {
			if old == 0 || old > v&m {
				return v & m
			}
			return old - 1
		}
	}
	if isInt(t) {
		switch op {
		case ptx.AtomAdd:
			return func(old, v, _ uint64) uint64 { return (old + v) & m }
		case ptx.AtomMin:
			return func(old, v, _ uint64) uint64 {
				if lt(norm(v), norm(old)) {
					return v & m
				}
				return old
			}
		case ptx.AtomMax:
			return func(old, v, _ uint64) uint64 {
				if lt(norm(old), norm(v)) {
					return v & m
				}
				return old
			}
		}
		return nil
	}
	ft, ok := fpOf(t)
	if !ok {
		return nil
	}
	var f func(a, b float64) float64
	switch op {
	case ptx.AtomAdd:
		f = addOdd
		if ft.f64 {
			f = func(a, b float64) float64 { return a + b }
		}
	case ptx.AtomMin:
		f = func(a, b float64) float64 { return minmax(a, b, false, false) }
	case ptx.AtomMax:
		f = func(a, b float64) float64 { return minmax(a, b, true, false) }
	default:
		return nil
	}
	return func(old, v, _ uint64) uint64 {
		var r uint64
		for j := range ft.n {
			r |= ft.put(f(ft.get(old, j, false), ft.get(v, j, false)), j, ptx.RN, false)
		}
		return r
	}
}

func (l *lowerer) lowerAtom(out *inst, in *ptx.Instr, size int) bool {
	f := atomFn(in.Atom, in.Type)
	if f == nil || in.Type == ptx.B128 {
		return false
	}
	m := l.addr(in.Src[0], in.Space, size)
	m.strong = true
	l.elements(m, in.Src[1], false)
	var dsts []int32
	if in.Op == ptx.Atom {
		list := []ptx.Operand{in.Dst[0]}
		if in.Dst[0].Kind == ptx.VecOperand {
			list = in.Dst[0].Vec
		}
		for _, o := range list {
			dsts = append(dsts, l.dst(o))
		}
	}
	repl := l.imm(0)
	if len(in.Src) > 2 {
		repl = l.src(in.Src[2])
	}
	add32 := in.Atom == ptx.AtomAdd && (in.Type == ptx.U32 || in.Type == ptx.S32)
	out.mem, out.a = m, m.base
	out.exec = func(w *warp, s *split, in *inst, mask uint32) bool {
		a := *w.addresses(in)
		changed := false
		var h, last uint64
		for k := mask; k != 0; k &= k - 1 {
			i := lane(k)
			p := w.ptr(in, m, i, a[i]+m.off)
			for e, r := range m.regs {
				v := w.src(r)[i]
				var old uint64
				if add32 {
					old = uint64(atomic.AddUint32((*uint32)(p), uint32(v)) - uint32(v))
					changed = changed || uint32(v) != 0
				} else {
					var ch bool
					x := w.src(repl)[i]
					old, ch = rmw(unsafe.Add(p, e*m.elem), m.elem, func(old uint64) uint64 { return f(old, v, x) })
					changed = changed || ch
				}
				h, last = (h^old)*hashMul, old
				if dsts != nil {
					w.regs[dsts[e]][i] = old
				}
			}
		}
		w.noteAccess(in, m, RMWAccess, mask, &a)
		if changed {
			w.moved(s)
			return true
		}
		// A lock that is still taken, or the like: it is a poll.
		s.saw(in, a[lane(mask)]+m.off, last)
		return w.next(s, w.poll(s, lanesKey(s.pc, mask, &a), h))
	}
	return true
}
