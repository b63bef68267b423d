package emu

// reseed starts the random choices afresh when nothing is under way, from the
// seed and the number of kernels so far: what hosts did at the same time, such
// as setting up one rank each, does not make later schedules differ. It also
// draws the moments at which PCT changes priorities.
func (s *checkScheduler) reseed() {
	s.c.random.Seed(s.d.cfg.Seed, s.grids)
	j := s.c.judge
	if j.Schedule != PCT {
		return
	}
	s.changes = map[int64]bool{}
	for range j.PCTDepth - 1 {
		s.changes[s.turns+s.c.rand.Int64N(int64(j.PCTLength))+1] = true
	}
}

// priority is a new warp's or task's.
func (s *checkScheduler) priority() uint64 {
	if s.c.judge.Schedule != PCT {
		return 0
	}
	return 1<<32 + s.c.rand.Uint64N(1<<32)
}

// skew is after how many turns something may begin that could begin now.
func (s *checkScheduler) skew() int64 {
	if !s.c.explore {
		return 0
	}
	// Mostly none or little, and sometimes as long as a whole kernel takes.
	return s.c.rand.Int64N(1 << (2 * s.c.rand.IntN(7)))
}

// weakBudget is how many weak accesses a turn may make.
func (s *checkScheduler) weakBudget() int {
	if !s.c.explore {
		return 32
	}
	return 1 << (2 * s.c.rand.IntN(4))
}

// choose picks the next warp or task; nil and -1 if there is none.
func (s *checkScheduler) choose() (*warp, int) {
	due, first := 0, -1
	for i := range s.tasks {
		t := &s.tasks[i]
		if t.due <= s.turns {
			due++
		}
		if first < 0 || t.due < s.tasks[first].due {
			first = i
		}
	}
	if len(s.runs) == 0 && due == 0 {
		return nil, first
	}
	if s.c.judge.Schedule == PCT {
		return s.highest()
	}
	k := s.c.rand.IntN(len(s.runs) + due)
	if k < len(s.runs) {
		return s.runs[k], -1
	}
	k -= len(s.runs)
	for i := range s.tasks {
		if s.tasks[i].due <= s.turns {
			if k == 0 {
				return nil, i
			}
			k--
		}
	}
	return nil, first
}

// tired is how many turns in a row a warp may have under PCT: one that waits
// for another by weak loads would otherwise keep it from running.
const tired = 4096

// highest picks by priority.
func (s *checkScheduler) highest() (*warp, int) {
	w, t := s.top()
	if s.changes[s.turns] || s.inRow > tired {
		s.lowest--
		if w != nil {
			w.ck.prio = s.lowest
		} else {
			s.tasks[t].prio = s.lowest
		}
		w, t = s.top()
	}
	if w == s.lastRun {
		s.inRow++
	} else {
		s.lastRun, s.inRow = w, 0
	}
	return w, t
}

func (s *checkScheduler) top() (w *warp, task int) {
	task = -1
	best := uint64(0)
	for _, x := range s.runs {
		if x.ck.prio > best {
			best, w = x.ck.prio, x
		}
	}
	for i := range s.tasks {
		if t := &s.tasks[i]; t.due <= s.turns && t.prio > best {
			best, w, task = t.prio, nil, i
		}
	}
	return w, task
}

// oneStream says whether at most one stream of the device has anything to do.
// Where ranks share a device, their kernels must be resident together.
func (v *Device) oneStream() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := 0
	for s := range v.streams {
		if s.tail != nil && !s.tail.done {
			n++
		}
	}
	return n <= 1
}

// room is how much of its device the blocks of g may fill, in the units of
// Device.load. Explore makes devices smaller, never below what one launch that
// fits needs, as kernels whose blocks wait for each other rely on that.
func (s *graphState) room(g *grid, cost int64) int64 {
	full := int64(s.d.cfg.SMs) * fullSM
	c := s.d.check
	if c == nil || !c.explore {
		return full
	}
	if g.ck == nil {
		c.gridStart(g)
	}
	if g.ck.room == 0 {
		g.ck.room = full
		if need := cost * int64(g.blocks); need < full && c.rand.Uint32()&1 == 0 && g.dev.oneStream() {
			g.ck.room = need + c.rand.Int64N(full-need+1)
			if c.rand.Uint32()&1 == 0 {
				g.ck.room = need // alone on the device
			}
		}
	}
	return g.ck.room
}
