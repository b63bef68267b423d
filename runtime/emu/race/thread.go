package race

// Detector watches one execution.
type Detector struct {
	cfg      Config
	ops      []opInfo
	warps    []*Warp // by Warp.id, never shortened: old accesses name them
	slots    []slotState
	free     []uint32
	reports  []Report
	seen     map[dedupKey]int
	drops    []drop
	scAgg    agg
	stats    Stats
	places   int    // unique block and cluster numbers
	seq      uint64 // stores, in coherence order
	locs     uint32
	at       where    // the access being checked
	observed []*Store // what the access observes
	pick     *Store   // what Observe makes the access return
	valued   bool     // ExploreStore is at work
}

// Stats counts what the detector did.
type Stats struct {
	Accesses  int64
	Reports   int64 // before deduplication
	Forgotten int64 // accesses dropped from overlong sets
	Slots     int   // width of the clocks
}

type slotState struct{ end uint32 }

// New returns a detector.
func New(cfg Config) *Detector {
	if cfg.MaxReports == 0 {
		cfg.MaxReports = 20
	}
	return &Detector{cfg: cfg, seen: map[dedupKey]int{}, ops: make([]opInfo, 1), places: 1}
}

// Stats returns counts so far.
func (d *Detector) Stats() Stats {
	d.stats.Slots = len(d.slots)
	return d.stats
}

// GridInfo describes a launch. ClusterSize and Lanes are optional.
type GridInfo struct {
	Device        int
	Kernel        string
	Blocks        int
	WarpsPerBlock int
	ClusterSize   int                          // blocks per cluster; 0 means 1
	Lanes         func(block, warp int) uint32 // lanes that exist; nil: all 32
}

// Grid is a running or ended launch.
type Grid struct {
	info   GridInfo
	warps  []*Warp
	start  clk
	exited clk // what lanes knew that left early
	ended  bool
}

// Warp is a warp, a host thread or an asynchronous agent: what owns a slot of
// the vector clocks.
type Warp struct {
	id, slot uint32
	t        uint32 // epoch of the next event of any lane
	syncT    uint32 // all live lanes know each other's events up to here
	live     uint32
	dirty    uint32 // exited lanes with events that no barrier covers
	base     clk    // what all lanes know
	deltas   uint32 // lanes that know more
	delta    *[32]clk
	lanes    *[32]*laneSync
	last     *[32]uint32 // epoch of the last event; nil once ended
	rel      *[32]relMark
	snap     *vec // base.c raised to syncT, for snapFor
	snapFor  *vec
	snapT    uint32
	grid     *Grid
	place    place
	index    int // in the block
	block    int // in the grid
	host     bool
}

type relMark struct {
	ep uint32
	op OpID
}

func (d *Detector) newWarp(start clk) *Warp {
	w := &Warp{id: uint32(len(d.warps)), base: start, live: 1,
		last: new([32]uint32), rel: new([32]relMark)}
	d.warps = append(d.warps, w)
	// A slot may be used again only by a warp that starts after all that
	// happened in it: then "epoch e of the slot is known" still implies that
	// all before e is known.
	for i, s := range d.free {
		if start.c.slot(s) >= d.slots[s].end {
			d.free[i] = d.free[len(d.free)-1]
			d.free = d.free[:len(d.free)-1]
			w.slot = s
			w.syncT = d.slots[s].end
			w.t = w.syncT + 1
			return w
		}
	}
	w.slot = uint32(len(d.slots))
	d.slots = append(d.slots, slotState{})
	w.t = 1
	return w
}

func (d *Detector) release(w *Warp) {
	d.slots[w.slot].end = w.t
	d.free = append(d.free, w.slot)
	w.delta, w.lanes, w.base, w.snap, w.snapFor, w.live = nil, nil, clk{}, nil, nil, 0
	w.last, w.rel = nil, nil
}

func (d *Detector) newPlace() int { d.places++; return d.places }

