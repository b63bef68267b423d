package runtime

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/moegen/moegen/runtime/rendezvous"
)

// GroupStatus is the state of a group as one process sees it. It can be written
// as JSON, so that
//
//	expvar.Publish("moegen", expvar.Func(func() any { return group.Status() }))
//
// serves it over HTTP; what else collects metrics calls Status when it scrapes.
// String is one line, for a log.
type GroupStatus struct {
	Rank        int // of this process; -1 where all ranks are in it
	Size        int
	Processes   int
	Generation  int
	Address     string // where rank 0 listened, "" where all ranks are in one process
	Hosts       int
	Handles     string // how memory is shared: "file descriptors", "fabric", "none", or "addresses" in one process
	Why         string // they are
	Error       string // why the group is at an end, "" while it is not
	LastFailure string // that a dispatcher has noticed, "" if none has; it stays when that is closed
	Ranks       []RankStatus
	Dispatchers []DispatcherStatus // of this process, open ones
	// Counters of this rank since it joined; zero where all ranks are in one process.
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

// DispatcherStatus is what a rank has built on the group.
type DispatcherStatus struct {
	Rank      int
	Model     string
	Transport Transport
	Why       string // it is used
	Refused   string // why, by rank, others of the program are not; "" if none was refused
	Memory    string // who made the symmetric memory, see Dispatcher.Provider
	Kernels   string // where they came from
	Error     string // the failure that it has noticed, "" while it works
}

// GroupCounters count what a rank's side of the group has done.
type GroupCounters struct {
	rendezvous.Stats
	Imported uint64 // handles of other ranks' memory opened
	Leaving  int    // dispatchers closed here that wait for those of other ranks
}

// describe is the dispatcher's part of its group's status.
func (d *Dispatcher) describe() DispatcherStatus {
	s := DispatcherStatus{Rank: d.rank, Model: d.prog.Name, Transport: d.Transport(), Why: d.why, Refused: joinRefusals(d.refusals),
		Memory: d.mem.Provider, Kernels: d.image}
	if text := d.failure.Load(); text != nil {
		s.Error = *text
	}
	return s
}

// Status returns the state of the group. It waits for nobody.
func (g *LocalGroup) Status() GroupStatus {
	host, _ := os.Hostname()
	s := GroupStatus{Rank: -1, Size: g.Size(), Processes: 1, Hosts: 1, Handles: "addresses", Why: "all ranks are in one process"}
	s.Dispatchers, s.LastFailure = g.roster.status()
	for r, d := range g.devices {
		s.Ranks = append(s.Ranks, RankStatus{Rank: r, Host: host, PID: os.Getpid(), GPU: d.Info().UUID, State: "here"})
	}
	return s
}

// Status returns the state of the group. It waits for nobody.
func (g *ProcessGroup) Status() GroupStatus {
	cfg := g.session.Config()
	s := GroupStatus{Rank: g.rank, Size: g.Size(), Generation: cfg.Generation, Address: cfg.Address, Hosts: g.hosts,
		Handles: handleNames[g.kind], Why: g.why, Counters: GroupCounters{Stats: g.session.Stats()}}
	s.Dispatchers, s.LastFailure = g.roster.status()
	g.mu.Lock()
	s.Counters.Imported, s.Counters.Leaving = g.shared, g.waiting
	g.mu.Unlock()
	err := g.session.Err()
	if err != nil {
		s.Error = err.Error()
	}
	processes := map[string]bool{}
	left, heard := g.session.Left(), g.session.Heard()
	for r, m := range g.session.Members() {
		processes[g.peers[r].Process] = true
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
	s.Processes = len(processes)
	return s
}

// String is the status in one line: who is there, how memory is shared, each
// model's transport, and what went wrong.
func (s GroupStatus) String() string {
	var b strings.Builder
	if s.Rank >= 0 {
		fmt.Fprintf(&b, "rank %d of ", s.Rank)
	}
	fmt.Fprintf(&b, "%s in %s on %s", plural(s.Size, "rank"), plural(s.Processes, "process"), plural(s.Hosts, "host"))
	if s.Generation > 0 {
		fmt.Fprintf(&b, ", generation %d", s.Generation)
	}
	fmt.Fprintf(&b, ", memory by %s (%s)", s.Handles, s.Why)
	var models []string // ranks of one process say the same
	for _, d := range s.Dispatchers {
		line := fmt.Sprintf("; %s: %s (%s", d.Model, d.Transport, d.Why)
		if d.Refused != "" {
			line += "; refused: " + d.Refused
		}
		if line += ")"; !slices.Contains(models, line) {
			models = append(models, line)
			b.WriteString(line)
		}
	}
	for _, r := range s.Ranks {
		if r.State != "here" {
			fmt.Fprintf(&b, "; rank %d %s (%s, pid %d, last heard of %v ago)", r.Rank, r.State, r.Host, r.PID, r.Heard.Round(time.Millisecond))
		}
	}
	if s.LastFailure != "" && (s.Error == "" || !strings.Contains(s.LastFailure, s.Error)) {
		fmt.Fprintf(&b, "; last failure: %s", s.LastFailure)
	}
	if s.Error != "" {
		fmt.Fprintf(&b, "; at an end: %s", s.Error)
	}
	return b.String()
}

func plural(n int, noun string) string {
	switch {
	case n == 1:
		return "1 " + noun
	case strings.HasSuffix(noun, "s"):
		return fmt.Sprintf("%d %ses", n, noun)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
