package emu

import "github.com/moegen/moegen/runtime/emu/ptx"

// Observer is told what kernels do, in execution order. Checkers implement it;
// it is nil in plain Fast mode, where the hooks then cost one comparison. With
// more than one worker its methods are called concurrently, by one worker at a
// time for any one block. Events are reused: they are valid during the call.
type Observer interface {
	// Launch is called when a kernel starts, End when its last block has ended.
	Launch(e *GridEvent)
	End(e *GridEvent)
	// Access is called for each memory instruction, after it was performed.
	Access(e *Access)
	Fence(e *FenceEvent)
	Barrier(e *BarrierEvent)
	// Switch is called when a warp starts to run another of its splits.
	Switch(e *Event)
}

// Event says who does something and where.
type Event struct {
	Device int
	Kernel string
	Grid   uint64 // the launch's number
	Block  [3]int
	Warp   int // in the block
	Mask   uint32
	Line   int // in the PTX file
	Text   string
	File   string // CUDA source, "" where there is no .loc
	Source int    // its line
}

// GridEvent is a launch or its end.
type GridEvent struct {
	Event
	// After is the launch that a dependent one overlaps with, 0 if none.
	After     uint64
	Dependent bool
}

// AccessKind is the kind of an access.
type AccessKind int

const (
	ReadAccess AccessKind = iota
	WriteAccess
	// RMWAccess is an atomic read-modify-write.
	RMWAccess
)

// Access is one memory instruction of a warp split. A multimem instruction
// gives one Access for each replica.
type Access struct {
	Event
	Kind     AccessKind
	Space    ptx.Space // Global, Shared or Local; never Generic
	Sem      ptx.Sem
	Scope    ptx.Scope
	Volatile bool
	NC       bool
	Async    bool // by the async proxy (cp.async.bulk)
	Size     int  // bytes per lane, all vector elements together
	// Multicast says that the address was a multicast one; Replica is then the
	// copy's index in the object, else -1.
	Multicast bool
	Replica   int
	// Per lane of Mask: the address, the physical memory behind it and the
	// offset there. For shared and local memory Alloc is 0.
	Addr   [32]uint64
	Alloc  [32]uint64
	Offset [32]uint64
}

// FenceEvent is a fence, or a griddepcontrol (Text tells).
type FenceEvent struct {
	Event
	Kind  ptx.FenceKind
	Sem   ptx.Sem
	Scope ptx.Scope
}

// BarrierEvent is an arrival at, or a release from, a barrier.
type BarrierEvent struct {
	Event
	// ID is the block barrier's number, -1 for warp-level synchronisation.
	ID int
	// Released is false on arrival; true when the lanes in Mask go on.
	Released bool
	// Divergent says that only part of the warp arrived at an aligned barrier.
	Divergent bool
}

func (w *warp) event(in *inst, mask uint32) Event {
	b := w.b
	e := Event{Device: b.g.dev.ordinal, Kernel: b.g.prog.fn.Name, Grid: b.g.id, Block: b.idx, Warp: w.id, Mask: mask}
	if in != nil && in.src != nil {
		e.Line, e.Text = in.src.Line, in.src.Text
		e.File, e.Source = b.g.prog.loc(in.src)
	}
	return e
}

// noteFence is the one place through which fences pass.
func (w *warp) noteFence(in *inst, mask uint32) {
	if obs := w.obs; obs != nil {
		obs.Fence(&FenceEvent{Event: w.event(in, mask), Kind: in.src.Fence, Sem: in.src.Sem, Scope: in.src.Scope})
	}
}

// noteBarrier is the one place through which barriers pass.
func (w *warp) noteBarrier(in *inst, mask uint32, id int, released bool) {
	if obs := w.obs; obs != nil {
		obs.Barrier(&BarrierEvent{Event: w.event(in, mask), ID: id, Released: released,
			Divergent: !released && id >= 0 && mask != w.alive})
	}
}
