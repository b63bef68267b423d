package race

import "testing"

// machine is a small one: two devices with a grid of two blocks of two warps.
type machine struct {
	t *testing.T
	d *Detector
	g [2]*Grid
	a *Alloc
	n int // PTX line
}

func newMachine(t *testing.T, cfg Config) *machine {
	m := &machine{t: t, d: New(cfg)}
	h := m.d.NewHost()
	m.a = m.d.NewAlloc("buf", 4096, 2)
	init := m.d.Op(Op{Kind: Write, Path: PathAny})
	for r := range 2 {
		m.d.Access(h.W, 0, init, m.a, r, 0, 4096)
	}
	for i := range m.g {
		m.g[i] = m.d.GridStart(GridInfo{Device: i, Kernel: "k", Blocks: 2, WarpsPerBlock: 2}, h.Clock())
	}
	return m
}

type thread struct {
	m    *machine
	w    *Warp
	lane int
}

func (m *machine) thread(dev, block, warp, lane int) thread {
	return thread{m, m.g[dev].Warp(block, warp), lane}
}

func (th thread) do(o Op, off, size uint64) thread {
	th.m.n++
	o.PTXLine = th.m.n
	th.m.d.Access(th.w, th.lane, th.m.d.Op(o), th.m.a, 0, off, size)
	return th
}

func (th thread) ld(off uint64) thread { return th.do(Op{Kind: Read}, off, 4) }
func (th thread) st(off uint64) thread { return th.do(Op{Kind: Write}, off, 4) }
func (th thread) rd(off uint64, s Sem, sc Scope) thread {
	return th.do(Op{Kind: Read, Sem: s, Scope: sc}, off, 4)
}
func (th thread) wr(off uint64, s Sem, sc Scope) thread {
	return th.do(Op{Kind: Write, Sem: s, Scope: sc}, off, 4)
}
func (th thread) rmw(off uint64, s Sem, sc Scope) thread {
	return th.do(Op{Kind: RMW, Sem: s, Scope: sc}, off, 4)
}
func (th thread) fence(s Sem, sc Scope) thread {
	th.m.n++
	th.m.d.Fence(th.w, 1<<th.lane, th.m.d.Op(Op{Sem: s, Scope: sc, PTXLine: th.m.n}))
	return th
}
func (th thread) alias() thread { th.m.d.FenceAlias(th.w, 1<<th.lane); return th }

// want checks that the reports are exactly of the given kinds.
func (m *machine) want(kinds ...ReportKind) {
	m.t.Helper()
	got := m.d.Reports()
	ok := len(got) == len(kinds)
	for i := range got {
		ok = ok && got[i].Kind == kinds[i]
		if got[i].Explain == "" {
			m.t.Errorf("no explanation: %v", got[i])
		}
	}
	if !ok {
		m.t.Errorf("reports %v, want kinds %v", got, kinds)
	}
}

const (
	data = 0
	flag = 64
)

