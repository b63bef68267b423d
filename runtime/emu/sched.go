package emu

import (
	"fmt"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/moegen/moegen/runtime/driver"
)

// scheduler runs nodes, whose dependencies it tracks, and the blocks of the
// grids among them. Implementations embed graphState, which knows what can run,
// and decide what does: fastScheduler runs blocks on several workers,
// seqScheduler runs one visible operation at a time.
type scheduler interface {
	// enqueue makes n run after deps, and after prog has triggered or ended.
	enqueue(n *node, deps []*node, prog *node)
	// wait blocks until n has ended.
	wait(n *node)
	// ended says whether n has ended, and when in virtual time.
	ended(n *node) (bool, int64)
	// triggered notes that a block of g allows dependents to start.
	triggered(g *grid)
	// fault kills a device's context.
	fault(dev *Device, code driver.Code, text string)
	// nudge notes that the host has changed memory.
	nudge()
	// now is virtual time in nanoseconds.
	now() int64
	stop()
}

// node is an operation in a stream. Its fields are under graphState.mu.
type node struct {
	dev     *Device
	name    string
	pending int
	succs   []*node
	// Dependents that may overlap with this kernel, and whether they may start.
	overlap []*node
	opened  bool
	// after is the kernel that this one may overlap with, until that has ended.
	after      *node
	afterDone  atomic.Bool
	finished   bool // own work is over
	done       bool
	time       int64 // virtual time at the end
	run        func() error
	launch     *launch
	grid       uint64 // of a kernel that has started
	collective *collectiveOp
	ck         *nodeCheck
}

// launch is what a kernel node executes.
type launch struct {
	prog   *program
	cfg    driver.LaunchConfig
	params []uint64
	occ    int
}

// grid is a running launch.
type grid struct {
	launch
	id      uint64
	dev     *Device
	node    *node
	threads int
	blocks  int
	next    int // first block that is not resident
	ended   int
	trig    int // blocks that triggered or ended
	ck      *gridCheck
}

// ready says whether griddepcontrol.wait may go on.
func (g *grid) ready() bool { return g.node.afterDone.Load() }

// fullSM is the residency cost of a multiprocessor; a block costs the share of
// it that its kernel's occupancy makes.
const fullSM = 1 << 20

// graphState tracks which nodes and blocks can run. It is embedded in
// schedulers, which say what to do with them through the two functions.
type graphState struct {
	d       *Driver
	mu      sync.Mutex
	endCond sync.Cond // a node has ended
	grids   uint64
	clock   atomic.Int64

	push     func(t task) // a block or a copy can run
	progress func()       // something has happened
}

// task is a unit of work: a resident block or a node's host-side work.
type task struct {
	b *block
	n *node
}

func (s *graphState) init(d *Driver) {
	s.d = d
	s.endCond.L = &s.mu
	s.clock.Store(1_000_000_000)
}

func (s *graphState) now() int64 { return s.clock.Load() }

func (s *graphState) enqueue(n *node, deps []*node, prog *node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n.pending = 1
	for _, d := range deps {
		if d != nil && !d.done {
			d.succs = append(d.succs, n)
			n.pending++
		}
	}
	switch {
	case prog == nil || prog.done:
		n.afterDone.Store(true)
	default:
		n.after = prog
		prog.overlap = append(prog.overlap, n)
		if !prog.opened {
			n.pending++
		}
	}
	s.release(n)
}

// release takes one dependency off n and starts it after the last.
func (s *graphState) release(n *node) {
	if n.pending--; n.pending == 0 {
		s.start(n)
	}
}

func (s *graphState) ended(n *node) (bool, int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return n.done, n.time
}

func (s *graphState) start(n *node) {
	s.progress()
	if n.dev.sticky.Load() != nil {
		// The context is dead: its operations end without being performed.
		s.finish(n)
		return
	}
	n.dev.started[n] = struct{}{}
	switch {
	case n.launch != nil:
		s.startGrid(n)
	case n.collective != nil:
		if ready := n.collective.arrive(n); ready != nil {
			s.push(task{n: ready})
		}
	case n.run != nil:
		s.push(task{n: n})
	default:
		s.finish(n)
	}
}

// finish ends n's own work; a kernel that overlapped another ends after it.
func (s *graphState) finish(n *node) {
	n.finished = true
	if n.after != nil {
		return
	}
	s.complete(n)
}

