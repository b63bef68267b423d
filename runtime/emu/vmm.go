package emu

import (
	"encoding/binary"
	"errors"
	"sort"

	"github.com/moegen/moegen/runtime/driver"
)

// memory is a handle on physical memory.
type memory struct {
	d        *Driver
	ph       *phys
	released bool // under space.mu
}

// fdID recognises an exported file descriptor after dup and SCM_RIGHTS.
type fdID struct{ dev, ino uint64 }

// exports is where handles that left the driver are found again. Those of other
// processes are memory that this one maps too; multicast objects, and fabric
// handles, resolve in the Driver that made them.
type exports struct {
	byFD     map[fdID]any // *phys or *mcObject
	byFabric map[[64]byte]any
}

func (m *memory) Size() uint64 { return m.ph.size }

func (m *memory) Export(kind driver.HandleKind) (driver.Shareable, error) {
	const op = "cuMemExportToShareableHandle"
	if err := m.d.enter(op, m.ph.dev); err != nil {
		return driver.Shareable{}, err
	}
	m.d.mem.mu.Lock()
	defer m.d.mem.unlock()
	if m.released {
		return driver.Shareable{}, fail(op, driver.CodeInvalidHandle, "the memory handle was released")
	}
	return m.d.export(op, m.ph, m.ph.kind, kind, m.ph.id)
}

// export registers target under a new shareable handle; mem.mu is held.
func (d *Driver) export(op string, target any, have, kind driver.HandleKind, id uint64) (driver.Shareable, error) {
	if kind == driver.HandleNone || kind != have {
		return driver.Shareable{}, fail(op, driver.CodeInvalidValue, "handle kind %d wanted, but the memory was created with kind %d", kind, have)
	}
	s := driver.Shareable{Kind: kind, FD: -1}
	if kind == driver.HandleFabric {
		copy(s.Fabric[:], "emu-fabric")
		binary.LittleEndian.PutUint64(s.Fabric[16:], id)
		binary.LittleEndian.PutUint64(s.Fabric[24:], d.id)
		d.exp.byFabric[s.Fabric] = target
		return s, nil
	}
	fd, key, err := exportFD(target)
	if err != nil {
		return driver.Shareable{}, fail(op, driver.CodeUnknown, "making a file descriptor: %v", err)
	}
	d.exp.byFD[key] = target
	s.FD = fd
	return s, nil
}

// exportFD makes a descriptor for target: of its pages, or one that only stands
// for it.
func exportFD(target any) (int, fdID, error) {
	p, ok := target.(*phys)
	if !ok || p.fd < 0 {
		return newFD()
	}
	fd, err := dupFD(p.fd)
	if err != nil {
		return -1, fdID{}, err
	}
	id, err := identifyFD(fd)
	if err != nil {
		closeFD(fd)
		return -1, fdID{}, err
	}
	return fd, id, nil
}

// adopt imports memory of an emulator in another process; mem.mu is held. It
// counts as no device's.
func (d *Driver) adopt(fd int, size uint64) (*memory, error) {
	if d.check != nil {
		return nil, errors.New("it belongs to another process, and only mode Fast runs over several")
	}
	p, own, err := openShared(fd, alignUp(size, 4096))
	if err != nil {
		return nil, err
	}
	d.mem.lastID++
	ph := &phys{id: d.mem.lastID, size: size, data: p, kind: driver.HandlePosixFD, fd: own, refs: 1, what: "memory of another process"}
	if id, err := identifyFD(own); err == nil {
		d.exp.byFD[id] = ph // opened again, it is the same
	}
	return &memory{d: d, ph: ph}, nil
}

// forget removes the exports of target; mem.mu is held.
func (d *Driver) forget(target any) {
	for k, v := range d.exp.byFD {
		if v == target {
			delete(d.exp.byFD, k)
		}
	}
	for k, v := range d.exp.byFabric {
		if v == target {
			delete(d.exp.byFabric, k)
		}
	}
}

