package race

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// detect runs the events through a Detector. In explore mode, reads return
// what r picks; cands then holds the choice each had.
func (a *axioms) detect(r *rand.Rand) (d *Detector, cands [][]int) {
	d = New(a.cfg)
	mem := map[uint64]uint64{} // index of the last store + 1
	cands = make([][]int, len(a.ev))
	nd, nb, nw := 0, 0, 0
	for _, t := range a.thr {
		nd, nb, nw = max(nd, t.dev), max(nb, t.blk), max(nw, t.warp)
	}
	var grids []*Grid
	for dev := range nd + 1 {
		grids = append(grids, d.GridStart(GridInfo{Device: dev, Kernel: "k", Blocks: nb + 1, WarpsPerBlock: nw + 1}))
	}
	al := d.NewAlloc("m", 64, 1)
	for i, e := range a.ev {
		e.op.PTXLine = i
		id := d.Op(e.op)
		w := func(t int) *Warp { return grids[a.thr[t].dev].Warp(a.thr[t].blk, a.thr[t].warp) }
		t := e.threads[0]
		lane := a.thr[t].lane
		switch {
		case e.barrier:
			masks := map[*Warp]uint32{}
			for _, t := range e.threads {
				masks[w(t)] |= 1 << a.thr[t].lane
			}
			if len(masks) == 1 {
				d.WarpBarrier(w(t), masks[w(t)])
				continue
			}
			var parts []Part
			for w, m := range masks {
				parts = append(parts, Part{w, m})
			}
			d.Barrier(parts)
		case e.alias:
			d.FenceAlias(w(t), 1<<lane)
		case e.fence:
			d.Fence(w(t), 1<<lane, id)
		case a.cfg.Explore && e.write():
			if e.read() {
				a.rf[i] = int(mem[e.off]) - 1
			}
			d.ExploreStore(w(t), lane, id, al, 0, e.off, e.size, mem[e.off], uint64(i+1))
			mem[e.off] = uint64(i + 1)
		case a.cfg.Explore:
			a.rf[i] = int(mem[e.off]) - 1
			c := d.Candidates(w(t), lane, id, al, 0, e.off, e.size)
			if c == nil {
				d.Access(w(t), lane, id, al, 0, e.off, e.size)
				continue
			}
			for _, s := range c {
				cands[i] = append(cands[i], int(s.Value)-1)
			}
			s := pick(r, c...)
			a.rf[i] = int(s.Value) - 1
			d.Observe(w(t), lane, id, al, 0, e.off, e.size, s)
		default:
			d.Access(w(t), lane, id, al, 0, e.off, e.size)
		}
	}
	return d, cands
}

func pick[T any](r *rand.Rand, s ...T) T { return s[r.IntN(len(s))] }

func randomProgram(r *rand.Rand) *axioms {
	a := &axioms{cfg: Config{NoUninit: true, MaxReports: 1000, Alias: pick(r, Strict, Strict, Practical, Off), SC: pick(r, SCNoOrder, SCExact)}}
	for range 2 + r.IntN(2) {
		a.thr = append(a.thr, pick(r, thr{0, 0, 0, 0}, thr{0, 0, 0, 5}, thr{0, 0, 1, 0}, thr{0, 1, 0, 0}, thr{1, 0, 0, 0}, thr{1, 0, 0, 1}))
		for i := range len(a.thr) - 1 {
			if a.thr[i] == a.thr[len(a.thr)-1] {
				a.thr = a.thr[:len(a.thr)-1]
				break
			}
		}
	}
	if len(a.thr) < 2 {
		a.thr = []thr{{0, 0, 0, 0}, {1, 0, 0, 0}}
	}
	aliases, mixed, strongY := r.IntN(3) == 0, r.IntN(6) == 0, r.IntN(2) == 0
	// Few weak accesses make about half of the programs free of races.
	weak, tidy := 1+r.IntN(3), r.IntN(2) == 0
	for range 4 + r.IntN(9) {
		e := event{threads: []int{r.IntN(len(a.thr))}}
		scope := pick(r, Sys, Sys, Sys, GPU, CTA)
		switch k := r.IntN(20); {
		case k == 0:
			e.barrier = true
			e.threads = nil
			for t := range a.thr {
				if a.thr[t].dev == a.thr[0].dev && a.thr[t].blk == a.thr[0].blk {
					e.threads = append(e.threads, t)
				}
			}
		case k <= 3:
			e.fence = true
			e.op = Op{Sem: pick(r, SC, AcqRel, AcqRel, Acquire, Release), Scope: scope}
		case k == 4 && aliases:
			e.alias = true
		default:
			e.off, e.size = pick(r, uint64(0), 8), 4
			e.op = Op{Kind: pick(r, Read, Read, Write, Write, RMW), Scope: scope}
			strong := e.off == 8 && (strongY || r.IntN(4) > 0) || r.IntN(5) == 0
			switch {
			case e.op.Kind == RMW:
				e.op.Sem = pick(r, Relaxed, Acquire, Release, AcqRel)
			case !strong:
				e.op.Sem = Weak
			case e.op.Kind == Read:
				e.op.Sem = pick(r, Relaxed, Acquire)
			default:
				e.op.Sem = pick(r, Relaxed, Release)
			}
			if tidy && e.op.Sem == Weak {
				if weak--; weak < 0 {
					e.op.Sem, e.off = AcqRel, 8
				}
			}
			if tidy && e.op.Sem != Weak && e.off == 0 {
				e.off = 8
			}
			if aliases {
				e.op.Path = pick(r, Unicast, Unicast, Multicast)
			}
			if mixed && r.IntN(3) == 0 {
				e.size = pick(r, uint64(2), 8)
			}
		}
		a.ev = append(a.ev, e)
	}
	return a
}

