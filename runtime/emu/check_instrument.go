package emu

import (
	"fmt"

	"github.com/moegen/moegen/runtime/emu/ptx"
	"github.com/moegen/moegen/runtime/emu/race"
)

// visibility is how much of an instruction other threads can see.
type visibility uint8

const (
	silent visibility = iota
	// weakAccess may be seen only by threads that race with it. Several in a row
	// are one turn: the judge finds races whatever the interleaving is.
	weakAccess
	// visible ends a turn.
	visible
)

// programCheck is a kernel as the judge sees it.
type programCheck struct {
	vis []visibility // by instruction
	// deadlines are comparisons of a clock's reading, for finding the next
	// moment at which something can change.
	deadlines []deadline
	slots     []int32 // of the registers, as lowering numbers them
	free      [][]vec // registers of blocks that have ended
}

// sharedParses keeps what drivers in the modes Check and Explore have parsed:
// exploring makes a driver for every schedule.
var sharedParses parseCache

// registers returns registers for a block. Those of blocks that have ended are
// used again, as clearing them would take longer than a small kernel; what a
// kernel finds in a register before it writes it is not defined.
func (b *block) registers(n int) []vec {
	if b.ck == nil {
		return make([]vec, n)
	}
	p := b.g.prog.ck
	if k := len(p.free); k > 0 && len(p.free[k-1]) >= n {
		b.ck.regs = p.free[k-1][:n]
		p.free = p.free[:k-1]
	} else {
		b.ck.regs = make([]vec, n)
	}
	return b.ck.regs
}

// operand returns the value of a source operand in a lane.
func (w *warp) operand(o ptx.Operand, i int) uint64 {
	if o.Kind == ptx.RegOperand {
		return w.regs[w.b.g.prog.ck.slots[o.Reg]][i]
	}
	return o.Imm
}

// registerSlots numbers the registers like lowerFunc.
func registerSlots(fn *ptx.Func) []int32 {
	var out []int32
	var n [2]int32
	for _, r := range fn.Regs {
		k := 0
		if r.Type == ptx.Pred {
			k = 1
		}
		out = append(out, n[k])
		n[k]++
	}
	return out
}

// deadline is a comparison of a register with the clock's.
type deadline struct{ slot int32 }

// instrument wraps p's instructions so that the judge sees what they do. The
// functions that perform them stay those of Fast mode, which costs Fast nothing
// and keeps the modes' results the same.
func (c *checker) instrument(p *program) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	p.ck = &programCheck{vis: make([]visibility, len(p.code)), slots: registerSlots(p.fn)}
	clocks := map[int32]bool{}
	for i := range p.code {
		in := &p.code[i]
		c.source[sourceKey{p.fn.Name, in.src.Line}] = in.src
		p.ck.vis[i] = c.wrap(p, in)
		if isClock(in.src) {
			clocks[in.d] = true
		}
	}
	for i := range p.code {
		in := &p.code[i]
		if in.kind != kindSetp {
			continue
		}
		if clocks[in.a] {
			p.ck.deadlines = append(p.ck.deadlines, deadline{in.b})
		} else if clocks[in.b] {
			p.ck.deadlines = append(p.ck.deadlines, deadline{in.a})
		}
	}
}

func isClock(in *ptx.Instr) bool {
	return in.Op == ptx.Mov && len(in.Src) == 1 && in.Src[0].Kind == ptx.SpecialOperand && dynamicSpecial(in.Src[0].Special)
}

// raceOp describes an instruction for the detector.
func (c *checker) raceOp(p *program, in *ptx.Instr, kind race.Kind, path race.Path, elem int) race.Op {
	o := race.Op{Kind: kind, Path: path, Elem: elem, PTXLine: in.Line, NC: in.NC, Sem: race.Sem(in.Sem), Scope: raceScope(in.Scope)}
	if in.Volatile {
		o.Sem = race.Volatile
	}
	if f, l := p.loc(in); l > 0 {
		o.CUDALoc = fmt.Sprintf("%s:%d", f, l)
	}
	return o
}

func raceScope(s ptx.Scope) race.Scope {
	switch s {
	case ptx.CTA:
		return race.CTA
	case ptx.Cluster:
		return race.Cluster
	case ptx.GPU:
		return race.GPU
	}
	return race.Sys
}

// wrap instruments one instruction.
func (c *checker) wrap(p *program, in *inst) visibility {
	src, orig := in.src, in.exec
	access := func(kind race.Kind, path race.Path) race.OpID {
		return c.op(p.fn.Name, c.raceOp(p, src, kind, path, in.mem.elem))
	}
	vis := func() visibility {
		switch {
		case in.mem.space == ptx.Param || in.mem.space == ptx.Local:
			return silent
		case in.mem.strong:
			return visible
		}
		return weakAccess
	}
	switch src.Op {
	case ptx.Ld:
		if vis() != silent {
			in.exec = c.load(in, orig, access(race.Read, race.Unicast))
		}
		return vis()
	case ptx.St:
		if vis() != silent {
			in.exec = c.store(in, orig, access(race.Write, race.Unicast))
		}
		return vis()
	case ptx.Atom, ptx.Red:
		o := c.raceOp(p, src, race.RMW, race.Unicast, in.mem.elem)
		o.Red = src.Op == ptx.Red
		in.exec = c.atomic(in, orig, c.op(p.fn.Name, o))
		return visible
	case ptx.MultimemSt:
		in.exec = c.multimemStore(in, orig, access(race.Write, race.Multicast))
		if c.explore {
			return visible // one copy a turn
		}
		return vis()
	case ptx.MultimemRed:
		o := c.raceOp(p, src, race.RMW, race.Multicast, in.mem.elem)
		o.Red = true
		in.exec = c.multimemRed(in, orig, c.op(p.fn.Name, o))
		return visible
	case ptx.MultimemLdReduce:
		in.exec = c.multimemLoad(in, orig, access(race.Read, race.Multicast))
		return vis()
	case ptx.FenceOp:
		in.exec = c.fence(p, in)
		return visible
	case ptx.BarSync, ptx.BarRed, ptx.BarArrive:
		in.exec = c.barrier(in, orig)
		return visible
	case ptx.BarWarpSync, ptx.Shfl, ptx.Vote, ptx.Match, ptx.Redux, ptx.Elect:
		in.exec = c.warpSync(orig)
		return visible
	case ptx.Exit:
		in.exec = c.exit(orig)
		return visible
	case ptx.GridDepControl:
		in.exec = c.gridDep(in, orig)
		return visible
	case ptx.Nanosleep:
		return visible
	case ptx.Mov:
		if isClock(src) {
			in.exec = func(w *warp, s *split, in *inst, m uint32) bool {
				w.ck.timed = true
				return orig(w, s, in, m)
			}
			return visible
		}
	case ptx.CpAsync, ptx.CpAsyncBulk, ptx.CpAsyncCtl, ptx.MbarInit, ptx.MbarInval, ptx.MbarArrive, ptx.MbarExpectTx,
		ptx.MbarTestWait, ptx.MbarTryWait:
		return c.wrapAsync(p, in, orig)
	}
	return silent
}
