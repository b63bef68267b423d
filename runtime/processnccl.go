package runtime

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/nccl"
)

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
