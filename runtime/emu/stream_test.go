package emu

import (
	"runtime"
	"testing"
	"time"

	"github.com/moegen/moegen/runtime/driver"
)

func TestStreamsAndEvents(t *testing.T) {
	m := newMachine(t, Config{Devices: 2, StallLimit: 10 * time.Second})
	mod := m.load(0, readFile(t, "basic.ptx"))
	s0, s1 := m.stream(0), m.stream(1)
	flag := alloc(m, 0, make([]int32, 1))
	a, _ := m.peerAlloc(0, Granularity)
	b, _ := m.peerAlloc(1, Granularity)
	ok(t, s0.MemsetAsync(a, 0, 64))
	e0, e1, e2 := must(m.Devices()[0].NewEvent())(t), must(m.Devices()[1].NewEvent())(t), must(m.Devices()[0].NewEvent())(t)
	_, err := e1.Since(e0)
	wantErr(t, err, driver.CodeInvalidHandle, "not recorded")
	ok(t, s0.Record(e0))
	// s0 waits in a kernel; s1's copy waits for what comes after it.
	ok(t, s0.Launch(m.kernel(mod, "spinner"), grid1(1, 1), pack(flag)))
	ok(t, s0.MemsetAsync(a, 0x5a, 64))
	ok(t, s0.Record(e2))
	ok(t, s1.Wait(e2))
	ok(t, s1.CopyAsync(b, a, 64))
	ok(t, s1.Record(e1))
	_, err = e2.Since(e0)
	wantErr(t, err, driver.CodeNotReady, "not happened")
	time.Sleep(10 * time.Millisecond)
	if v := read[uint8](m, 1, b, 64); v[0] != 0 {
		t.Fatal("the copy did not wait")
	}
	ok(t, m.Devices()[0].Write(flag, []byte{1}))
	ok(t, e1.Synchronize())
	if v := read[uint8](m, 1, b, 64); v[0] != 0x5a || v[63] != 0x5a {
		t.Fatalf("copied %x", v)
	}
	if d, err := e2.Since(e0); err != nil || d <= 0 {
		t.Fatal(d, err)
	}
	wantErr(t, s1.Record(e0), driver.CodeInvalidHandle, "belongs to device 0")
	ok(t, m.Devices()[0].Synchronize())
	for _, c := range []interface{ Close() error }{e0, e1, e2, s0, s1} {
		ok(t, c.Close())
	}
	wantErr(t, s0.Synchronize(), driver.CodeInvalidHandle, "closed")
}

func TestHostMemory(t *testing.T) {
	m := newMachine(t, Config{Devices: 1, StallLimit: 10 * time.Second})
	mod := m.load(0, readFile(t, "basic.ptx"))
	s := m.stream(0)
	h := must(m.Devices()[0].AllocHost(100))(t)
	ok(t, s.Launch(m.kernel(mod, "spinner"), grid1(1, 1), pack(h.Ptr())))
	time.Sleep(5 * time.Millisecond)
	h.Bytes()[0] = 1 // the kernel sees it
	ok(t, s.Synchronize())
	ok(t, s.Launch(m.kernel(mod, "oob"), grid1(1, 1), pack(h.Ptr(), int64(3))))
	ok(t, s.Synchronize())
	if h.Bytes()[12] != 1 {
		t.Fatal("the kernel's store is not visible")
	}
	ok(t, h.Free())
}

