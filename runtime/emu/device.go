package emu

import (
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/emu/race"
)

// Driver is the emulated machine. It implements driver.Driver.
type Driver struct {
	cfg     Config
	id      uint64
	log     *slog.Logger
	devices []*Device
	mem     space
	exp     exports
	comms   sync.Map // communicators by the id that named them, see JoinCollective
	slots   int      // free multicast slots; under mem.mu
	closed  atomic.Bool
	sched   scheduler
	obs     Observer
	parsed  *parseCache
	check   *checker // nil in Fast mode
}

var lastDriver atomic.Uint64

var (
	_ driver.Driver    = (*Driver)(nil)
	_ driver.Device    = (*Device)(nil)
	_ driver.Multicast = (*multicast)(nil)
)

// New makes an emulated machine.
func New(cfg Config) (*Driver, error) {
	cfg = cfg.withDefaults()
	if cfg.Devices < 1 || cfg.Devices > MaxDevices {
		return nil, fmt.Errorf("emu: %d devices: want 1 to %d", cfg.Devices, MaxDevices)
	}
	if cfg.Mode < Fast || cfg.Mode > Explore {
		return nil, fmt.Errorf("emu: mode %d does not exist", cfg.Mode)
	}
	d := &Driver{cfg: cfg, id: lastDriver.Add(1), log: cfg.Logger, slots: cfg.MulticastSlots, obs: cfg.Observer, parsed: new(parseCache)}
	d.mem.init()
	d.exp = exports{map[fdID]any{}, map[[64]byte]any{}}
	for i := range cfg.Devices {
		d.devices = append(d.devices, &Device{
			d: d, ordinal: i, total: cfg.MemoryBytes, streams: map[*stream]struct{}{}, started: map[*node]struct{}{},
		})
	}
	if cfg.Mode != Fast {
		d.check = newChecker(d)
		d.mem.onFree = d.check.freed
		d.parsed = &sharedParses
		d.sched = d.check.s
		return d, nil
	}
	d.sched = newFastScheduler(d)
	return d, nil
}

// Name is "emu".
func (d *Driver) Name() string { return "emu" }

// Version describes the machine.
func (d *Driver) Version() string {
	return fmt.Sprintf("moegen emulator, %d x sm_%d%d", len(d.devices), d.cfg.CC[0], d.cfg.CC[1])
}

// Devices lists the devices in ordinal order.
func (d *Driver) Devices() []driver.Device {
	out := make([]driver.Device, len(d.devices))
	for i, dev := range d.devices {
		out[i] = dev
	}
	return out
}

// Close stops the workers and gives all memory back. Kernels that still run
// are abandoned.
func (d *Driver) Close() error {
	if d.closed.Swap(true) {
		return nil
	}
	d.sched.stop()
	judged := d.judged(nil)
	s := &d.mem
	s.mu.Lock()
	defer s.unlock()
	seen := map[*phys]bool{}
	for _, r := range s.ranges {
		if r.ph != nil {
			seen[r.ph] = true
		}
		if r.mc != nil {
			for _, bs := range r.mc.bindings {
				for _, b := range bs {
					seen[b.ph] = true
				}
			}
		}
	}
	s.ranges = nil
	s.gen.Add(1)
	for p := range seen {
		p.refs = 1
		d.dropPhys(p)
	}
	return judged
}

// own checks that dev is one of this driver's devices.
func (d *Driver) own(op string, dev driver.Device) (*Device, error) {
	ed, ok := dev.(*Device)
	if !ok || ed == nil || ed.d != d {
		return nil, fail(op, driver.CodeInvalidDevice, "%v is not a device of this driver", dev)
	}
	return ed, nil
}

func (d *Driver) peers(a, b *Device) bool {
	return a == b || d.cfg.NoPeer == nil || !d.cfg.NoPeer(a.ordinal, b.ordinal) && !d.cfg.NoPeer(b.ordinal, a.ordinal)
}

// Device is one emulated GPU.
type Device struct {
	d       *Driver
	ordinal int
	total   uint64
	used    uint64 // under mem.mu
	physes  uint64 // memories made so far; under mem.mu
	hosts   uint64 // host memories, likewise
	// sticky is the error that killed the context; every later call repeats it.
	sticky atomic.Pointer[driver.Error]
	ops    atomic.Uint64 // operations completed, for event times

	mu      sync.Mutex
	streams map[*stream]struct{}

	// Residency, under the scheduler's lock.
	load    int64   // see fullSM
	queue   []*grid // grids with blocks that are not resident yet
	smNext  int
	started map[*node]struct{}

	// See Freeze; under the scheduler's lock.
	turns, stopAt int64
	stops, frozen bool
}

