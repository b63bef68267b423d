package runtime

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/nccl"
)

// LocalGroup is a group whose ranks all live in this process, one GPU each.
type LocalGroup struct {
	devices []driver.Device
	roster

	mu      sync.Mutex
	round   *round
	comms   []driver.Collective
	commErr error
	leaving map[int][]func() error // release functions by rank
}

// round is one AllGather.
type round struct {
	values  []any
	arrived int
	taken   map[int]bool
	done    chan struct{}
	err     error
}

// NewLocalGroup makes a group with rank i on devices[i]. The devices belong to
// one driver and are distinct.
func NewLocalGroup(devices ...driver.Device) (*LocalGroup, error) {
	return newLocalGroup(devices, false)
}

// NewSharedGroup is NewLocalGroup for ranks that may share GPUs: to try several
// ranks where there are fewer GPUs. The kernels of all ranks of a GPU have to
// fit on it at the same time. Transport p2p only; what it costs says nothing
// about GPUs of their own. Which streams share a hardware queue is up to CUDA:
// make streams once and keep them.
func NewSharedGroup(devices ...driver.Device) (*LocalGroup, error) {
	return newLocalGroup(devices, true)
}

func newLocalGroup(devices []driver.Device, share bool) (*LocalGroup, error) {
	if len(devices) == 0 {
		return nil, fmt.Errorf("a group needs at least one device")
	}
	seen := map[int]int{}
	for rank, d := range devices {
		if other, ok := seen[d.Ordinal()]; ok && !share {
			return nil, fmt.Errorf("ranks %d and %d are both on GPU %d: each rank needs its own (or see NewSharedGroup)", other, rank, d.Ordinal())
		}
		if d.Driver() != devices[0].Driver() {
			return nil, fmt.Errorf("rank %d is on another driver (%s) than rank 0 (%s)", rank, d.Driver().Name(), devices[0].Driver().Name())
		}
		seen[d.Ordinal()] = rank
	}
	return &LocalGroup{devices: devices, leaving: map[int][]func() error{}}, nil
}

func (g *LocalGroup) Size() int { return len(g.devices) }

func (g *LocalGroup) Device(rank int) (driver.Device, error) {
	if rank < 0 || rank >= len(g.devices) {
		return nil, fmt.Errorf("rank %d is not in the group: it has ranks 0 to %d", rank, len(g.devices)-1)
	}
	return g.devices[rank], nil
}

// HandleKind is none: within a process handles are shared as they are.
func (g *LocalGroup) HandleKind() driver.HandleKind { return driver.HandleNone }

// gather is AllGather for values of any kind. A rank that gives up, because
// its context ends, ends the round for everybody.
func (g *LocalGroup) gather(ctx context.Context, rank int, value any) ([]any, error) {
	if _, err := g.Device(rank); err != nil {
		return nil, err
	}
	g.mu.Lock()
	r := g.round
	if r == nil {
		r = &round{values: make([]any, len(g.devices)), taken: map[int]bool{}, done: make(chan struct{})}
		g.round = r
	}
	if r.taken[rank] {
		g.mu.Unlock()
		return nil, fmt.Errorf("rank %d calls twice in one exchange: each rank needs one goroutine of its own", rank)
	}
	r.taken[rank], r.values[rank] = true, value
	if r.arrived++; r.arrived == len(g.devices) {
		g.round = nil
		close(r.done)
	}
	g.mu.Unlock()

	select {
	case <-r.done:
	case <-ctx.Done():
		g.mu.Lock()
		if g.round == r {
			g.round = nil
			r.err = fmt.Errorf("ranks %v did not come while rank %d waited: %w", r.missing(), rank, ctx.Err())
			close(r.done)
		}
		g.mu.Unlock()
		<-r.done
	}
	return r.values, r.err
}

func (r *round) missing() []int {
	var m []int
	for i := range r.values {
		if !r.taken[i] {
			m = append(m, i)
		}
	}
	return m
}

func (g *LocalGroup) AllGather(ctx context.Context, rank int, msg []byte) ([][]byte, error) {
	values, err := g.gather(ctx, rank, append([]byte(nil), msg...))
	if err != nil {
		return nil, err
	}
	out := make([][]byte, len(values))
	for i, v := range values {
		out[i], _ = v.([]byte)
	}
	return out, nil
}

