package emu

import (
	"github.com/moegen/moegen/runtime/emu/race"
)

// startOf is what happened before a stream operation began: what its host knew
// when it enqueued it, and the end of all that it waits for. A kernel that may
// overlap with the one before knows no more of that than how it began.
func (c *checker) startOf(n *node) race.Clock {
	k := n.ck
	if !k.hasStart {
		k.start = k.host
		for _, d := range k.deps {
			if d != nil {
				k.start = k.start.Join(c.endOf(d))
			}
		}
		if k.prog != nil {
			k.start = k.start.Join(c.startOf(k.prog))
		}
		k.hasStart, k.deps = true, nil
	}
	return k.start
}

// endOf is what happened before whatever comes after n.
func (c *checker) endOf(n *node) race.Clock {
	k := n.ck
	if k.hasEnd {
		return k.end
	}
	e := c.startOf(n).Join(k.end)
	if k.prog != nil {
		e = e.Join(c.endOf(k.prog))
	}
	if n.done {
		k.end, k.hasEnd, k.prog = e, true, nil
	}
	return e
}

func (c *checker) gridStart(g *grid) {
	warps := (g.threads + 31) / 32
	info := race.GridInfo{Device: g.dev.ordinal, Kernel: g.prog.fn.Name, Blocks: g.blocks, WarpsPerBlock: warps}
	if last := uint(g.threads % 32); last != 0 {
		info.Lanes = func(_, warp int) uint32 {
			if warp == warps-1 {
				return 1<<last - 1
			}
			return fullMask
		}
	}
	g.ck = &gridCheck{g: c.det.GridStart(info, c.startOf(g.node)), n: g.node}
}

func (c *checker) gridEnd(g *grid) {
	g.node.ck.end = c.det.GridEnd(g.ck.g)
}

// engine begins what a copy engine does for n. Its accesses are not by the
// kernel's rules for aliases: they are ordered by the stream alone.
func (c *checker) engine(n *node, after race.Clock) (*race.Grid, *race.Warp) {
	g := c.det.GridStart(race.GridInfo{
		Device: n.dev.ordinal, Kernel: n.name, Blocks: 1, WarpsPerBlock: 1,
		Lanes: func(int, int) uint32 { return 1 },
	}, after)
	return g, g.Warp(0, 0)
}

// nodeRuns tells the judge of a copy, memset or collective, right before it is
// performed.
func (c *checker) nodeRuns(n *node) {
	if o := n.collective; o != nil {
		c.collectiveRuns(o)
		return
	}
	k := n.ck
	if k.size == 0 {
		return
	}
	g, w := c.engine(n, c.startOf(n))
	if k.src != 0 {
		c.bytes(w, k.src, k.size, race.Read)
	}
	c.bytes(w, k.dst, k.size, race.Write)
	k.end = c.det.GridEnd(g)
}

// collectiveRuns tells the judge of what all ranks' calls do. They end together.
func (c *checker) collectiveRuns(o *collectiveOp) {
	var all race.Clock
	for _, p := range o.peers {
		all = all.Join(c.startOf(p))
	}
	type unit struct {
		g *race.Grid
		w *race.Warp
	}
	var us []unit
	for _, p := range o.peers {
		g, w := c.engine(p, all)
		us = append(us, unit{g, w})
		for _, part := range p.collective.parts {
			c.bytes(w, part.send, part.sent(o.comm.n), race.Read)
		}
	}
	var end race.Clock
	for _, u := range us {
		end = end.Join(c.det.GridEnd(u.g))
	}
	all, us = end, us[:0]
	for _, p := range o.peers {
		g, w := c.engine(p, all)
		us = append(us, unit{g, w})
		for _, part := range p.collective.parts {
			c.bytes(w, part.recv, part.received(o.comm.n), race.Write)
		}
	}
	for _, u := range us {
		end = end.Join(c.det.GridEnd(u.g))
	}
	for _, p := range o.peers {
		p.ck.end = end
	}
}

// bytes tells the judge of an access by a host or a copy engine.
func (c *checker) bytes(w *race.Warp, addr, size uint64, kind race.Kind) {
	op := c.op("", race.Op{Kind: kind, Path: race.PathAny})
	for size > 0 {
		e := c.at(addr)
		if e == nil {
			return // the call reports it
		}
		n := min(size, e.hi-addr)
		off := addr - e.lo + e.off
		c.det.Access(w, 0, op, e.al.a, 0, off, n)
		if kind != race.Read {
			c.wrote(e.al, off, off+n)
		}
		addr, size = addr+n, size-n
	}
}

// hostAccess is a host's own access by Device.Read or Write, or what loading a
// module writes.
func (c *checker) hostAccess(addr, size uint64, kind race.Kind) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if size > 0 {
		c.bytes(c.host.W, addr, size, kind)
		c.collect()
	}
}
