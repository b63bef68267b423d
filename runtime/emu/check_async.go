package emu

import (
	"strings"
	"unsafe"

	"github.com/moegen/moegen/runtime/emu/ptx"
	"github.com/moegen/moegen/runtime/emu/race"
)

// copyJob is an asynchronous copy under way. Check performs it when it is
// issued; Explore at any moment up to when somebody waits for it.
type copyJob struct {
	w       *warp
	lane    int
	ops     [2]race.OpID // of the read and the write
	al      [2]*checkAlloc
	off     [2]uint64
	from    []unsafe.Pointer // by piece of at most 16 bytes
	to      []unsafe.Pointer
	have, n uint64 // bytes that are read, and written: the rest is zero
	bar     *mbarrier
	barOff  uint64
	agents  [2]*race.Warp // what reads, and what writes: the first can be waited for alone
	done    bool
}

// asyncState is what a warp's lanes have under way: by kind (cp.async, bulk)
// and lane.
type asyncState struct {
	lanes [2]*[32]laneAsync
}

type laneAsync struct {
	open   []*copyJob   // not committed
	groups [][]*copyJob // committed, the oldest first
}

func (a *asyncState) of(bulk bool, i int) *laneAsync {
	k := 0
	if bulk {
		k = 1
	}
	if a.lanes[k] == nil {
		a.lanes[k] = new([32]laneAsync)
	}
	return &a.lanes[k][i]
}

func (c *checker) wrapAsync(p *program, in *inst, orig execFn) visibility {
	switch in.src.Op {
	case ptx.CpAsync, ptx.CpAsyncBulk:
		in.exec = c.issue(p, in)
	case ptx.CpAsyncCtl:
		in.exec = c.copyControl(in, orig)
	default:
		in.exec = c.mbar(in, orig)
	}
	return visible
}

// issue starts a copy for each lane.
func (c *checker) issue(p *program, in *inst) execFn {
	bulk := in.src.Op == ptx.CpAsyncBulk
	src := in.mem
	dst := p.memOps[src.idx-1] // lowered right before
	var bar *memOp
	if bulk && len(in.src.Src) == 4 {
		bar = p.memOps[src.idx+1]
	}
	var ops [2]race.OpID
	for i, k := range []race.Kind{race.Read, race.Write} {
		o := c.raceOp(p, in.src, k, race.Unicast, 0)
		o.Async, o.Sem = bulk, race.Weak
		ops[i] = c.op(p.fn.Name, o)
	}
	return func(w *warp, s *split, in *inst, mask uint32) bool {
		a, d := w.addresses(in), w.addressesOf(dst)
		for k := mask; k != 0; k &= k - 1 {
			i := lane(k)
			j := &copyJob{w: w, lane: i, ops: ops, n: uint64(src.size)}
			if bulk {
				j.n = w.operand(in.src.Src[2], i) & 0xffffffff
				if j.n%16 != 0 {
					w.faultf(in, i, misaligned, "cp.async.bulk of %d bytes: the size must be a multiple of 16", j.n)
				}
			}
			j.have = j.n
			if !bulk && len(in.src.Src) > 3 {
				j.have = min(j.n, w.operand(in.src.Src[3], i)&0xffffffff)
			}
			for o := uint64(0); o < j.n; o += 16 {
				if o < j.have {
					j.from = append(j.from, w.ptr(in, src, i, a[i]+src.off+o))
				}
				j.to = append(j.to, w.ptr(in, dst, i, d[i]+dst.off+o))
			}
			j.al[0], j.off[0] = c.find(w, src, a[i]+src.off)
			j.al[1], j.off[1] = c.find(w, dst, d[i]+dst.off)
			j.agents[0] = c.det.Fork(w.ck.rw, i)
			if bar != nil {
				at := w.addressesOf(bar)[i] + bar.off
				j.bar = w.mbarAt(in, bar, i, at)
				_, j.barOff = c.find(w, bar, at)
			} else {
				l := w.ck.async.of(bulk, i)
				l.open = append(l.open, j)
			}
			if c.explore {
				c.s.tasks = append(c.s.tasks, fresh{job: j, due: c.s.turns + c.s.skew(), prio: c.s.priority()})
				w.b.ck.jobs = append(w.b.ck.jobs, j)
			} else {
				c.perform(j)
			}
		}
		w.moved(s)
		return true
	}
}

// perform makes a copy happen now.
func (c *checker) perform(j *copyJob) {
	if j.done {
		return
	}
	j.done = true
	if j.have > 0 && j.al[0] != nil {
		c.det.Access(j.agents[0], 0, j.ops[0], j.al[0].a, 0, j.off[0], j.have)
	}
	j.agents[1] = c.det.Fork(j.agents[0], 0)
	for i, to := range j.to {
		o := uint64(16 * i)
		n := min(16, j.n-o)
		b := bytesAt(to, n)
		clear(b)
		if o < j.have {
			copy(b, bytesAt(j.from[i], min(n, j.have-o)))
		}
	}
	if j.al[1] != nil && j.n > 0 {
		c.det.Access(j.agents[1], 0, j.ops[1], j.al[1].a, 0, j.off[1], j.n)
		c.wrote(j.al[1], j.off[1], j.off[1]+j.n)
	}
	if j.bar == nil {
		return
	}
	// Whoever waits for the barrier comes after the copy.
	m := j.w.b.ck.mbar(j.barOff)
	last := c.det.Fork(j.agents[1], 0)
	c.det.JoinAgent(last, 0, j.agents[1])
	c.det.Arrive(m.now, last, 1)
	before := j.bar.phase()
	j.bar.completeTx(int64(j.n))
	m.turned(before, j.bar)
	c.wrote(c.sharedOf(j.w.b), j.barOff, j.barOff+8)
}

