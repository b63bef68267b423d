package symm

import (
	"context"
	"errors"

	"github.com/moegen/moegen/runtime/driver"
)

// Memory is symmetric memory as one rank sees it. Its first Request.Clear bytes
// are zero on all ranks before any rank has it; the rest is undefined.
type Memory struct {
	// Unicast holds the address of each rank's memory, by rank. Loads, stores
	// and atomics are legal on it.
	Unicast []driver.DevicePtr
	// Multicast is the address of all ranks' memory at once, 0 if there is
	// none. Only multimem instructions are legal on it.
	Multicast driver.DevicePtr
	// Bytes is the usable size of each rank's memory, at least what was asked.
	Bytes uint64
	// Provider is "vmm", "nccl" or "local".
	Provider string

	undo undoList
}

// Close unmaps and releases everything, newest first. No kernel of any rank
// may still use the memory. A second Close does nothing.
func (m *Memory) Close() error { return m.undo.run() }

// undoList holds what takes the set-up back, in the order in which it was made.
type undoList []func() error

func (u *undoList) add(f func() error) { *u = append(*u, f) }

func (u *undoList) run() error {
	var errs []error
	for i := len(*u) - 1; i >= 0; i-- {
		errs = append(errs, (*u)[i]())
	}
	*u = nil
	return errors.Join(errs...)
}

// Request is what to allocate.
type Request struct {
	Device    driver.Device
	Rank      int
	Bytes     uint64
	Clear     uint64 // how many bytes to zero: what peers' flags live in
	Multicast bool   // bind the memory to one multicast object over all ranks
}

// Provider makes symmetric memory. Allocate is called by all ranks; it either
// succeeds on all of them or fails on all of them with nothing left behind.
type Provider interface {
	Name() string
	Allocate(ctx context.Context, x Exchange, req Request) (*Memory, error)
}

// Local gives a rank memory that nobody else can address: what a transport
// needs that copies through a library. All unicast addresses are the rank's own.
func Local(x Exchange, req Request) (*Memory, error) {
	p, err := req.Device.Alloc(req.Bytes)
	if err != nil {
		return nil, err
	}
	m := &Memory{Bytes: req.Bytes, Provider: "local", Unicast: make([]driver.DevicePtr, x.Size())}
	m.undo.add(func() error { return req.Device.Free(p) })
	for r := range m.Unicast {
		m.Unicast[r] = p
	}
	if err := zero(req.Device, p, req.Clear); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// zero clears device memory. It is little, and a copy makes no stream: streams
// that come and go make others share hardware queues.
func zero(d driver.Device, p driver.DevicePtr, bytes uint64) error {
	return d.Write(p, make([]byte, bytes))
}
