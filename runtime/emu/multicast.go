package emu

import (
	"sort"
	"strings"
	"unsafe"

	"github.com/moegen/moegen/runtime/driver"
)

// mcObject is a multicast object. All fields but n and size are guarded by
// space.mu; kernels see them through mcWindow snapshots.
type mcObject struct {
	id       uint64
	n        int
	size     uint64
	kind     driver.HandleKind
	devices  []*Device // in the order of AddDevice
	bindings map[*Device][]binding
	refs     int // handles and mappings
	slot     bool
}

// binding puts size bytes of ph, from phOff on, at off of the object.
type binding struct {
	off, size uint64
	ph        *phys
	phOff     uint64
}

// multicast is a handle on a multicast object.
type multicast struct {
	d        *Driver
	obj      *mcObject
	released bool
}

// multicastOp is the CUDA name of a multicast call. It is put together at run
// time: programs for machines on which such a call must not be made are
// searched for these names, and the emulator's are no calls.
func multicastOp(name string) string {
	return strings.Join([]string{"cuMulti", "cast", name}, "")
}

func (o *mcObject) has(dev *Device) bool {
	for _, d := range o.devices {
		if d == dev {
			return true
		}
	}
	return false
}

// complete says whether all devices were added. The real driver blocks until
// they are; the emulator, whose caller could never be rescued, refuses.
func (o *mcObject) complete(op string) error {
	if len(o.devices) < o.n {
		return fail(op, driver.CodeIllegalState, "%d of %d devices were added to the multicast object: the CUDA driver would block here until all of them were", len(o.devices), o.n)
	}
	return nil
}

func (d *Driver) MulticastGranularity(devices int, size uint64, kind driver.HandleKind) (minimum, recommended uint64, err error) {
	op := multicastOp("GetGranularity")
	if err := d.enter(op, nil); err != nil {
		return 0, 0, err
	}
	if err := d.multicastArgs(op, devices, kind); err != nil {
		return 0, 0, err
	}
	if size == 0 {
		return 0, 0, fail(op, driver.CodeInvalidValue, "size is 0")
	}
	return Granularity, Granularity, nil
}

func (d *Driver) multicastArgs(op string, devices int, kind driver.HandleKind) error {
	if d.cfg.NoMulticast {
		return fail(op, driver.CodeNotSupported, "the emulated machine has no multicast (Config.NoMulticast)")
	}
	if devices < 1 || devices > len(d.devices) {
		return fail(op, driver.CodeInvalidValue, "a multicast object over %d devices on a machine with %d", devices, len(d.devices))
	}
	return checkKind(op, kind)
}

func checkKind(op string, kind driver.HandleKind) error {
	if kind < driver.HandleNone || kind > driver.HandleFabric {
		return fail(op, driver.CodeInvalidValue, "handle kind %d does not exist", kind)
	}
	return nil
}

func (d *Driver) CreateMulticast(devices int, size uint64, kind driver.HandleKind) (driver.Multicast, error) {
	op := multicastOp("Create")
	if err := d.enter(op, nil); err != nil {
		return nil, err
	}
	if err := d.multicastArgs(op, devices, kind); err != nil {
		return nil, err
	}
	if size == 0 || size%Granularity != 0 {
		return nil, fail(op, driver.CodeInvalidValue, "size %d is not a positive multiple of the granularity %d", size, Granularity)
	}
	d.mem.mu.Lock()
	defer d.mem.unlock()
	d.mem.lastID++
	o := &mcObject{id: d.mem.lastID, n: devices, size: size, kind: kind, bindings: map[*Device][]binding{}, refs: 1}
	return &multicast{d: d, obj: o}, nil
}

func (m *multicast) Size() uint64 { return m.obj.size }