func (v *Device) String() string { return fmt.Sprintf("emu device %d", v.ordinal) }

// Driver returns the machine.
func (v *Device) Driver() driver.Driver { return v.d }

// Ordinal is the device's index.
func (v *Device) Ordinal() int { return v.ordinal }

// Info identifies the device.
func (v *Device) Info() driver.DeviceInfo {
	return driver.DeviceInfo{
		Name:  fmt.Sprintf("moegen emulated GPU (sm_%d%d)", v.d.cfg.CC[0], v.d.cfg.CC[1]),
		UUID:  fmt.Sprintf("656d7500-0000-4000-8000-%012x", v.ordinal),
		Major: v.d.cfg.CC[0], Minor: v.d.cfg.CC[1], SMs: v.d.cfg.SMs, TotalMemory: v.total,
	}
}

// Attribute returns a capability or limit.
func (v *Device) Attribute(a driver.Attribute) (int, error) {
	const op = "cuDeviceGetAttribute"
	if err := v.d.enter(op, v); err != nil {
		return 0, err
	}
	yes := func(b bool) int {
		if b {
			return 1
		}
		return 0
	}
	switch a {
	case driver.AttrMulticastSupported:
		return yes(!v.d.cfg.NoMulticast), nil
	case driver.AttrPosixFDSupported:
		return yes(runtime.GOOS == "linux"), nil
	case driver.AttrFabricSupported, driver.AttrVMMSupported:
		return 1, nil
	case driver.AttrMaxThreadsPerBlock:
		return maxThreadsPerBlock, nil
	case driver.AttrMaxThreadsPerSM:
		return maxThreadsPerSM, nil
	case driver.AttrClockRateKHz:
		return 1_000_000, nil
	}
	return 0, fail(op, driver.CodeInvalidValue, "attribute %d does not exist", a)
}

// CanAccessPeer says whether kernels here reach memory there.
func (v *Device) CanAccessPeer(peer driver.Device) (bool, error) {
	const op = "cuDeviceCanAccessPeer"
	if err := v.d.enter(op, v); err != nil {
		return false, err
	}
	p, err := v.d.own(op, peer)
	if err != nil {
		return false, err
	}
	return p != v && v.d.peers(v, p), nil
}

// MemInfo returns free and total memory.
func (v *Device) MemInfo() (free, total uint64, err error) {
	if err := v.d.enter("cuMemGetInfo", v); err != nil {
		return 0, 0, err
	}
	v.d.mem.mu.RLock()
	defer v.d.mem.mu.RUnlock()
	return v.total - v.used, v.total, nil
}

// Granularity returns the multiple that CreateMemory wants.
func (v *Device) Granularity(kind driver.HandleKind) (uint64, error) {
	const op = "cuMemGetAllocationGranularity"
	if err := v.d.enter(op, v); err != nil {
		return 0, err
	}
	return Granularity, checkKind(op, kind)
}

// CreateMemory allocates physical memory.
func (v *Device) CreateMemory(size uint64, kind driver.HandleKind) (driver.Memory, error) {
	const op = "cuMemCreate"
	if err := v.d.enter(op, v); err != nil {
		return nil, err
	}
	if err := checkKind(op, kind); err != nil {
		return nil, err
	}
	if size == 0 || size%Granularity != 0 {
		return nil, fail(op, driver.CodeInvalidValue, "size %d is not a positive multiple of the granularity %d", size, Granularity)
	}
	v.d.mem.mu.Lock()
	defer v.d.mem.unlock()
	p, err := v.d.mem.newPhys(v, size, size, kind, "memory")
	if err != nil {
		return nil, fail(op, driver.CodeOutOfMemory, "%v", err)
	}
	return &memory{d: v.d, ph: p}, nil
}

// alloc makes memory with an address of its own.
func (v *Device) alloc(size uint64, kind rangeKind, label string) (uint64, error) {
	s := &v.d.mem
	s.mu.Lock()
	defer s.unlock()
	p, err := s.newPhys(v, size, alignUp(size, 512), driver.HandleNone, kind.String())
	if err != nil {
		return 0, err
	}
	lo, err := s.take(size, 512)
	if err != nil {
		s.drop(p)
		return 0, err
	}
	r := &vaRange{lo: lo, hi: lo + size, kind: kind, ph: p, label: label}
	var set devset
	set.add(v.ordinal)
	r.access.Store(&set)
	s.insert(r)
	return lo, nil
}