func TestGraph(t *testing.T) {
	m := newMachine(t, Config{Devices: 1, StallLimit: 10 * time.Second})
	mod := m.load(0, readFile(t, "basic.ptx"))
	dev := m.Devices()[0]
	s, side := m.stream(0), m.stream(0)
	x, y, z := alloc(m, 0, make([]int32, 64)), alloc(m, 0, make([]int32, 64)), alloc(m, 0, make([]int32, 64))
	fork, join := must(dev.NewEvent())(t), must(dev.NewEvent())(t)
	vars := m.kernel(mod, "vars")

	ok(t, s.BeginCapture())
	wantErr(t, s.BeginCapture(), driver.CodeIllegalState, "capturing already")
	ok(t, s.Launch(vars, grid1(1, 64), pack(x)))
	ok(t, s.Record(fork))
	ok(t, side.Wait(fork))
	if c, err := side.Capturing(); err != nil || !c {
		t.Fatal("the side stream did not join the capture")
	}
	ok(t, side.CopyAsync(y, x, 256))
	ok(t, side.Record(join))
	ok(t, s.MemsetAsync(z, 1, 256))
	ok(t, s.Wait(join))
	cfg := grid1(1, 64)
	cfg.Dependent = true
	ok(t, s.Launch(vars, cfg, pack(z)))
	ok(t, s.Launch(vars, cfg, pack(z)))
	g := must(s.EndCapture())(t)
	if c, _ := side.Capturing(); c {
		t.Fatal("the side stream still captures")
	}
	nodes := must(g.Nodes())(t)
	want := []driver.GraphNode{{Kind: "kernel", Name: "vars"}, {Kind: "memcpy"}, {Kind: "memset"}, {Kind: "kernel", Name: "vars"}, {Kind: "kernel", Name: "vars"}}
	if len(nodes) != len(want) {
		t.Fatalf("nodes %v", nodes)
	}
	for i := range want {
		if nodes[i] != want[i] {
			t.Fatalf("node %d is %v", i, nodes[i])
		}
	}
	if v := read[int32](m, 0, x, 1)[0]; v != 0 {
		t.Fatal("capturing executed the kernel")
	}
	exec := must(g.Instantiate())(t)
	ok(t, g.Close())
	for i := range int32(20) {
		ok(t, exec.Launch(s))
		ok(t, exec.Launch(side)) // ordered with the one before
		ok(t, m.Devices()[0].Synchronize())
		// Three launches of vars in each replay; x and its copy hold the first's.
		base := 41 + 6*i + 3
		if v := read[int32](m, 0, y, 2); v[0] != base+1+1 || v[1] != base+1+2 {
			t.Fatalf("replay %d: copied %v, want %d", i, v, base+2)
		}
		if v := read[int32](m, 0, z, 1)[0]; v != base+3+1 {
			t.Fatalf("replay %d: %d", i, v)
		}
	}
	ok(t, exec.Close())
}

func TestCaptureErrors(t *testing.T) {
	m := newMachine(t, Config{Devices: 1})
	dev := m.Devices()[0]
	s, side := m.stream(0), m.stream(0)
	x := alloc(m, 0, make([]int32, 4))
	ev, outside := must(dev.NewEvent())(t), must(dev.NewEvent())(t)
	_, err := s.EndCapture()
	wantErr(t, err, driver.CodeIllegalState, "not capturing")

	ok(t, s.BeginCapture())
	wantErr(t, s.Synchronize(), driver.CodeCaptureUnsupported, "not permitted")
	wantErr(t, s.MemsetAsync(x, 0, 4), driver.CodeCaptureInvalidated)
	_, err = s.EndCapture()
	wantErr(t, err, driver.CodeCaptureInvalidated, "invalidated")

	ok(t, s.BeginCapture())
	wantErr(t, dev.Synchronize(), driver.CodeCaptureUnsupported)
	_, err = s.EndCapture()
	wantErr(t, err, driver.CodeCaptureInvalidated)

	ok(t, s.BeginCapture())
	ok(t, s.Record(ev))
	wantErr(t, ev.Synchronize(), codeCapturedEvent, "capturing stream")
	ok(t, side.Wait(ev))
	ok(t, side.MemsetAsync(x, 0, 4))
	_, err = side.EndCapture()
	wantErr(t, err, codeCaptureUnmatched)
	_, err = s.EndCapture()
	wantErr(t, err, codeCaptureUnjoined, "not joined")

	ok(t, side.Record(outside))
	ok(t, s.BeginCapture())
	wantErr(t, s.Wait(outside), codeCaptureIsolation)
	_, err = s.EndCapture()
	wantErr(t, err, driver.CodeCaptureInvalidated)

	// Allocating and loading are legal in the relaxed mode.
	ok(t, s.BeginCapture())
	p := must(dev.Alloc(16))(t)
	ok(t, dev.Free(p))
	g := must(s.EndCapture())(t)
	ok(t, g.Close())
	wantErr(t, g.Close(), driver.CodeInvalidValue)
	ok(t, s.Synchronize())
}

