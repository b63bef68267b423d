package runtime

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/rendezvous"
)

// exchange makes a handle of memory, and swaps it for those of all ranks.
// Those returned are closed by free.
func (g *ProcessGroup) exchange(ctx context.Context, m driver.Memory) (all []driver.Shareable, free func(), err error) {
	mine := driver.Shareable{FD: -1}
	var failed error
	if m != nil {
		if mine, failed = m.Export(g.kind); failed != nil {
			mine.FD = -1 // and not 0, which is somebody's
		}
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