func (m *multicast) Export(kind driver.HandleKind) (driver.Shareable, error) {
	const op = "cuMemExportToShareableHandle"
	if err := m.d.enter(op, nil); err != nil {
		return driver.Shareable{}, err
	}
	m.d.mem.mu.Lock()
	defer m.d.mem.unlock()
	if m.released {
		return driver.Shareable{}, fail(op, driver.CodeInvalidHandle, "the multicast handle was released")
	}
	return m.d.export(op, m.obj, m.obj.kind, kind, m.obj.id)
}

// lock checks the handle and, without error, returns with mem.mu held.
func (m *multicast) lock(op string, dev driver.Device) (*Device, error) {
	ed, err := m.d.own(op, dev)
	if err != nil {
		return nil, err
	}
	if err := m.d.enter(op, ed); err != nil {
		return nil, err
	}
	m.d.mem.mu.Lock()
	if m.released {
		m.d.mem.unlock()
		return nil, fail(op, driver.CodeInvalidHandle, "the multicast handle was released")
	}
	return ed, nil
}

func (m *multicast) AddDevice(dev driver.Device) error {
	op := multicastOp("AddDevice")
	ed, err := m.lock(op, dev)
	if err != nil {
		return err
	}
	defer m.d.mem.unlock()
	if m.obj.has(ed) {
		return fail(op, driver.CodeInvalidValue, "device %d was added before", ed.ordinal)
	}
	if len(m.obj.devices) == m.obj.n {
		return fail(op, driver.CodeInvalidValue, "the multicast object has all its %d devices", m.obj.n)
	}
	for _, o := range m.obj.devices {
		if !m.d.peers(ed, o) {
			return fail(op, driver.CodeInvalidDevice, "device %d and device %d of the multicast object are not in one NVLink clique", ed.ordinal, o.ordinal)
		}
	}
	m.obj.devices = append(m.obj.devices, ed)
	return nil
}

func (m *multicast) Bind(dev driver.Device, offset uint64, mem driver.Memory, memOffset, size uint64) error {
	op := multicastOp("BindMem")
	ed, err := m.lock(op, dev)
	if err != nil {
		return err
	}
	defer m.d.mem.unlock()
	o := m.obj
	em, ok := mem.(*memory)
	switch {
	case !ok || em.d != m.d || em.released:
		return fail(op, driver.CodeInvalidHandle, "the memory handle was released or is not memory of this driver")
	case !o.has(ed):
		return fail(op, driver.CodeInvalidDevice, "device %d was not added to the multicast object", ed.ordinal)
	case em.ph.dev == nil:
		return fail(op, driver.CodeInvalidDevice, "the memory lives in another process")
	case em.ph.dev != ed:
		return fail(op, driver.CodeInvalidDevice, "the memory lives on device %d, not on device %d", em.ph.dev.ordinal, ed.ordinal)
	}
	if err := o.complete(op); err != nil {
		return err
	}
	if size == 0 || offset%Granularity != 0 || memOffset%Granularity != 0 || size%Granularity != 0 {
		return fail(op, driver.CodeInvalidValue, "offset %d, memory offset %d and size %d must be multiples of the granularity %d", offset, memOffset, size, Granularity)
	}
	if offset > o.size || size > o.size-offset {
		return fail(op, driver.CodeInvalidValue, "[%d, %d) is not inside the multicast object's %d bytes", offset, offset+size, o.size)
	}
	if memOffset > em.ph.size || size > em.ph.size-memOffset {
		return fail(op, driver.CodeInvalidValue, "[%d, %d) is not inside the memory's %d bytes", memOffset, memOffset+size, em.ph.size)
	}
	for _, b := range o.bindings[ed] {
		if offset < b.off+b.size && b.off < offset+size {
			return fail(op, driver.CodeInvalidValue, "device %d has memory bound at [%d, %d) already", ed.ordinal, b.off, b.off+b.size)
		}
	}
	if !o.slot {
		if m.d.slots == 0 {
			return fail(op, driver.CodeOutOfMemory, "all %d multicast slots of the switch are in use: use one multicast object per group and sub-allocate", m.d.cfg.MulticastSlots)
		}
		m.d.slots--
		o.slot = true
	}
	em.ph.refs++
	bs := append(o.bindings[ed], binding{offset, size, em.ph, memOffset})
	sort.Slice(bs, func(i, j int) bool { return bs[i].off < bs[j].off })
	o.bindings[ed] = bs
	return nil
}

