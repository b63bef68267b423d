package race

import "sort"

const maxReaders = 8192

// readers are the unordered reads of some bytes, sorted by warp. Lanes of a
// warp that read in the same epoch share an entry, so that a broadcast or a
// table that a whole grid reads stays cheap.
type readers struct {
	list    []readEntry
	pruneAt int
}

type readEntry struct {
	acc
	mask uint32 // lanes; acc.lane is of no account
}

// addReader enters a read that stays behind s.r.
func (s *sub) addReader(d *Detector, w *Warp, e acc, x *acc) {
	if s.rs == nil {
		s.rs = &readers{pruneAt: 64}
	}
	r := s.rs
	if len(r.list) >= r.pruneAt {
		r.prune(d, w, x)
	}
	i := sort.Search(len(r.list), func(i int) bool { return r.list[i].warp >= e.warp })
	first := i
	for ; i < len(r.list) && r.list[i].warp == e.warp; i++ {
		if o := &r.list[i]; o.epoch == e.epoch && o.op == e.op && o.elem == e.elem {
			o.mask |= 1 << e.lane
			return
		}
	}
	// The same lane's older reads that e outdoes.
	keep := first
	for j := first; j < i; j++ {
		o := r.list[j]
		if o.path == e.path && (o.attr^e.attr)&(aNC|aAsync) == 0 && supersedes(d, &o.acc, &e) {
			o.mask &^= 1 << e.lane
		}
		if o.mask != 0 {
			r.list[keep] = o
			keep++
		}
	}
	n := readEntry{e, 1 << e.lane}
	if keep < i {
		r.list[keep] = n
		r.list = append(r.list[:keep+1], r.list[i:]...)
		return
	}
	if len(r.list) >= maxReaders {
		r.list = r.list[1:]
		d.stats.Forgotten++
		keep = max(keep-1, 0)
	}
	r.list = append(r.list, readEntry{})
	copy(r.list[keep+1:], r.list[keep:])
	r.list[keep] = n
}

// prune drops the reads that the new read x outdoes.
func (r *readers) prune(d *Detector, w *Warp, x *acc) {
	keep := r.list[:0]
	for _, o := range r.list {
		o.eachLane(func(e *acc) {
			if d.readSuperseded(w, e, x) {
				o.mask &^= 1 << e.lane
			}
		})
		if o.mask != 0 {
			keep = append(keep, o)
		}
	}
	r.list = keep
	r.pruneAt = max(64, 2*len(keep))
}

func (o *readEntry) eachLane(f func(e *acc)) {
	e := o.acc
	for m, l := o.mask, uint8(0); m != 0; m, l = m>>1, l+1 {
		if m&1 != 0 {
			e.lane = l
			f(&e)
		}
	}
}

// checkReaders checks the write x against all of them.
func (d *Detector) checkReaders(s *sub, w *Warp, x *acc) {
	keep := s.rs.list[:0]
	for _, o := range s.rs.list {
		o.eachLane(func(e *acc) {
			if d.check(w, e, x) && supersedes(d, e, x) {
				o.mask &^= 1 << e.lane
			}
		})
		if o.mask != 0 {
			keep = append(keep, o)
		}
	}
	s.rs.list = keep
	if len(keep) == 0 {
		s.rs = nil
	}
}
