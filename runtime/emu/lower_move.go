package emu

import (
	"math/bits"

	"github.com/moegen/moegen/runtime/emu/ptx"
)

// lowerMove handles mov, selections, logic on predicates, bfi, and address
// space conversions.
func (l *lowerer) lowerMove(out *inst, in *ptx.Instr) bool {
	switch in.Op {
	case ptx.Mov:
		return l.lowerMov(out, in)
	case ptx.Selp:
		p, x := l.pred(in.Src[2])
		out.d, out.a, out.b = l.dst(in.Dst[0]), l.src(in.Src[0]), l.src(in.Src[1])
		m := widthMask(in.Type.Size())
		out.exec = func(w *warp, _ *split, in *inst, mask uint32) bool {
			d, a, b := &w.regs[in.d], w.src(in.a), w.src(in.b)
			sel := w.preds[p] ^ x
			for k := mask & sel; k != 0; k &= k - 1 {
				d[lane(k)] = a[lane(k)] & m
			}
			for k := mask &^ sel; k != 0; k &= k - 1 {
				d[lane(k)] = b[lane(k)] & m
			}
			return true
		}
		return true
	case ptx.Slct:
		m := widthMask(in.Type.Size())
		float, ftz := in.SrcType == ptx.F32, in.Ftz
		return l.alu(out, in, tern(func(a, b, c uint64) uint64 {
			first := int32(c) >= 0
			if float {
				first = f32of(ftz32(uint32(c), ftz)) >= 0
			}
			if first {
				return a & m
			}
			return b & m
		}))
	case ptx.Bfi:
		return l.lowerBfi(out, in)
	case ptx.Cvta:
		return l.lowerCvta(out, in)
	case ptx.Isspacep:
		return l.lowerIsspacep(out, in)
	case ptx.Activemask:
		out.d = l.dst(in.Dst[0])
		out.exec = func(w *warp, _ *split, in *inst, mask uint32) bool {
			w.broadcast(in.d, mask, uint64(mask))
			return true
		}
		return true
	case ptx.And, ptx.Or, ptx.Xor, ptx.Not:
		if in.Type == ptx.Pred {
			return l.lowerPredLogic(out, in)
		}
	}
	return false
}

// broadcast gives the lanes m of a register one value.
func (w *warp) broadcast(d int32, m uint32, v uint64) {
	r := &w.regs[d]
	for ; m != 0; m &= m - 1 {
		r[lane(m)] = v
	}
}

func movFn(size int) aluFn {
	m := widthMask(size)
	return func(d, a, _, _ *vec) {
		for i := range d {
			d[i] = a[i] & m
		}
	}
}

func (l *lowerer) lowerMov(out *inst, in *ptx.Instr) bool {
	dst, src := in.Dst[0], in.Src[0]
	if in.Type == ptx.B128 {
		return false
	}
	switch {
	case in.Type == ptx.Pred:
		return l.lowerPredLogic(out, in)
	case src.Kind == ptx.SpecialOperand && dynamicSpecial(src.Special):
		return l.lowerClock(out, in)
	case src.Kind == ptx.VecOperand:
		return l.lowerPack(out, in)
	case dst.Kind == ptx.VecOperand:
		return l.lowerUnpack(out, in)
	}
	return l.alu(out, in, movFn(in.Type.Size()))
}

// lowerPack is mov.b32 %r, {%a, %b} and the like.
func (l *lowerer) lowerPack(out *inst, in *ptx.Instr) bool {
	var srcs []int32
	for _, o := range in.Src[0].Vec {
		srcs = append(srcs, l.src(o))
	}
	size := in.Type.Size() / len(srcs)
	if size == 0 {
		return false
	}
	m := widthMask(size)
	out.d = l.dst(in.Dst[0])
	out.exec = func(w *warp, _ *split, in *inst, mask uint32) bool {
		d := &w.regs[in.d]
		for k := mask; k != 0; k &= k - 1 {
			i := lane(k)
			var v uint64
			for j, s := range srcs {
				v |= w.src(s)[i] & m << (8 * size * j)
			}
			d[i] = v
		}
		return true
	}
	return true
}

