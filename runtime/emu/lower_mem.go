package emu

import (
	"unsafe"

	"github.com/moegen/moegen/runtime/emu/ptx"
)

// memOp is the memory side of an instruction: one address operand.
type memOp struct {
	idx   int // of the address cache in a warp
	space ptx.Space
	base  int32 // slot of the address
	off   uint64
	size  int // bytes that one lane touches
	align uint64
	multi bool // multimem: the address must be a multicast one

	elem   int     // bytes of an element
	regs   []int32 // registers of the elements
	strong bool    // to be performed atomically, and watched for spinning
	atomic bool    // stores use sync/atomic
	sext   bool    // sign-extend what is loaded
	dstM   uint64  // width of the destination register
}

// addrCache is the range that a memory instruction of a warp hit last.
type addrCache struct {
	gen  uint64
	lo   uint64
	room uint64 // addresses from lo on at which the access fits; 0: nothing cached
	base unsafe.Pointer
	win  *mcWindow
}

// addr lowers an address operand.
func (l *lowerer) addr(o ptx.Operand, space ptx.Space, size int) *memOp {
	m := &memOp{idx: l.p.nmem, space: space, size: size, align: uint64(size), elem: size}
	l.p.nmem++
	if o.Kind != ptx.MemOperand {
		l.failf("operand is not an address")
	}
	m.off = uint64(o.Off)
	switch {
	case o.Var != nil:
		m.off += l.varAddr(o.Var)
		if space == ptx.Generic && o.Var.Space != ptx.Global {
			m.space = o.Var.Space
		}
		m.base = l.imm(0)
		if o.Reg >= 0 {
			m.base = l.slots[o.Reg]
		}
	case o.Reg >= 0:
		m.base = l.slots[o.Reg]
	default:
		m.base = l.imm(0)
	}
	if m.space == ptx.Const {
		m.space = ptx.Global
	}
	l.p.memOps = append(l.p.memOps, m)
	return m
}

// elements lowers the registers that a load or store moves.
func (l *lowerer) elements(m *memOp, o ptx.Operand, load bool) {
	list := []ptx.Operand{o}
	if o.Kind == ptx.VecOperand {
		list = o.Vec
	}
	for _, e := range list {
		if load {
			m.regs = append(m.regs, l.dst(e))
		} else {
			m.regs = append(m.regs, l.src(e))
		}
	}
	m.elem = m.size / len(m.regs)
	m.dstM = ^uint64(0)
	for _, e := range list {
		if e.Kind == ptx.RegOperand {
			m.dstM = widthMask(l.regSize(e))
		}
	}
}

func (l *lowerer) lowerMemory(out *inst, in *ptx.Instr) bool {
	size := in.Type.Size() * max(in.Vec, 1)
	switch in.Op {
	case ptx.Ld:
		if in.Type == ptx.B128 {
			return false
		}
		m := l.addr(in.Src[0], in.Space, size)
		l.elements(m, in.Dst[0], true)
		m.strong = in.Volatile || in.Sem != ptx.Weak
		m.sext = isSigned(in.Type)
		out.mem, out.a = m, m.base
		out.exec = loadFn(m)
		return true
	case ptx.St:
		if in.Type == ptx.B128 {
			return false
		}
		m := l.addr(in.Src[0], in.Space, size)
		l.elements(m, in.Src[1], false)
		m.strong = in.Volatile || in.Sem != ptx.Weak
		m.atomic = atomicStore(in, m)
		out.mem, out.a = m, m.base
		out.exec = storeFn(m)
		return true
	case ptx.Atom, ptx.Red:
		return l.lowerAtom(out, in, size)
	case ptx.MultimemSt, ptx.MultimemRed, ptx.MultimemLdReduce:
		return l.lowerMultimem(out, in, size)
	case ptx.Prefetch:
		out.kind = kindNop
		return true
	case ptx.CpAsync, ptx.CpAsyncBulk, ptx.CpAsyncCtl:
		return l.lowerAsync(out, in)
	case ptx.MbarInit, ptx.MbarInval, ptx.MbarArrive, ptx.MbarExpectTx, ptx.MbarTestWait, ptx.MbarTryWait:
		return l.lowerMbarrier(out, in)
	}
	return false
}

