package emu

import (
	"fmt"
	"math/bits"

	"github.com/moegen/moegen/runtime/emu/ptx"
)

// splitState says what a split waits for.
type splitState uint8

const (
	splitReady splitState = iota
	splitBarrier
	splitSync // a warp-level operation whose other lanes are missing
)

// split is a set of a warp's lanes that run together.
type split struct {
	pc     int
	mask   uint32
	state  splitState
	credit int // instructions until another split gets its turn
	// repeats counts polls that saw nothing new since anything happened; spin is
	// set when it has reached spinAfter, and makes the split step aside.
	repeats int
	spin    bool
	in      *inst // what it waits at
	// What the split polled last, for reports.
	seenAt          *inst
	seenAddr, seenV uint64
	ck              splitCheck
}

const (
	spinAfter  = 16
	turn       = 1024 // credit of a split
	warpBudget = 4096 // instructions of a warp before the next warp's turn
)

// warp is 32 threads.
type warp struct {
	b      *block
	id     int
	alive  uint32 // threads that exist and have not exited
	regs   []vec
	preds  []uint32
	consts []vec
	code   []inst
	splits []*split
	free   []*split
	cache  []addrCache
	polls  map[uint64]uint64 // see poll
	local  []uint64
	obs    Observer
	tmp    vec
	sync   syncState
	mem    *space
	carry  uint32 // the condition code register
	// localStride is the distance between lanes in local.
	localStride uint64
	// progress is set by whatever another thread could be waiting for.
	progress bool
	last     *split
	ck       *warpCheck // nil in Fast mode, as are the other ck fields
}

func (w *warp) src(s int32) *vec {
	if s >= 0 {
		return &w.regs[s]
	}
	return &w.consts[^s]
}

func (w *warp) newSplit(pc int, mask uint32) *split {
	var s *split
	if n := len(w.free); n > 0 {
		s = w.free[n-1]
		w.free = w.free[:n-1]
		*s = split{}
	} else {
		s = new(split)
	}
	s.pc, s.mask, s.credit = pc, mask, turn
	w.splits = append(w.splits, s)
	return s
}

func (w *warp) dropSplit(s *split) {
	for i, t := range w.splits {
		if t == s {
			w.splits = append(w.splits[:i], w.splits[i+1:]...)
			break
		}
	}
	w.free = append(w.free, s)
	if w.last == s {
		w.last = nil
	}
}

// fork takes the lanes m out of s into a split of their own; s itself if these
// are all its lanes.
func (w *warp) fork(s *split, m uint32) *split {
	if m == s.mask {
		return s
	}
	s.mask &^= m
	n := w.newSplit(s.pc, m)
	n.repeats = s.repeats
	return n
}

// merge joins ready splits that have met.
func (w *warp) merge() {
	for i := 0; i < len(w.splits); i++ {
		s := w.splits[i]
		if s.state != splitReady {
			continue
		}
		for j := len(w.splits) - 1; j > i; j-- {
			t := w.splits[j]
			if t.state == splitReady && t.pc == s.pc {
				s.mask |= t.mask
				s.credit = max(s.credit, t.credit)
				s.repeats = min(s.repeats, t.repeats)
				s.spin = s.spin && t.spin
				w.dropSplit(t)
			}
		}
	}
}

// pick chooses the split to run: the one that is furthest behind, as that lets
// splits meet where nvcc's block order has them reconverge, but only while it
// has credit, so that every split gets its turn. It returns nil if all ready
// splits are spinning, and the next pc at which another one waits.
func (w *warp) pick() (best *split, stop int) {
	if len(w.splits) == 1 {
		s := w.splits[0]
		if s.state != splitReady || s.spin {
			return nil, 0
		}
		return s, len(w.code) + 1
	}
	w.merge()
	for {
		refill := false
		for _, s := range w.splits {
			if s.state != splitReady || s.spin {
				continue
			}
			if s.credit <= 0 {
				refill = true
				continue
			}
			if best == nil || s.pc < best.pc {
				best = s
			}
		}
		if best != nil {
			break
		}
		if !refill {
			return nil, 0
		}
		for _, s := range w.splits {
			s.credit = turn
		}
	}
	stop = len(w.code) + 1
	for _, s := range w.splits {
		if s != best && s.state == splitReady && s.pc > best.pc && s.pc < stop {
			stop = s.pc
		}
	}
	return best, stop
}

// stepResult says why a warp stopped.
type stepResult int

const (
	stepMore    stepResult = iota // budget used up
	stepSpin                      // every ready split polls in vain
	stepBlocked                   // no split is ready
	stepDone
)

