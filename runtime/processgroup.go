package runtime

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/nccl"
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

// export makes a handle of memory, and exchanges it for those of all ranks.
// Those returned are closed by free.
func (g *ProcessGroup) exchange(ctx context.Context, m driver.Memory) (all []driver.Shareable, free func(), err error) {
	mine := driver.Shareable{FD: -1}
	var failed error
	if m != nil {
		mine, failed = m.Export(g.kind)
	}
	all = make([]driver.Shareable, g.Size())
	if g.kind == driver.HandleFabric {
		text, err := json.Marshal(fabricMessage{mine.Fabric[:], m != nil, errorText(failed)})
		if err != nil {
			return nil, nil, err
		}
		msgs, err := g.session.AllGather(ctx, text)
		if err != nil {
			return nil, nil, err
		}
		return all, func() {}, decodeFabric(msgs, all)
	}
	fds, err := g.session.ShareFDs(ctx, mine.FD, failed)
	if mine.FD >= 0 {
		rendezvous.CloseFDs([]int{mine.FD})
	}
	if err != nil {
		return nil, nil, err
	}
	for r, fd := range fds {
		if fd >= 0 {
			all[r] = driver.Shareable{Kind: driver.HandlePosixFD, FD: fd}
		}
	}
	return all, func() { rendezvous.CloseFDs(fds) }, nil
}

// fabricMessage carries a handle between hosts.
type fabricMessage struct {
	Handle []byte
	Have   bool
	Error  string
}

func decodeFabric(msgs [][]byte, out []driver.Shareable) error {
	for r, text := range msgs {
		var m fabricMessage
		if err := json.Unmarshal(text, &m); err != nil {
			return fmt.Errorf("rank %d: a handle that cannot be read: %w", r, err)
		}
		switch {
		case m.Error != "":
			return fmt.Errorf("rank %d: %s", r, m.Error)
		case m.Have && len(m.Handle) != len(out[r].Fabric):
			return fmt.Errorf("rank %d: a fabric handle of %d bytes", r, len(m.Handle))
		case m.Have:
			out[r].Kind = driver.HandleFabric
			copy(out[r].Fabric[:], m.Handle)
		}
	}
	return nil
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// ShareMemory implements symm.Exchange.
func (g *ProcessGroup) ShareMemory(ctx context.Context, rank int, m driver.Memory) ([]driver.Memory, func() error, error) {
	if err := g.mine(rank); err != nil {
		return nil, nil, err
	}
	handles, free, err := g.exchange(ctx, m)
	if err != nil {
		return nil, nil, err
	}
	defer free()
	out := make([]driver.Memory, len(handles))
	release := func() error {
		var errs []error
		for r, m := range out {
			if r != rank && m != nil {
				errs = append(errs, m.Release())
			}
		}
		return errors.Join(errs...)
	}
	for r, h := range handles {
		switch {
		case r == rank:
			out[r] = m
		case h.Kind == driver.HandleNone:
			err = fmt.Errorf("rank %d shared no memory", r)
		default:
			out[r], err = g.open(h, m.Size())
		}
		if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("memory of rank %d: %w", r, err), release())
		}
	}
	return out, release, nil
}

func (g *ProcessGroup) open(h driver.Shareable, size uint64) (driver.Memory, error) {
	m, err := g.dev.Driver().Import(g.dev, h, size)
	if err == nil {
		g.mu.Lock()
		g.shared++
		g.mu.Unlock()
	}
	return m, err
}

// ShareMulticast implements symm.Exchange. The object's size is the one that
// rank 0 tells.
func (g *ProcessGroup) ShareMulticast(ctx context.Context, rank int, m driver.Multicast) (driver.Multicast, func() error, error) {
	if err := g.mine(rank); err != nil {
		return nil, nil, err
	}
	var memory driver.Memory
	var size [8]byte
	if m != nil {
		memory = m
		binary.BigEndian.PutUint64(size[:], m.Size())
	}
	sizes, err := g.session.AllGather(ctx, size[:])
	if err != nil {
		return nil, nil, err
	}
	handles, free, err := g.exchange(ctx, memory)
	if err != nil {
		return nil, nil, err
	}
	defer free()
	object := m
	switch {
	case rank == 0 && m == nil || len(sizes[0]) != 8 || handles[0].Kind == driver.HandleNone:
		err = errors.New("rank 0 shared no multicast object")
	case rank != 0:
		var opened driver.Memory
		if opened, err = g.open(handles[0], binary.BigEndian.Uint64(sizes[0])); err == nil {
			var ok bool
			if object, ok = opened.(driver.Multicast); !ok {
				err = errors.Join(fmt.Errorf("rank 0 shared a %T", opened), opened.Release())
			}
		}
	}
	// Nobody goes on before all have the object open.
	all, aerr := g.session.AllGather(ctx, []byte(errorText(err)))
	if err == nil {
		err = aerr
	}
	for r, text := range all {
		if err == nil && len(text) > 0 {
			err = fmt.Errorf("rank %d: %s", r, text)
		}
	}
	if err != nil {
		if rank != 0 && object != nil {
			err = errors.Join(err, object.Release())
		}
		return nil, nil, err
	}
	return object, object.Release, nil
}

