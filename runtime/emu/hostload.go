package emu

import (
	"sync/atomic"
	"unsafe"

	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/emu/race"
)

// HostLoad reads an aligned word of memory of AllocHost as a host does that
// polls it while kernels run: by an atomic load, which the judge takes for a
// relaxed one of scope sys. A kernel's store that is weak, or of a narrower
// scope, then shows as a race, where loads from HostMemory.Bytes are not seen
// at all. Like Device.Read it lets kernels run a little first.
func (d *Driver) HostLoad(p driver.DevicePtr) (uint64, error) {
	const op = "HostLoad"
	if err := d.enter(op, nil); err != nil {
		return 0, err
	}
	if d.check != nil {
		d.check.s.someTurns()
	}
	d.mem.use.RLock()
	defer d.mem.use.RUnlock()
	r := d.mem.lookup(uint64(p))
	if r == nil || r.kind != rangeHost || p%8 != 0 || uint64(p)+8 > r.hi {
		return 0, fail(op, driver.CodeInvalidValue, "no aligned word of host memory lies at %#x", uint64(p))
	}
	if c := d.check; c != nil {
		c.hostLoad(uint64(p))
	}
	return atomic.LoadUint64((*uint64)(unsafe.Add(r.ph.data, r.off+uint64(p)-r.lo))), nil
}

func (c *checker) hostLoad(addr uint64) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	op := c.op("", race.Op{Kind: race.Read, Sem: race.Relaxed, Scope: race.Sys, Path: race.PathAny})
	e := c.at(addr)
	c.det.Access(c.host.W, 0, op, e.al.a, 0, addr-e.lo+e.off, 8)
	c.collect()
}
