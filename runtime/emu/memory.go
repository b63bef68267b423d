package emu

import (
	"fmt"
	"sort"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/moegen/moegen/runtime/driver"
)

// devset is a set of device ordinals.
type devset [MaxDevices / 64]uint64

func (s *devset) add(i int)      { s[i/64] |= 1 << (i % 64) }
func (s *devset) has(i int) bool { return s[i/64]>>(i%64)&1 != 0 }
func (s *devset) empty() bool    { return *s == devset{} }

// phys is physical memory. Its pages live outside the Go heap, so that kernels
// may race on them without the race detector (or the collector) looking.
type phys struct {
	id uint64
	// number counts a device's memories, for reports: unlike id it does not
	// depend on what other devices' hosts do at the same time.
	number uint64
	dev    *Device // nil: host memory
	size   uint64
	cost   uint64 // what MemInfo counts
	data   unsafe.Pointer
	kind   driver.HandleKind
	fd     int // of pages that other processes can map, else -1
	refs   int // handles, mappings and bindings; under space.mu
	what   string
}

// rangeKind says what lies behind a range of addresses.
type rangeKind int

const (
	rangeAlloc rangeKind = iota // Device.Alloc
	rangeMapped
	rangeMulticast
	rangeHost
	rangeModule
)

func (k rangeKind) String() string {
	return [...]string{"allocation", "mapping", "multicast mapping", "host memory", "module variable"}[k]
}

// vaRange is one mapped range of addresses. All fields but access are constant.
type vaRange struct {
	lo, hi uint64
	kind   rangeKind
	ph     *phys
	off    uint64 // of lo in ph or mc
	mc     *mcObject
	access atomic.Pointer[devset]
	label  string
}

func (r *vaRange) allows(dev int) bool {
	a := r.access.Load()
	return a != nil && a.has(dev)
}

func (r *vaRange) describe() string {
	where := "the host"
	switch {
	case r.mc != nil:
		where = fmt.Sprintf("%d devices", r.mc.n)
	case r.ph.dev != nil:
		where = fmt.Sprintf("device %d", r.ph.dev.ordinal)
	}
	s := fmt.Sprintf("%s [%#x, %#x) of %d bytes on %s", r.kind, r.lo, r.hi, r.hi-r.lo, where)
	if r.label != "" {
		s += " (" + r.label + ")"
	}
	return s
}

// span is a range of addresses without meaning.
type span struct{ lo, hi uint64 }

// space is the process-wide address space. Addresses are handed out upwards
// and never again, which makes every use after free visible.
type space struct {
	mu       sync.RWMutex
	ranges   []*vaRange // sorted, disjoint
	reserved []span     // sorted, disjoint
	freed    []*vaRange // the last few, for messages
	next     uint64
	lastID   uint64
	garbage  []*phys // dropped, to be unmapped by unlock
	onFree   func(p *phys)
	// gen changes when a range goes away; address caches of warps compare it.
	gen atomic.Uint64
	// use is held for reading by whoever touches pages behind addresses, and
	// for writing while pages are given back to the system.
	use sync.RWMutex
}

const (
	firstAddress = 0x2_0000_0000_00
	lastAddress  = 0x6000_0000_0000
	// Windows of the generic address space, as cvta sees them.
	sharedWindow = 0x7000_0000_0000
	localWindow  = 0x7100_0000_0000
	paramWindow  = 0x7200_0000_0000
	windowSize   = 1 << 32
	guardGap     = 64 << 10 // unmapped bytes between allocations
)

func (s *space) init() { s.next = firstAddress }

func alignUp(x, a uint64) uint64 { return (x + a - 1) / a * a }

// take hands out addresses. The caller holds mu.
func (s *space) take(size, align uint64) (uint64, error) {
	lo := alignUp(s.next, align)
	if size > lastAddress-lo {
		return 0, fmt.Errorf("the address space is used up")
	}
	s.next = lo + size + guardGap
	return lo, nil
}

