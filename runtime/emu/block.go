package emu

import (
	"fmt"
	"math/bits"
	"strings"

	"github.com/moegen/moegen/runtime/emu/ptx"
)

// block is a resident thread block. One worker at a time runs it.
type block struct {
	g         *grid
	n         int // in the grid
	idx       [3]int
	sm        int
	shared    []uint64
	warps     []*warp
	live      int // threads that have not exited
	bars      [16]barrier
	triggered bool
	clock     uint64
	// polled is the scheduler's progress count when the block was last seen to
	// spin; under the scheduler's lock.
	polled uint64
	ck     *blockCheck
}

// waiter is a split at a barrier.
type waiter struct {
	w  *warp
	s  *split
	in *inst
}

// barrier is one of a block's 16 named barriers.
type barrier struct {
	arrived int
	want    int // threads; 0: all that have not exited
	votes   int
	waiting []waiter
}

// arrive adds the lanes m; wt is nil for bar.arrive, which does not wait.
func (b *block) arrive(id, want int, m, votes uint32, wt *waiter) {
	bar := &b.bars[id]
	bar.arrived += bits.OnesCount32(m)
	bar.votes += bits.OnesCount32(votes)
	if want > 0 {
		bar.want = want
	}
	if wt != nil {
		bar.waiting = append(bar.waiting, *wt)
	}
	b.release(id)
}

// release opens the barrier if everyone has come.
func (b *block) release(id int) {
	bar := &b.bars[id]
	want := bar.want
	if want == 0 {
		want = b.live
	}
	if bar.arrived == 0 || bar.arrived < want {
		return
	}
	arrived, votes, ws := bar.arrived, bar.votes, bar.waiting
	*bar = barrier{waiting: nil}
	for _, wt := range ws {
		if src := wt.in.src; src.Op == ptx.BarRed {
			all, m := uint32(0), wt.s.mask
			switch src.Bool {
			case ptx.BoolPopc:
				wt.w.broadcast(wt.in.d, m, uint64(votes))
			case ptx.BoolAnd:
				if votes == arrived {
					all = m
				}
				wt.w.setPred(wt.in.d, m, all)
			default:
				if votes > 0 {
					all = m
				}
				wt.w.setPred(wt.in.d, m, all)
			}
		}
		wt.s.state, wt.s.in = splitReady, nil
		wt.w.progress = true
		wt.w.noteBarrier(wt.in, wt.s.mask, id, true)
	}
	// The slice is reused by the barrier's next phase.
	if bar.waiting == nil {
		bar.waiting = ws[:0]
	}
}

// exited takes n threads out of the barriers' counts.
func (b *block) exited(n int) {
	b.live -= n
	for id := range b.bars {
		if bar := &b.bars[id]; bar.want == 0 && bar.arrived > 0 {
			b.release(id)
		}
	}
}

// blockResult is what came of running a block.
type blockResult int

const (
	blockMore  blockResult = iota
	blockStuck             // everything in it spins or waits
	blockDone
)

// setup makes the block's state, when it runs for the first time.
func (b *block) setup() {
	g := b.g
	p := g.prog
	nx, ny := g.cfg.Grid.X, g.cfg.Grid.Y
	b.idx = [3]int{b.n % nx, b.n / nx % ny, b.n / nx / ny}
	b.shared = make([]uint64, (p.dynBase+int(g.cfg.SharedBytes)+7)/8)
	b.live = g.threads
	nw := (g.threads + 31) / 32
	regs := b.registers(nw * p.nregs)
	preds := make([]uint32, nw*p.npreds)
	caches := make([]addrCache, nw*p.nmem)
	for i := range nw {
		w := &warp{
			b: b, id: i, alive: fullMask, regs: regs[i*p.nregs : (i+1)*p.nregs : (i+1)*p.nregs],
			preds: preds[i*p.npreds : (i+1)*p.npreds : (i+1)*p.npreds], consts: p.consts, code: p.code,
			cache: caches[i*p.nmem : (i+1)*p.nmem : (i+1)*p.nmem], obs: g.dev.d.obs, mem: &g.dev.d.mem,
		}
		if left := g.threads - 32*i; left < 32 {
			w.alive = 1<<left - 1
		}
		if p.fn.LocalBytes > 0 {
			w.localStride = alignUp(uint64(p.fn.LocalBytes), 16)
			w.local = make([]uint64, 32*w.localStride/8)
		}
		w.newSplit(0, w.alive)
		b.warps = append(b.warps, w)
		for _, sp := range p.specials {
			w.fillSpecial(sp)
		}
		b.pinShared(w)
	}
}

