package symm

import (
	"context"
	"errors"
	"fmt"

	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/nccl"
)

// NCCL makes symmetric memory by registering a window with libnccl, which maps
// peers and binds multicast in its own, widely tested way, several hosts and
// fabric handles included. It needs libnccl 2.29 or newer.
type NCCL struct {
	// Communicator returns the rank's communicator.
	Communicator func(ctx context.Context, rank int) (driver.Collective, error)
}

func (NCCL) Name() string { return "nccl" }

// windows is what a communicator needs to have; *nccl.Comm does.
type windows interface {
	MemAlloc(size uint64) (driver.DevicePtr, error)
	MemFree(p driver.DevicePtr) error
	RegisterWindow(p driver.DevicePtr, size uint64) (nccl.Window, error)
	Deregister(w nccl.Window) error
	PeerPointer(w nccl.Window, offset uint64, peer int) (driver.DevicePtr, error)
	MultimemPointer(w nccl.Window, offset uint64) (driver.DevicePtr, error)
}

// windowGranularity is what sizes are rounded up to: the driver's granularity
// for shareable memory.
const windowGranularity = 2 << 20

// Allocate registers one window on all ranks. Addresses outside the reach of
// this rank, and a multicast address that NCCL does not have, are an error on
// all ranks.
func (n NCCL) Allocate(ctx context.Context, x Exchange, req Request) (*Memory, error) {
	m := &Memory{Provider: "nccl", Bytes: (req.Bytes + windowGranularity - 1) / windowGranularity * windowGranularity}
	if err := n.allocate(ctx, x, req, m); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

func (n NCCL) allocate(ctx context.Context, x Exchange, req Request, m *Memory) error {
	agree := func(what string, err error) error { return Agree(ctx, x, req.Rank, what, err) }

	var own driver.DevicePtr
	comm, err := n.windows(ctx, req.Rank)
	if err == nil {
		if own, err = comm.MemAlloc(m.Bytes); err == nil {
			m.undo.add(func() error { return comm.MemFree(own) })
			err = zero(req.Device, own, req.Clear)
		}
	}
	// Registration is collective: nobody starts it unless all can.
	if err := agree("allocate memory with NCCL", err); err != nil {
		return err
	}
	window, err := comm.RegisterWindow(own, m.Bytes)
	if err == nil {
		m.undo.add(func() error { return comm.Deregister(window) })
	}
	if err := agree("register a window with NCCL", err); err != nil {
		return err
	}
	return agree("map a window of NCCL", m.fromWindow(comm, window, x.Size(), req.Multicast))
}

func (n NCCL) windows(ctx context.Context, rank int) (windows, error) {
	c, err := n.Communicator(ctx, rank)
	if err != nil {
		return nil, err
	}
	w, ok := c.(windows)
	if !ok {
		return nil, fmt.Errorf("%T has no windows", c)
	}
	return w, nil
}

// fromWindow asks NCCL for the addresses.
func (m *Memory) fromWindow(comm windows, w nccl.Window, ranks int, multicast bool) error {
	m.Unicast = make([]driver.DevicePtr, ranks)
	for r := range m.Unicast {
		p, err := comm.PeerPointer(w, 0, r)
		if err != nil {
			return err
		}
		if p == 0 {
			return fmt.Errorf("rank %d's memory is out of reach", r)
		}
		m.Unicast[r] = p
	}
	if !multicast {
		return nil
	}
	p, err := comm.MultimemPointer(w, 0)
	if err == nil && p == 0 {
		err = errors.New("NCCL has no multicast address for the window")
	}
	m.Multicast = p
	return err
}
