package emu

import (
	"github.com/moegen/moegen/runtime/emu/ptx"
)

func execExit(w *warp, s *split, _ *inst, m uint32) bool {
	s.pc++ // for lanes that the guard keeps
	w.exit(s, m)
	return false
}

// lowerControl handles branches, exits, traps and time.
func (l *lowerer) lowerControl(out *inst, in *ptx.Instr) bool {
	switch in.Op {
	case ptx.Bra:
		out.kind = kindBra
		return true
	case ptx.Brx:
		return l.lowerBrx(out, in)
	case ptx.Exit:
		out.exec = execExit
		return true
	case ptx.Trap, ptx.Brkpt:
		out.exec = func(w *warp, _ *split, in *inst, m uint32) bool {
			w.faultf(in, lane(m), launchFailed, "the kernel trapped")
			return false
		}
		return true
	case ptx.Nanosleep:
		out.exec = func(w *warp, s *split, _ *inst, _ uint32) bool {
			// Sleeping only gives others their turn: virtual time may stand still.
			s.credit = 0
			w.idlePoll(s)
			return w.next(s, true)
		}
		return true
	case ptx.GridDepControl:
		return l.lowerGridDep(out, in)
	}
	return false
}

func (l *lowerer) lowerBrx(out *inst, in *ptx.Instr) bool {
	if len(in.Targets) == 0 {
		return false
	}
	out.a = l.src(in.Src[0])
	targets := in.Targets
	out.exec = func(w *warp, s *split, in *inst, m uint32) bool {
		a := w.src(in.a)
		for m != 0 {
			i := lane(m)
			n := uint32(a[i])
			if int(n) >= len(targets) {
				w.faultf(in, i, illegalInst, "brx.idx with index %d of %d targets", n, len(targets))
			}
			var same uint32
			for k := m; k != 0; k &= k - 1 {
				if uint32(a[lane(k)]) == n {
					same |= 1 << lane(k)
				}
			}
			t := w.fork(s, same)
			t.pc = targets[n]
			m &^= same
			if t == s {
				return false
			}
		}
		s.pc++ // the lanes that the guard kept
		return false
	}
	return true
}

func (l *lowerer) lowerGridDep(out *inst, in *ptx.Instr) bool {
	wait := false
	for _, m := range modifiers(in.Text) {
		wait = wait || m == "wait"
	}
	out.exec = func(w *warp, s *split, in *inst, m uint32) bool {
		if wait {
			if !w.b.g.ready() {
				// Looked at again on the block's next turn.
				s.spin = true
				return false
			}
			w.noteFence(in, m)
			return true
		}
		w.noteFence(in, m)
		if !w.b.triggered {
			w.b.triggered = true
			w.b.g.dev.d.sched.triggered(w.b.g)
		}
		w.moved(s)
		return true
	}
	return true
}

// lowerSync handles barriers, fences and warp-level operations.
func (l *lowerer) lowerSync(out *inst, in *ptx.Instr) bool {
	switch in.Op {
	case ptx.FenceOp:
		out.exec = func(w *warp, _ *split, in *inst, m uint32) bool {
			w.noteFence(in, m)
			return true
		}
		return true
	case ptx.BarSync, ptx.BarArrive, ptx.BarRed:
		return l.lowerBarrier(out, in)
	case ptx.BarWarpSync, ptx.Shfl, ptx.Vote, ptx.Match, ptx.Redux, ptx.Elect:
		return l.lowerWarpSync(out, in)
	}
	return false
}

func (l *lowerer) lowerBarrier(out *inst, in *ptx.Instr) bool {
	srcs := in.Src
	var pred ptx.Operand
	if in.Op == ptx.BarRed {
		pred, srcs = srcs[len(srcs)-1], srcs[:len(srcs)-1]
	}
	id, count := l.src(srcs[0]), int32(0)
	counted := len(srcs) > 1
	if counted {
		count = l.src(srcs[1])
	}
	red := in.Op == ptx.BarRed
	p, px := int32(-1), uint32(0)
	out.d = -1
	if red {
		p, px = l.pred(pred)
		if in.Bool == ptx.BoolPopc {
			out.d = l.dst(in.Dst[0])
		} else {
			out.d, _ = l.pred(in.Dst[0])
		}
	}
	arriveOnly := in.Op == ptx.BarArrive
	out.exec = func(w *warp, s *split, in *inst, m uint32) bool {
		i := lane(m)
		n := w.src(id)[i] & 0xffffffff
		if n >= uint64(len(w.b.bars)) {
			w.faultf(in, i, illegalInst, "barrier %d: a block has 16", n)
		}
		want := 0
		if counted {
			want = int(w.src(count)[i] & 0xffffffff)
			if want == 0 || want%32 != 0 {
				w.faultf(in, i, illegalInst, "barrier %d with a thread count of %d: it must be a positive multiple of 32", n, want)
			}
		}
		votes := uint32(0)
		if red {
			votes = (w.preds[p] ^ px) & m
		}
		w.noteBarrier(in, m, int(n), false)
		w.moved(s)
		if arriveOnly {
			w.b.arrive(int(n), want, m, 0, nil)
			return true
		}
		t := w.fork(s, m)
		t.pc++
		t.state, t.in = splitBarrier, in
		if t != s {
			s.pc++ // lanes that the guard kept away go on
		}
		w.b.arrive(int(n), want, m, votes, &waiter{w, t, in})
		return false
	}
	return true
}
