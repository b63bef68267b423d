package race

const (
	maxHist = 16
	maxObs  = 4096
	ringLen = 8
)

// syncLoc is an element that strong accesses (in explore mode, all stores)
// have touched.
type syncLoc struct {
	id        uint32
	off, size uint64
	last      *Store // the store in memory; nil if unknown
	hist      []*Store
	from      int // hist[from:] is what loads may still return
}

// Store is a store to one element.
type Store struct {
	Seq     uint64 // position in the coherence order
	Value   uint64 // as given to ExploreStore
	Initial bool   // the contents before the first known store
	valued  bool   // Value is known
	acc     acc
	loc     *syncLoc
	agg     *agg   // the releases it carries
	obs     []acc  // strong reads that returned it
	next    *Store // the RMW that observed it
}

// laneSync is what a lane has pending for fences and second-form patterns.
type laneSync struct {
	fence    [numScopes]clk // knowledge at the last release fence of that scope
	fenced   [numScopes]bool
	fenceT   uint32         // epoch of the last of them
	pend     [numScopes]clk // releases observed and not yet acquired, by the scope it takes
	pendWide *vec           // observed in vain: too narrow a scope or another alias
	rel      []ownRelease
	acq      []locPend
}

type ownRelease struct {
	loc   *syncLoc
	path  Path
	scope Scope
	k     clk
}

type locPend struct {
	loc  *syncLoc
	path Path
	seen *Store
	pend [numScopes]clk
	wide *vec
}

func (w *Warp) sync(l uint8) *laneSync {
	if w.lanes == nil {
		w.lanes = new([32]*laneSync)
	}
	if w.lanes[l] == nil {
		w.lanes[l] = new(laneSync)
	}
	return w.lanes[l]
}

func (ls *laneSync) pending(loc *syncLoc, path Path) *locPend {
	for i := range ls.acq {
		if ls.acq[i].loc == loc && ls.acq[i].path == path {
			return &ls.acq[i]
		}
	}
	if len(ls.acq) == ringLen {
		ls.acq = append(ls.acq[:0], ls.acq[1:]...)
	}
	ls.acq = append(ls.acq, locPend{loc: loc, path: path})
	return &ls.acq[len(ls.acq)-1]
}

// find returns the element at exactly [off, off+size).
func (r *replica) find(off, size uint64) *syncLoc {
	for _, l := range r.locs(off / cellSize) {
		if l.off == off && l.size == size {
			return l
		}
	}
	return nil
}

func (d *Detector) loc(r *replica, off, size uint64) *syncLoc {
	if l := r.find(off, size); l != nil {
		return l
	}
	d.locs++
	l := &syncLoc{id: d.locs, off: off, size: size}
	n := off / cellSize
	if r.sync[n/pageCell] == nil {
		r.sync[n/pageCell] = new([pageCell][]*syncLoc)
	}
	at := &r.sync[n/pageCell][n%pageCell]
	*at = append(*at, l)
	r.cell(n).sync = true
	return l
}

// elements calls f for each element of a strong access.
func elements(x *acc, off, size uint64, f func(off, size uint64)) {
	e := uint64(x.elem)
	if e == 0 || size%e != 0 || off%e != 0 || e > cellSize {
		return // misaligned: the emulator traps; nothing to synchronise
	}
	for o := off; o < off+size; o += e {
		f(o, e)
	}
}