// Alloc allocates memory for this device alone.
func (v *Device) Alloc(size uint64) (driver.DevicePtr, error) {
	const op = "cuMemAlloc"
	if err := v.d.enter(op, v); err != nil {
		return 0, err
	}
	if size == 0 {
		return 0, fail(op, driver.CodeInvalidValue, "size is 0")
	}
	p, err := v.alloc(size, rangeAlloc, "")
	if err != nil {
		return 0, fail(op, driver.CodeOutOfMemory, "%v", err)
	}
	return driver.DevicePtr(p), nil
}

// Free gives memory of Alloc back. Like cuMemFree it waits for the device.
func (v *Device) Free(p driver.DevicePtr) error {
	const op = "cuMemFree"
	// Also on a dead context, so that leaks stay visible in tests of errors.
	if err := v.d.enter(op, nil); err != nil {
		return err
	}
	r := v.d.mem.lookup(uint64(p))
	if r == nil || r.kind != rangeAlloc || r.lo != uint64(p) {
		return fail(op, driver.CodeInvalidValue, "%#x is not the start of an allocation: %s", uint64(p), v.d.mem.nearest(uint64(p)))
	}
	if err := r.ph.dev.idle(); err != nil {
		v.d.log.Debug("freeing after a device error", "device", v.ordinal, "err", err)
	}
	return v.d.freeRange(op, r)
}

func (d *Driver) freeRange(op string, r *vaRange) error {
	d.mem.mu.Lock()
	defer d.mem.unlock()
	i := d.mem.find(r.lo)
	if i == len(d.mem.ranges) || d.mem.ranges[i] != r {
		return fail(op, driver.CodeInvalidValue, "%#x was freed by someone else meanwhile", r.lo)
	}
	d.mem.remove(i)
	d.dropPhys(r.ph)
	return nil
}

// hostMemory is page-locked memory; kernels of every device reach it.
type hostMemory struct {
	v *Device
	r *vaRange
}

// AllocHost allocates host memory that kernels of all devices can access.
func (v *Device) AllocHost(size uint64) (driver.HostMemory, error) {
	const op = "cuMemHostAlloc"
	if err := v.d.enter(op, v); err != nil {
		return nil, err
	}
	if size == 0 {
		return nil, fail(op, driver.CodeInvalidValue, "size is 0")
	}
	s := &v.d.mem
	s.mu.Lock()
	defer s.unlock()
	p, err := s.newPhys(nil, size, 0, driver.HandleNone, fmt.Sprintf("host memory #%d of GPU %d", v.hosts, v.ordinal))
	v.hosts++
	if err != nil {
		return nil, fail(op, driver.CodeOutOfMemory, "%v", err)
	}
	lo, err := s.take(size, 4096)
	if err != nil {
		s.drop(p)
		return nil, fail(op, driver.CodeOutOfMemory, "%v", err)
	}
	r := &vaRange{lo: lo, hi: lo + size, kind: rangeHost, ph: p}
	var set devset
	for i := range v.d.devices {
		set.add(i)
	}
	r.access.Store(&set)
	s.insert(r)
	return &hostMemory{v, r}, nil
}

func (h *hostMemory) Bytes() []byte {
	if h.r.ph.data == nil {
		return nil
	}
	return unsafe.Slice((*byte)(h.r.ph.data), h.r.ph.size)
}

func (h *hostMemory) Ptr() driver.DevicePtr { return driver.DevicePtr(h.r.lo) }

func (h *hostMemory) Free() error {
	const op = "cuMemFreeHost"
	if err := h.v.d.enter(op, nil); err != nil {
		return err
	}
	return h.v.d.freeRange(op, h.r)
}

// Write copies host bytes to the device.
func (v *Device) Write(dst driver.DevicePtr, src []byte) error {
	const op = "cuMemcpyHtoD"
	if err := v.d.enter(op, v); err != nil {
		return err
	}
	if err := v.d.mem.copyIn(op, uint64(dst), src); err != nil {
		return err
	}
	if c := v.d.check; c != nil {
		c.hostAccess(uint64(dst), uint64(len(src)), race.Write)
	}
	v.d.sched.nudge()
	return nil
}

// Read copies device bytes to the host.
func (v *Device) Read(dst []byte, src driver.DevicePtr) error {
	const op = "cuMemcpyDtoH"
	if err := v.d.enter(op, v); err != nil {
		return err
	}
	if c := v.d.check; c != nil {
		c.s.someTurns()
		c.hostAccess(uint64(src), uint64(len(dst)), race.Read)
	}
	return v.d.mem.copyOut(op, dst, uint64(src))
}

// SetContext does nothing: the emulator has no contexts.
func (v *Device) SetContext() error { return v.d.enter("cuCtxSetCurrent", v) }
