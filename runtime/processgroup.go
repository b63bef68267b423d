package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/rendezvous"
)

// ProcessGroup is a group of processes with one rank each, made by Join.
type ProcessGroup struct {
	session    *rendezvous.Session
	rank       int
	dev        driver.Device
	log        *slog.Logger
	peers      []gpuIdentity // by rank
	hosts      int
	oneProcess bool // all ranks are in this one, as in tests
	kind       driver.HandleKind
	why        string // of kind
	undo       []func()
	roster

	mu      sync.Mutex
	comm    driver.Collective
	commErr error
	closing bool
	leaving sync.WaitGroup // releases that wait for the other ranks
	left    []error        // of those that have run
	waiting int            // releases that have not run
	shared  uint64         // handles imported
}

var _ Group = (*ProcessGroup)(nil)

// leaveLimit is how long Close waits for ranks that still use the group.
const leaveLimit = 30 * time.Second

// Rank is this process's rank.
func (g *ProcessGroup) Rank() int { return g.rank }

// Size is the number of ranks.
func (g *ProcessGroup) Size() int { return g.session.Size() }

// errElsewhere: a rank's GPU is not one that this process sees. What that
// GPU can do, setting up will show.
var errElsewhere = errors.New("the GPU is not visible in this process")

// Device returns the GPU of a rank: the rank's own, or for another rank of this
// host the one that this process, too, sees under the same UUID.
func (g *ProcessGroup) Device(rank int) (driver.Device, error) {
	if rank == g.rank {
		return g.dev, nil
	}
	if rank < 0 || rank >= g.Size() {
		return nil, fmt.Errorf("rank %d is not in the group: it has ranks 0 to %d", rank, g.Size()-1)
	}
	ms, id := g.session.Members(), g.peers[rank]
	if ms[rank].HostID == ms[g.rank].HostID && id.UUID != "" {
		for _, d := range g.dev.Driver().Devices() {
			if d.Info().UUID == id.UUID {
				return d, nil
			}
		}
	}
	return nil, fmt.Errorf("rank %d (%s, GPU %s): %w", rank, ms[rank].Host, id.UUID, errElsewhere)
}

// mine refuses calls for ranks of other processes.
func (g *ProcessGroup) mine(rank int) error {
	if rank != g.rank {
		return fmt.Errorf("%w: this process is rank %d, and the call is for rank %d", ErrGroup, g.rank, rank)
	}
	return nil
}

// AllGather implements symm.Exchange. It fails at once when a rank is gone.
func (g *ProcessGroup) AllGather(ctx context.Context, rank int, msg []byte) ([][]byte, error) {
	if err := g.mine(rank); err != nil {
		return nil, err
	}
	return g.session.AllGather(ctx, msg)
}

// HandleKind is how memory is shared: as file descriptors on one host, as
// fabric handles between several.
func (g *ProcessGroup) HandleKind() driver.HandleKind { return g.kind }

// spansHosts says whether ranks are on several hosts: NCCL, and not moegen, is
// then tested with the hardware between them.
func spansHosts(g Group) bool {
	p, ok := g.(*ProcessGroup)
	return ok && p.hosts > 1
}

// refuse says why no rank can use a transport, before any is tried.
func (g *ProcessGroup) refuse(t Transport) string {
	emulated := g.dev.Driver().Name() == "emu" && !g.oneProcess
	switch {
	case t == NCCL && emulated:
		return "the emulator's stand-in for NCCL stays inside one process"
	case t == NCCL:
		return ""
	case t == NVLS && emulated:
		return "the emulator's multicast objects stay inside one process"
	case g.kind == driver.HandleNone && !(g.hosts > 1 && haveWindows(g, g.rank)):
		return "memory cannot be shared: " + g.why
	}
	return ""
}

// Leave counts this rank out, and returns: release runs once all ranks have
// left, or at once when the group is at an end, since handles keep memory alive
// for whoever still has it mapped. Close waits for it and has its error.
func (g *ProcessGroup) Leave(rank int, release func() error) error {
	if err := g.mine(rank); err != nil {
		return err
	}
	all := g.session.Leave(leaveLimit)
	g.leaving.Add(1)
	g.mu.Lock()
	g.waiting++
	g.mu.Unlock()
	go func() {
		defer g.leaving.Done()
		err := <-all
		if gone := g.session.Err(); gone != nil {
			err = nil // not an error of leaving
		}
		err = errors.Join(err, g.dev.Synchronize(), release())
		g.mu.Lock()
		g.left = append(g.left, err)
		g.waiting--
		g.mu.Unlock()
	}()
	return nil
}

// lost says whether a rank is gone, and not the group at an end in order.
func lost(err error) bool {
	var gone *RankError
	return errors.As(err, &gone)
}

// isGone says whether it is this rank that is gone.
func isGone(err error, rank int) bool {
	var gone *RankError
	return errors.As(err, &gone) && gone.Rank == rank
}

// failed ends what waits for a rank that is gone.
func (g *ProcessGroup) failed(err error) {
	g.log.Error("moegen group failed", "rank", g.rank, "err", err.Error())
	g.mu.Lock()
	comm := g.comm
	g.mu.Unlock()
	if comm != nil {
		if err := comm.Abort(); err != nil {
			g.log.Warn("moegen group cannot abort NCCL", "rank", g.rank, "err", err.Error())
		}
	}
}

// Close ends this rank's membership. All its dispatchers must be closed; it
// waits until those of the other ranks are, 30 s at most, or until the group is
// at an end, and returns what went wrong when memory was given back. A second
// Close does nothing.
func (g *ProcessGroup) Close() error {
	g.mu.Lock()
	if g.closing {
		g.mu.Unlock()
		return nil
	}
	g.closing = true
	g.mu.Unlock()
	g.leaving.Wait()
	gone := g.session.Err()
	for _, f := range g.undo {
		f()
	}
	g.session.Close()
	g.mu.Lock()
	defer g.mu.Unlock()
	errs := g.left
	if g.comm != nil {
		if lost(gone) {
			errs = append(errs, g.comm.Abort())
		} else {
			errs = append(errs, g.comm.Close())
		}
		g.comm = nil
	}
	return errors.Join(errs...)
}

// Err is why the group is at an end, nil while it is not: a *RankError once a
// rank is gone.
func (g *ProcessGroup) Err() error { return g.session.Err() }
