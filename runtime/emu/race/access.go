package race

// where is the place in memory an access is being checked at.
type where struct {
	a    *Alloc
	rep  int
	cell uint64
	w    *Warp
	off  uint64
	size uint64
}

// Access records that a lane accesses bytes [off, off+size) of a replica. A
// read returns the latest store; see Observe for the explore mode. The size of
// a strong access is that of one element or, with Op.Elem, a multiple of it.
func (d *Detector) Access(w *Warp, lane int, op OpID, a *Alloc, rep int, off, size uint64) {
	i := &d.ops[op]
	d.stats.Accesses++
	w.last[lane] = w.t
	x := acc{epoch: w.t, slot: w.slot, warp: w.id, op: op, lane: uint8(lane),
		attr: i.attr, path: i.path, elem: i.elem}
	if x.elem == 0 {
		x.elem = uint8(min(size, 255))
	}
	if a.freed || off+size > a.size || off+size < off {
		d.badAccess(w, &x, a, rep, off, size)
		return
	}
	d.at = where{a: a, rep: rep, w: w, off: off, size: size}
	r := &a.reps[rep]
	strong := x.strong()
	if strong && i.Kind != Write {
		d.syncRead(r, w, &x, i, off, size)
	}
	n := off / cellSize
	lo := off % cellSize
	flag := !d.cfg.FlagsOnly
	for left := size; left > 0; n++ {
		if lo == 0 && left >= pageCell*cellSize && r.fill(&x, n, left) {
			n, left = n+pageCell-1, left-pageCell*cellSize
			continue
		}
		k := min(cellSize-lo, left)
		c := r.cell(n)
		d.at.cell = n
		d.cell(c, w, &x, lo, k)
		flag = flag || c.sync
		if c.sync && !strong {
			d.weakOnFlag(r, w, &x, n*cellSize+lo, n*cellSize+lo+k)
		}
		left -= k
		lo = 0
	}
	for _, s := range d.observed {
		s.addObserver(w, &x)
	}
	d.observed = d.observed[:0]
	if i.Kind != Read && (strong || d.cfg.Explore && flag) {
		d.syncWrite(r, w, &x, i, off, size)
	}
}

// AccessRow is Access for each lane in mask, lane l at off + l*size: the usual
// coalesced access of a warp.
func (d *Detector) AccessRow(w *Warp, mask uint32, op OpID, a *Alloc, rep int, off, size uint64) {
	for l := 0; mask != 0; l, mask = l+1, mask>>1 {
		if mask&1 != 0 {
			d.Access(w, l, op, a, rep, off+uint64(l)*size, size)
		}
	}
}

// AccessWarp is Access for each lane in mask with an offset per lane.
func (d *Detector) AccessWarp(w *Warp, mask uint32, op OpID, a *Alloc, rep int, off *[32]uint64, size uint64) {
	for l := 0; mask != 0; l, mask = l+1, mask>>1 {
		if mask&1 != 0 {
			d.Access(w, l, op, a, rep, off[l], size)
		}
	}
}

// cell checks bytes [lo, lo+n) of a cell.
func (d *Detector) cell(c *cell, w *Warp, x *acc, lo, n uint64) {
	bits := uint16(1<<n-1) << lo
	if x.write() {
		c.init |= bits
	} else if c.init&bits != bits && !d.cfg.NoUninit && !d.at.a.ready {
		d.uninit(w, x, c, bits)
		c.init |= bits // once is enough
	}
	if n == cellSize && c.parts == nil {
		d.sub(&c.sub, w, x)
		return
	}
	if n < cellSize {
		if lo%4 == 0 && n%4 == 0 {
			c.split(4)
		} else {
			c.split(16)
		}
	}
	each := cellSize / uint64(len(c.parts))
	for i := lo / each; i < (lo+n)/each; i++ {
		d.sub(&c.parts[i], w, x)
	}
	if n == cellSize {
		c.merge()
	}
}