// atomicStore says whether a store needs sync/atomic. Relaxed vectors do not:
// their aligned 8-byte halves are single stores anyway, and whatever orders
// them is an atomic or a release of its own.
func atomicStore(in *ptx.Instr, m *memOp) bool {
	return m.strong && (len(m.regs) == 1 || in.Sem == ptx.Release)
}

// storeFn picks the loop for a store.
func storeFn(m *memOp) execFn {
	if m.atomic || len(m.regs) != 4 || m.size != 16 {
		return execStore
	}
	return func(w *warp, s *split, in *inst, mask uint32) bool {
		m := in.mem
		a := w.addresses(in)
		r0, r1, r2, r3 := w.src(m.regs[0]), w.src(m.regs[1]), w.src(m.regs[2]), w.src(m.regs[3])
		for k := mask; k != 0; k &= k - 1 {
			i := lane(k)
			p := (*[2]uint64)(w.ptr(in, m, i, a[i]+m.off))
			p[0], p[1] = r0[i]&0xffffffff|r1[i]<<32, r2[i]&0xffffffff|r3[i]<<32
		}
		w.noteAccess(in, m, WriteAccess, mask, a)
		if m.space != ptx.Local {
			w.moved(s)
		}
		return true
	}
}

// loadFn picks the loop for a load: the common weak forms have their own.
func loadFn(m *memOp) execFn {
	if !m.strong && !m.sext && len(m.regs) == 1 && m.space != ptx.Param {
		switch m.size {
		case 4:
			return func(w *warp, s *split, in *inst, mask uint32) bool {
				if w.obs != nil {
					return execLoad(w, s, in, mask)
				}
				d, a := &w.regs[in.mem.regs[0]], w.addresses(in)
				for k := mask; k != 0; k &= k - 1 {
					i := lane(k)
					d[i] = uint64(*(*uint32)(w.ptr(in, in.mem, i, a[i]+in.mem.off)))
				}
				return true
			}
		case 8:
			return func(w *warp, s *split, in *inst, mask uint32) bool {
				if w.obs != nil {
					return execLoad(w, s, in, mask)
				}
				d, a := &w.regs[in.mem.regs[0]], w.addresses(in)
				for k := mask; k != 0; k &= k - 1 {
					i := lane(k)
					d[i] = *(*uint64)(w.ptr(in, in.mem, i, a[i]+in.mem.off))
				}
				return true
			}
		}
	}
	if !m.strong && !m.sext && len(m.regs) == 4 && m.size == 16 {
		return func(w *warp, s *split, in *inst, mask uint32) bool {
			if w.obs != nil {
				return execLoad(w, s, in, mask)
			}
			a, r := w.addresses(in), in.mem.regs
			d0, d1, d2, d3 := &w.regs[r[0]], &w.regs[r[1]], &w.regs[r[2]], &w.regs[r[3]]
			for k := mask; k != 0; k &= k - 1 {
				i := lane(k)
				p := (*[2]uint64)(w.ptr(in, in.mem, i, a[i]+in.mem.off))
				x, y := p[0], p[1]
				d0[i], d1[i], d2[i], d3[i] = uint64(uint32(x)), x>>32, uint64(uint32(y)), y>>32
			}
			return true
		}
	}
	return execLoad
}

