package race

import "fmt"

// ReportKind is the class of a finding.
type ReportKind uint8

// The kinds of report.
const (
	DataRace           ReportKind = iota // two weak accesses, unordered
	WeakRaceWithStrong                   // a weak access races with a strong one
	ScopeTooNarrow                       // the pair would be in order, or morally strong, at a wider scope
	MixedAlias                           // the pair would be in order, or morally strong, through one alias
	MissingAliasFence                    // ordered, but no fence.proxy.alias on the path
	MissingAsyncFence                    // ordered, but no fence.proxy.async on the path
	UninitialisedRead
	NCOfMutable // ld.global.nc of bytes written during the kernel
	BadAccess   // freed, or outside the allocation
)

func (k ReportKind) String() string {
	return [...]string{"data race", "weak access races with strong access", "scope too narrow",
		"flag used through different aliases", "missing alias fence", "missing async proxy fence",
		"uninitialised read", "ld.global.nc of mutable data", "bad access"}[k]
}

// AccessInfo describes one side of a report.
type AccessInfo struct {
	Device, Block, Warp, Lane int
	Host                      bool
	Kernel                    string
	PTXLine                   int
	CUDALoc                   string
	Kind                      Kind
	Sem                       Sem
	Scope                     Scope
	Path                      Path
}

func (a AccessInfo) String() string {
	if a.Host {
		return fmt.Sprintf("%s by the host", a.Kind)
	}
	sem := a.Sem.String()
	if a.Sem != Weak {
		sem += "." + a.Scope.String()
	}
	at := fmt.Sprintf("PTX line %d", a.PTXLine)
	if a.CUDALoc != "" {
		at += " (" + a.CUDALoc + ")"
	}
	return fmt.Sprintf("%s %s through the %s path at %s of %s, device %d block %d warp %d lane %d",
		sem, a.Kind, a.Path, at, a.Kernel, a.Device, a.Block, a.Warp, a.Lane)
}

// Report is one finding. First is the earlier access, absent (HasFirst false)
// where the fault has one side only.
type Report struct {
	Kind          ReportKind
	First, Second AccessInfo
	HasFirst      bool
	Alloc         string
	Replica       int
	Offset, Size  uint64 // of the second access
	Explain       string
	Count         int // how often, First and Second being the first time
}

func (r Report) String() string {
	s := fmt.Sprintf("%s on %s[%d] bytes %d to %d: %s", r.Kind, r.Alloc, r.Replica, r.Offset, r.Offset+r.Size, r.Second)
	if r.HasFirst {
		s += "; earlier " + r.First.String()
	}
	if r.Explain != "" {
		s += ": " + r.Explain
	}
	return s
}

type dedupKey struct {
	kind          ReportKind
	first, second OpID
}

// Reports returns the findings so far, the oldest first.
func (d *Detector) Reports() []Report { return append([]Report(nil), d.reports...) }

func (d *Detector) info(e *acc) AccessInfo {
	w, o := d.warps[e.warp], &d.ops[e.op]
	i := AccessInfo{Device: w.place.device, Block: w.block, Warp: w.index, Lane: int(e.lane), Host: w.host,
		PTXLine: o.PTXLine, CUDALoc: o.CUDALoc, Kind: o.Kind, Sem: o.Sem, Scope: o.Scope, Path: o.Op.Path}
	if w.grid != nil {
		i.Kernel = w.grid.info.Kernel
	}
	return i
}

func (d *Detector) report(kind ReportKind, e, x *acc, explain func() string) {
	d.stats.Reports++
	k := dedupKey{kind: kind, second: x.op}
	if e != nil {
		k.first = e.op
	}
	if n, ok := d.seen[k]; ok {
		if n < len(d.reports) {
			d.reports[n].Count++
		}
		return
	}
	d.seen[k] = len(d.reports)
	if len(d.reports) >= d.cfg.MaxReports {
		d.seen[k] = d.cfg.MaxReports
		return
	}
	r := Report{Kind: kind, Second: d.info(x), Replica: d.at.rep, Offset: d.at.off, Size: d.at.size, Count: 1}
	if d.at.a != nil {
		r.Alloc = d.at.a.name
	}
	if e != nil {
		r.First, r.HasFirst = d.info(e), true
	}
	if explain != nil {
		r.Explain = explain()
	}
	d.reports = append(d.reports, r)
}

func (d *Detector) badAccess(w *Warp, x *acc, a *Alloc, rep int, off, size uint64) {
	d.at = where{a: a, rep: rep, w: w, off: off, size: size}
	d.report(BadAccess, nil, x, func() string {
		if a.freed {
			return "the allocation has been freed"
		}
		return fmt.Sprintf("the allocation has %d bytes", a.size)
	})
}

func (d *Detector) uninit(_ *Warp, x *acc, c *cell, bits uint16) {
	d.report(UninitialisedRead, nil, x, func() string {
		return fmt.Sprintf("bytes %#04x of the 16 from offset %d were never written", bits&^c.init, d.at.cell*cellSize)
	})
}

// checkNC reports an nc read of bytes written since the launch: of writes that
// the start of the grid does not come after.
func (d *Detector) checkNC(s *sub, w *Warp, x *acc) {
	if w.grid == nil {
		return
	}
	one := func(e *acc) {
		if e.epoch != 0 && !w.grid.start.c.covers(e.slot, e.lane, e.epoch) {
			d.report(NCOfMutable, e, x, func() string {
				return "ld.global.nc is outside the memory model: the bytes must not change while the kernel runs"
			})
		}
	}
	one(&s.w)
	if s.more != nil {
		for i := range *s.more {
			one(&(*s.more)[i])
		}
	}
}

// checkNCWrite reports a write to bytes that a kernel still running has read
// with nc, though the accesses are in order.
func (d *Detector) checkNCWrite(w *Warp, e, x *acc) {
	if g := d.warps[e.warp].grid; g != nil && !g.ended && x.write() {
		d.report(NCOfMutable, e, x, func() string {
			return "the kernel that read these bytes with ld.global.nc is still running"
		})
	}
}