// lowerUnpack is mov.b32 {%a, %b}, %r and the like.
func (l *lowerer) lowerUnpack(out *inst, in *ptx.Instr) bool {
	var dsts []int32
	for _, o := range in.Dst[0].Vec {
		dsts = append(dsts, l.dst(o))
	}
	size := in.Type.Size() / len(dsts)
	if size == 0 {
		return false
	}
	m := widthMask(size)
	out.a = l.src(in.Src[0])
	out.exec = func(w *warp, _ *split, in *inst, mask uint32) bool {
		// A copy: the source may be one of the destinations.
		a := *w.src(in.a)
		for j, s := range dsts {
			d := &w.regs[s]
			for k := mask; k != 0; k &= k - 1 {
				d[lane(k)] = a[lane(k)] >> (8 * size * j) & m
			}
		}
		return true
	}
	return true
}

// lowerClock reads a clock: that is what loops that wait for time to pass do.
func (l *lowerer) lowerClock(out *inst, in *ptx.Instr) bool {
	sp := in.Src[0].Special
	out.d = l.dst(in.Dst[0])
	m := widthMask(in.Type.Size())
	out.exec = func(w *warp, s *split, in *inst, mask uint32) bool {
		var t uint64
		switch sp {
		case ptx.GlobalTimer, ptx.GlobalTimerLo:
			t = uint64(w.b.g.dev.d.sched.now())
		case ptx.GlobalTimerHi:
			t = uint64(w.b.g.dev.d.sched.now()) >> 32
		default:
			// One cycle per reading, on top of virtual time at 1 GHz: clocks differ
			// and grow, which is all that they promise.
			w.b.clock++
			t = uint64(w.b.g.dev.d.sched.now()) + w.b.clock
		}
		w.broadcast(in.d, mask, t&m)
		return w.next(s, w.idlePoll(s))
	}
	return true
}

// next is what an exec function returns that wants s to go on with the next
// instruction, after the others' turn if yield is set.
func (w *warp) next(s *split, yield bool) bool {
	if yield {
		s.pc++
		return false
	}
	return true
}

func (l *lowerer) lowerBfi(out *inst, in *ptx.Instr) bool {
	width := uint64(in.Type.Size() * 8)
	m, field := widthMask(in.Type.Size()), fieldMask(in.Type.Size())
	out.d, out.a, out.b, out.c = l.dst(in.Dst[0]), l.src(in.Src[0]), l.src(in.Src[1]), l.src(in.Src[2])
	n := l.src(in.Src[3])
	out.exec = func(w *warp, _ *split, in *inst, mask uint32) bool {
		d, a, b, pos, num := &w.regs[in.d], w.src(in.a), w.src(in.b), w.src(in.c), w.src(n)
		for k := mask; k != 0; k &= k - 1 {
			i := lane(k)
			d[i] = bfi(a[i], b[i], pos[i]&field, num[i]&field, width) & m
		}
		return true
	}
	return true
}

// lop3Fn computes the function whose truth table is lut.
func lop3Fn(lut uint64) func(a, b, c uint32) uint32 {
	return func(a, b, c uint32) uint32 {
		var d uint32
		for i := range uint32(8) {
			if lut>>i&1 != 0 {
				t := fullMask
				for j, v := range [3]uint32{c, b, a} {
					if i>>j&1 != 0 {
						t &= v
					} else {
						t &^= v
					}
				}
				d |= t
			}
		}
		return d
	}
}

func (l *lowerer) lowerLop3(out *inst, in *ptx.Instr) bool {
	f := lop3Fn(in.Src[3].Imm)
	out.kind = kindALU
	out.d, out.a, out.b, out.c = l.dst(in.Dst[0]), l.src(in.Src[0]), l.src(in.Src[1]), l.src(in.Src[2])
	out.alu = tern(func(a, b, c uint64) uint64 { return uint64(f(uint32(a), uint32(b), uint32(c))) })
	return true
}

