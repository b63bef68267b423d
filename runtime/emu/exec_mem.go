package emu

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/emu/ptx"
)

// kernelFault is what kills a context. It travels as a panic from the depths of
// an instruction to block.run.
type kernelFault struct {
	code driver.Code
	text string
}

type faultKind driver.Code

const (
	illegalAddress = faultKind(driver.CodeIllegalAddress)
	misaligned     = faultKind(driver.CodeMisalignedAddress)
	illegalInst    = faultKind(driver.CodeIllegalInstruction)
	launchFailed   = faultKind(driver.CodeLaunchFailed)
)

func (w *warp) faultf(in *inst, i int, k faultKind, format string, args ...any) {
	b := w.b
	panic(&kernelFault{driver.Code(k), fmt.Sprintf("%s, device %d, block (%d,%d,%d), warp %d, lane %d: %s",
		b.g.prog.where(in.src), b.g.dev.ordinal, b.idx[0], b.idx[1], b.idx[2], w.id, i, fmt.Sprintf(format, args...))})
}

// addresses returns in's address register and readies its cache.
func (w *warp) addresses(in *inst) *vec { return w.addressesOf(in.mem) }

func (w *warp) addressesOf(m *memOp) *vec {
	if m.space == ptx.Global || m.space == ptx.Generic {
		c := &w.cache[m.idx]
		if g := w.mem.gen.Load(); c.gen != g {
			c.gen, c.room = g, 0
		}
	}
	return w.src(m.base)
}

// ptr resolves an address for lane i. It panics with a kernelFault.
func (w *warp) ptr(in *inst, m *memOp, i int, addr uint64) unsafe.Pointer {
	c := &w.cache[m.idx]
	if o := addr - c.lo; o < c.room && addr&(m.align-1) == 0 {
		return unsafe.Add(c.base, o)
	}
	return w.ptrSlow(in, m, i, addr)
}

func (w *warp) ptrSlow(in *inst, m *memOp, i int, addr uint64) unsafe.Pointer {
	if addr&(m.align-1) != 0 {
		w.faultf(in, i, misaligned, "address %#x is not aligned to %d bytes", addr, m.align)
	}
	space := m.space
	if space == ptx.Generic {
		switch {
		case addr-sharedWindow < windowSize:
			space, addr = ptx.Shared, addr-sharedWindow
		case addr-localWindow < windowSize:
			space, addr = ptx.Local, addr-localWindow
		case addr-paramWindow < windowSize:
			space, addr = ptx.Param, addr-paramWindow
		}
	}
	size := uint64(m.size)
	switch space {
	case ptx.Shared:
		have := uint64(len(w.b.shared) * 8)
		if addr > have || size > have-addr {
			w.faultf(in, i, illegalAddress, "%d bytes at %#x of shared memory, of which the block has %d", size, addr, have)
		}
		return unsafe.Add(unsafe.Pointer(unsafe.SliceData(w.b.shared)), addr)
	case ptx.Local:
		have := uint64(w.b.g.prog.fn.LocalBytes)
		if addr > have || size > have-addr {
			w.faultf(in, i, illegalAddress, "%d bytes at %#x of local memory, of which a thread has %d", size, addr, have)
		}
		return unsafe.Add(unsafe.Pointer(unsafe.SliceData(w.local)), uint64(i)*w.localStride+addr)
	case ptx.Param:
		have := uint64(w.b.g.prog.fn.ParamBytes)
		if addr > have || size > have-addr {
			w.faultf(in, i, illegalAddress, "%d bytes at %#x of the parameters, which have %d", size, addr, have)
		}
		return unsafe.Add(unsafe.Pointer(unsafe.SliceData(w.b.g.params)), addr)
	}
	r := w.rangeAt(in, i, addr, size)
	if r.kind == rangeMulticast {
		w.faultf(in, i, illegalAddress, "address %#x is a multicast address: only multimem instructions may use it, ordinary accesses go through a unicast mapping", addr)
	}
	c := &w.cache[m.idx]
	c.lo, c.base = r.lo, unsafe.Add(r.ph.data, r.off)
	c.room = r.hi - r.lo - size + 1
	return unsafe.Add(c.base, addr-r.lo)
}

