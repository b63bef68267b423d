package emu

import (
	"github.com/moegen/moegen/runtime/emu/ptx"
)

const (
	// softPolls is after how many polls of one location in vain a split gives up its
	// turns until what it has polled changes.
	softPolls = 3
	// longPolls is how many it makes when nothing else can run, to come by
	// everything that it looks at only now and then (a clock, a failure word), and
	// longestPolls before the system counts as dead.
	longPolls    = 600
	longestPolls = 4500
	maxPolled    = 16
)

// poll is a location that a warp has polled.
type poll struct {
	al     *checkAlloc
	lo, hi uint64
	in     *inst
	mask   uint32
	addr   vec
	val    uint64 // of the first lane
	count  int
}

// watch is a warp that waits for a change of [lo, hi).
type watch struct {
	w      *warp
	lo, hi uint64
}

// polled notes what a strong load, or an atomic that changed nothing, saw.
func (c *checker) polled(w *warp, s *split, in *inst, m *memOp, mask uint32, a *vec) {
	if s.repeats == 0 {
		c.fresh(w)
	}
	i := lane(mask)
	var val uint64
	if len(m.regs) > 0 && in.src.Op == ptx.Ld {
		val = w.src(m.regs[0])[i]
	} else {
		val = s.seenV
	}
	c.eachEnvelope(w, m, mask, a, func(al *checkAlloc, lo, hi uint64) {
		full := len(w.ck.polled) == maxPolled
		for n := range w.ck.polled {
			p := &w.ck.polled[n]
			if p.in != in || p.al != al || !full && (lo < p.lo || p.hi < hi) {
				continue
			}
			// Where there are too many, what the warp waits for may lie between
			// them, too: it must not miss a change.
			p.lo, p.hi = min(p.lo, lo), max(p.hi, hi)
			p.val, p.mask, p.addr = val, mask, *a
			p.count++
			return
		}
		if full {
			w.ck.polled = append(w.ck.polled[:0], w.ck.polled[1:]...)
		}
		w.ck.polled = append(w.ck.polled, poll{al, lo, hi, in, mask, *a, val, 1})
	})
}

// comes is how often in a row lanes in mask have come by in's location, and seen
// nothing new anywhere; -1 if they poll something else. A round of a loop may
// poll many locations: it has not waited in vain before it has come by the same
// ones again.
func (w *warp) comes(in *inst, mask uint32) int {
	n := -1
	for i := range w.ck.polled {
		if p := &w.ck.polled[i]; p.in == in && p.mask&mask != 0 && (n < 0 || p.count < n) {
			n = p.count
		}
	}
	return n
}

// fresh forgets what the warp polled: it has seen something new. Whatever else
// in it still spins must come by its locations again before it is parked.
func (c *checker) fresh(w *warp) {
	w.ck.polled = w.ck.polled[:0]
	w.ck.timed = false
	for _, s := range w.splits {
		if !s.ck.parked {
			s.repeats, s.ck.polls = 0, 0
		}
	}
}

// park takes the splits out of the schedule that poll in vain.
func (s *checkScheduler) park(w *warp) {
	for _, sp := range w.splits {
		if sp.state != splitReady || sp.ck.parked {
			continue
		}
		if sp.repeats == 0 {
			sp.ck.polls = 0
			continue
		}
		limit := softPolls
		if s.persisted == s.events {
			limit = max(limit, sp.ck.polls)
		}
		if n := w.comes(sp.seenAt, sp.mask); sp.repeats < limit || n >= 0 && n < softPolls {
			continue
		}
		sp.ck.parked = true
		if limit == softPolls {
			sp.ck.polls = 0 // it has not come by everything
		}
		for i := range w.ck.polled {
			p := &w.ck.polled[i]
			p.al.watch = append(p.al.watch, watch{w, p.lo, p.hi})
			w.ck.watches = append(w.ck.watches, p.al)
		}
	}
}