// lowerCarry is the arithmetic with the condition code register, which holds
// one carry per lane.
func (l *lowerer) lowerCarry(out *inst, in *ptx.Instr) bool {
	size := in.Type.Size()
	m := widthMask(size)
	op, withC, setC := in.Op, in.Op == ptx.Addc || in.Op == ptx.Subc || in.Op == ptx.Madc, in.CC
	var mul func(a, b uint64) uint64
	if op == ptx.Mad || op == ptx.Madc {
		mul = mulFn(in)
	}
	out.d, out.a, out.b = l.dst(in.Dst[0]), l.src(in.Src[0]), l.src(in.Src[1])
	out.c = out.b
	if mul != nil {
		out.c = l.src(in.Src[2])
	}
	out.exec = func(w *warp, _ *split, in *inst, mask uint32) bool {
		d, a, b, c := &w.regs[in.d], w.src(in.a), w.src(in.b), w.src(in.c)
		for k := mask; k != 0; k &= k - 1 {
			i := lane(k)
			x, y, carry := a[i]&m, b[i]&m, uint64(0)
			if withC {
				carry = uint64(w.carry >> i & 1)
			}
			if mul != nil {
				x, y = mul(a[i], b[i]), c[i]&m
			}
			var r, out uint64
			if op == ptx.Sub || op == ptx.Subc {
				r, out = bits.Sub64(x, y, carry)
			} else {
				r, out = bits.Add64(x, y, carry)
			}
			if size == 4 {
				out = r >> 32 & 1
			}
			d[i] = r & m
			if setC {
				w.carry = w.carry&^(1<<i) | uint32(out)<<i
			}
		}
		return true
	}
	return true
}

// lowerPredLogic is mov, and, or, xor and not on predicates.
func (l *lowerer) lowerPredLogic(out *inst, in *ptx.Instr) bool {
	d, _ := l.pred(in.Dst[0])
	a, ax := l.pred(in.Src[0])
	b, bx := a, ax
	if len(in.Src) > 1 {
		b, bx = l.pred(in.Src[1])
	}
	op := in.Op
	out.exec = func(w *warp, _ *split, _ *inst, mask uint32) bool {
		x, y := w.preds[a]^ax, w.preds[b]^bx
		switch op {
		case ptx.And:
			x &= y
		case ptx.Or:
			x |= y
		case ptx.Xor:
			x ^= y
		case ptx.Not:
			x = ^x
		}
		w.setPred(d, mask, x)
		return true
	}
	return true
}

// setPred writes the lanes m of a predicate; p may be -1, a sink.
func (w *warp) setPred(p int32, m, v uint32) {
	if p >= 0 {
		w.preds[p] = w.preds[p]&^m | v&m
	}
}

// windowOf returns the generic window of a space, 0 where generic addresses
// are the space's own.
func windowOf(s ptx.Space) uint64 {
	switch s {
	case ptx.Shared:
		return sharedWindow
	case ptx.Local:
		return localWindow
	case ptx.Param:
		return paramWindow
	}
	return 0
}

func (l *lowerer) lowerCvta(out *inst, in *ptx.Instr) bool {
	base := windowOf(in.Space)
	if base == 0 {
		return l.alu(out, in, movFn(8))
	}
	if in.ToSpace {
		base = -base
	}
	return l.alu(out, in, un(func(a uint64) uint64 { return a + base }))
}

func (l *lowerer) lowerIsspacep(out *inst, in *ptx.Instr) bool {
	d, _ := l.pred(in.Dst[0])
	out.a = l.src(in.Src[0])
	space := in.Space
	out.exec = func(w *warp, _ *split, in *inst, mask uint32) bool {
		a := w.src(in.a)
		var r uint32
		for k := mask; k != 0; k &= k - 1 {
			i := lane(k)
			var is bool
			if base := windowOf(space); base != 0 {
				is = a[i]-base < windowSize
			} else {
				is = a[i] < sharedWindow
			}
			if space == ptx.Const {
				r0 := w.b.g.dev.d.mem.lookup(a[i])
				is = r0 != nil && r0.kind == rangeModule && r0.label == constLabel
			}
			if is {
				r |= 1 << i
			}
		}
		w.setPred(d, mask, r)
		return true
	}
	return true
}

