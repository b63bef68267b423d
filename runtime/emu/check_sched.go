package emu

import (
	"sort"
	"time"

	"github.com/moegen/moegen/runtime/driver"
)

// checkScheduler runs everything in one goroutine at a time, that of the host
// which waits for something, choosing the next warp from Config.Seed. Nothing
// runs while no host waits.
type checkScheduler struct {
	graphState
	c       *checker
	runs    []*warp  // can run
	tasks   []fresh  // blocks that have not begun, and copies
	held    []fresh  // those of frozen devices
	blocks  []*block // have begun
	busy    bool     // a host is running the world
	stopped bool
	seq     uint64 // operations enqueued
	graced  uint64 // seq when other hosts were last waited for

	turns     int64
	steps     int64 // warp instructions
	events    int64 // things that others could wait for
	persisted int64 // events when what waits was last let poll on
	moved     int64
	lastEvent uint64
	stride    uint64
	changed   bool // nodes have ended
	// PCT: where priorities change, the next low priority, who runs and for how
	// many turns already.
	changes map[int64]bool
	lowest  uint64
	lastRun *warp
	inRow   int
}

// fresh is a task that has not begun.
type fresh struct {
	task
	job  *copyJob
	due  int64 // turn from which on it may begin
	prio uint64
}

// batch is how many turns a host takes before it lets another one in.
const batch = 512

func newCheckScheduler(d *Driver, c *checker) *checkScheduler {
	s := &checkScheduler{c: c, lowest: 1 << 20}
	s.graphState.init(d)
	s.graphState.push = s.add
	s.graphState.progress = func() { s.changed = true; s.events++ }
	s.reseed()
	return s
}

func (s *checkScheduler) enqueue(n *node, deps []*node, prog *node) {
	s.mu.Lock()
	if n.ck == nil {
		n.ck = &nodeCheck{}
	}
	if len(s.runs)+len(s.tasks)+len(s.blocks) == 0 {
		s.reseed()
	}
	s.seq++
	n.ck.seq, n.ck.deps, n.ck.prog, n.ck.host = s.seq, deps, prog, s.c.host.Clock()
	s.mu.Unlock()
	s.graphState.enqueue(n, deps, prog)
}

// triggered is called by kernels, that is with the lock held.
func (s *checkScheduler) triggered(g *grid) { s.countTrigger(g) }

// fault is called by stream operations, that is with the lock held.
func (s *checkScheduler) fault(dev *Device, code driver.Code, text string) { s.kill(dev, code, text) }

// nudge has nothing to do: hostAccess tells waiters what has changed.
func (s *checkScheduler) nudge() {}

func (s *checkScheduler) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	for s.busy {
		s.endCond.Wait()
	}
	for _, dev := range s.d.devices {
		s.kill(dev, driver.CodeDeinitialized, "the driver was closed")
	}
	s.runs, s.tasks, s.held, s.blocks = nil, nil, nil, nil
}

// add makes a block or copy ready to begin; mu is held.
func (s *checkScheduler) add(t task) {
	if t.b != nil && t.b.g.ck == nil {
		s.c.gridStart(t.b.g)
	}
	f := fresh{task: t, due: s.turns + s.skew(), prio: s.priority()}
	if f.device().frozen {
		s.held = append(s.held, f)
	} else {
		s.tasks = append(s.tasks, f)
	}
}

func (s *checkScheduler) wait(n *node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !n.done && !s.stopped {
		if s.busy {
			s.endCond.Wait()
			continue
		}
		s.busy = true
		s.revisit()
		s.world(func() bool { return n.done })
		s.busy = false
		s.endCond.Broadcast()
	}
	if n.done && n.ck != nil {
		s.c.host.Join(s.c.endOf(n))
	}
}

// someTurns lets the world go on a little, for hosts that poll.
func (s *checkScheduler) someTurns() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy || s.stopped {
		return
	}
	s.busy = true
	left := batch
	s.world(func() bool { left--; return left < 0 || len(s.runs)+len(s.tasks) == 0 })
	s.busy = false
	s.endCond.Broadcast()
}

// world runs until done, or until nothing can run any more. mu is held, and
// released now and then.
func (s *checkScheduler) world(done func() bool) {
	s.d.mem.use.RLock()
	defer s.d.mem.use.RUnlock()
	for n := 0; !done() && !s.stopped; n++ {
		if n == batch {
			n = 0
			s.breathe(0)
		}
		if s.changed {
			s.resumeDependents()
		}
		if s.step() || s.persist(longPolls) {
			continue
		}
		if ms := s.c.judge.HostGraceMillis; ms > 0 && s.graced != s.seq {
			// Another host may be about to enqueue what is waited for.
			s.graced = s.seq
			s.breathe(time.Duration(ms) * time.Millisecond)
			s.revisit()
			continue
		}
		if !s.advance() && !s.persist(longestPolls) {
			s.deadlock()
		}
	}
	s.c.collect()
}

// breathe lets other hosts in.
func (s *checkScheduler) breathe(d time.Duration) {
	s.d.mem.use.RUnlock()
	s.mu.Unlock()
	if d > 0 {
		time.Sleep(d)
	}
	s.mu.Lock()
	s.d.mem.use.RLock()
}