// rangeAt finds the range for an access and checks this device's rights.
func (w *warp) rangeAt(in *inst, i int, addr, size uint64) *vaRange {
	r := w.mem.lookup(addr)
	if r == nil {
		w.faultf(in, i, illegalAddress, "access of %d bytes to unmapped address %#x: %s", size, addr, w.mem.nearest(addr))
	}
	if size > r.hi-addr {
		// Mappings may be adjacent, but an access may not straddle two: aligned
		// accesses never do, as mappings are aligned to the granularity.
		w.faultf(in, i, illegalAddress, "access of %d bytes to address %#x runs out of bounds: %s", size, addr, w.mem.nearest(addr))
	}
	if dev := w.b.g.dev.ordinal; !r.allows(dev) {
		w.faultf(in, i, illegalAddress, "device %d has no access to address %#x: %s", dev, addr, w.mem.nearest(addr))
	}
	return r
}

// window resolves a multicast address for lane i.
func (w *warp) window(in *inst, m *memOp, i int, addr uint64) *mcWindow {
	c := &w.cache[m.idx]
	if o := addr - c.lo; o < c.room && addr&(m.align-1) == 0 {
		return c.win
	}
	if addr&(m.align-1) != 0 {
		w.faultf(in, i, misaligned, "multicast address %#x is not aligned to %d bytes", addr, m.align)
	}
	if addr >= sharedWindow {
		w.faultf(in, i, illegalAddress, "multimem on %#x, which is not a global address", addr)
	}
	r := w.rangeAt(in, i, addr, uint64(m.size))
	if r.kind != rangeMulticast {
		w.faultf(in, i, illegalAddress, "multimem on unicast address %#x: it needs the multicast mapping's address; %s", addr, w.mem.nearest(addr))
	}
	win, missing := w.b.g.dev.d.window(r, addr)
	if win == nil {
		w.faultf(in, i, illegalAddress, "multicast address %#x: device %d has no memory bound at offset %#x of the multicast object", addr, missing.ordinal, addr-r.lo+r.off)
	}
	c.lo, c.room, c.win = win.lo, win.hi-win.lo-uint64(m.size)+1, win
	return win
}

// loadWord and storeWord move 1, 2, 4 or 8 bytes.
func loadWord(p unsafe.Pointer, n int, strong bool) uint64 {
	switch n {
	case 1:
		return uint64(*(*uint8)(p))
	case 2:
		return uint64(*(*uint16)(p))
	case 4:
		if strong {
			return uint64(atomic.LoadUint32((*uint32)(p)))
		}
		return uint64(*(*uint32)(p))
	}
	if strong {
		return atomic.LoadUint64((*uint64)(p))
	}
	return *(*uint64)(p)
}

func storeWord(p unsafe.Pointer, n int, v uint64, strong bool) {
	switch n {
	case 1:
		*(*uint8)(p) = uint8(v)
	case 2:
		*(*uint16)(p) = uint16(v)
	case 4:
		if strong {
			atomic.StoreUint32((*uint32)(p), uint32(v))
		} else {
			*(*uint32)(p) = uint32(v)
		}
	default:
		if strong {
			atomic.StoreUint64((*uint64)(p), v)
		} else {
			*(*uint64)(p) = v
		}
	}
}

const hashMul = 0x9e3779b97f4a7c15

// execLoad is every load that has no loop of its own.
func execLoad(w *warp, s *split, in *inst, mask uint32) bool {
	m := in.mem
	a := *w.addresses(in) // a copy: the address may be overwritten
	word := min(m.size, 8)
	per := word / m.elem
	em := widthMask(m.elem)
	h := uint64(0)
	for k := mask; k != 0; k &= k - 1 {
		i := lane(k)
		p := w.ptr(in, m, i, a[i]+m.off)
		for o := 0; o < m.size; o += word {
			v := loadWord(unsafe.Add(p, o), word, m.strong)
			h = (h ^ v) * hashMul
			for e := range per {
				x := v >> (8 * m.elem * e) & em
				if m.sext {
					x = uint64(signExtend(x, m.elem)) & m.dstM
				}
				w.regs[m.regs[o/m.elem+e]][i] = x
			}
		}
	}
	w.noteAccess(in, m, ReadAccess, mask, &a)
	if m.strong {
		i := lane(mask)
		s.saw(in, a[i]+m.off, w.regs[m.regs[0]][i])
		return w.next(s, w.poll(s, lanesKey(s.pc, mask, &a), h))
	}
	return true
}

func pollKey(pc int, addr uint64) uint64 { return (uint64(pc)<<48 ^ addr) * hashMul }

// lanesKey is the key of a poll that several lanes make at once. Other lanes, or
// other places, are another poll, not the same one that sees something new: lanes
// that wait for different things meet in ever new groups.
func lanesKey(pc int, mask uint32, a *vec) uint64 {
	h := uint64(mask)
	for k := mask; k != 0; k &= k - 1 {
		h = (h ^ a[lane(k)]) * hashMul
	}
	return pollKey(pc, h)
}

