package emu

import (
	"strings"

	"github.com/moegen/moegen/runtime/emu/ptx"
	"github.com/moegen/moegen/runtime/emu/race"
)

func (c *checker) fence(p *program, in *inst) execFn {
	orig := in.exec
	op := c.op(p.fn.Name, c.raceOp(p, in.src, race.Read, race.Unicast, 0))
	kind := in.src.Fence
	return func(w *warp, s *split, in *inst, mask uint32) bool {
		switch kind {
		case ptx.FenceThread:
			c.det.Fence(w.ck.rw, mask, op)
		case ptx.FenceProxyAlias:
			c.det.FenceAlias(w.ck.rw, mask)
		case ptx.FenceProxyAsync:
			c.det.FenceAsync(w.ck.rw, mask)
		}
		// FenceMbarrierInit: see mbarCheck.
		return orig(w, s, in, mask)
	}
}

// barrier instruments bar.sync, bar.red and bar.arrive.
func (c *checker) barrier(in *inst, orig execFn) execFn {
	wait := in.src.Op != ptx.BarArrive
	return func(w *warp, s *split, in *inst, mask uint32) bool {
		b := w.b
		id := w.operand(in.src.Src[0], lane(mask)) & 0xffffffff
		if id >= uint64(len(b.bars)) {
			return orig(w, s, in, mask) // which faults
		}
		bc := &b.ck.bars[id]
		bc.parts = append(bc.parts, barPart{w, mask, in, wait})
		if !wait {
			if bc.vars == nil {
				bc.vars = new(race.SyncVar)
			}
			c.det.Arrive(bc.vars, w.ck.rw, mask)
		}
		ok := orig(w, s, in, mask)
		c.barriers(b)
		return ok
	}
}

// barriers looks which of the block's barriers have opened.
func (c *checker) barriers(b *block) {
	for id := range b.ck.bars {
		bc := &b.ck.bars[id]
		if len(bc.parts) == 0 || b.bars[id].arrived > 0 {
			continue
		}
		parts := bc.parts
		bc.parts = nil
		c.opened(b, bc, parts)
		bc.parts = parts[:0]
	}
}

// opened tells the judge of a barrier that everyone has come to.
func (c *checker) opened(b *block, bc *barCheck, parts []barPart) {
	if bc.vars == nil {
		ps := make([]race.Part, 0, len(parts))
		for _, p := range parts {
			ps = append(ps, race.Part{W: p.w.ck.rw, Mask: p.mask})
		}
		c.det.Barrier(ps)
	} else {
		for _, p := range parts {
			if p.wait {
				c.det.Arrive(bc.vars, p.w.ck.rw, p.mask)
			}
		}
		for _, p := range parts {
			if p.wait {
				c.det.Wait(bc.vars, p.w.ck.rw, p.mask)
			}
		}
		bc.vars = nil
	}
	for i, p := range parts {
		c.s.wake(p.w)
		if !p.in.src.Aligned {
			continue
		}
		came := p.mask
		same := true
		for _, q := range parts[:i] {
			same = same && q.w != p.w // one check a warp: at its first part
		}
		if !same {
			continue
		}
		for _, q := range parts[i+1:] {
			if q.w == p.w {
				came |= q.mask
				same = same && q.in == p.in
			}
		}
		if !same || came&p.w.alive != p.w.alive {
			c.reportDivergent(p.w, p.in, came)
		}
	}
}

// warpSync instruments operations for which lanes of a warp meet.
func (c *checker) warpSync(orig execFn) execFn {
	return func(w *warp, s *split, in *inst, mask uint32) bool {
		before := w.sync.arrived
		ok := orig(w, s, in, mask)
		c.met(w, (before|mask)&^w.sync.arrived)
		return ok
	}
}

// met tells the judge of the lanes whose operation is complete: each group of
// equal member masks has met by itself.
func (c *checker) met(w *warp, lanes uint32) {
	for lanes != 0 {
		members := w.sync.members[lane(lanes)]
		group := uint32(0)
		for k := lanes; k != 0; k &= k - 1 {
			if w.sync.members[lane(k)] == members {
				group |= 1 << lane(k)
			}
		}
		c.det.WarpBarrier(w.ck.rw, group)
		lanes &^= group
		c.s.wake(w)
	}
}

func (c *checker) exit(orig execFn) execFn {
	return func(w *warp, s *split, in *inst, mask uint32) bool {
		c.det.Exit(w.ck.rw, mask)
		before := w.sync.arrived
		ok := orig(w, s, in, mask)
		c.met(w, before&^w.sync.arrived)
		c.barriers(w.b)
		return ok
	}
}

// gridDep instruments griddepcontrol.
func (c *checker) gridDep(in *inst, orig execFn) execFn {
	wait := strings.Contains(in.src.Mods, "wait")
	return func(w *warp, s *split, in *inst, mask uint32) bool {
		if !wait {
			return orig(w, s, in, mask)
		}
		g := w.b.g
		if !g.ready() {
			s.ck.parked, s.ck.grid = true, true
			return false
		}
		if p := g.ck.n.ck.prog; p != nil {
			c.det.Join(w.ck.rw, mask, c.endOf(p))
		}
		return orig(w, s, in, mask)
	}
}