func (d *Driver) Import(dev driver.Device, s driver.Shareable, size uint64) (driver.Memory, error) {
	const op = "cuMemImportFromShareableHandle"
	ed, err := d.own(op, dev)
	if err != nil {
		return nil, err
	}
	if err := d.enter(op, ed); err != nil {
		return nil, err
	}
	d.mem.mu.Lock()
	defer d.mem.unlock()
	var target any
	switch s.Kind {
	case driver.HandleFabric:
		target = d.exp.byFabric[s.Fabric]
	case driver.HandlePosixFD:
		if key, err := identifyFD(s.FD); err == nil {
			target = d.exp.byFD[key]
		}
	}
	switch t := target.(type) {
	case *phys:
		if t.refs > 0 {
			if size != t.size {
				return nil, fail(op, driver.CodeInvalidValue, "size %d given, the memory has %d bytes", size, t.size)
			}
			t.refs++
			return &memory{d: d, ph: t}, nil
		}
	case *mcObject:
		if t.refs > 0 {
			if size != t.size {
				return nil, fail(op, driver.CodeInvalidValue, "size %d given, the multicast object has %d bytes", size, t.size)
			}
			t.refs++
			return &multicast{d: d, obj: t}, nil
		}
	}
	why := errors.New("multicast objects and fabric handles are valid in the process that made them")
	if s.Kind == driver.HandlePosixFD {
		m, err := d.adopt(s.FD, size)
		if err == nil {
			return m, nil
		}
		why = err
	}
	return nil, fail(op, driver.CodeInvalidValue, "the shareable handle is not one of this emulator's live exports: %v", why)
}

func (m *memory) Release() error {
	const op = "cuMemRelease"
	// A dead context must not keep memory from being given back.
	if err := m.d.enter(op, nil); err != nil {
		return err
	}
	m.d.mem.mu.Lock()
	defer m.d.mem.unlock()
	if m.released {
		return fail(op, driver.CodeInvalidValue, "the memory handle was released before")
	}
	m.released = true
	m.d.dropPhys(m.ph)
	return nil
}

// dropPhys gives up a reference; mem.mu is held.
func (d *Driver) dropPhys(p *phys) {
	d.mem.drop(p)
	if p.refs == 0 {
		d.forget(p)
	}
}

func (d *Driver) Reserve(size, align uint64) (driver.DevicePtr, error) {
	const op = "cuMemAddressReserve"
	if err := d.enter(op, nil); err != nil {
		return 0, err
	}
	if size == 0 || size%Granularity != 0 {
		return 0, fail(op, driver.CodeInvalidValue, "size %d is not a positive multiple of the granularity %d", size, Granularity)
	}
	if align&(align-1) != 0 {
		return 0, fail(op, driver.CodeInvalidValue, "alignment %d is not a power of two", align)
	}
	d.mem.mu.Lock()
	defer d.mem.unlock()
	lo, err := d.mem.take(size, max(align, Granularity))
	if err != nil {
		return 0, fail(op, driver.CodeOutOfMemory, "%v", err)
	}
	d.mem.reserved = append(d.mem.reserved, span{lo, lo + size})
	return driver.DevicePtr(lo), nil
}

// reservation returns the index of the reservation that holds [lo, lo+size), -1
// if there is none; mem.mu is held. Reservations are sorted as they only grow.
func (s *space) reservation(lo, size uint64) int {
	i := sort.Search(len(s.reserved), func(i int) bool { return s.reserved[i].hi > lo })
	if i == len(s.reserved) || s.reserved[i].lo > lo || size > s.reserved[i].hi-lo {
		return -1
	}
	return i
}

func (d *Driver) Unreserve(p driver.DevicePtr, size uint64) error {
	const op = "cuMemAddressFree"
	if err := d.enter(op, nil); err != nil {
		return err
	}
	lo := uint64(p)
	d.mem.mu.Lock()
	defer d.mem.unlock()
	i := d.mem.reservation(lo, size)
	if i < 0 || d.mem.reserved[i] != (span{lo, lo + size}) {
		return fail(op, driver.CodeInvalidValue, "[%#x, %#x) is not a reservation", lo, lo+size)
	}
	if j := d.mem.find(lo); j < len(d.mem.ranges) && d.mem.ranges[j].lo < lo+size {
		return fail(op, driver.CodeInvalidValue, "the %s is still mapped in the reservation", d.mem.ranges[j].describe())
	}
	d.mem.reserved = append(d.mem.reserved[:i], d.mem.reserved[i+1:]...)
	return nil
}