func execStore(w *warp, s *split, in *inst, mask uint32) bool {
	m := in.mem
	a := w.addresses(in)
	for k := mask; k != 0; k &= k - 1 {
		i := lane(k)
		p := w.ptr(in, m, i, a[i]+m.off)
		w.putElements(m, i, func(o, n int, v uint64) { storeWord(unsafe.Add(p, o), n, v, m.atomic) })
	}
	w.noteAccess(in, m, WriteAccess, mask, a)
	if m.space != ptx.Local {
		w.moved(s)
	}
	return true
}

// putElements gathers what lane i stores into words of up to 8 bytes.
func (w *warp) putElements(m *memOp, i int, put func(off, n int, v uint64)) {
	word := min(m.size, 8)
	em := widthMask(m.elem)
	for o := 0; o < m.size; o += word {
		var v uint64
		for e := 0; e < word/m.elem; e++ {
			v |= w.src(m.regs[o/m.elem+e])[i] & em << (8 * m.elem * e)
		}
		put(o, word, v)
	}
}

// rmw replaces what p points to by f of it, atomically, and returns the old
// value and whether anything changed.
func rmw(p unsafe.Pointer, size int, f func(old uint64) uint64) (old uint64, changed bool) {
	switch size {
	case 8:
		q := (*uint64)(p)
		for {
			old := atomic.LoadUint64(q)
			v := f(old)
			if atomic.CompareAndSwapUint64(q, old, v) {
				return old, v != old
			}
		}
	case 4:
		q := (*uint32)(p)
		for {
			old := atomic.LoadUint32(q)
			v := uint32(f(uint64(old)))
			if atomic.CompareAndSwapUint32(q, old, v) {
				return uint64(old), v != old
			}
		}
	}
	// Two bytes: inside the aligned word that holds them.
	sh := 8 * (uintptr(p) & 2)
	q := (*uint32)(unsafe.Add(p, -int(uintptr(p)&2)))
	for {
		word := atomic.LoadUint32(q)
		old := word >> sh & 0xffff
		v := uint32(f(uint64(old))) & 0xffff
		if atomic.CompareAndSwapUint32(q, word, word&^(0xffff<<sh)|v<<sh) {
			return uint64(old), v != old
		}
	}
}

// noteAccess is the one place through which accesses pass.
func (w *warp) noteAccess(in *inst, m *memOp, kind AccessKind, mask uint32, a *vec) {
	if w.obs != nil {
		w.observe(in, m, kind, mask, a, m.size, false)
	}
}

func (w *warp) noteBulk(in *inst, m *memOp, kind AccessKind, i int, addr, n uint64) {
	if w.obs != nil {
		var a vec
		a[i] = addr
		w.observe(in, m, kind, 1<<i, &a, int(n), true)
	}
}

func (w *warp) observe(in *inst, m *memOp, kind AccessKind, mask uint32, a *vec, size int, async bool) {
	src := in.src
	e := &Access{
		Event: w.event(in, mask), Kind: kind, Space: m.space, Sem: src.Sem, Scope: src.Scope,
		Volatile: src.Volatile, NC: src.NC, Async: async, Size: size, Replica: -1,
	}
	if m.space == ptx.Param {
		return
	}
	replicas := 1
	for k := mask; k != 0; k &= k - 1 {
		i := lane(k)
		addr := a[i] + m.off
		e.Addr[i], e.Offset[i] = addr, addr
		switch {
		case m.space == ptx.Shared || m.space == ptx.Local:
		case addr-sharedWindow < windowSize:
			e.Space, e.Offset[i] = ptx.Shared, addr-sharedWindow
		case addr-localWindow < windowSize:
			e.Space, e.Offset[i] = ptx.Local, addr-localWindow
		default:
			e.Space = ptx.Global
			if m.multi {
				win := w.window(in, m, i, addr)
				replicas = len(win.replicas)
				continue
			}
			if r := w.mem.lookup(addr); r != nil {
				e.Alloc[i], e.Offset[i] = r.ph.id, r.off+(addr-r.lo)
			}
		}
	}
	if !m.multi {
		w.obs.Access(e)
		return
	}
	e.Multicast = true
	for n := range replicas {
		e.Replica = n
		for k := mask; k != 0; k &= k - 1 {
			i := lane(k)
			win := w.window(in, m, i, e.Addr[i])
			r := win.replicas[n]
			e.Alloc[i], e.Offset[i] = r.ph.id, r.off+(e.Addr[i]-win.lo)
		}
		w.obs.Access(e)
	}
}
