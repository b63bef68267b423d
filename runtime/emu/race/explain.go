package race

import "fmt"

// drop notes that a strong read returned a store without any synchronisation
// that the program may have meant; only reports use it.
type drop struct {
	reader, writer acc
	why            dropWhy
}

type dropWhy uint8

const (
	dropScope dropWhy = iota
	dropAlias
	dropSize
	dropWeak
	dropNoRelease
)

const maxDrops = 256

func (d *Detector) note(x *acc, s *Store, why dropWhy) {
	for i := len(d.drops) - 1; i >= 0; i-- {
		n := &d.drops[i]
		if n.reader.warp == x.warp && n.reader.lane == x.lane && n.reader.op == x.op && n.writer.warp == s.acc.warp && n.why == why {
			n.reader, n.writer = *x, s.acc
			return
		}
	}
	if len(d.drops) == maxDrops {
		d.drops = append(d.drops[:0], d.drops[1:]...)
	}
	d.drops = append(d.drops, drop{*x, s.acc, why})
}

// missed notes that x returned s, which carries a release, in vain.
func (d *Detector) missed(_ *Warp, x *acc, s *Store) {
	e := &s.acc
	switch {
	case !x.strong() || !e.strong():
		d.note(x, s, dropWeak)
	case e.elem != x.elem:
		d.note(x, s, dropSize)
	case !d.samePath(e.path, x.path):
		d.note(x, s, dropAlias)
	default:
		d.note(x, s, dropScope)
	}
}

func (d *Detector) noRelease(_ *Warp, x *acc, s *Store) { d.note(x, s, dropNoRelease) }

// dropFor finds the note that most likely explains why the thread of x does
// not come after e: one between the very blocks, the latest first.
func (d *Detector) dropFor(e, x *acc) *drop {
	eb, xb := d.warps[e.warp].place.block, d.warps[x.warp].place.block
	for i := len(d.drops) - 1; i >= 0; i-- {
		n := &d.drops[i]
		if d.warps[n.writer.warp].place.block == eb && d.warps[n.reader.warp].place.block == xb {
			return n
		}
	}
	return nil
}

// race classifies and reports an unordered pair.
func (d *Detector) race(kind ReportKind, w *Warp, e, x *acc) {
	if kind != DataRace {
		d.report(kind, e, x, func() string { return explainFence(kind, e, x) })
		return
	}
	n := d.dropFor(e, x)
	switch {
	case e.strong() && x.strong():
		switch {
		case e.elem != x.elem:
			kind = WeakRaceWithStrong
		case !d.samePath(e.path, x.path):
			kind = MixedAlias
		default:
			kind = ScopeTooNarrow
		}
	case w.coversWide(x.lane, e):
		kind = ScopeTooNarrow
		if n != nil && n.why == dropAlias {
			kind = MixedAlias
		}
	case e.strong() || x.strong():
		kind = WeakRaceWithStrong
	}
	d.report(kind, e, x, func() string { return d.explain(kind, w, e, x, n) })
}

func explainFence(kind ReportKind, e, x *acc) string {
	if kind == MissingAliasFence {
		return fmt.Sprintf("the accesses are ordered, but one goes through the %s and the other through the %s mapping, and no fence.proxy.alias lies between them", e.path, x.path)
	}
	return "the accesses are ordered, but one goes through the async proxy, and no fence.proxy.async lies between them"
}

func (d *Detector) explain(kind ReportKind, w *Warp, e, x *acc, n *drop) string {
	if e.strong() && x.strong() {
		return d.explainStrong(e, x)
	}
	if kind == ScopeTooNarrow || kind == MixedAlias {
		if n != nil && (n.why == dropScope || n.why == dropAlias) {
			return d.explainDrop(n)
		}
		return "the flag that should order them is written or read with too narrow a scope"
	}
	if w.lanes != nil && w.lanes[x.lane] != nil {
		for _, k := range w.lanes[x.lane].pend {
			if k.c.covers(e.slot, e.lane, e.epoch) {
				return "a strong read of the second thread returned a release that covers the first access, but neither it nor a fence after it acquires"
			}
		}
	}
	return d.explainFirst(e, x, n)
}

func (d *Detector) explainStrong(e, x *acc) string {
	eo, xo := &d.ops[e.op], &d.ops[x.op]
	p, q := d.warps[e.warp].place, d.warps[x.warp].place
	switch {
	case e.elem != x.elem:
		return fmt.Sprintf("both are strong, but of %d and %d bytes: they do not overlap completely", e.elem, x.elem)
	case !eo.Scope.includes(p, q):
		return fmt.Sprintf("both are strong, but scope %s at line %d does not include the second thread", eo.Scope, eo.PTXLine)
	case !xo.Scope.includes(q, p):
		return fmt.Sprintf("both are strong, but scope %s at line %d does not include the first thread", xo.Scope, xo.PTXLine)
	}
	return "both are strong, but go through different aliases or proxies"
}

func (d *Detector) explainDrop(n *drop) string {
	r, s := &d.ops[n.reader.op], &d.ops[n.writer.op]
	rw, sw := d.warps[n.reader.warp], d.warps[n.writer.warp]
	switch n.why {
	case dropAlias:
		return fmt.Sprintf("the flag read at line %d through the %s mapping was written at line %d through the %s mapping: they do not synchronise", r.PTXLine, n.reader.path, s.PTXLine, n.writer.path)
	case dropSize:
		return fmt.Sprintf("the flag is written with %d bytes at line %d and read with %d at line %d", n.writer.elem, s.PTXLine, n.reader.elem, r.PTXLine)
	case dropWeak:
		return fmt.Sprintf("the flag written at line %d is read by the weak load at line %d, which synchronises with nothing", s.PTXLine, r.PTXLine)
	case dropNoRelease:
		return fmt.Sprintf("the store at line %d, read at line %d, is no release and no release fence precedes it", s.PTXLine, r.PTXLine)
	}
	switch {
	case !s.Scope.includes(sw.place, rw.place):
		return fmt.Sprintf("the store at line %d has scope %s, which does not include the reader on device %d", s.PTXLine, s.Scope, rw.place.device)
	case !r.Scope.includes(rw.place, sw.place):
		return fmt.Sprintf("the load at line %d has scope %s, which does not include the writer on device %d", r.PTXLine, r.Scope, sw.place.device)
	}
	return fmt.Sprintf("a release or acquire (a fence, or an earlier atomic of the chain) between line %d and line %d has too narrow a scope", s.PTXLine, r.PTXLine)
}

// explainFirst looks at what the first thread did after its access.
func (d *Detector) explainFirst(e, x *acc, n *drop) string {
	fw := d.warps[e.warp]
	if fw.rel != nil && !fw.host && fw.rel[e.lane].ep < e.epoch && e.epoch > fw.syncT {
		if x.warp == e.warp {
			return "the lanes of a warp are ordered by bar.warp.sync and the like only"
		}
		for l := range fw.rel {
			if m := fw.rel[l]; uint8(l) != e.lane && m.ep >= e.epoch {
				return fmt.Sprintf("lane %d released at line %d, but no barrier orders lane %d's access before that", l, d.ops[m.op].PTXLine, e.lane)
			}
		}
		if n != nil && n.why == dropNoRelease {
			return d.explainDrop(n)
		}
		return "neither a release nor a barrier of its thread follows the first access"
	}
	if n != nil {
		return d.explainDrop(n)
	}
	return "no acquire of the second thread returned a release that covers the first access"
}
