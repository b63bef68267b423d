package emu

import (
	"github.com/moegen/moegen/runtime/emu/ptx"
)

// mbarrier is a barrier object in shared memory. Only the block's worker
// touches it. Layout: pending arrivals (20 bits), expected arrivals (20),
// pending transaction bytes (22, signed), valid, phase.
type mbarrier uint64

const (
	mbCount = 1<<20 - 1
	mbTx    = 1<<22 - 1
	mbValid = 1 << 62
	mbPhase = 1 << 63
)

func (b mbarrier) pending() int64  { return int64(b & mbCount) }
func (b mbarrier) expected() int64 { return int64(b >> 20 & mbCount) }
func (b mbarrier) tx() int64       { return signExtend(uint64(b)>>40&mbTx<<10, 4) >> 10 }
func (b mbarrier) phase() uint64   { return uint64(b >> 63) }

func (b *mbarrier) set(pending, expected, tx int64, phase uint64) {
	if pending == 0 && tx == 0 {
		pending, phase = expected, phase^1
	}
	*b = mbarrier(uint64(pending)&mbCount | uint64(expected)&mbCount<<20 | uint64(tx)&mbTx<<40 | mbValid | phase<<63)
}

func (b *mbarrier) init(n uint64) {
	*b = mbarrier(n&mbCount | n&mbCount<<20 | mbValid)
}

func (b *mbarrier) arrive(n int64)     { b.set(b.pending()-n, b.expected(), b.tx(), b.phase()) }
func (b *mbarrier) expectTx(n int64)   { *b = *b&^(mbTx<<40) | mbarrier(uint64(b.tx()+n)&mbTx<<40) }
func (b *mbarrier) completeTx(n int64) { b.set(b.pending(), b.expected(), b.tx()-n, b.phase()) }

// mbarAt returns the mbarrier object at an address of shared memory.
func (w *warp) mbarAt(in *inst, m *memOp, i int, addr uint64) *mbarrier {
	p := (*mbarrier)(w.ptr(in, m, i, addr))
	if *p&mbValid == 0 && in.src.Op != ptx.MbarInit {
		w.faultf(in, i, launchFailed, "%#x is not an initialised mbarrier object", addr)
	}
	return p
}

// mbarEach calls f for each lane in turn.
func (w *warp) mbarEach(in *inst, mask uint32, f func(i int, b *mbarrier)) {
	a := w.addresses(in)
	for k := mask; k != 0; k &= k - 1 {
		i := lane(k)
		f(i, w.mbarAt(in, in.mem, i, a[i]+in.mem.off))
	}
	w.noteAccess(in, in.mem, RMWAccess, mask, a)
}

func (l *lowerer) lowerMbarrier(out *inst, in *ptx.Instr) bool {
	m := l.addr(in.Src[0], spaceOr(in.Space, ptx.Generic), 8)
	m.strong = true
	out.mem, out.a = m, m.base
	arg := l.imm(1)
	if len(in.Src) > 1 {
		arg = l.src(in.Src[1])
	}
	mods := map[string]bool{}
	for _, s := range modifiers(in.Text) {
		mods[s] = true
	}
	d := l.scratch
	if len(in.Dst) > 0 && in.Op == ptx.MbarArrive {
		d = l.dst(in.Dst[0])
	}
	count := func(w *warp, i int) int64 { return int64(w.src(arg)[i] & 0xffffffff) }
	each := func(f func(w *warp, in *inst, i int, b *mbarrier)) bool {
		out.exec = func(w *warp, s *split, in *inst, mask uint32) bool {
			w.mbarEach(in, mask, func(i int, b *mbarrier) { f(w, in, i, b) })
			w.moved(s)
			return true
		}
		return true
	}
	switch in.Op {
	case ptx.MbarInit:
		return each(func(w *warp, _ *inst, i int, b *mbarrier) { b.init(uint64(count(w, i))) })
	case ptx.MbarInval:
		return each(func(_ *warp, _ *inst, _ int, b *mbarrier) { *b = 0 })
	case ptx.MbarExpectTx:
		return each(func(w *warp, _ *inst, i int, b *mbarrier) { b.expectTx(count(w, i)) })
	case ptx.MbarArrive:
		expect := mods["expect_tx"]
		return each(func(w *warp, in *inst, i int, b *mbarrier) {
			w.regs[d][i] = uint64(*b)
			n := int64(1)
			if expect {
				b.expectTx(count(w, i))
			} else {
				n = count(w, i)
			}
			if n > b.pending() {
				w.faultf(in, i, launchFailed, "%d arrivals at an mbarrier that expects %d more of %d in this phase", n, b.pending(), b.expected())
			}
			b.arrive(n)
		})
	case ptx.MbarTestWait, ptx.MbarTryWait:
		p, _ := l.pred(in.Dst[0])
		parity := mods["parity"]
		out.exec = func(w *warp, s *split, in *inst, mask uint32) bool {
			var done uint32
			h := uint64(0)
			w.mbarEach(in, mask, func(i int, b *mbarrier) {
				phase := w.src(arg)[i] & 1
				if !parity {
					phase = w.src(arg)[i] >> 63
				}
				if b.phase() != phase {
					done |= 1 << i
				}
				h = (h ^ uint64(*b)) * hashMul
			})
			w.setPred(p, mask, done)
			if done != 0 {
				return true
			}
			return w.next(s, w.poll(s, pollKey(s.pc, uint64(mask)), h))
		}
		return true
	}
	return false
}
