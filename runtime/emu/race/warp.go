package race

// learn adds knowledge to one lane.
func (w *Warp) learn(l uint8, k clk) {
	if w.delta == nil {
		w.delta = new([32]clk)
	}
	w.deltas |= 1 << l
	w.delta[l] = w.delta[l].join(k)
}

// shared returns what all lanes know, their common past in this warp included.
func (w *Warp) shared() *vec {
	if w.snap == nil || w.snapFor != w.base.c || w.snapT != w.syncT {
		w.snap = w.base.c.raised(slotEpoch{w.slot, w.syncT})
		w.snapFor, w.snapT = w.base.c, w.syncT
	}
	return w.snap
}

// full returns all that a lane knows and did. The caller advances w.t, so
// that what comes next is not covered by it.
func (w *Warp) full(l uint8) clk {
	k := w.base
	k.c = w.shared()
	if w.deltas>>l&1 != 0 {
		k = k.join(w.delta[l])
	}
	k.c = k.c.with(w.slot, 1<<l, w.t)
	return k
}

// known joins what the lanes in mask know of others.
func (w *Warp) known(mask uint32) clk {
	k := w.base
	k.c = w.shared()
	for m, l := w.deltas&mask, 0; m != 0; m, l = m>>1, l+1 {
		if m&1 != 0 {
			k = k.join(w.delta[l])
		}
	}
	return k
}

// covers says whether lane l knows the event.
func (w *Warp) covers(l uint8, e *acc) bool {
	if e.slot == w.slot {
		if e.epoch <= w.syncT || e.lane == l && e.warp == w.id {
			return true
		}
	}
	if w.base.c.covers(e.slot, e.lane, e.epoch) {
		return true
	}
	return w.deltas>>l&1 != 0 && w.delta[l].c.covers(e.slot, e.lane, e.epoch)
}

func (w *Warp) coversAlias(l uint8, e *acc) bool {
	return w.base.a.covers(e.slot, e.lane, e.epoch) ||
		w.deltas>>l&1 != 0 && w.delta[l].a.covers(e.slot, e.lane, e.epoch)
}

func (w *Warp) coversAsync(l uint8, e *acc) bool {
	return w.base.p.covers(e.slot, e.lane, e.epoch) ||
		w.deltas>>l&1 != 0 && w.delta[l].p.covers(e.slot, e.lane, e.epoch)
}

func (w *Warp) coversWide(l uint8, e *acc) bool {
	return w.base.w.covers(e.slot, e.lane, e.epoch) ||
		w.deltas>>l&1 != 0 && w.delta[l].w.covers(e.slot, e.lane, e.epoch)
}

// synced makes k what all live lanes know and drops the lanes' own knowledge.
// k must cover every live lane up to w.t.
func (w *Warp) synced(k clk) {
	w.base = k
	w.deltas = 0
	if w.delta != nil {
		*w.delta = [32]clk{}
	}
	w.syncT = w.t
	w.t++
}

// WarpBarrier orders the lanes in mask among themselves: bar.warp.sync,
// shfl.sync, vote.sync, match.sync, redux.sync.
func (d *Detector) WarpBarrier(w *Warp, mask uint32) {
	mask &= w.live
	if mask == w.live && w.dirty == 0 {
		k := w.base
		if w.deltas != 0 {
			k = w.known(mask)
		}
		w.synced(k)
		return
	}
	d.Barrier([]Part{{w, mask}})
}

// Part is some lanes of a warp.
type Part struct {
	W    *Warp
	Mask uint32
}

// BlockBarrier orders all live threads of a block: a complete bar.sync 0.
func (d *Detector) BlockBarrier(g *Grid, block int) {
	n := g.info.WarpsPerBlock
	parts := make([]Part, 0, n)
	for _, w := range g.warps[block*n : (block+1)*n] {
		parts = append(parts, Part{w, w.live})
	}
	d.Barrier(parts)
}

// Barrier orders the given threads among themselves: a complete barrier with
// any set of participants, such as a named or a cluster barrier.
func (d *Detector) Barrier(parts []Part) {
	var k clk
	var up []slotEpoch
	for _, p := range parts {
		if p.Mask &= p.W.live; p.Mask == 0 {
			continue
		}
		k = k.join(p.W.known(p.Mask))
		if p.Mask == p.W.live && p.W.dirty == 0 {
			up = append(up, slotEpoch{p.W.slot, p.W.t})
		}
	}
	k.c = k.c.raised(up...)
	for _, p := range parts {
		if m := p.Mask & p.W.live; m != 0 && (m != p.W.live || p.W.dirty != 0) {
			k.c = k.c.with(p.W.slot, m, p.W.t)
		}
	}
	for _, p := range parts {
		w, m := p.W, p.Mask&p.W.live
		switch {
		case m == 0:
		case m == w.live && w.dirty == 0:
			w.synced(k)
		default:
			for l := range uint8(32) {
				if m>>l&1 != 0 {
					w.learn(l, k)
				}
			}
			w.t++
		}
	}
}

// SyncVar is a barrier whose arrival and wait are apart: bar.arrive, mbarrier,
// barrier.cluster.arrive. Reset it for the next phase.
type SyncVar struct{ k clk }

// Reset starts a new phase.
func (s *SyncVar) Reset() { s.k = clk{} }

// Arrive adds what the lanes did to the variable.
func (d *Detector) Arrive(s *SyncVar, w *Warp, mask uint32) {
	for l := range uint8(32) {
		if mask>>l&1 != 0 {
			s.k = s.k.join(w.full(l))
		}
	}
	w.t++
}

// Wait orders the lanes after all arrivals of the phase.
func (d *Detector) Wait(s *SyncVar, w *Warp, mask uint32) {
	for l := range uint8(32) {
		if mask>>l&1 != 0 {
			w.learn(l, s.k)
		}
	}
}
