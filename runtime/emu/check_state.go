package emu

import (
	"fmt"
	"math/rand/v2"

	"github.com/moegen/moegen/runtime/emu/ptx"
	"github.com/moegen/moegen/runtime/emu/race"
)

// checker judges what a Driver in mode Check or Explore executes. Everything in
// it is under the scheduler's lock.
type checker struct {
	d       *Driver
	s       *checkScheduler
	det     *race.Detector
	host    *race.Host
	explore bool
	judge   Judge
	random  *rand.PCG
	rand    *rand.Rand

	ops    map[opKey]race.OpID
	source map[sourceKey]*ptx.Instr
	allocs map[uint64]*checkAlloc // by the id of the physical memory
	ranges [64]rangeEntry
	gen    uint64

	reports   []Report
	raceSeen  int // of the detector's reports, which are in reports
	raceCount int64
	delivered int // reports that a host has had as an error
	divergent map[*ptx.Instr]bool
	stalled   map[string]bool
	limited   bool
}

// opKey is an instruction: Op has its line, kernels of other modules may have
// the same.
type opKey struct {
	kernel string
	op     race.Op
}

type sourceKey struct {
	kernel string
	line   int
}

// checkAlloc is memory as the judge knows it.
type checkAlloc struct {
	a     *race.Alloc
	ph    *phys // nil: a block's shared memory
	watch []watch
	name  string
}

// rangeEntry remembers what lies at a range of addresses.
type rangeEntry struct {
	lo, hi uint64
	off    uint64 // of lo in the memory
	al     *checkAlloc
}

// splitCheck is what a split is to the scheduler.
type splitCheck struct {
	parked bool
	polls  int  // how often it polls, or has polled, while nothing happens
	grid   bool // parked in griddepcontrol.wait
	replay *replay
}

// warpCheck is a warp's part in the judgement.
type warpCheck struct {
	rw     *race.Warp
	run    int    // index in the scheduler's list, -1: not runnable
	prio   uint64 // PCT
	polled []poll // what the warp polled since it last saw something new
	// watches are the entries in the allocations' lists.
	watches []*checkAlloc
	timed   bool // it has looked at a clock since then
	stale   [32]uint8
	async   asyncState
}

// blockCheck is a block's part.
type blockCheck struct {
	shared *checkAlloc
	bars   [16]barCheck
	mbars  map[uint64]*mbarCheck
	regs   []vec
	jobs   []*copyJob // Explore's copies under way
}

// barCheck holds who has come to a barrier.
type barCheck struct {
	parts []barPart
	vars  *race.SyncVar // what bar.arrive has brought
}

type barPart struct {
	w    *warp
	mask uint32
	in   *inst
	wait bool
}

// gridCheck is a running launch's part.
type gridCheck struct {
	g *race.Grid
	n *node
	// room is what the grid may use of its device: see Explore's resident
	// blocks.
	room int64
}

// nodeCheck is a stream operation's part: what it comes after and what comes
// of it, as clocks.
type nodeCheck struct {
	seq      uint64
	deps     []*node
	prog     *node
	host     race.Clock
	start    race.Clock
	end      race.Clock
	hasStart bool
	hasEnd   bool
	// A copy (src != 0) or memset.
	dst, src, size uint64
}

func newChecker(d *Driver) *checker {
	j := d.cfg.Judge.withDefaults()
	c := &checker{
		d: d, judge: j, explore: d.cfg.Mode == Explore, random: rand.NewPCG(0, 0),
		ops: map[opKey]race.OpID{}, source: map[sourceKey]*ptx.Instr{}, allocs: map[uint64]*checkAlloc{},
		divergent: map[*ptx.Instr]bool{}, stalled: map[string]bool{},
	}
	c.rand = rand.New(c.random)
	c.det = race.New(race.Config{
		Alias: race.AliasMode(j.Alias), Async: true, Explore: c.explore, FlagsOnly: true, NoUninit: j.NoUninitialised, MaxReports: j.MaxReports,
	})
	c.host = c.det.NewHost()
	c.s = newCheckScheduler(d, c)
	return c
}

// op registers what an instruction does to memory.
func (c *checker) op(kernel string, o race.Op) race.OpID {
	k := opKey{kernel, o}
	id, ok := c.ops[k]
	if !ok {
		id = c.det.Op(o)
		c.ops[k] = id
	}
	return id
}

// alloc is the judge's view of physical memory.
func (c *checker) alloc(ph *phys) *checkAlloc {
	al := c.allocs[ph.id]
	if al == nil {
		var name string
		switch {
		case ph.dev == nil:
			name = ph.what
		case ph.what == "memory": // of cuMemCreate: made to be shared
			name = fmt.Sprintf("symmetric memory #%d of GPU %d", ph.number, ph.dev.ordinal)
		default:
			name = fmt.Sprintf("%s #%d of GPU %d", ph.what, ph.number, ph.dev.ordinal)
		}
		al = &checkAlloc{a: c.det.NewAlloc(name, ph.size, 1), ph: ph, name: name}
		if ph.dev == nil {
			al.a.Initialised() // a host writes to its own memory unseen
		}
		c.allocs[ph.id] = al
	}
	return al
}

// freed is called without any lock when physical memory goes away.
func (c *checker) freed(ph *phys) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if al := c.allocs[ph.id]; al != nil {
		al.a.Free()
		delete(c.allocs, ph.id)
	}
}

// at finds the memory behind a unicast address; nil where there is none.
func (c *checker) at(addr uint64) *rangeEntry {
	if g := c.d.mem.gen.Load(); g != c.gen {
		c.gen = g
		c.ranges = [64]rangeEntry{}
	}
	e := &c.ranges[addr>>16*hashMul>>58]
	if addr-e.lo < e.hi-e.lo {
		return e
	}
	r := c.d.mem.lookup(addr)
	if r == nil || r.ph == nil {
		return nil
	}
	*e = rangeEntry{lo: r.lo, hi: r.hi, off: r.off, al: c.alloc(r.ph)}
	return e
}

// place names an address for people.
func (c *checker) place(b *block, m *memOp, addr uint64) string {
	if sp, a := spaceOf(m, addr); sp == ptx.Shared {
		return fmt.Sprintf("shared memory of block %d, offset %#x", b.n, a)
	}
	if e := c.at(addr); e != nil {
		return fmt.Sprintf("%s, offset %#x", e.al.name, addr-e.lo+e.off)
	}
	return fmt.Sprintf("address %#x", addr)
}