// axiomStream selects other random programs.
var axiomStream uint64 = 1

func TestAgainstAxioms(t *testing.T) {
	n := 100000
	if testing.Short() {
		n = 10000
	}
	racy := 0
	for seed := range n {
		a := randomProgram(rand.New(rand.NewPCG(uint64(seed), axiomStream)))
		want := a.races()
		d, _ := a.detect(nil)
		got := d.Reports()
		if len(want) > 0 {
			racy++
		}
		if (len(want) > 0) != (len(got) > 0) {
			t.Fatalf("seed %d: axioms %v, detector %v\n%v", seed, want, got, a)
		}
		for _, r := range got {
			if !want[[2]int{r.First.PTXLine, r.Second.PTXLine}] {
				t.Fatalf("seed %d: %v is no race; axioms %v\n%v", seed, r, want, a)
			}
		}
		// The earliest access that races must be the one reported first.
		first := len(a.ev)
		for p := range want {
			first = min(first, p[1])
		}
		if len(got) > 0 && got[0].Second.PTXLine != first {
			t.Fatalf("seed %d: first race at %d, reported %v\n%v", seed, first, got[0], a)
		}
	}
	t.Logf("%d programs, %d racy", n, racy)
}

// mayReturn lists the stores before event j that it may return: returning one
// must not put a newer store before j in causality.
func (a *axioms) mayReturn(j int) []int {
	var out []int
	for i := -1; i < j; i++ {
		if i >= 0 && (!a.ev[i].write() || !a.overlap(i, j)) {
			continue
		}
		b := &axioms{ev: a.ev[:j+1], thr: a.thr, cfg: a.cfg, rf: slices.Clone(a.rf[:j+1])}
		b.rf[j] = i
		b.races()
		ok := true
		for k := i + 1; k < j; k++ {
			ok = ok && !(a.ev[k].write() && a.overlap(k, j) && b.cau[k][j])
		}
		if ok {
			out = append(out, i)
		}
	}
	return out
}

// With weak visibility the detector's verdict must still be that of the axioms,
// and loads must be offered just the stores that nothing supersedes.
func TestExploreAgainstAxioms(t *testing.T) {
	n := 50000
	if testing.Short() {
		n = 5000
	}
	stale := 0
	for seed := range n {
		r := rand.New(rand.NewPCG(uint64(seed), axiomStream+100))
		a := randomProgram(r)
		a.cfg.Alias, a.cfg.Explore = Off, true
		for i := range a.ev {
			if a.ev[i].mem() {
				a.ev[i].size = 4
			}
		}
		a.rf = make([]int, len(a.ev))
		d, cands := a.detect(r)
		got := d.Reports()
		want := a.races()
		if (len(want) > 0) != (len(got) > 0) {
			t.Fatalf("seed %d: axioms %v, detector %v, reads-from %v\n%v", seed, want, got, a.rf, a)
		}
		for _, p := range got {
			if !want[[2]int{p.First.PTXLine, p.Second.PTXLine}] {
				t.Fatalf("seed %d: %v is no race; reads-from %v\n%v", seed, p, a.rf, a)
			}
		}
		a.cfg.SC = SCExact // views always honour the Fence-SC order
		for j, c := range cands {
			if c == nil {
				continue
			}
			if len(c) > 1 {
				stale++
			}
			allowed := a.mayReturn(j)
			if !slices.Equal(allowed, c) {
				t.Fatalf("seed %d: event %d may return %v, offered %v; reads-from %v\n%v", seed, j, allowed, c, a.rf, a)
			}
		}
	}
	t.Logf("%d loads had a choice", stale)
}
