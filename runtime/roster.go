package runtime

import "sync"

// roster lists a group's dispatchers of this process: for the group's status,
// and for a dump of all ranks.
type roster struct {
	mu    sync.Mutex
	built map[int]int  // dispatchers that each rank has built
	rows  map[int]*row // by number: all ranks build the same ones in the same order
	last  string       // the last failure
}

// row is one model's dispatchers.
type row struct {
	roster *roster
	number int

	members map[int]*Dispatcher // open ones, by rank

	// The first rank that notices a failure takes a dump for all.
	once sync.Once
	dump *Dump
}

// list implements lister for the groups that embed a roster.
func (l *roster) list() *roster { return l }

type lister interface{ list() *roster }

// add enters an open dispatcher.
func (l *roster) add(d *Dispatcher) *row {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rows == nil {
		l.built, l.rows = map[int]int{}, map[int]*row{}
	}
	n := l.built[d.rank]
	l.built[d.rank]++
	r := l.rows[n]
	if r == nil {
		r = &row{roster: l, number: n, members: map[int]*Dispatcher{}}
		l.rows[n] = r
	}
	r.members[d.rank] = d
	return r
}

// enlist enters the dispatcher in its group's roster.
func (d *Dispatcher) enlist() {
	l, ok := d.group.(lister)
	if !ok {
		l = &roster{} // a group of somebody else's: the dispatcher stands for itself
	}
	d.row = l.list().add(d)
}

// remove takes a dispatcher that is being closed out.
func (r *row) remove(rank int) {
	r.roster.mu.Lock()
	defer r.roster.mu.Unlock()
	if delete(r.members, rank); len(r.members) == 0 {
		delete(r.roster.rows, r.number)
	}
}

// open lists the open dispatchers in the order of ranks.
func (r *row) open() []*Dispatcher {
	r.roster.mu.Lock()
	defer r.roster.mu.Unlock()
	return r.sorted()
}

func (r *row) sorted() []*Dispatcher {
	var ds []*Dispatcher
	for rank := 0; len(ds) < len(r.members); rank++ {
		if d := r.members[rank]; d != nil {
			ds = append(ds, d)
		}
	}
	return ds
}

// failed keeps a failure for the group's status.
func (l *roster) failed(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = text
}

// status describes the open dispatchers, in the order in which they were built,
// and the last failure.
func (l *roster) status() (ds []DispatcherStatus, last string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	end := 0
	for n := range l.rows {
		end = max(end, n+1)
	}
	for n := range end {
		if r := l.rows[n]; r != nil {
			for _, d := range r.sorted() {
				ds = append(ds, d.describe())
			}
		}
	}
	return ds, l.last
}