// newPhys allocates physical memory. The caller holds mu.
func (s *space) newPhys(dev *Device, size, cost uint64, kind driver.HandleKind, what string) (*phys, error) {
	if dev != nil {
		if free := dev.total - dev.used; cost > free {
			return nil, fmt.Errorf("device %d has %d of %d bytes free, %d wanted", dev.ordinal, free, dev.total, cost)
		}
	}
	var p unsafe.Pointer
	fd, err := -1, error(nil)
	if kind == driver.HandlePosixFD {
		p, fd, err = mapShared(alignUp(size, 4096))
	} else {
		p, err = mapHost(alignUp(size, 4096))
	}
	if err != nil {
		return nil, err
	}
	if dev != nil {
		dev.used += cost
	}
	s.lastID++
	n := uint64(0)
	if dev != nil {
		dev.physes++
		n = dev.physes
	}
	return &phys{id: s.lastID, number: n, dev: dev, size: size, cost: cost, data: p, kind: kind, fd: fd, refs: 1, what: what}, nil
}

// drop gives up one reference to p. The caller holds mu.
func (s *space) drop(p *phys) {
	p.refs--
	if p.refs > 0 {
		return
	}
	if p.dev != nil {
		p.dev.used -= p.cost
	}
	s.gen.Add(1)
	s.garbage = append(s.garbage, p)
}

// unlock releases mu and then gives dropped pages back to the system. Whoever
// is in the middle of a quantum with a cached pointer finishes it first; the
// new generation makes the next access look its address up again. It cannot be
// done under mu, which such a quantum may want.
func (s *space) unlock() {
	g := s.garbage
	s.garbage = nil
	s.mu.Unlock()
	if len(g) == 0 {
		return
	}
	if s.onFree != nil {
		for _, p := range g {
			s.onFree(p)
		}
	}
	s.use.Lock()
	defer s.use.Unlock()
	for _, p := range g {
		unmapHost(p.data, alignUp(p.size, 4096))
		if p.fd >= 0 {
			closeFD(p.fd)
		}
	}
}

// find returns the index of the first range that ends after addr.
func (s *space) find(addr uint64) int {
	return sort.Search(len(s.ranges), func(i int) bool { return s.ranges[i].hi > addr })
}

func (s *space) insert(r *vaRange) {
	i := s.find(r.lo)
	s.ranges = append(s.ranges, nil)
	copy(s.ranges[i+1:], s.ranges[i:])
	s.ranges[i] = r
}

// remove takes the range at index i out of the table.
func (s *space) remove(i int) {
	s.freed = append(s.freed, s.ranges[i])
	if len(s.freed) > 64 {
		s.freed = append(s.freed[:0], s.freed[32:]...)
	}
	s.ranges = append(s.ranges[:i], s.ranges[i+1:]...)
	s.gen.Add(1)
}

// lookup returns the range that holds addr, nil if there is none.
func (s *space) lookup(addr uint64) *vaRange {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if i := s.find(addr); i < len(s.ranges) && s.ranges[i].lo <= addr {
		return s.ranges[i]
	}
	return nil
}

// nearest describes what lies around addr, for messages.
func (s *space) nearest(addr uint64) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for i := len(s.freed) - 1; i >= 0; i-- {
		if f := s.freed[i]; f.lo <= addr && addr < f.hi {
			return fmt.Sprintf("it lies %d bytes into a freed %s", addr-f.lo, f.describe())
		}
	}
	i := s.find(addr)
	if i < len(s.ranges) && s.ranges[i].lo <= addr {
		return fmt.Sprintf("it lies %d bytes into the %s", addr-s.ranges[i].lo, s.ranges[i].describe())
	}
	text := "nothing is allocated"
	best := ^uint64(0)
	if i > 0 {
		r := s.ranges[i-1]
		best = addr - r.hi
		text = fmt.Sprintf("it lies %d bytes after the nearest %s", best+1, r.describe())
	}
	if i < len(s.ranges) {
		if r := s.ranges[i]; r.lo-addr < best {
			text = fmt.Sprintf("it lies %d bytes before the nearest %s", r.lo-addr, r.describe())
		}
	}
	for _, v := range s.reserved {
		if v.lo <= addr && addr < v.hi {
			text += fmt.Sprintf("; it is inside the reservation [%#x, %#x), where nothing is mapped", v.lo, v.hi)
		}
	}
	return text
}