func TestCollectives(t *testing.T) {
	const n, count = 3, 5
	m := newMachine(t, Config{Devices: n, StallLimit: 5 * time.Second})
	cs := must(m.NewCollectives(m.Devices()))(t)
	var ss []driver.Stream
	var gs, gr, as, ar, rs, rr []driver.DevicePtr
	for r := range n {
		ss = append(ss, m.stream(r))
		part := make([]uint16, n*count)
		for i := range part {
			part[i] = toBF16(float32(i + r))
		}
		gs = append(gs, alloc(m, r, []int32{int32(r), int32(r * 10)}))
		gr = append(gr, alloc(m, r, make([]int32, 2*n)))
		to := make([]int32, 2*n)
		for i := range to {
			to[i] = int32(100*r + i)
		}
		as = append(as, alloc(m, r, to))
		ar = append(ar, alloc(m, r, make([]int32, 2*n)))
		rs = append(rs, alloc(m, r, part))
		rr = append(rr, alloc(m, r, make([]uint16, count)))
	}
	check := func() {
		t.Helper()
		for r := range n {
			ok(t, ss[r].Synchronize())
			for i, v := range read[int32](m, r, gr[r], 2*n) {
				if want := int32(i / 2 * (1 + i%2*9)); v != want {
					t.Fatalf("rank %d gathered %d at %d, want %d", r, v, i, want)
				}
			}
			for i, v := range read[int32](m, r, ar[r], 2*n) {
				if want := int32(100*(i/2) + 2*r + i%2); v != want {
					t.Fatalf("rank %d was sent %d at %d, want %d", r, v, i, want)
				}
			}
			for i, v := range read[uint16](m, r, rr[r], count) {
				if want := float32(n*(r*count+i) + n*(n-1)/2); fromBF16(v) != want {
					t.Fatalf("rank %d: %v, want %v", r, fromBF16(v), want)
				}
			}
			ok(t, m.Devices()[r].Write(gr[r], make([]byte, 8*n)))
			ok(t, m.Devices()[r].Write(ar[r], make([]byte, 8*n)))
			ok(t, m.Devices()[r].Write(rr[r], make([]byte, 2*count)))
		}
	}
	call := func(r int) {
		ok(t, cs[r].GroupStart())
		ok(t, cs[r].AllGather(ss[r], gs[r], gr[r], 8))
		ok(t, cs[r].AllToAll(ss[r], as[r], ar[r], 8))
		ok(t, cs[r].ReduceScatter(ss[r], rs[r], rr[r], count, driver.BFloat16))
		ok(t, cs[r].GroupEnd())
	}
	for r := range n {
		call(r)
	}
	check()
	var execs []driver.GraphExec
	for r := range n {
		ok(t, ss[r].BeginCapture())
		call(r)
		g := must(ss[r].EndCapture())(t)
		if nodes := must(g.Nodes())(t); len(nodes) != 1 {
			t.Fatalf("a group is %d nodes", len(nodes))
		}
		execs = append(execs, must(g.Instantiate())(t))
	}
	for range 5 {
		for r := range n {
			ok(t, execs[n-1-r].Launch(ss[n-1-r]))
		}
		check()
	}
	// Ranks disagree.
	for r := range n {
		ok(t, cs[r].AllGather(ss[r], gs[r], gr[r], uint64(8-r%2*4)))
	}
	for r := range n {
		wantErr(t, ss[r].Synchronize(), driver.CodeLaunchFailed, "all-gather of 4 bytes per rank")
	}
	ok(t, cs[0].Abort())
}