// sub checks x against a history and enters it.
func (d *Detector) sub(s *sub, w *Warp, x *acc) {
	if x.attr&aNC != 0 {
		d.checkNC(s, w, x)
	}
	write := x.write()
	if s.more != nil {
		d.checkMore(s, w, x)
	}
	// Only what x supersedes may be dropped.
	if s.w.epoch != 0 {
		ok := d.check(w, &s.w, x)
		if write && !(ok && supersedes(d, &s.w, x)) {
			s.addWrite(d, s.w)
		}
	}
	if write {
		if s.rs != nil {
			d.checkReaders(s, w, x)
		}
		if s.r.epoch != 0 {
			if ok := d.check(w, &s.r, x); !(ok && supersedes(d, &s.r, x)) {
				s.addReader(d, w, s.r, x)
			}
			s.r = acc{}
		}
		s.w = *x
		return
	}
	if s.r.epoch != 0 && !d.readSuperseded(w, &s.r, x) {
		s.addReader(d, w, s.r, x)
	}
	s.r = *x
}

// checkMore checks x against the writes that were not superseded.
func (d *Detector) checkMore(s *sub, w *Warp, x *acc) {
	keep := (*s.more)[:0]
	for _, e := range *s.more {
		if ok := d.check(w, &e, x); !(ok && x.write() && supersedes(d, &e, x)) {
			keep = append(keep, e)
		}
	}
	if len(keep) == 0 {
		s.more = nil
		return
	}
	*s.more = keep
}

// precedes says whether e comes before x in base causality, with the proxy
// fences that the pair needs.
func (d *Detector) precedes(w *Warp, e, x *acc) bool {
	needA, needP := needFence(e, x)
	if !needA && !needP {
		return w.covers(x.lane, e)
	}
	return (!needA || w.coversAlias(x.lane, e)) && (!needP || w.coversAsync(x.lane, e))
}

func needFence(e, x *acc) (alias, async bool) {
	if e.path == PathAny || x.path == PathAny {
		return false, false
	}
	return e.path != x.path, (e.attr^x.attr)&aAsync != 0
}

// check reports a race of e with x, of which one is a write. It returns true
// if e may be superseded: it happened before x, or the race is reported.
func (d *Detector) check(w *Warp, e, x *acc) bool {
	if d.precedes(w, e, x) {
		if e.attr&aNC != 0 {
			d.checkNCWrite(w, e, x)
		}
		return true
	}
	if d.morallyStrong(e, x) {
		return false
	}
	if e.strong() && d.observedBefore(w, e, x) {
		return true
	}
	switch needA, _ := needFence(e, x); {
	case !w.covers(x.lane, e):
		d.race(DataRace, w, e, x)
	case needA && !w.coversAlias(x.lane, e):
		d.race(MissingAliasFence, w, e, x)
	default:
		d.race(MissingAsyncFence, w, e, x)
	}
	return true
}

// morallyStrong is the relation of the model, for overlapping accesses.
// Elements are naturally aligned, so equal sizes that overlap are the same.
func (d *Detector) morallyStrong(e, x *acc) bool {
	if !e.strong() || !x.strong() || e.elem != x.elem || (e.attr^x.attr)&aAsync != 0 {
		return false
	}
	if !d.samePath(e.path, x.path) {
		return false
	}
	if e.warp == x.warp && e.lane == x.lane {
		return true
	}
	p, q := d.warps[e.warp].place, d.warps[x.warp].place
	return e.scope().includes(p, q) && x.scope().includes(q, p)
}

// supersedes says whether x, a write that e happened before, races with all
// that e can still race with. It does not if x, being strong, is morally
// strong with more threads than e.
func supersedes(d *Detector, e, x *acc) bool {
	if !x.strong() {
		return true
	}
	if !e.strong() || e.elem != x.elem || e.path != x.path || (e.attr^x.attr)&aAsync != 0 || e.scope() < x.scope() {
		return false
	}
	return e.warp == x.warp || d.warps[e.warp].place == d.warps[x.warp].place
}

func (d *Detector) readSuperseded(w *Warp, e, x *acc) bool {
	return e.path == x.path && e.attr&(aNC|aAsync) == x.attr&(aNC|aAsync) &&
		(e.warp == w.id && e.lane == x.lane || w.covers(x.lane, e)) && supersedes(d, e, x)
}
