package symm

import (
	"context"
	"errors"
	"fmt"

	"github.com/moegen/moegen/runtime/driver"
)

// VMM makes symmetric memory with the driver's own calls.
type VMM struct{}

func (VMM) Name() string { return "vmm" }

// Allocate follows the order that the driver documents: create memory, share
// handles, map; for multicast create the object on rank 0, share it, add every
// device, and only when all have been added bind and map. Every stage ends in
// an agreement of all ranks, because both binding and using a half-built
// object would wait for the missing ones.
func (VMM) Allocate(ctx context.Context, x Exchange, req Request) (*Memory, error) {
	v := &vmm{ctx: ctx, x: x, req: req, drv: req.Device.Driver(), mem: &Memory{Provider: "vmm"}}
	err := v.allocate()
	if err == nil && req.Multicast {
		err = v.bindMulticast()
	}
	if err == nil {
		// Nobody may signal into memory that its owner has still to clear.
		err = v.agree("clear symmetric memory", zero(req.Device, v.mem.Unicast[req.Rank], req.Clear))
	}
	if err != nil {
		if uerr := v.mem.Close(); uerr != nil {
			err = fmt.Errorf("%w (and while undoing it: %v)", err, uerr)
		}
		return nil, err
	}
	return v.mem, nil
}

// vmm is one rank's allocation under way.
type vmm struct {
	ctx context.Context
	x   Exchange
	req Request
	drv driver.Driver
	mem *Memory
	own driver.Memory
	gra uint64 // what sizes must be a multiple of
}

func (v *vmm) agree(what string, err error) error {
	return Agree(v.ctx, v.x, v.req.Rank, what, err)
}

func (v *vmm) allocate() error {
	err := v.create()
	if err := v.agree("allocate symmetric memory", err); err != nil {
		return err
	}
	handles, release, err := v.x.ShareMemory(v.ctx, v.req.Rank, v.own)
	if err == nil {
		v.mem.undo.add(release)
	}
	if err := v.agree("share symmetric memory", err); err != nil {
		return err
	}
	v.mem.Unicast = make([]driver.DevicePtr, len(handles))
	var failed error
	for r, h := range handles {
		if v.mem.Unicast[r], failed = v.mapMemory(h); failed != nil {
			failed = fmt.Errorf("memory of rank %d: %w", r, failed)
			break
		}
	}
	return v.agree("map symmetric memory", failed)
}

func (v *vmm) create() error {
	kind := v.x.HandleKind()
	gra, err := v.req.Device.Granularity(kind)
	if err != nil {
		return err
	}
	if v.req.Multicast {
		_, recommended, err := v.drv.MulticastGranularity(v.x.Size(), v.req.Bytes, kind)
		if err != nil {
			return err
		}
		gra = max(gra, recommended)
	}
	v.gra = gra
	v.mem.Bytes = (v.req.Bytes + gra - 1) / gra * gra
	if v.own, err = v.req.Device.CreateMemory(v.mem.Bytes, kind); err != nil {
		return err
	}
	v.mem.undo.add(v.own.Release)
	return nil
}

// mapMemory gives this rank's device an address for all of m.
func (v *vmm) mapMemory(m driver.Memory) (driver.DevicePtr, error) {
	size := v.mem.Bytes
	p, err := v.drv.Reserve(size, v.gra)
	if err != nil {
		return 0, err
	}
	v.mem.undo.add(func() error { return v.drv.Unreserve(p, size) })
	if err := v.drv.Map(p, size, m, 0); err != nil {
		return 0, err
	}
	v.mem.undo.add(func() error { return v.drv.Unmap(p, size) })
	return p, v.drv.SetAccess(p, size, v.req.Device)
}

func (v *vmm) bindMulticast() error {
	var object driver.Multicast
	var err error
	if v.req.Rank == 0 {
		object, err = v.drv.CreateMulticast(v.x.Size(), v.mem.Bytes, v.x.HandleKind())
	}
	if err := v.agree("create the multicast object", err); err != nil {
		return err
	}
	shared, release, err := v.x.ShareMulticast(v.ctx, v.req.Rank, object)
	if err != nil && object != nil {
		err = errors.Join(err, object.Release())
	}
	if err == nil {
		v.mem.undo.add(release)
	}
	if err := v.agree("share the multicast object", err); err != nil {
		return err
	}
	if err := v.agree("add devices to the multicast object", shared.AddDevice(v.req.Device)); err != nil {
		return err
	}
	err = shared.Bind(v.req.Device, 0, v.own, 0, v.mem.Bytes)
	if err == nil {
		v.mem.undo.add(func() error { return shared.Unbind(v.req.Device, 0, v.mem.Bytes) })
	}
	if err := v.agree("bind memory to the multicast object", err); err != nil {
		return err
	}
	v.mem.Multicast, err = v.mapMemory(shared)
	return v.agree("map the multicast object", err)
}