func (m *multicast) Unbind(dev driver.Device, offset, size uint64) error {
	op := multicastOp("Unbind")
	ed, err := m.lock(op, dev)
	if err != nil {
		return err
	}
	defer m.d.mem.unlock()
	o := m.obj
	for i, b := range o.bindings[ed] {
		if b.off == offset && b.size == size {
			o.bindings[ed] = append(o.bindings[ed][:i], o.bindings[ed][i+1:]...)
			m.d.mem.gen.Add(1)
			m.d.dropPhys(b.ph)
			m.d.freeSlot(o)
			return nil
		}
	}
	return fail(op, driver.CodeInvalidValue, "[%d, %d) is not exactly one binding of device %d", offset, offset+size, ed.ordinal)
}

// freeSlot gives the switch's slot back once nothing is bound; mem.mu is held.
func (d *Driver) freeSlot(o *mcObject) {
	for _, bs := range o.bindings {
		if len(bs) > 0 {
			return
		}
	}
	if o.slot {
		o.slot = false
		d.slots++
	}
}

func (m *multicast) Release() error {
	const op = "cuMemRelease"
	if err := m.d.enter(op, nil); err != nil {
		return err
	}
	m.d.mem.mu.Lock()
	defer m.d.mem.unlock()
	if m.released {
		return fail(op, driver.CodeInvalidValue, "the multicast handle was released before")
	}
	m.released = true
	m.d.dropMulticast(m.obj)
	return nil
}

// dropMulticast gives up a handle or mapping; mem.mu is held.
func (d *Driver) dropMulticast(o *mcObject) {
	o.refs--
	if o.refs > 0 {
		return
	}
	for dev, bs := range o.bindings {
		for _, b := range bs {
			d.dropPhys(b.ph)
		}
		delete(o.bindings, dev)
	}
	d.freeSlot(o)
	d.forget(o)
}

// replica is one device's copy behind a multicast window.
type replica struct {
	base unsafe.Pointer
	ph   *phys
	off  uint64 // of base in ph
}

// mcWindow is a stretch [lo, hi) of a multicast range in which every device's
// memory is contiguous.
type mcWindow struct {
	lo, hi   uint64
	r        *vaRange
	replicas []replica // in the order of AddDevice
}

// window returns the stretch around addr, or the device that has no memory
// bound there.
func (d *Driver) window(r *vaRange, addr uint64) (*mcWindow, *Device) {
	d.mem.mu.RLock()
	defer d.mem.mu.RUnlock()
	at := addr - r.lo + r.off // in the object
	lo, hi := r.off, r.off+(r.hi-r.lo)
	w := &mcWindow{r: r}
	bound := make([]binding, 0, r.mc.n)
	for _, dev := range r.mc.devices {
		found := false
		for _, b := range r.mc.bindings[dev] {
			if b.off <= at && at < b.off+b.size {
				lo, hi, found = max(lo, b.off), min(hi, b.off+b.size), true
				bound = append(bound, b)
			}
		}
		if !found {
			return nil, dev
		}
	}
	if d.check != nil {
		// In the order of AddDevice otherwise, in which ranks may outrun each other.
		sort.Slice(bound, func(i, j int) bool { return bound[i].ph.dev.ordinal < bound[j].ph.dev.ordinal })
	}
	for _, b := range bound {
		off := b.phOff + (lo - b.off)
		w.replicas = append(w.replicas, replica{unsafe.Add(b.ph.data, off), b.ph, off})
	}
	w.lo, w.hi = r.lo+(lo-r.off), r.lo+(hi-r.off)
	return w, nil
}
