package emu

const (
	// maxTurn bounds a turn's instructions, for loops that nobody can see.
	maxTurn = 1 << 14
)

// turn runs one split of w to its next visible operation.
func (s *checkScheduler) turn(w *warp) {
	b := w.b
	if fault := s.guarded(w); fault != nil {
		s.c.reportFault(w, fault)
		s.kill(b.g.dev, fault.code, fault.text)
		return
	}
	s.park(w)
	if !w.canRun() {
		s.sleep(w)
	}
	if b.live == 0 {
		s.endBlock(b)
	}
}

// guarded runs a turn and returns the fault that it ends with, if any.
func (s *checkScheduler) guarded(w *warp) (fault *kernelFault) {
	defer func() {
		if r := recover(); r != nil {
			f, ok := r.(*kernelFault)
			if !ok {
				panic(r)
			}
			fault = f
		}
	}()
	sp, stop := s.pickSplit(w)
	if sp == nil {
		return nil
	}
	if sp != w.last {
		w.last = sp
		if w.obs != nil {
			e := w.event(&w.code[sp.pc], sp.mask)
			w.obs.Switch(&e)
		}
	}
	s.steps += int64(s.run(w, sp, stop, s.weakBudget()))
	return nil
}

// canRun says whether a split of w has something to do.
func (w *warp) canRun() bool {
	for _, sp := range w.splits {
		if sp.state == splitReady && !sp.ck.parked {
			return true
		}
	}
	return false
}

// pickSplit chooses a split of w: mostly the one that is furthest behind, so
// that splits meet where nvcc's block order has them reconverge.
func (s *checkScheduler) pickSplit(w *warp) (best *split, stop int) {
	stop = len(w.code) + 1
	if len(w.splits) == 1 {
		if sp := w.splits[0]; sp.state == splitReady && !sp.ck.parked {
			return sp, stop
		}
		return nil, 0
	}
	w.mergeReady()
	n := 0
	for _, sp := range w.splits {
		if sp.state != splitReady || sp.ck.parked {
			continue
		}
		n++
		if best == nil || sp.pc < best.pc {
			best = sp
		}
	}
	if n > 1 && s.c.rand.Uint32()&7 == 0 {
		k := s.c.rand.IntN(n)
		for _, sp := range w.splits {
			if sp.state == splitReady && !sp.ck.parked {
				if k == 0 {
					best = sp
				}
				k--
			}
		}
	}
	if best == nil {
		return nil, 0
	}
	for _, sp := range w.splits {
		if sp != best && sp.state == splitReady && !sp.ck.parked && sp.pc > best.pc && sp.pc < stop {
			stop = sp.pc
		}
	}
	return best, stop
}

// mergeReady joins splits that have met and can run.
func (w *warp) mergeReady() {
	for i := 0; i < len(w.splits); i++ {
		a := w.splits[i]
		if a.state != splitReady || a.ck != (splitCheck{}) {
			continue
		}
		for j := len(w.splits) - 1; j > i; j-- {
			if t := w.splits[j]; t.state == splitReady && t.pc == a.pc && t.ck == (splitCheck{}) {
				a.mask |= t.mask
				a.repeats = min(a.repeats, t.repeats)
				w.dropSplit(t)
			}
		}
	}
}

// run executes s: one visible operation, or up to weak weak accesses, and
// whatever nobody can see up to the next. It also ends at stop, where another
// split waits to be joined. It returns the number of instructions.
func (*checkScheduler) run(w *warp, s *split, stop, weak int) int {
	code, vis, pc, mask := w.code, w.b.g.prog.ck.vis, s.pc, s.mask
	ended := false // a visible operation has been performed
	used := 0
	for ; used < maxTurn; used++ {
		in := &code[pc]
		m := mask
		if in.guard >= 0 {
			m &= w.preds[in.guard] ^ in.gxor
			if m == 0 {
				pc++
				if pc >= stop {
					break
				}
				continue
			}
		}
		switch in.kind {
		case kindALU:
			a, b, c := w.src(in.a), w.src(in.b), w.src(in.c)
			d := &w.regs[in.d]
			if m == fullMask {
				in.alu(d, a, b, c)
			} else {
				in.alu(&w.tmp, a, b, c)
				for m := m; m != 0; m &= m - 1 {
					d[lane(m)] = w.tmp[lane(m)]
				}
			}
		case kindSetp:
			w.setp(in, m)
		case kindBra:
			if m == mask {
				pc = in.target
				if pc >= stop {
					s.pc = pc
					return used + 1
				}
				continue
			}
			s.pc = pc + 1
			s.mask &^= m
			t := w.newSplit(in.target, m)
			t.repeats = s.repeats
			return used + 1
		case kindNop:
		default:
			s.pc = pc
			switch vis[pc] {
			case visible:
				if ended {
					return used
				}
				ended = true
			case weakAccess:
				if weak == 0 {
					return used
				}
				weak--
			}
			if !in.exec(w, s, in, m) {
				return used + 1
			}
		}
		pc++
		if pc >= stop {
			break
		}
	}
	s.pc = pc
	return used
}
