package race

import (
	"runtime"
	"strings"
	"testing"
)

func TestLanes(t *testing.T) {
	m := newMachine(t, Config{})
	w := m.g[0].Warp(0, 0)
	r := m.thread(1, 0, 0, 0)
	st := m.d.Op(Op{Kind: Write, PTXLine: 100})
	m.d.AccessRow(w, ^uint32(0), st, m.a, 0, 256, 4)
	m.thread(0, 0, 0, 0).wr(flag, Release, Sys)
	r.rd(flag, Acquire, Sys).ld(256) // lane 0's own store
	m.want()
	r.ld(256 + 5*4)
	m.want(DataRace)
	rep := m.d.Reports()[0]
	if rep.First.Lane != 5 || rep.First.PTXLine != 100 || !strings.Contains(rep.Explain, "no barrier orders lane 5") {
		t.Errorf("got %v", rep)
	}

	for _, mask := range []uint32{^uint32(0), 1 | 1<<5} {
		m = newMachine(t, Config{})
		w, r = m.g[0].Warp(0, 0), m.thread(1, 0, 0, 0)
		m.d.AccessRow(w, ^uint32(0), m.d.Op(Op{Kind: Write, PTXLine: 100}), m.a, 0, 256, 4)
		m.d.WarpBarrier(w, mask)
		m.thread(0, 0, 0, 0).wr(flag, Release, Sys)
		r.rd(flag, Acquire, Sys).ld(256).ld(256 + 5*4)
		m.want()
		r.ld(256 + 6*4)
		if (len(m.d.Reports()) != 0) != (mask != ^uint32(0)) {
			t.Errorf("mask %#x: lane 6: %v", mask, m.d.Reports())
		}
	}

	m = newMachine(t, Config{}) // lanes in lockstep
	m.thread(0, 0, 0, 3).st(data)
	m.thread(0, 0, 0, 4).ld(data)
	m.want(DataRace)
}

func TestBarriers(t *testing.T) {
	m := newMachine(t, Config{})
	m.thread(0, 0, 0, 7).st(data)
	m.d.BlockBarrier(m.g[0], 0)
	m.thread(0, 0, 1, 9).ld(data).st(data)
	m.want()
	m.thread(0, 0, 0, 7).ld(data)
	m.want(DataRace)

	// What one lane acquired, all know behind the barrier; what they did
	// before, one lane's release covers: the usual grid barrier.
	m = newMachine(t, Config{})
	m.thread(0, 0, 1, 7).st(data)
	m.d.BlockBarrier(m.g[0], 0)
	m.thread(0, 0, 0, 0).rmw(flag, Release, Sys)
	m.thread(1, 1, 0, 0).rd(flag, Acquire, Sys)
	m.d.BlockBarrier(m.g[1], 1)
	m.thread(1, 1, 1, 31).ld(data)
	m.want()
	m.thread(1, 0, 1, 31).ld(data)
	m.want(DataRace)

	// Lanes that have left order nothing at a barrier.
	m = newMachine(t, Config{})
	m.thread(0, 0, 0, 2).st(data)
	m.d.Exit(m.g[0].Warp(0, 0), 1<<2)
	m.thread(0, 0, 0, 3).st(data + 4)
	m.d.BlockBarrier(m.g[0], 0)
	m.thread(0, 0, 1, 0).ld(data + 4)
	m.want()
	m.thread(0, 0, 1, 0).ld(data)
	m.want(DataRace)

	m = newMachine(t, Config{}) // split arrival
	var v SyncVar
	a, b := m.thread(0, 0, 0, 0), m.thread(0, 0, 1, 0)
	a.st(data)
	m.d.Arrive(&v, a.w, 1)
	a.st(data + 4)
	m.d.Wait(&v, b.w, 1)
	b.ld(data)
	m.want()
	b.ld(data + 4)
	m.want(DataRace)
}

func TestKernelBoundary(t *testing.T) {
	for _, alias := range []AliasMode{Strict, Practical} {
		d := New(Config{Alias: alias})
		h := d.NewHost()
		a := d.NewAlloc("buf", 64, 1)
		st := d.Op(Op{Kind: Write, PTXLine: 1})
		ld := d.Op(Op{Kind: Read, PTXLine: 2})
		mc := d.Op(Op{Kind: Read, Path: Multicast, PTXLine: 3})
		info := GridInfo{Kernel: "k", Blocks: 2, WarpsPerBlock: 2}
		g := d.GridStart(info, h.Clock())
		d.Access(g.Warp(1, 1), 9, st, a, 0, 0, 16)
		end := d.GridEnd(g)
		slots := d.Stats().Slots
		g = d.GridStart(info, h.Clock(), end)
		d.Access(g.Warp(0, 0), 0, ld, a, 0, 0, 16)
		if r := d.Reports(); len(r) != 0 {
			t.Errorf("stream order: %v", r)
		}
		if d.Stats().Slots != slots {
			t.Errorf("slots not used again: %d, then %d", slots, d.Stats().Slots)
		}
		d.Access(g.Warp(0, 1), 0, mc, a, 0, 0, 16)
		if n := len(d.Reports()); (n == 1) != (alias == Strict) {
			t.Errorf("%d: alias across kernels: %v", alias, d.Reports())
		}
		n := len(d.Reports())
		other := d.GridStart(GridInfo{Device: 1, Kernel: "o", Blocks: 1, WarpsPerBlock: 1}, h.Clock())
		d.Access(other.Warp(0, 0), 0, ld, a, 0, 0, 4)
		if len(d.Reports()) != n+1 {
			t.Errorf("the other device has no event to wait for: %v", d.Reports())
		}
		h.Join(d.GridEnd(g).Join(d.GridEnd(other)))
		d.Access(h.W, 0, d.Op(Op{Kind: Write, Path: PathAny}), a, 0, 0, 64)
		if len(d.Reports()) != n+1 {
			t.Errorf("host after synchronise: %v", d.Reports())
		}
	}
}