// pinShared readies the address caches of shared memory, whose base is fixed.
func (b *block) pinShared(w *warp) {
	if len(b.shared) == 0 {
		return
	}
	for _, m := range b.g.prog.memOps {
		if have := uint64(len(b.shared) * 8); m.space == ptx.Shared && uint64(m.size) <= have {
			w.cache[m.idx] = addrCache{room: have - uint64(m.size) + 1, base: ptrOf(b.shared)}
		}
	}
}

func (w *warp) fillSpecial(sp specialSlot) {
	b := w.b
	cfg := &b.g.cfg
	r := &w.regs[sp.slot]
	for i := range r {
		t := w.id*32 + i
		var v int
		switch sp.sp {
		case ptx.TidX:
			v = t % cfg.Block.X
		case ptx.TidY:
			v = t / cfg.Block.X % cfg.Block.Y
		case ptx.TidZ:
			v = t / cfg.Block.X / cfg.Block.Y
		case ptx.NTidX:
			v = cfg.Block.X
		case ptx.NTidY:
			v = cfg.Block.Y
		case ptx.NTidZ:
			v = cfg.Block.Z
		case ptx.CtaidX:
			v = b.idx[0]
		case ptx.CtaidY:
			v = b.idx[1]
		case ptx.CtaidZ:
			v = b.idx[2]
		case ptx.NCtaidX:
			v = cfg.Grid.X
		case ptx.NCtaidY:
			v = cfg.Grid.Y
		case ptx.NCtaidZ:
			v = cfg.Grid.Z
		case ptx.LaneID:
			v = i
		case ptx.WarpID:
			v = w.id
		case ptx.NWarpID:
			v = maxThreadsPerSM / 32
		case ptx.SMID:
			v = b.sm
		case ptx.NSMID:
			v = b.g.dev.d.cfg.SMs
		case ptx.GridID:
			v = int(b.g.id)
		case ptx.LanemaskEq:
			v = 1 << i
		case ptx.LanemaskLt:
			v = 1<<i - 1
		case ptx.LanemaskLe:
			v = 2<<i - 1
		case ptx.LanemaskGt:
			v = int(^uint32(2<<i - 1))
		case ptx.LanemaskGe:
			v = int(^uint32(1<<i - 1))
		case ptx.ClusterCtaRank:
			v = 0
		case ptx.ClusterNCtaRank:
			v = 1
		case ptx.DynamicSmemSize:
			v = int(cfg.SharedBytes)
		case ptx.TotalSmemSize:
			v = b.g.prog.dynBase + int(cfg.SharedBytes)
		}
		r[i] = uint64(v)
	}
}

// protect runs f and returns the fault that it ran into, if any.
func (b *block) protect(f func()) (fault *kernelFault) {
	defer func() {
		if r := recover(); r != nil {
			var ok bool
			if fault, ok = r.(*kernelFault); !ok {
				panic(r)
			}
		}
	}()
	f()
	return nil
}

// run executes the block for about rounds times warpBudget instructions of each
// warp.
func (b *block) run(rounds int) (res blockResult, fault *kernelFault) {
	fault = b.protect(func() { res = b.steps(rounds) })
	return res, fault
}

func (b *block) steps(rounds int) blockResult {
	res := blockStuck
	for range rounds {
		moved := false
		for _, w := range b.warps {
			if len(w.splits) == 0 {
				continue
			}
			w.progress = false
			if r := w.step(warpBudget); r == stepMore || w.progress {
				moved = true
			}
		}
		if b.live == 0 {
			return blockDone
		}
		if !moved {
			return res
		}
		res = blockMore
	}
	return res
}

// waits says where the block's threads are, for reports of stalls.
func (b *block) waits() string {
	var s []string
	for _, w := range b.warps {
		for _, sp := range w.splits {
			in := &w.code[min(sp.pc, len(w.code)-1)]
			what := "spins"
			switch sp.state {
			case splitBarrier:
				in, what = sp.in, "waits at a barrier"
			case splitSync:
				what = "waits for other lanes"
			}
			loc := ""
			if f, l := b.g.prog.loc(in.src); l > 0 {
				loc = fmt.Sprintf(" (%s:%d)", f, l)
			}
			t := fmt.Sprintf("warp %d lanes %#x %s at PTX line %d%s: %s", w.id, sp.mask, what, in.src.Line, loc, in.src.Text)
			if sp.state == splitReady {
				t += w.lastPoll(sp)
			}
			s = append(s, t)
		}
	}
	const most = 4
	if len(s) > most {
		s = append(s[:most], fmt.Sprintf("and %d more", len(s)-most))
	}
	return fmt.Sprintf("device %d, kernel %s, block (%d,%d,%d): %s", b.g.dev.ordinal, b.g.prog.fn.Name,
		b.idx[0], b.idx[1], b.idx[2], strings.Join(s, "; "))
}