// piece is a contiguous part of host-visible pages behind an address range.
type piece struct {
	r   *vaRange
	ptr unsafe.Pointer
	n   uint64
}

// pieces resolves [addr, addr+size) for a host copy. The caller holds use.
func (s *space) pieces(op string, addr, size uint64) ([]piece, error) {
	s.mu.RLock()
	var out []piece
	var bad error
	start := addr
	for size > 0 {
		i := s.find(addr)
		if i == len(s.ranges) || s.ranges[i].lo > addr {
			s.mu.RUnlock()
			return nil, fail(op, driver.CodeInvalidValue, "address %#x (%d bytes after the start of the copy) is not mapped: %s", addr, addr-start, s.nearest(addr))
		}
		r := s.ranges[i]
		if r.kind == rangeMulticast {
			bad = fail(op, driver.CodeInvalidValue, "address %#x is a multicast address: only multimem instructions may use it; copy through a unicast mapping", addr)
			break
		}
		if a := r.access.Load(); a == nil || a.empty() {
			bad = fail(op, driver.CodeInvalidValue, "no device has access to address %#x: cuMemSetAccess was not called for the %s", addr, r.describe())
			break
		}
		n := min(size, r.hi-addr)
		out = append(out, piece{r, unsafe.Add(r.ph.data, r.off+(addr-r.lo)), n})
		addr, size = addr+n, size-n
	}
	s.mu.RUnlock()
	return out, bad
}

func bytesAt(p unsafe.Pointer, n uint64) []byte { return unsafe.Slice((*byte)(p), n) }

// copyIn and copyOut move bytes between host slices and addresses.
func (s *space) copyIn(op string, dst uint64, src []byte) error {
	s.use.RLock()
	defer s.use.RUnlock()
	ps, err := s.pieces(op, dst, uint64(len(src)))
	if err != nil {
		return err
	}
	for _, p := range ps {
		src = src[copy(bytesAt(p.ptr, p.n), src):]
	}
	return nil
}

func (s *space) copyOut(op string, dst []byte, src uint64) error {
	s.use.RLock()
	defer s.use.RUnlock()
	ps, err := s.pieces(op, src, uint64(len(dst)))
	if err != nil {
		return err
	}
	for _, p := range ps {
		dst = dst[copy(dst, bytesAt(p.ptr, p.n)):]
	}
	return nil
}

// copyWithin copies between addresses; overlapping ranges behave as memmove
// within one allocation.
func (s *space) copyWithin(op string, dst, src, size uint64) error {
	s.use.RLock()
	defer s.use.RUnlock()
	from, err := s.pieces(op, src, size)
	if err != nil {
		return err
	}
	to, err := s.pieces(op, dst, size)
	if err != nil {
		return err
	}
	for len(from) > 0 && len(to) > 0 {
		n := min(from[0].n, to[0].n)
		copy(bytesAt(to[0].ptr, n), bytesAt(from[0].ptr, n))
		for _, l := range []*[]piece{&from, &to} {
			p := &(*l)[0]
			p.ptr, p.n = unsafe.Add(p.ptr, n), p.n-n
			if p.n == 0 {
				*l = (*l)[1:]
			}
		}
	}
	return nil
}

func (s *space) fill(op string, dst uint64, v byte, size uint64) error {
	s.use.RLock()
	defer s.use.RUnlock()
	ps, err := s.pieces(op, dst, size)
	if err != nil {
		return err
	}
	for _, p := range ps {
		b := bytesAt(p.ptr, p.n)
		for i := range b {
			b[i] = v
		}
	}
	return nil
}