func (d *Driver) Map(p driver.DevicePtr, size uint64, m driver.Memory, offset uint64) error {
	const op = "cuMemMap"
	if err := d.enter(op, nil); err != nil {
		return err
	}
	lo := uint64(p)
	if size == 0 || size%Granularity != 0 || lo%Granularity != 0 || offset%Granularity != 0 {
		return fail(op, driver.CodeInvalidValue, "address %#x, size %d and offset %d must be multiples of the granularity %d", lo, size, offset, Granularity)
	}
	d.mem.mu.Lock()
	defer d.mem.unlock()
	r := &vaRange{lo: lo, hi: lo + size, off: offset}
	switch m := m.(type) {
	case *memory:
		if m.d != d || m.released {
			return fail(op, driver.CodeInvalidHandle, "the memory handle was released or belongs to another driver")
		}
		r.kind, r.ph = rangeMapped, m.ph
	case *multicast:
		if m.d != d || m.released {
			return fail(op, driver.CodeInvalidHandle, "the multicast handle was released or belongs to another driver")
		}
		if err := m.obj.complete(op); err != nil {
			return err
		}
		r.kind, r.mc = rangeMulticast, m.obj
	default:
		return fail(op, driver.CodeInvalidHandle, "%T is not memory of this driver", m)
	}
	if total := m.Size(); offset > total || size > total-offset {
		return fail(op, driver.CodeInvalidValue, "[%d, %d) is not inside the memory's %d bytes", offset, offset+size, total)
	}
	if d.mem.reservation(lo, size) < 0 {
		return fail(op, driver.CodeInvalidValue, "[%#x, %#x) is not inside one reservation", lo, lo+size)
	}
	if i := d.mem.find(lo); i < len(d.mem.ranges) && d.mem.ranges[i].lo < lo+size {
		return fail(op, driver.CodeInvalidValue, "the %s is mapped there already", d.mem.ranges[i].describe())
	}
	if r.mc != nil {
		r.mc.refs++
	} else {
		r.ph.refs++
	}
	d.mem.insert(r)
	return nil
}

func (d *Driver) Unmap(p driver.DevicePtr, size uint64) error {
	const op = "cuMemUnmap"
	if err := d.enter(op, nil); err != nil {
		return err
	}
	lo := uint64(p)
	r := d.mem.lookup(lo)
	if r == nil || r.kind != rangeMapped && r.kind != rangeMulticast || r.lo != lo || r.hi != lo+size {
		return fail(op, driver.CodeInvalidValue, "[%#x, %#x) is not exactly one mapping made by cuMemMap", lo, lo+size)
	}
	// Unmapping waits for the devices that could be using the range.
	if a := r.access.Load(); a != nil {
		for _, dev := range d.devices {
			if a.has(dev.ordinal) {
				if err := dev.idle(); err != nil {
					d.log.Debug("unmapping after a device error", "device", dev.ordinal, "err", err)
				}
			}
		}
	}
	d.mem.mu.Lock()
	defer d.mem.unlock()
	i := d.mem.find(lo)
	if i == len(d.mem.ranges) || d.mem.ranges[i] != r {
		return fail(op, driver.CodeInvalidValue, "[%#x, %#x) was unmapped by someone else meanwhile", lo, lo+size)
	}
	d.mem.remove(i)
	if r.mc != nil {
		d.dropMulticast(r.mc)
	} else {
		d.dropPhys(r.ph)
	}
	return nil
}

func (d *Driver) SetAccess(p driver.DevicePtr, size uint64, devices ...driver.Device) error {
	const op = "cuMemSetAccess"
	if err := d.enter(op, nil); err != nil {
		return err
	}
	lo := uint64(p)
	d.mem.mu.Lock()
	defer d.mem.unlock()
	var rs []*vaRange
	for at := lo; at < lo+size; {
		i := d.mem.find(at)
		if i == len(d.mem.ranges) || d.mem.ranges[i].lo != at || d.mem.ranges[i].hi > lo+size {
			return fail(op, driver.CodeInvalidValue, "[%#x, %#x) is not made of whole mappings: none starts at %#x and ends inside", lo, lo+size, at)
		}
		r := d.mem.ranges[i]
		if r.kind != rangeMapped && r.kind != rangeMulticast {
			return fail(op, driver.CodeInvalidValue, "the %s was not mapped by cuMemMap", r.describe())
		}
		rs = append(rs, r)
		at = r.hi
	}
	if len(rs) == 0 || len(devices) == 0 {
		return fail(op, driver.CodeInvalidValue, "no range or no device given")
	}
	for _, dev := range devices {
		ed, err := d.own(op, dev)
		if err != nil {
			return err
		}
		for _, r := range rs {
			if r.mc != nil && !r.mc.has(ed) {
				return fail(op, driver.CodeInvalidDevice, "device %d was not added to the multicast object", ed.ordinal)
			}
			if r.ph != nil && r.ph.dev != nil && !d.peers(ed, r.ph.dev) {
				return fail(op, driver.CodeInvalidDevice, "device %d cannot access memory of device %d", ed.ordinal, r.ph.dev.ordinal)
			}
		}
	}
	for _, r := range rs {
		var set devset
		if old := r.access.Load(); old != nil {
			set = *old
		}
		for _, dev := range devices {
			set.add(dev.Ordinal())
		}
		r.access.Store(&set)
	}
	return nil
}