// wrote wakes the warps that wait for a change of [lo, hi).
func (c *checker) wrote(al *checkAlloc, lo, hi uint64) {
	c.s.events++
	if al == nil {
		return
	}
	for i := 0; i < len(al.watch); i++ {
		if x := al.watch[i]; x.lo < hi && lo < x.hi {
			c.s.unpark(x.w)
			i = -1 // the list has changed
		}
	}
}

// unpark lets all splits of a warp run again.
func (s *checkScheduler) unpark(w *warp) {
	for _, al := range w.ck.watches {
		keep := al.watch[:0]
		for _, x := range al.watch {
			if x.w != w {
				keep = append(keep, x)
			}
		}
		al.watch = keep
	}
	w.ck.watches = w.ck.watches[:0]
	w.ck.polled = w.ck.polled[:0]
	w.ck.timed = false
	for _, sp := range w.splits {
		if !sp.ck.grid {
			sp.ck.parked, sp.ck.polls, sp.repeats, sp.spin = false, 0, 0, false
		}
	}
	s.wake(w)
}

// persist is called when nothing can run. It lets what is parked poll on, so many
// times in all or until something happens, which others may be able to go on
// with. It returns false if all has polled as often.
func (s *checkScheduler) persist(polls int) bool {
	s.persisted = s.events
	found := false
	for _, b := range s.blocks {
		if b.g.dev.frozen {
			continue
		}
		for _, w := range b.warps {
			for _, sp := range w.splits {
				if sp.ck.parked && !sp.ck.grid && sp.ck.polls < polls {
					sp.ck.parked, sp.ck.polls = false, polls
					found = true
				}
			}
			s.wake(w)
		}
	}
	return found
}

// revisit lets what is parked look at everything again before the system counts
// as stuck: the host may have written to memory of its own, unseen.
func (s *checkScheduler) revisit() {
	for _, b := range s.blocks {
		for _, w := range b.warps {
			for _, sp := range w.splits {
				if sp.ck.parked && !sp.ck.grid {
					sp.ck.polls, sp.repeats = 0, min(sp.repeats, softPolls)
				}
			}
		}
	}
}

// maxClock is how far virtual time goes without anything happening before the
// system counts as dead.
const maxClock = 1 << 45 // ten hours

// advance moves virtual time to the next moment at which a warp that looks at
// the clock can do something else. It returns false if there is none.
func (s *checkScheduler) advance() bool {
	now := uint64(s.clock.Load())
	if s.moved != s.events {
		s.moved, s.lastEvent = s.events, now
	}
	var timed []*warp
	next, stall, pure := ^uint64(0), true, false
	for _, b := range s.blocks {
		if b.g.dev.frozen {
			continue
		}
		for _, w := range b.warps {
			if !w.ck.timed || len(w.splits) == 0 {
				continue
			}
			timed = append(timed, w)
			pure = pure || len(w.ck.polled) == 0
			if t := w.nextDeadline(now); t < next {
				next, stall = t, len(w.ck.polled) > 0
			}
		}
	}
	if len(timed) == 0 || now-s.lastEvent > maxClock {
		return false
	}
	if next == ^uint64(0) {
		// No comparison tells: twice as far as the last time.
		s.stride = max(s.stride*2, 1000)
		next, stall = now+s.stride, !pure
	} else {
		s.stride = 0
	}
	if stall {
		s.c.reportStall(timed, now, next)
	}
	s.clock.Store(int64(next))
	s.persisted = s.events
	for _, w := range timed {
		polled := len(w.ck.polled) > 0
		s.unpark(w)
		for _, sp := range w.splits {
			if polled {
				sp.ck.polls = longPolls
			}
		}
	}
	return true
}

// nextDeadline is the least register after now that w's kernel compares with a
// clock's reading.
func (w *warp) nextDeadline(now uint64) uint64 {
	next := ^uint64(0)
	for _, d := range w.b.g.prog.ck.deadlines {
		r := w.src(d.slot)
		for k := w.alive; k != 0; k &= k - 1 {
			if t := r[lane(k)]; t > now && t < next && t-now < maxClock {
				next = t
			}
		}
	}
	return next
}