// copyControl is commit_group, wait_group, wait_all and mbarrier.arrive.
func (c *checker) copyControl(in *inst, orig execFn) execFn {
	mods := in.src.Mods
	has := func(s string) bool { return strings.Contains(mods, s) }
	bulk, read := has("bulk"), strings.HasSuffix(mods, ".read")
	switch {
	case has("mbarrier"):
		noinc := in.src.NoInc || has("noinc")
		arrive := c.mbar(in, orig)
		return func(w *warp, s *split, in *inst, mask uint32) bool {
			for k := mask; k != 0; k &= k - 1 {
				l := w.ck.async.of(false, lane(k))
				for _, g := range append(l.groups, l.open) {
					c.finishCopies(w, lane(k), g, false)
				}
				l.groups, l.open = nil, nil
			}
			if noinc {
				return arrive(w, s, in, mask)
			}
			// The arrival is one that the phase has been waiting for in addition.
			a := w.addresses(in)
			for k := mask; k != 0; k &= k - 1 {
				_, off := c.find(w, in.mem, a[lane(k)]+in.mem.off)
				c.det.Arrive(w.b.ck.mbar(off).now, w.ck.rw, 1<<lane(k))
			}
			return orig(w, s, in, mask)
		}
	case has("commit_group"):
		return func(w *warp, s *split, in *inst, mask uint32) bool {
			for k := mask; k != 0; k &= k - 1 {
				l := w.ck.async.of(bulk, lane(k))
				l.groups, l.open = append(l.groups, l.open), nil
			}
			return orig(w, s, in, mask)
		}
	}
	all := has("wait_all")
	return func(w *warp, s *split, in *inst, mask uint32) bool {
		for k := mask; k != 0; k &= k - 1 {
			i := lane(k)
			l := w.ck.async.of(bulk, i)
			left := 0
			if all {
				l.groups, l.open = append(l.groups, l.open), nil
			} else if len(in.src.Src) > 0 {
				left = int(w.operand(in.src.Src[0], i))
			}
			n := max(len(l.groups)-left, 0)
			for _, g := range l.groups[:n] {
				c.finishCopies(w, i, g, read)
			}
			if !read {
				l.groups = l.groups[n:]
			}
		}
		return orig(w, s, in, mask)
	}
}

// finishCopies waits for copies: for their ends, or only for their reads.
func (c *checker) finishCopies(w *warp, i int, js []*copyJob, read bool) {
	for _, j := range js {
		c.perform(j)
		for k, a := range j.agents {
			if a != nil && !(read && k == 1) {
				c.det.JoinAgent(w.ck.rw, i, a)
				j.agents[k] = nil
			}
		}
	}
}

// mbarCheck is an mbarrier object: what has arrived in its present phase, and
// what did in the one before.
type mbarCheck struct{ now, past *race.SyncVar }

func (b *blockCheck) mbar(off uint64) *mbarCheck {
	if b.mbars == nil {
		b.mbars = map[uint64]*mbarCheck{}
	}
	m := b.mbars[off]
	if m == nil {
		m = &mbarCheck{new(race.SyncVar), new(race.SyncVar)}
		b.mbars[off] = m
	}
	return m
}

// turned starts the next phase if the barrier has.
func (m *mbarCheck) turned(before uint64, b *mbarrier) {
	if b.phase() != before {
		m.past, m.now = m.now, new(race.SyncVar)
	}
}

// mbar instruments operations on mbarrier objects. The objects themselves are
// taken to be free of races.
func (c *checker) mbar(in *inst, orig execFn) execFn {
	op := in.src.Op
	return func(w *warp, s *split, in *inst, mask uint32) bool {
		m, pc := in.mem, s.pc
		a := *w.addresses(in)
		if op == ptx.MbarTestWait || op == ptx.MbarTryWait {
			orig(w, s, in, mask)
			// Those whose phase is over: the predicate that it has set.
			p := w.b.g.prog.ck.slots[in.src.Dst[0].Reg]
			won := w.preds[p] & mask
			if in.src.Dst[0].Neg {
				won = mask &^ w.preds[p]
			}
			for k := won; k != 0; k &= k - 1 {
				i := lane(k)
				_, off := c.find(w, m, a[i]+m.off)
				c.det.Wait(w.b.ck.mbar(off).past, w.ck.rw, 1<<i)
			}
			if won != 0 {
				w.moved(s)
			} else {
				c.polled(w, s, in, m, mask, &a)
			}
			return resume(s, pc)
		}
		for k := mask; k != 0; k &= k - 1 {
			i := lane(k)
			b := (*mbarrier)(w.ptr(in, m, i, a[i]+m.off))
			before := b.phase()
			al, off := c.find(w, m, a[i]+m.off)
			mb := w.b.ck.mbar(off)
			if op == ptx.MbarArrive || op == ptx.CpAsyncCtl {
				c.det.Arrive(mb.now, w.ck.rw, 1<<i)
			}
			s.pc = pc
			orig(w, s, in, 1<<i)
			if op == ptx.MbarInit {
				*mb = mbarCheck{new(race.SyncVar), new(race.SyncVar)}
			} else {
				mb.turned(before, b)
			}
			c.wrote(al, off, off+8)
		}
		return resume(s, pc)
	}
}