// lowerAsync handles asynchronous copies. Fast performs them when they are
// issued, which is the earliest legal moment.
func (l *lowerer) lowerAsync(out *inst, in *ptx.Instr) bool {
	mods := modifiers(in.Text)
	has := func(s string) bool {
		for _, m := range mods {
			if m == s {
				return true
			}
		}
		return false
	}
	switch in.Op {
	case ptx.CpAsyncCtl:
		if !has("mbarrier") {
			// Copies are complete already: there is nothing to commit or to wait for.
			out.exec = func(w *warp, _ *split, in *inst, mask uint32) bool { w.noteFence(in, mask); return true }
			return true
		}
		out.mem = l.addr(in.Src[0], spaceOr(in.Space, ptx.Generic), 8)
		noinc := in.NoInc || has("noinc")
		out.a = out.mem.base
		out.exec = func(w *warp, s *split, in *inst, mask uint32) bool {
			if noinc { // else the pending count goes up and down again
				w.mbarEach(in, mask, func(_ int, b *mbarrier) { b.arrive(1) })
				w.moved(s)
			}
			return true
		}
		return true
	case ptx.CpAsync:
		n := int(in.Src[2].Imm)
		dst, src := l.addr(in.Src[0], ptx.Shared, n), l.addr(in.Src[1], ptx.Global, n)
		size := int32(-1)
		sized := len(in.Src) > 3
		if sized {
			size = l.src(in.Src[3])
		}
		out.mem, out.a = src, src.base
		out.exec = func(w *warp, s *split, in *inst, mask uint32) bool {
			a := w.addresses(in)
			d := w.addressesOf(dst)
			for k := mask; k != 0; k &= k - 1 {
				i := lane(k)
				have := uint64(n)
				if sized {
					have = min(have, w.src(size)[i]&0xffffffff)
				}
				to := bytesAt(w.ptr(in, dst, i, d[i]+dst.off), uint64(n))
				clear(to)
				if have > 0 {
					copy(to, bytesAt(w.ptr(in, src, i, a[i]+src.off), have))
				}
			}
			w.noteAccess(in, src, ReadAccess, mask, a)
			w.noteAccess(in, dst, WriteAccess, mask, d)
			w.moved(s)
			return true
		}
		return true
	}
	return l.lowerBulk(out, in, len(in.Src) == 4)
}

// lowerBulk is cp.async.bulk, in (with an mbarrier) or out of shared memory.
func (l *lowerer) lowerBulk(out *inst, in *ptx.Instr, toShared bool) bool {
	from, to := ptx.Shared, ptx.Global
	if toShared {
		from, to = ptx.Global, ptx.Shared
	}
	dst, src := l.addr(in.Src[0], to, 16), l.addr(in.Src[1], from, 16)
	size := l.src(in.Src[2])
	var bar *memOp
	if toShared {
		bar = l.addr(in.Src[3], ptx.Shared, 8)
	}
	out.mem, out.a = src, src.base
	out.exec = func(w *warp, s *split, in *inst, mask uint32) bool {
		a, d := w.addresses(in), w.addressesOf(dst)
		for k := mask; k != 0; k &= k - 1 {
			i := lane(k)
			n := w.src(size)[i] & 0xffffffff
			if n%16 != 0 {
				w.faultf(in, i, misaligned, "cp.async.bulk of %d bytes: the size must be a multiple of 16", n)
			}
			// Piece by piece, so that every piece is checked against its range.
			for o := uint64(0); o < n; o += 16 {
				p := (*[2]uint64)(w.ptr(in, src, i, a[i]+src.off+o))
				q := (*[2]uint64)(w.ptr(in, dst, i, d[i]+dst.off+o))
				q[0], q[1] = p[0], p[1]
			}
			w.noteBulk(in, src, ReadAccess, i, a[i], n)
			w.noteBulk(in, dst, WriteAccess, i, d[i], n)
			if bar != nil {
				b := w.mbarAt(in, bar, i, w.addressesOf(bar)[i]+bar.off)
				b.completeTx(int64(n))
			}
		}
		w.moved(s)
		return true
	}
	return true
}

func spaceOr(s, def ptx.Space) ptx.Space {
	if s == ptx.Generic {
		return def
	}
	return s
}