// intCmp compares lanes as integers.
func intCmp(t ptx.Type, c ptx.Cmp) func(a, b *vec) uint32 {
	// The unsigned names apply to unsigned and bit types only.
	switch c {
	case ptx.LO:
		c = ptx.LT
	case ptx.LS:
		c = ptx.LE
	case ptx.HI:
		c = ptx.GT
	case ptx.HS:
		c = ptx.GE
	}
	norm := normalize(t)
	if t.Size() == 4 {
		norm = nil
	}
	signed := isSigned(t)
	return func(a, b *vec) uint32 {
		var lt, eq uint32
		switch {
		case norm == nil && signed:
			for i := range a {
				x, y := int32(a[i]), int32(b[i])
				if x < y {
					lt |= 1 << i
				}
				if x == y {
					eq |= 1 << i
				}
			}
		case norm == nil:
			for i := range a {
				x, y := uint32(a[i]), uint32(b[i])
				if x < y {
					lt |= 1 << i
				}
				if x == y {
					eq |= 1 << i
				}
			}
		default:
			for i := range a {
				x, y := norm(a[i]), norm(b[i])
				if signed && int64(x) < int64(y) || !signed && x < y {
					lt |= 1 << i
				}
				if x == y {
					eq |= 1 << i
				}
			}
		}
		switch c {
		case ptx.EQ:
			return eq
		case ptx.NE:
			return ^eq
		case ptx.LT:
			return lt
		case ptx.LE:
			return lt | eq
		case ptx.GT:
			return ^(lt | eq)
		}
		return ^lt // GE; lowerSetp has checked that there is no other
	}
}

func (l *lowerer) lowerSetp(out *inst, in *ptx.Instr, cmp func(a, b *vec) uint32) bool {
	o := &setpOp{cmp: cmp, p: -1, q: -1, in: -1, bool: in.Bool}
	o.p, _ = l.pred(in.Dst[0])
	if len(in.Dst) > 1 {
		o.q, _ = l.pred(in.Dst[1])
	}
	out.kind, out.set = kindSetp, o
	out.a, out.b = l.src(in.Src[0]), l.src(in.Src[1])
	if len(in.Src) > 2 {
		o.in, o.inX = l.pred(in.Src[2])
	}
	return true
}

// lowerSet is setp with a number as its result.
func (l *lowerer) lowerSet(out *inst, in *ptx.Instr) bool {
	var cmp func(a, b *vec) uint32
	switch {
	case isInt(in.SrcType):
		cmp = intCmp(in.SrcType, in.Cmp)
	default:
		cmp = floatCmp(in.SrcType, in.Cmp, in.Ftz)
	}
	if cmp == nil || in.SrcType == ptx.F16x2 || in.SrcType == ptx.BF16x2 {
		return false
	}
	yes := widthMask(in.Type.Size())
	switch in.Type {
	case ptx.F32:
		yes = 0x3f800000
	case ptx.F16:
		yes = 0x3c00
	case ptx.BF16:
		yes = 0x3f80
	}
	out.d, out.a, out.b = l.dst(in.Dst[0]), l.src(in.Src[0]), l.src(in.Src[1])
	o := &setpOp{cmp: cmp, bool: in.Bool, in: -1, q: -1}
	if len(in.Src) > 2 {
		o.in, o.inX = l.pred(in.Src[2])
	}
	o.p = l.falsePred() // used as a scratch predicate here
	out.set = o
	out.exec = func(w *warp, _ *split, in *inst, mask uint32) bool {
		w.setp(in, mask)
		r := w.preds[o.p]
		w.broadcast(in.d, mask&r, yes)
		w.broadcast(in.d, mask&^r, 0)
		return true
	}
	return true
}