func TestOneSided(t *testing.T) {
	m := newMachine(t, Config{})
	th := m.thread(0, 0, 0, 0)
	nc := Op{Kind: Read, NC: true}
	th.do(nc, data, 4)
	m.want()
	th.st(data+16).do(nc, data+16, 4)
	m.want(NCOfMutable)
	th.st(data)
	m.want(NCOfMutable, NCOfMutable)
	m.d.Access(th.w, 0, m.d.Op(Op{}), m.a, 0, 4094, 4)
	m.want(NCOfMutable, NCOfMutable, BadAccess)

	d := New(Config{})
	a := d.NewAlloc("x", 64, 1)
	h := d.NewHost()
	w, r := d.Op(Op{Kind: Write}), d.Op(Op{})
	d.Access(h.W, 0, w, a, 0, 0, 6)
	d.Access(h.W, 0, r, a, 0, 0, 4)
	d.Access(h.W, 0, r, a, 0, 4, 4)
	a.Free()
	d.Access(h.W, 0, w, a, 0, 0, 4)
	rep := d.Reports()
	if len(rep) != 2 || rep[0].Kind != UninitialisedRead || rep[1].Kind != BadAccess || rep[0].Offset != 4 {
		t.Errorf("got %v", rep)
	}
}

func TestAsync(t *testing.T) {
	for _, fence := range []bool{true, false} {
		m := newMachine(t, Config{Async: true})
		th := m.thread(0, 0, 0, 0).st(data)
		if fence {
			m.d.FenceAsync(th.w, 1)
		}
		ag := m.d.Fork(th.w, 0)
		m.d.Access(ag, 0, m.d.Op(Op{Async: true, PTXLine: 50}), m.a, 0, data, 16)
		m.d.Access(ag, 0, m.d.Op(Op{Kind: Write, Async: true, PTXLine: 51}), m.a, 0, 128, 16)
		m.d.JoinAgent(th.w, 0, ag)
		th.ld(128)
		if fence {
			m.want()
		} else {
			m.want(MissingAsyncFence)
		}
	}
}

// Reports say where and why.
func TestExplain(t *testing.T) {
	m := newMachine(t, Config{})
	m.thread(0, 0, 0, 0).st(data).wr(flag, Release, Sys)
	m.thread(1, 1, 0, 0).rd(flag, Relaxed, Sys).ld(data)
	m.want(DataRace)
	r := m.d.Reports()[0]
	if !strings.Contains(r.Explain, "neither it nor a fence after it acquires") || r.First.PTXLine != 1 || r.Second.PTXLine != 4 || r.Second.Block != 1 {
		t.Errorf("got %v", r)
	}
	m = newMachine(t, Config{})
	m.thread(0, 0, 0, 0).st(data).wr(flag, Release, Sys)
	m.thread(1, 1, 0, 0).rd(flag, Acquire, GPU).ld(data)
	m.want(ScopeTooNarrow, ScopeTooNarrow)
	if r := m.d.Reports()[1]; !strings.Contains(r.Explain, "load at line 3 has scope gpu, which does not include the writer on device 0") {
		t.Errorf("got %v", r)
	}
}

// TestFill: what a host has filled with one write is judged as if it had written
// every cell of it, and takes next to no memory.
func TestFill(t *testing.T) {
	const size = 64 << 20
	d := New(Config{})
	a := d.NewAlloc("m", size+8, 1)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	host := d.NewHost()
	d.Access(host.W, 0, d.Op(Op{Kind: Write, PTXLine: 7}), a, 0, 8, size)
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > size/16 {
		t.Errorf("a fill of %d bytes takes %d", size, n)
	}
	g := d.GridStart(GridInfo{Blocks: 1, WarpsPerBlock: 1}) // not behind the host's write
	want := 0
	for _, off := range []uint64{8, 4096, 4096*5 + 12, size/2 + 3, size} {
		d.Access(g.Warp(0, 0), 0, d.Op(Op{Kind: Write, PTXLine: int(off)}), a, 0, off, 1)
		want++
		r := d.Reports()
		if len(r) != want || r[want-1].Kind != DataRace || r[want-1].First.PTXLine != 7 {
			t.Fatalf("at %d: %v", off, r)
		}
	}
	ordered := d.GridStart(GridInfo{Device: 1, Blocks: 1, WarpsPerBlock: 1}, host.Clock())
	for _, off := range []uint64{8, 4096 * 9, size - 12} {
		d.Access(ordered.Warp(0, 0), 1, d.Op(Op{PTXLine: int(off)}), a, 0, off+4, 4)
	}
	if r := d.Reports(); len(r) != want {
		t.Errorf("%v", r[want:])
	}
	d.Access(ordered.Warp(0, 0), 1, d.Op(Op{}), a, 0, 4, 4)
	if r := d.Reports(); len(r) != want+1 || r[want].Kind == DataRace {
		t.Errorf("in front of the fill: %v", r[want:])
	}
}
