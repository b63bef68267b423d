package race

const (
	cellSize = 16
	pageCell = 256 // cells of a page
	maxSet   = 512 // mutually unordered writes a byte may keep
)

// Alloc is an allocation; each replica (the memory of one device behind a
// multicast object, say) has shadow memory of its own.
type Alloc struct {
	name  string
	size  uint64
	freed bool
	ready bool // Initialised
	reps  []replica
}

// replica holds the shadow cells of one physical copy.
type replica struct {
	pages  []*page
	filled []*cell // of pages that are nil: what each of its cells is, if not new
	sync   []*[pageCell][]*syncLoc
}

type page [pageCell]cell

// cell is the shadow of 16 bytes: whole while all of them have the same
// history, otherwise in 4 or 16 parts.
type cell struct {
	sub
	parts []sub
	init  uint16
	sync  bool // some syncLoc lies here
}

// sub is the history of some bytes: last write, last read, and what else has
// to be remembered because it is not superseded.
type sub struct {
	w, r acc
	more *[]acc   // writes
	rs   *readers // reads
}

// NewAlloc adds an allocation of size bytes with the given number of replicas.
func (d *Detector) NewAlloc(name string, size uint64, replicas int) *Alloc {
	a := &Alloc{name: name, size: size, reps: make([]replica, replicas)}
	n := (size + cellSize*pageCell - 1) / (cellSize * pageCell)
	for i := range a.reps {
		a.reps[i].pages = make([]*page, n)
		a.reps[i].filled = make([]*cell, n)
		a.reps[i].sync = make([]*[pageCell][]*syncLoc, n)
	}
	return a
}

// Initialised says that all bytes have been written by somebody who does not
// show: reading them is never a report.
func (a *Alloc) Initialised() { a.ready = true }

// Free ends the life of an allocation: any later access is reported.
func (a *Alloc) Free() {
	a.freed = true
	a.reps = nil
}

// locs are the syncLocs of a cell.
func (r *replica) locs(n uint64) []*syncLoc {
	if p := r.sync[n/pageCell]; p != nil {
		return p[n%pageCell]
	}
	return nil
}

func (r *replica) cell(n uint64) *cell {
	p := r.pages[n/pageCell]
	if p == nil {
		p = new(page)
		if c := r.filled[n/pageCell]; c != nil {
			for i := range p {
				p[i] = *c
			}
			r.filled[n/pageCell] = nil
		}
		r.pages[n/pageCell] = p
	}
	return &p[n%pageCell]
}

// fill enters a write of a whole page that nobody has accessed, from cell n on, as
// one cell; false if it is none. Hosts fill much memory of which kernels access
// little.
func (r *replica) fill(x *acc, n, left uint64) bool {
	at := n / pageCell
	if n%pageCell != 0 || left < pageCell*cellSize || !x.write() || r.pages[at] != nil || r.filled[at] != nil {
		return false
	}
	c := &cell{init: 1<<cellSize - 1}
	c.w = *x
	r.filled[at] = c
	return true
}

// split brings the cell to n parts (4 or 16) at least.
func (c *cell) split(n int) {
	have := len(c.parts)
	if have >= n {
		return
	}
	parts := make([]sub, n)
	for i := range parts {
		s := &c.sub
		if have > 0 {
			s = &c.parts[i*have/n]
		}
		parts[i] = *s
		if s.more != nil {
			m := append([]acc(nil), *s.more...)
			parts[i].more = &m
		}
		if s.rs != nil {
			parts[i].rs = &readers{append([]readEntry(nil), s.rs.list...), s.rs.pruneAt}
		}
	}
	c.parts = parts
	c.sub = sub{}
}

// merge makes the cell whole again after an access x to all of it left the
// same history everywhere.
func (c *cell) merge() {
	f := &c.parts[0]
	if f.more != nil || f.rs != nil {
		return
	}
	for i := 1; i < len(c.parts); i++ {
		if s := &c.parts[i]; s.more != nil || s.rs != nil || s.w != f.w || s.r != f.r {
			return
		}
	}
	c.sub, c.parts = *f, nil
}

func (s *sub) addWrite(d *Detector, e acc) {
	if s.more == nil {
		s.more = new([]acc)
	}
	if len(*s.more) >= maxSet {
		*s.more = (*s.more)[1:]
		d.stats.Forgotten++
	}
	*s.more = append(*s.more, e)
}