// GridStart starts a launch after the given clocks: the stream's tail, the
// events waited for, the host's clock.
func (d *Detector) GridStart(info GridInfo, after ...Clock) *Grid {
	g := &Grid{info: info}
	for _, c := range after {
		g.start = g.start.join(c.k)
	}
	if d.cfg.Alias == Practical {
		g.start.a = g.start.c
	}
	cs := max(info.ClusterSize, 1)
	g.warps = make([]*Warp, 0, info.Blocks*info.WarpsPerBlock)
	cluster := 0
	for b := range info.Blocks {
		if b%cs == 0 {
			cluster = d.newPlace()
		}
		pl := place{info.Device, cluster, d.newPlace()}
		for i := range info.WarpsPerBlock {
			w := d.newWarp(g.start)
			w.grid, w.place, w.block, w.index = g, pl, b, i
			w.live = ^uint32(0)
			if info.Lanes != nil {
				w.live = info.Lanes(b, i)
			}
			g.warps = append(g.warps, w)
		}
	}
	return g
}

// Warp returns a warp of the grid.
func (g *Grid) Warp(block, warp int) *Warp { return g.warps[block*g.info.WarpsPerBlock+warp] }

// GridEnd ends a grid; its warps must not be used any more. The clock is after
// all that the grid did.
func (d *Detector) GridEnd(g *Grid) Clock {
	k := g.start.join(g.exited)
	up := make([]slotEpoch, 0, len(g.warps))
	for _, w := range g.warps {
		k = k.join(w.known(w.live))
		up = append(up, slotEpoch{w.slot, w.t})
	}
	k.c = k.c.raised(up...)
	if d.cfg.Alias == Practical {
		k.a = k.c
	}
	for _, w := range g.warps {
		d.release(w)
	}
	g.ended = true
	return Clock{k}
}

// Exit removes lanes that have left the kernel.
func (d *Detector) Exit(w *Warp, mask uint32) {
	mask &= w.live
	for l := range 32 {
		if mask>>l&1 == 0 {
			continue
		}
		if w.last[l] > w.syncT {
			w.dirty |= 1 << l
		}
		if w.deltas>>l&1 != 0 {
			// What the lane knew happened before the end of the grid.
			w.grid.exited = w.grid.exited.join(w.delta[l])
		}
	}
	w.live &^= mask
}

// Host is a host thread.
type Host struct {
	d *Detector
	W *Warp // for strong accesses to mapped memory: one lane, number 0
}

// NewHost adds a host thread.
func (d *Detector) NewHost() *Host {
	w := d.newWarp(clk{})
	w.place = place{-1 - len(d.warps), d.newPlace(), d.newPlace()}
	w.host = true
	return &Host{d, w}
}

// Clock returns all that the host has done and knows, for a launch or a copy
// that it issues now.
func (h *Host) Clock() Clock {
	k := h.W.full(0)
	h.W.t++
	return Clock{k}
}

// Join makes the host wait for what the clock stands for: synchronise.
func (h *Host) Join(c Clock) { h.W.base = h.W.base.join(c.k) }

// Join makes lanes wait for a clock, such as griddepcontrol.wait.
func (d *Detector) Join(w *Warp, mask uint32, c Clock) {
	for l := range uint8(32) {
		if mask>>l&1 != 0 {
			w.learn(l, c.k)
		}
	}
}

// Fork starts an asynchronous agent (a bulk copy) that comes after what the
// lane did so far. It has one lane, number 0.
func (d *Detector) Fork(w *Warp, lane int) *Warp {
	n := d.newWarp(w.full(uint8(lane)))
	n.grid, n.place, n.block, n.index = w.grid, w.place, w.block, w.index
	w.t++
	return n
}

// JoinAgent makes the lane wait for the agent and ends it. Completion holds
// the implicit proxy.async fence that PTX gives it.
func (d *Detector) JoinAgent(w *Warp, lane int, agent *Warp) {
	k := agent.full(0)
	k.c = k.c.raised(slotEpoch{agent.slot, agent.t})
	k.p = k.c
	w.learn(uint8(lane), k)
	d.release(agent)
}
