package runtime

import (
	"slices"
	"time"

	"github.com/moegen/moegen/runtime/rendezvous"
)

// GroupStatus is the state of a group of processes as one rank sees it. It can
// be written as JSON, so that
//
//	expvar.Publish("moegen", expvar.Func(func() any { return group.Status() }))
//
// serves it over HTTP; what else collects metrics calls Status when it scrapes.
type GroupStatus struct {
	Rank, Size int
	Generation int
	Address    string // where rank 0 listened
	Hosts      int
	Handles    string // how memory is shared: "file descriptors", "fabric" or "none"
	Why        string // they are
	Error      string // why the group is at an end, "" while it is not
	Ranks      []RankStatus
	// Counters of this rank since it joined.
	Counters GroupCounters
}

// RankStatus is what is known of a rank.
type RankStatus struct {
	Rank  int
	Host  string
	PID   int
	GPU   string        // its UUID
	State string        // "here", "left" in order, "gone", or "unknown" once the group is at an end
	Heard time.Duration // since its last sign of life; 0 for this rank
}

// GroupCounters count what a rank's side of the group has done.
type GroupCounters struct {
	rendezvous.Stats
	Imported uint64 // handles of other ranks' memory opened
	Leaving  int    // dispatchers closed here that wait for those of other ranks
}

// Status returns the state of the group. It waits for nobody.
func (g *ProcessGroup) Status() GroupStatus {
	cfg := g.session.Config()
	s := GroupStatus{Rank: g.rank, Size: g.Size(), Generation: cfg.Generation, Address: cfg.Address, Hosts: g.hosts,
		Handles: handleNames[g.kind], Why: g.why, Counters: GroupCounters{Stats: g.session.Stats()}}
	g.mu.Lock()
	s.Counters.Imported, s.Counters.Leaving = g.shared, g.waiting
	g.mu.Unlock()
	err := g.session.Err()
	if err != nil {
		s.Error = err.Error()
	}
	left, heard := g.session.Left(), g.session.Heard()
	for r, m := range g.session.Members() {
		state := RankStatus{Rank: r, Host: m.Host, PID: m.PID, GPU: g.peers[r].UUID, State: "here", Heard: heard[r]}
		switch {
		case r == g.rank:
		case slices.Contains(left, r):
			state.State = "left"
		case isGone(err, r):
			state.State = "gone"
		case err != nil:
			state.State = "unknown"
		}
		s.Ranks = append(s.Ranks, state)
	}
	return s
}