func TestMessagePassing(t *testing.T) {
	type f = func(w, r thread)
	for _, c := range []struct {
		name string
		same bool // both threads on one device
		run  f
		want []ReportKind
	}{
		{"release acquire sys", false, func(w, r thread) { w.st(data).wr(flag, Release, Sys); r.rd(flag, Acquire, Sys).ld(data) }, nil},
		{"release acquire gpu, one device", true, func(w, r thread) { w.st(data).wr(flag, Release, GPU); r.rd(flag, Acquire, GPU).ld(data) }, nil},
		{"acquire gpu, two devices", false, func(w, r thread) { w.st(data).wr(flag, Release, Sys); r.rd(flag, Acquire, GPU).ld(data) },
			[]ReportKind{ScopeTooNarrow, ScopeTooNarrow}},
		{"release cta, one device", true, func(w, r thread) { w.st(data).wr(flag, Release, CTA); r.rd(flag, Acquire, GPU).ld(data) },
			[]ReportKind{ScopeTooNarrow, ScopeTooNarrow}},
		{"relaxed store", false, func(w, r thread) { w.st(data).wr(flag, Relaxed, Sys); r.rd(flag, Acquire, Sys).ld(data) }, []ReportKind{DataRace}},
		{"relaxed load", false, func(w, r thread) { w.st(data).wr(flag, Release, Sys); r.rd(flag, Relaxed, Sys).ld(data) }, []ReportKind{DataRace}},
		{"weak flag", false, func(w, r thread) { w.st(data).st(flag); r.rd(flag, Acquire, Sys).ld(data) }, []ReportKind{WeakRaceWithStrong, DataRace}},
		{"fences", false, func(w, r thread) {
			w.st(data).fence(AcqRel, Sys).wr(flag, Relaxed, Sys)
			r.rd(flag, Relaxed, Sys).fence(AcqRel, Sys).ld(data)
		}, nil},
		{"fence.sc and volatile", false, func(w, r thread) {
			w.st(data).fence(SC, Sys).wr(flag, Volatile, Sys)
			r.rd(flag, Volatile, Sys).fence(SC, Sys).ld(data)
		}, nil},
		{"fence gpu, two devices", false, func(w, r thread) {
			w.st(data).fence(AcqRel, GPU).wr(flag, Relaxed, Sys)
			r.rd(flag, Acquire, Sys).ld(data)
		}, []ReportKind{ScopeTooNarrow}},
		{"acquire fence gpu, two devices", false, func(w, r thread) {
			w.st(data).wr(flag, Release, Sys)
			r.rd(flag, Relaxed, Sys).fence(AcqRel, GPU).ld(data)
		}, []ReportKind{ScopeTooNarrow}},
		{"store behind the release", false, func(w, r thread) { w.wr(flag, Release, Sys).st(data); r.rd(flag, Acquire, Sys).ld(data) }, []ReportKind{DataRace}},
		{"second forms", false, func(w, r thread) {
			w.st(data).wr(flag, Release, Sys).wr(flag, Relaxed, Sys)
			r.rd(flag, Relaxed, Sys).rd(flag, Acquire, Sys).ld(data)
		}, nil},
		{"red.release", false, func(w, r thread) {
			w.st(data).do(Op{Kind: RMW, Sem: Release, Scope: Sys, Red: true}, flag, 4)
			r.rd(flag, Acquire, Sys).ld(data)
		}, nil},
		{"red never acquires", false, func(w, r thread) {
			w.st(data).wr(flag, Release, Sys)
			r.do(Op{Kind: RMW, Sem: Relaxed, Scope: Sys, Red: true}, flag, 4).fence(AcqRel, Sys).ld(data)
		}, []ReportKind{DataRace}},
		{"sizes differ", false, func(w, r thread) {
			w.st(data).do(Op{Kind: Write, Sem: Release, Scope: Sys}, flag, 8)
			r.rd(flag, Acquire, Sys).ld(data)
		}, []ReportKind{WeakRaceWithStrong, DataRace}},
		{"overwritten while read", false, func(w, r thread) {
			w.st(data).wr(flag, Release, Sys)
			r.rd(flag, Acquire, Sys).ld(data)
			w.st(data)
		}, []ReportKind{DataRace}},
		{"overwritten after an answer", false, func(w, r thread) {
			for range 3 {
				w.st(data).wr(flag, Release, Sys)
				r.rd(flag, Acquire, Sys).ld(data).wr(flag+8, Release, Sys)
				w.rd(flag+8, Acquire, Sys)
			}
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t, Config{})
			dev := 1
			if c.same {
				dev = 0
			}
			c.run(m.thread(0, 0, 0, 0), m.thread(dev, 1, 0, 0))
			m.want(c.want...)
		})
	}
}