// step runs the warp for about budget instructions.
func (w *warp) step(budget int) stepResult {
	for _, s := range w.splits {
		if s.spin {
			s.spin, s.repeats = false, 0
		}
	}
	for budget > 0 {
		s, stop := w.pick()
		if s == nil {
			if len(w.splits) == 0 {
				return stepDone
			}
			for _, s := range w.splits {
				if s.state == splitReady {
					return stepSpin
				}
			}
			return stepBlocked
		}
		if s != w.last {
			w.last = s
			if w.obs != nil {
				e := w.event(&w.code[s.pc], s.mask)
				w.obs.Switch(&e)
			}
		}
		n := min(budget, s.credit)
		if len(w.splits) == 1 {
			n = budget
		}
		used := w.run(s, n, stop)
		budget -= used
		s.credit -= used
	}
	return stepMore
}

// run executes s until it reaches stop, has used n instructions, or something
// other than straight execution happened. It returns the instructions used.
func (w *warp) run(s *split, n, stop int) int {
	code, pc, mask := w.code, s.pc, s.mask
	for used := 0; used < n; used++ {
		in := &code[pc]
		m := mask
		if in.guard >= 0 {
			m &= w.preds[in.guard] ^ in.gxor
			if m == 0 {
				pc++
				if pc >= stop {
					s.pc = pc
					return used + 1
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
				if len(w.splits) > 1 {
					s.pc = in.target
					return used + 1
				}
				pc = in.target
				continue
			}
			s.pc = pc + 1
			s.mask &^= m
			t := w.newSplit(in.target, m)
			t.repeats, t.credit = s.repeats, s.credit
			return used + 1
		case kindNop:
		default:
			s.pc = pc
			if !in.exec(w, s, in, m) {
				return used + 1
			}
		}
		pc++
		if pc >= stop {
			s.pc = pc
			return used + 1
		}
	}
	s.pc = pc
	return max(n, 1)
}

func (w *warp) setp(in *inst, m uint32) {
	o := in.set
	r := o.cmp(w.src(in.a), w.src(in.b))
	q := ^r
	if o.in >= 0 {
		p := w.preds[o.in] ^ o.inX
		switch o.bool {
		case ptx.BoolAnd:
			r, q = r&p, q&p
		case ptx.BoolOr:
			r, q = r|p, q|p
		case ptx.BoolXor:
			r, q = r^p, q^p
		}
	}
	if o.p >= 0 {
		w.preds[o.p] = w.preds[o.p]&^m | r&m
	}
	if o.q >= 0 {
		w.preds[o.q] = w.preds[o.q]&^m | q&m
	}
}

// exit ends the lanes m of s.
func (w *warp) exit(s *split, m uint32) {
	w.alive &^= m
	w.progress = true
	s.mask &^= m
	if s.mask == 0 {
		w.dropSplit(s)
	}
	w.b.exited(bits.OnesCount32(m))
	w.recheckSync()
}

// moved notes that s did something that others could wait for.
func (w *warp) moved(s *split) {
	w.progress = true
	s.repeats = 0
}

// maxPolls is of how many places a warp remembers what it saw there: more than
// its 32 lanes poll in one round of a loop.
const maxPolls = 2048

// poll notes that s looked at something that others can change: key says what,
// val what it saw. A split that keeps seeing the same is spinning; it yields.
// It returns true if the split is to step aside after this instruction.
func (w *warp) poll(s *split, key, val uint64) bool {
	old, seen := w.polls[key]
	if seen && old == val {
		return w.idlePoll(s)
	}
	if seen {
		s.repeats = 0
		w.progress = true
	} else if w.polls == nil || len(w.polls) == maxPolls {
		w.polls = map[uint64]uint64{} // says nothing either way
	}
	w.polls[key] = val
	return false
}

// saw remembers a poll for reports of stalls.
func (s *split) saw(in *inst, addr, v uint64) { s.seenAt, s.seenAddr, s.seenV = in, addr, v }

// lastPoll describes what s polled last.
func (w *warp) lastPoll(s *split) string {
	if s.seenAt == nil {
		return ""
	}
	return fmt.Sprintf(" (line %d saw %#x at address %#x)", s.seenAt.src.Line, s.seenV, s.seenAddr)
}

// idlePoll notes that s merely passed time.
func (w *warp) idlePoll(s *split) bool {
	s.repeats++
	if s.repeats < spinAfter {
		return false
	}
	s.spin = true
	return true
}