// Collective returns the rank's NCCL communicator, which all ranks make
// together at the first call: rank 0's ncclUniqueId goes round.
func (g *ProcessGroup) Collective(ctx context.Context, rank int) (driver.Collective, error) {
	if err := g.mine(rank); err != nil {
		return nil, err
	}
	g.mu.Lock()
	comm, err := g.comm, g.commErr
	g.mu.Unlock()
	if comm != nil || err != nil {
		return comm, err
	}
	comm, err = g.bootstrap(ctx)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.comm, g.commErr = comm, err; err != nil && ctx.Err() != nil {
		g.commErr = nil // another try may have more time
	}
	if comm != nil && lost(g.session.Err()) {
		go comm.Abort() // failed has been and gone
	}
	return comm, err
}

// rankJoiner makes one rank's end of a communicator.
type rankJoiner interface {
	JoinCollective(id [128]byte, rank, size int, d driver.Device) (driver.Collective, error)
}

func (g *ProcessGroup) bootstrap(ctx context.Context) (driver.Collective, error) {
	var id nccl.UniqueID
	var join func() (driver.Collective, error)
	emulated, ok := g.dev.Driver().(rankJoiner)
	lib, err := (*nccl.Library)(nil), error(nil)
	if ok {
		join = func() (driver.Collective, error) { return emulated.JoinCollective(id, g.rank, g.Size(), g.dev) }
	} else if lib, err = nccl.Open(); err == nil {
		join = func() (driver.Collective, error) { return lib.InitRank(id, g.rank, g.Size(), g.dev) }
	}
	if g.rank == 0 && err == nil {
		if lib != nil {
			id, err = lib.UniqueID()
		} else {
			rand.Read(id[:]) // never fails
		}
	}
	text, merr := json.Marshal(struct {
		ID    []byte
		Error string
	}{id[:], errorText(err)})
	if merr != nil {
		return nil, merr
	}
	all, gerr := g.session.AllGather(ctx, text)
	if gerr != nil {
		return nil, gerr
	}
	// Nobody starts unless all can: a rank that does not come is waited for.
	for r, text := range all {
		var m struct {
			ID    []byte
			Error string
		}
		if err := json.Unmarshal(text, &m); err != nil || m.Error != "" {
			return nil, fmt.Errorf("NCCL on rank %d: %s%s", r, m.Error, errorText(err))
		}
		if r == 0 && copy(id[:], m.ID) != len(id) {
			return nil, errors.New("NCCL on rank 0: an ncclUniqueId that is too short")
		}
	}
	return g.await(ctx, join)
}

// await runs join, which waits for all ranks and cannot be interrupted. If the
// context or the group ends first, what join makes later is given up.
func (g *ProcessGroup) await(ctx context.Context, join func() (driver.Collective, error)) (driver.Collective, error) {
	type made struct {
		c   driver.Collective
		err error
	}
	done, gone := make(chan made, 1), make(chan error, 1)
	go func() {
		c, err := join()
		done <- made{c, err}
	}()
	stop := g.session.OnFailure(func(err error) { gone <- err })
	defer stop()
	var err error
	select {
	case m := <-done:
		if m.err != nil {
			return nil, m.err
		}
		return m.c, nil
	case err = <-gone:
	case <-ctx.Done():
		err = fmt.Errorf("NCCL did not bring all ranks together: %w", context.Cause(ctx))
	}
	go func() {
		if m := <-done; m.err == nil {
			_ = m.c.Abort() // nobody has it
		}
	}()
	return nil, err
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