func TestMissingRank(t *testing.T) {
	m := newMachine(t, Config{Devices: 3, StallLimit: 100 * time.Millisecond})
	cs := must(m.NewCollectives(m.Devices()))(t)
	s := m.stream(1)
	p := alloc(m, 1, make([]int32, 3))
	ok(t, cs[1].AllGather(s, p, p, 4))
	wantErr(t, s.Synchronize(), codeLaunchTimeout, "device 1, collective 0", "waits for ranks [0 2]")
}

// Everything that can be made and dropped, a thousand times.
func TestNoGrowth(t *testing.T) {
	m := newMachine(t, Config{Devices: 2})
	src := readFile(t, "basic.ptx")
	dev := m.Devices()
	cycle := func() {
		const size = Granularity
		mc := must(m.CreateMulticast(2, size, driver.HandleFabric))(t)
		va := must(m.Reserve(size, 0))(t)
		for _, d := range dev {
			ok(t, mc.AddDevice(d))
		}
		for _, d := range dev {
			mem := must(d.CreateMemory(size, driver.HandleFabric))(t)
			sh := must(mem.Export(driver.HandleFabric))(t)
			imp := must(m.Import(d, sh, size))(t)
			ok(t, mc.Bind(d, 0, imp, 0, size))
			ok(t, mem.Release())
			ok(t, imp.Release())
		}
		ok(t, m.Map(va, size, mc, 0))
		ok(t, mc.Release())
		ok(t, m.Unmap(va, size))
		ok(t, m.Unreserve(va, size))
		p := must(dev[0].Alloc(1000))(t)
		h := must(dev[0].AllocHost(1000))(t)
		s := must(dev[0].NewStream())(t)
		mod := must(dev[0].LoadModule(driver.Image{Name: "b", PTX: src}))(t)
		ok(t, s.Launch(m.kernel(mod, "vars"), grid1(1, 64), pack(p)))
		ok(t, s.BeginCapture())
		ok(t, s.MemsetAsync(p, 1, 8))
		g := must(s.EndCapture())(t)
		x := must(g.Instantiate())(t)
		ok(t, x.Launch(s))
		ok(t, g.Close())
		ok(t, x.Close())
		ok(t, s.Close())
		ok(t, mod.Unload())
		ok(t, dev[0].Free(p))
		ok(t, h.Free())
	}
	n := 1000
	if testing.Short() {
		n = 100
	}
	var before runtime.MemStats
	for i := range n {
		cycle()
		if i == n/10 {
			runtime.GC()
			runtime.ReadMemStats(&before)
		}
	}
	for _, d := range m.devices {
		if d.used != 0 || len(d.started) != 0 || len(d.streams) != 0 || d.load != 0 {
			t.Fatalf("device %d: %d bytes, %d operations, %d streams", d.ordinal, d.used, len(d.started), len(d.streams))
		}
	}
	if len(m.mem.ranges) != 0 || len(m.mem.reserved) != 0 || len(m.exp.byFabric) != 0 || m.slots != m.cfg.MulticastSlots {
		t.Fatalf("left: %d ranges, %d reservations, %d exports, %d slots", len(m.mem.ranges), len(m.mem.reserved), len(m.exp.byFabric), m.slots)
	}
	runtime.GC()
	var after runtime.MemStats
	runtime.ReadMemStats(&after)
	if after.HeapAlloc > before.HeapAlloc+4<<20 {
		t.Fatalf("the heap grew from %d to %d bytes", before.HeapAlloc, after.HeapAlloc)
	}
	if g := runtime.NumGoroutine(); g > 50 {
		t.Fatalf("%d goroutines", g)
	}
}