// step performs one turn. It returns false if nothing can run.
func (s *checkScheduler) step() bool {
	if s.steps > s.c.judge.StepLimit {
		s.limit()
		return true
	}
	s.turns++
	w, t := s.choose()
	switch {
	case w != nil && w.b.dead():
		s.sleep(w)
	case w != nil:
		s.turn(w)
		s.took(w.b.g.dev)
	case t >= 0:
		f := s.tasks[t]
		s.tasks = append(s.tasks[:t], s.tasks[t+1:]...)
		if f.job != nil {
			s.c.perform(f.job)
		} else {
			s.begin(f.task)
		}
	default:
		return false
	}
	return true
}

func (s *checkScheduler) begin(t task) {
	if t.n != nil {
		s.runNode(t.n)
		return
	}
	if t.b.dead() {
		return
	}
	b := t.b
	b.ck = &blockCheck{}
	b.setup()
	g := b.g.ck.g
	for _, w := range b.warps {
		w.ck = &warpCheck{rw: g.Warp(b.n, w.id), run: -1, prio: s.priority()}
		s.wake(w)
	}
	s.blocks = append(s.blocks, b)
}

func (s *checkScheduler) runNode(n *node) {
	s.c.nodeRuns(n)
	// Copies take the lock on pages themselves.
	s.d.mem.use.RUnlock()
	err := n.run()
	s.d.mem.use.RLock()
	if err != nil {
		s.c.reportText(kindOfFault(driver.CodeOf(err)), n.name+": "+textOf(err))
		s.kill(n.dev, driver.CodeOf(err), n.name+": "+textOf(err))
	}
	if n.collective != nil {
		for _, p := range n.collective.peers {
			s.finish(p)
		}
		return
	}
	s.finish(n)
}

func (s *checkScheduler) endBlock(b *block) {
	for _, j := range b.ck.jobs {
		s.c.perform(j)
	}
	for _, w := range b.warps {
		s.unpark(w)
		s.sleep(w)
	}
	for i, o := range s.blocks {
		if o == b {
			s.blocks = append(s.blocks[:i], s.blocks[i+1:]...)
			break
		}
	}
	if b.ck.shared != nil {
		b.ck.shared.a.Free()
	}
	g := b.g
	pc := g.prog.ck
	pc.free = append(pc.free, b.ck.regs)
	if g.ended+1 == g.blocks {
		s.c.gridEnd(g)
	}
	s.graphState.endBlock(b)
}

// wake makes w eligible if it has something to do.
func (s *checkScheduler) wake(w *warp) {
	if w.ck.run < 0 && w.canRun() && !w.b.g.dev.frozen {
		w.ck.run = len(s.runs)
		s.runs = append(s.runs, w)
	}
}

func (s *checkScheduler) sleep(w *warp) {
	i := w.ck.run
	if i < 0 {
		return
	}
	last := len(s.runs) - 1
	s.runs[i] = s.runs[last]
	s.runs[i].ck.run = i
	s.runs[last] = nil
	s.runs = s.runs[:last]
	w.ck.run = -1
}

// resumeDependents wakes kernels whose griddepcontrol.wait is over.
func (s *checkScheduler) resumeDependents() {
	s.changed = false
	for _, b := range s.blocks {
		if b.g.node.ck.prog == nil || !b.g.ready() {
			continue
		}
		for _, w := range b.warps {
			for _, sp := range w.splits {
				if sp.ck.grid {
					sp.ck.grid, sp.ck.parked, sp.repeats = false, false, 0
				}
			}
			s.wake(w)
		}
	}
}

// startedBy lists what a device has begun and not ended, in order.
func (s *checkScheduler) startedBy(dev *Device) []*node {
	var nodes []*node
	for n := range dev.started {
		nodes = append(nodes, n)
	}
	sort.Slice(nodes, func(i, j int) bool { return nodes[i].ck.seq < nodes[j].ck.seq })
	return nodes
}

// kill marks a device dead and ends everything that it has started, in order.
func (s *checkScheduler) kill(dev *Device, code driver.Code, text string) {
	e := &driver.Error{Op: "kernel", Code: code, Name: codeName(code), Text: text}
	if !dev.sticky.CompareAndSwap(nil, e) {
		return
	}
	s.d.log.Warn("emulated device failed", "device", dev.ordinal, "err", e)
	dev.queue, dev.load = nil, 0
	tasks := s.tasks[:0]
	for _, t := range s.tasks {
		if t.job == nil || t.job.w.b.g.dev != dev {
			tasks = append(tasks, t)
		}
	}
	s.tasks = tasks
	keep := s.blocks[:0]
	for _, b := range s.blocks {
		if b.g.dev != dev {
			keep = append(keep, b)
			continue
		}
		for _, w := range b.warps {
			s.unpark(w)
			s.sleep(w)
		}
	}
	s.blocks = keep
	for _, n := range s.startedBy(dev) {
		if n.collective != nil {
			n.collective.withdraw(n)
		}
		n.after = nil
		s.complete(n)
	}
}

// limit ends an execution that has taken too long to judge.
func (s *checkScheduler) limit() {
	s.c.reportLimit()
	for _, dev := range s.d.devices {
		s.kill(dev, codeLaunchTimeout, "the step limit (Config.Judge.StepLimit) was reached")
	}
	s.steps = 0
}