// ShareMemory passes the handles on as they are: each stays its owner's to
// release, and the mappings keep the memory alive.
func (g *LocalGroup) ShareMemory(ctx context.Context, rank int, m driver.Memory) ([]driver.Memory, func() error, error) {
	values, err := g.gather(ctx, rank, m)
	if err != nil {
		return nil, nil, err
	}
	out := make([]driver.Memory, len(values))
	for i, v := range values {
		mem, ok := v.(driver.Memory)
		if !ok {
			return nil, nil, fmt.Errorf("rank %d shared no memory", i)
		}
		out[i] = mem
	}
	return out, func() error { return nil }, nil
}

// sharedMulticast is one object that all ranks of the process refer to. The
// last rank to release it does so: unbinding memory still needs the handle.
type sharedMulticast struct {
	object driver.Multicast
	refs   atomic.Int32
}

func (m *sharedMulticast) release() error {
	if m.refs.Add(-1) > 0 {
		return nil
	}
	return m.object.Release()
}

func (g *LocalGroup) ShareMulticast(ctx context.Context, rank int, m driver.Multicast) (driver.Multicast, func() error, error) {
	var value *sharedMulticast
	if m != nil {
		value = &sharedMulticast{object: m}
		value.refs.Store(int32(len(g.devices)))
	}
	values, err := g.gather(ctx, rank, value)
	if err != nil {
		return nil, nil, err
	}
	shared, _ := values[0].(*sharedMulticast)
	if shared == nil {
		return nil, nil, errors.New("rank 0 shared no multicast object")
	}
	return shared.object, shared.release, nil
}

// collectiveMaker is a driver that brings its own stand-in for NCCL.
type collectiveMaker interface {
	NewCollectives([]driver.Device) ([]driver.Collective, error)
}

func (g *LocalGroup) Collective(ctx context.Context, rank int) (driver.Collective, error) {
	if _, err := g.Device(rank); err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.comms == nil && g.commErr == nil {
		maker, ok := g.devices[0].Driver().(collectiveMaker)
		if !ok {
			lib, err := nccl.Open()
			if err != nil {
				g.commErr = err
				return nil, err
			}
			maker = lib
		}
		g.comms, g.commErr = maker.NewCollectives(g.devices)
	}
	if g.commErr != nil {
		return nil, g.commErr
	}
	return g.comms[rank], nil
}

// Leave runs the release functions when the last rank leaves: until then a
// peer's kernel may still store into this rank's memory.
func (g *LocalGroup) Leave(rank int, release func() error) error {
	g.mu.Lock()
	g.leaving[rank] = append(g.leaving[rank], release)
	if len(g.leaving) < len(g.devices) {
		g.mu.Unlock()
		return nil
	}
	var all []func() error
	for r := range g.devices {
		fs := g.leaving[r]
		all = append(all, fs[0])
		if g.leaving[r] = fs[1:]; len(fs) == 1 {
			delete(g.leaving, r)
		}
	}
	g.mu.Unlock()
	errs := make([]error, 2*len(all))
	for i, d := range g.devices {
		errs[i] = d.Synchronize()
	}
	// All at once: releasing what a library registered can wait for its peers.
	var wg sync.WaitGroup
	for i, f := range all {
		wg.Add(1)
		go func() { defer wg.Done(); errs[len(all)+i] = f() }()
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Each calls f for every rank, each in a goroutine of its own, and waits for
// all of them: the way to build a group's dispatchers in one process. The
// context that f gets ends when one rank has failed.
func (g *LocalGroup) Each(ctx context.Context, f func(ctx context.Context, rank int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	errs := make([]error, len(g.devices))
	var wg sync.WaitGroup
	for rank := range g.devices {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := f(ctx, rank); err != nil {
				errs[rank] = err
				cancel(fmt.Errorf("rank %d: %w", rank, err))
			}
		}()
	}
	wg.Wait()
	return joinRanks(errs)
}

// joinRanks joins the ranks' errors, and says once what all of them say.
func joinRanks(errs []error) error {
	for _, err := range errs {
		if err == nil || err.Error() != errs[0].Error() {
			for rank, err := range errs {
				if err != nil {
					errs[rank] = fmt.Errorf("rank %d: %w", rank, err)
				}
			}
			return errors.Join(errs...)
		}
	}
	return errs[0]
}

// Close releases the communicators. All dispatchers must be closed.
func (g *LocalGroup) Close() error {
	g.mu.Lock()
	comms := g.comms
	g.comms = nil
	g.mu.Unlock()
	errs := make([]error, len(comms))
	var wg sync.WaitGroup
	for i, c := range comms { // destroying a communicator can wait for the others
		wg.Add(1)
		go func() { defer wg.Done(); errs[i] = c.Close() }()
	}
	wg.Wait()
	return errors.Join(errs...)
}