func TestReleaseSequence(t *testing.T) {
	m := newMachine(t, Config{})
	a, b, c := m.thread(0, 0, 0, 0), m.thread(0, 1, 0, 0), m.thread(1, 0, 0, 0)
	a.st(data).wr(flag, Release, Sys)
	b.st(data+4).rmw(flag, Relaxed, Sys) // continues a's release, adds none of its own
	c.rd(flag, Acquire, Sys).ld(data)
	m.want()
	c.ld(data + 4)
	m.want(DataRace)

	m = newMachine(t, Config{})
	a, b, c = m.thread(0, 0, 0, 0), m.thread(0, 1, 0, 0), m.thread(1, 0, 0, 0)
	a.st(data).rmw(flag, Release, Sys)
	b.st(data+4).rmw(flag, Release, Sys)
	c.rd(flag, Acquire, Sys).ld(data).ld(data + 4)
	m.want()

	m = newMachine(t, Config{}) // a plain store breaks the chain
	a, b, c = m.thread(0, 0, 0, 0), m.thread(0, 1, 0, 0), m.thread(1, 0, 0, 0)
	a.st(data).wr(flag, Release, Sys)
	b.wr(flag, Relaxed, Sys)
	c.rd(flag, Acquire, Sys).ld(data)
	m.want(DataRace)
}

// A weak reset is in order after a mere observation of the same element.
func TestObservation(t *testing.T) {
	m := newMachine(t, Config{})
	m.thread(0, 0, 0, 0).wr(flag, Relaxed, Sys)
	m.thread(1, 0, 0, 0).rd(flag, Relaxed, Sys).st(flag)
	m.want()
	m = newMachine(t, Config{})
	m.thread(0, 0, 0, 0).wr(flag, Relaxed, Sys)
	m.thread(1, 0, 0, 0).st(flag)
	m.want(WeakRaceWithStrong)
}

func TestAlias(t *testing.T) {
	mc := func(k Kind, s Sem) Op { return Op{Kind: k, Sem: s, Scope: Sys, Path: Multicast} }
	for _, c := range []struct {
		name                     string
		run                      func(w, r thread)
		strict, practical, noMod []ReportKind
	}{
		{"data multicast, flag unicast, no fence", func(w, r thread) {
			w.do(mc(Write, Weak), data, 4).wr(flag, Release, Sys)
			r.rd(flag, Acquire, Sys).ld(data)
		}, []ReportKind{MissingAliasFence}, []ReportKind{MissingAliasFence}, nil},
		{"fence at the writer", func(w, r thread) {
			w.do(mc(Write, Weak), data, 4).alias().wr(flag, Release, Sys)
			r.rd(flag, Acquire, Sys).ld(data)
		}, nil, nil, nil},
		{"fence at the reader", func(w, r thread) {
			w.do(mc(Write, Weak), data, 4).wr(flag, Release, Sys)
			r.rd(flag, Acquire, Sys).alias().ld(data)
		}, nil, nil, nil},
		{"fence before the store", func(w, r thread) {
			w.alias().do(mc(Write, Weak), data, 4).wr(flag, Release, Sys)
			r.alias().rd(flag, Acquire, Sys).ld(data)
		}, []ReportKind{MissingAliasFence}, []ReportKind{MissingAliasFence}, nil},
		{"same thread", func(w, _ thread) { w.do(mc(Write, Weak), data, 4).ld(data) },
			[]ReportKind{MissingAliasFence}, []ReportKind{MissingAliasFence}, nil},
		{"flag multicast, poll unicast", func(w, r thread) {
			w.st(data).alias().do(mc(RMW, Release), flag, 4)
			r.rd(flag, Acquire, Sys).ld(data)
		}, []ReportKind{MixedAlias, MixedAlias}, nil, nil},
		{"all multicast", func(w, r thread) {
			w.do(mc(Write, Weak), data, 4).do(mc(Write, Release), flag, 4)
			r.do(mc(Read, Acquire), flag, 4).do(mc(Read, Weak), data, 4)
		}, nil, nil, nil},
	} {
		for mode, want := range [][]ReportKind{c.strict, c.practical, c.noMod} {
			t.Run(c.name, func(t *testing.T) {
				m := newMachine(t, Config{Alias: AliasMode(mode)})
				c.run(m.thread(0, 0, 0, 0), m.thread(1, 1, 0, 0))
				m.want(want...)
			})
		}
	}
}