func (s *graphState) complete(n *node) {
	if n.done {
		return
	}
	n.done = true
	n.time = s.clock.Load() + int64(n.dev.ops.Add(1))*1000
	delete(n.dev.started, n)
	s.open(n)
	for _, d := range n.overlap {
		d.after = nil
		d.afterDone.Store(true)
		if d.finished {
			s.complete(d)
		}
	}
	succs := n.succs
	n.succs, n.overlap = nil, nil
	for _, d := range succs {
		s.release(d)
	}
	s.progress()
	s.endCond.Broadcast()
}

// open lets dependent kernels start.
func (s *graphState) open(n *node) {
	if n.opened {
		return
	}
	n.opened = true
	for _, d := range n.overlap {
		s.release(d)
	}
}

func (s *graphState) startGrid(n *node) {
	s.grids++
	l := n.launch
	g := &grid{launch: *l, id: s.grids, dev: n.dev, node: n,
		threads: l.cfg.Block.X * l.cfg.Block.Y * l.cfg.Block.Z,
		blocks:  l.cfg.Grid.X * l.cfg.Grid.Y * l.cfg.Grid.Z}
	if s.d.obs != nil {
		e := &GridEvent{Event: Event{Device: n.dev.ordinal, Kernel: n.name, Grid: g.id}, Dependent: n.after != nil}
		if n.after != nil {
			e.After = n.after.grid
		}
		s.d.obs.Launch(e)
	}
	n.grid = g.id
	n.dev.queue = append(n.dev.queue, g)
	s.admit(n.dev)
}

// admit makes blocks resident, in order, as long as they fit.
func (s *graphState) admit(dev *Device) {
	for len(dev.queue) > 0 {
		g := dev.queue[0]
		cost := int64(fullSM / g.occ)
		for g.next < g.blocks {
			if dev.load+cost > s.room(g, cost) {
				return
			}
			dev.load += cost
			b := &block{g: g, n: g.next, sm: dev.smNext % s.d.cfg.SMs}
			dev.smNext++
			g.next++
			s.push(task{b: b})
		}
		dev.queue = dev.queue[1:]
	}
}

// endBlock takes a finished block out of its device.
func (s *graphState) endBlock(b *block) {
	g := b.g
	g.dev.load -= int64(fullSM / g.occ)
	g.ended++
	if !b.triggered {
		s.countTrigger(g)
	}
	s.admit(g.dev)
	if g.ended == g.blocks {
		if s.d.obs != nil {
			s.d.obs.End(&GridEvent{Event: Event{Device: g.dev.ordinal, Kernel: g.node.name, Grid: g.id}})
		}
		s.finish(g.node)
	}
}

func (s *graphState) triggered(g *grid) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.countTrigger(g)
}

func (s *graphState) countTrigger(g *grid) {
	if g.trig++; g.trig == g.blocks {
		s.open(g.node)
	}
}

// kill marks a device dead and ends everything that it has started.
func (s *graphState) kill(dev *Device, code driver.Code, text string) {
	e := &driver.Error{Op: "kernel", Code: code, Name: codeName(code), Text: text}
	if !dev.sticky.CompareAndSwap(nil, e) {
		return
	}
	s.d.log.Warn("emulated device failed", "device", dev.ordinal, "err", e)
	dev.queue, dev.load = nil, 0
	for n := range dev.started {
		if n.collective != nil {
			n.collective.withdraw(n)
		}
		n.after = nil
		s.complete(n)
	}
}

// dead says whether a block's device has failed.
func (b *block) dead() bool { return b.g.dev.sticky.Load() != nil }

// ran ends a node whose host-side work was performed.
func (s *graphState) ran(n *node, err error) {
	if err != nil {
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

func textOf(err error) string {
	if e, ok := err.(*driver.Error); ok {
		return e.Text
	}
	return err.Error()
}

// stallReport says what waits where, and on which devices.
func (s *graphState) stallReport(blocks []*block) (lines []string, hit map[*Device]bool) {
	sort.Slice(blocks, func(i, j int) bool {
		a, b := blocks[i], blocks[j]
		if a.g.dev != b.g.dev {
			return a.g.dev.ordinal < b.g.dev.ordinal
		}
		return a.n < b.n
	})
	hit = map[*Device]bool{}
	for _, b := range blocks {
		if !b.dead() {
			hit[b.g.dev] = true
			lines = append(lines, b.waits())
		}
	}
	for _, dev := range s.d.devices {
		for n := range dev.started {
			if n.collective != nil {
				hit[dev] = true
				lines = append(lines, n.collective.waits(n))
			}
		}
		for _, g := range dev.queue {
			hit[dev] = true
			lines = append(lines, fmt.Sprintf("device %d, kernel %s: %d of %d blocks are not resident, as others occupy the multiprocessors", dev.ordinal, g.prog.fn.Name, g.blocks-g.next, g.blocks))
		}
	}
	return lines, hit
}
