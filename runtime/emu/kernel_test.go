package emu

import (
	"testing"
	"time"

	"github.com/moegen/moegen/runtime/driver"
)

func TestVectorAdd(t *testing.T) {
	m := newMachine(t, Config{Devices: 1})
	mod := m.load(0, readFile(t, "basic.ptx"))
	const n = 1000
	a, b := make([]float32, n), make([]float32, n)
	for i := range a {
		a[i], b[i] = float32(i), float32(3*i)+0.5
	}
	pa, pb, pc := alloc(m, 0, a), alloc(m, 0, b), alloc(m, 0, make([]float32, n))
	s := m.stream(0)
	ok(t, s.Launch(m.kernel(mod, "vadd"), grid1(8, 128), pack(pa, pb, pc, n)))
	ok(t, s.Synchronize())
	for i, c := range read[float32](m, 0, pc, n) {
		if c != a[i]+b[i] {
			t.Fatalf("c[%d] = %v", i, c)
		}
	}
}

func TestDivergence(t *testing.T) {
	m := newMachine(t, Config{Devices: 1})
	mod := m.load(0, readFile(t, "basic.ptx"))
	const n = 300
	in := make([]uint32, n)
	for i := range in {
		in[i] = uint32(i + 1)
	}
	pi, po := alloc(m, 0, in), alloc(m, 0, make([]uint32, n))
	s := m.stream(0)
	ok(t, s.Launch(m.kernel(mod, "collatz"), grid1(3, 128), pack(pi, po, n)))
	ok(t, s.Synchronize())
	for i, got := range read[uint32](m, 0, po, n) {
		want := uint32(0)
		for x := in[i]; x != 1; want++ {
			if x&1 != 0 {
				x = 3*x + 1
			} else {
				x /= 2
			}
		}
		if got != want {
			t.Fatalf("collatz(%d) = %d, want %d", in[i], got, want)
		}
	}
}

func TestLanesMakeProgress(t *testing.T) {
	m := newMachine(t, Config{Devices: 1, StallLimit: 10 * time.Second})
	mod := m.load(0, readFile(t, "basic.ptx"))
	s := m.stream(0)
	flag, out := alloc(m, 0, make([]int32, 1)), alloc(m, 0, make([]int32, 2))
	ok(t, s.Launch(m.kernel(mod, "lanespin"), grid1(1, 32), pack(flag, out)))
	ok(t, s.Synchronize())
	if got := read[int32](m, 0, out, 2); got[0] != 7 || got[1] != 8 {
		t.Fatalf("got %v", got)
	}
	lock, sum := alloc(m, 0, make([]int32, 1)), alloc(m, 0, make([]int32, 1))
	ok(t, s.Launch(m.kernel(mod, "lanelock"), grid1(4, 96), pack(lock, sum)))
	ok(t, s.Synchronize())
	if got := read[int32](m, 0, sum, 1)[0]; got != 4*96 {
		t.Fatalf("sum %d", got)
	}
}

func TestBlocksWaitForBlocks(t *testing.T) {
	m := newMachine(t, Config{Devices: 1, SMs: 2, StallLimit: 20 * time.Second})
	mod := m.load(0, readFile(t, "basic.ptx"))
	s := m.stream(0)
	const n = 200 // more than fit: residency in order lets the chain pass
	flags, out := alloc(m, 0, make([]int32, n)), alloc(m, 0, make([]int32, n))
	ok(t, s.Launch(m.kernel(mod, "chain"), grid1(n, 64), pack(flags, out)))
	ok(t, s.Synchronize())
	for i, v := range read[int32](m, 0, out, n) {
		if int(v) != i {
			t.Fatalf("block %d got %d", i, v)
		}
	}
	ctr, res := alloc(m, 0, make([]uint32, 1)), alloc(m, 0, make([]uint32, 64))
	ok(t, s.Launch(m.kernel(mod, "gridbar"), grid1(64, 64), pack(ctr, res)))
	ok(t, s.Synchronize())
	for i, v := range read[uint32](m, 0, res, 64) {
		if v != 64 {
			t.Fatalf("block %d saw %d", i, v)
		}
	}
}

func TestPingPong(t *testing.T) {
	m := newMachine(t, Config{Devices: 2, StallLimit: 20 * time.Second})
	a, _ := m.peerAlloc(0, Granularity)
	b, _ := m.peerAlloc(1, Granularity)
	const rounds = 500
	var ss []driver.Stream
	for i := range 2 {
		mod := m.load(i, readFile(t, "basic.ptx"))
		s := m.stream(i)
		mine, peer := a, b
		if i == 1 {
			mine, peer = b, a
		}
		ok(t, s.Launch(m.kernel(mod, "pingpong"), grid1(1, 1), pack(mine, peer, i, rounds)))
		ss = append(ss, s)
	}
	for _, s := range ss {
		ok(t, s.Synchronize())
	}
}

func TestVirtualTime(t *testing.T) {
	m := newMachine(t, Config{Devices: 1})
	mod := m.load(0, readFile(t, "basic.ptx"))
	s := m.stream(0)
	flag, out := alloc(m, 0, make([]int32, 1)), alloc(m, 0, make([]int64, 1))
	start := time.Now()
	ok(t, s.Launch(m.kernel(mod, "timeout"), grid1(1, 1), pack(flag, int64(100e6), out)))
	ok(t, s.Synchronize())
	real := time.Since(start)
	if got := read[int64](m, 0, out, 1)[0]; got < 100e6 || got > 300e6 || real < 90*time.Millisecond {
		t.Fatalf("timed out after %d ns of virtual time, %v real", got, real)
	}
}

func TestDependentLaunch(t *testing.T) {
	m := newMachine(t, Config{Devices: 1, StallLimit: 10 * time.Second})
	mod := m.load(0, readFile(t, "basic.ptx"))
	s := m.stream(0)
	flag, out := alloc(m, 0, make([]int32, 1)), alloc(m, 0, make([]int32, 2))
	ok(t, s.Launch(m.kernel(mod, "first"), grid1(1, 1), pack(flag, out)))
	cfg := grid1(1, 1)
	cfg.Dependent = true
	ok(t, s.Launch(m.kernel(mod, "second"), cfg, pack(flag, out)))
	ok(t, s.Synchronize())
	if got := read[int32](m, 0, out, 2); got[0] != 5 || got[1] != 6 {
		t.Fatalf("got %v", got)
	}
}

func TestVariables(t *testing.T) {
	m := newMachine(t, Config{Devices: 1})
	mod := m.load(0, readFile(t, "basic.ptx"))
	s := m.stream(0)
	out := alloc(m, 0, make([]int32, 64))
	for range 2 {
		ok(t, s.Launch(m.kernel(mod, "vars"), grid1(1, 64), pack(out)))
	}
	ok(t, s.Synchronize())
	for i, v := range read[int32](m, 0, out, 64) {
		if int(v) != 43+i&3+1 {
			t.Fatalf("out[%d] = %d", i, v)
		}
	}
}

func TestLocalMemory(t *testing.T) {
	m := newMachine(t, Config{Devices: 1})
	mod := m.load(0, readFile(t, "basic.ptx"))
	s := m.stream(0)
	in := make([]int32, 16)
	for i := range in {
		in[i] = int32(i*i + 1)
	}
	pi, out := alloc(m, 0, in), alloc(m, 0, make([]int32, 32))
	const k = 7
	ok(t, s.Launch(m.kernel(mod, "locals"), grid1(1, 32), pack(pi, out, k)))
	ok(t, s.Synchronize())
	for tid, got := range read[int32](m, 0, out, 32) {
		var a [16]int32
		for i := range a {
			a[i] = in[i] * int32(tid)
		}
		for i := range a {
			a[i*k&15] += int32(i)
		}
		s := int32(0)
		for i := range a {
			s = s*31 + a[(i+k)&15]
		}
		if got != s {
			t.Fatalf("thread %d: %d, want %d", tid, got, s)
		}
	}
}

func TestSharedReduction(t *testing.T) {
	m := newMachine(t, Config{Devices: 1})
	mod := m.load(0, readFile(t, "basic.ptx"))
	s := m.stream(0)
	in := make([]float32, 5000)
	want := float32(0)
	for i := range in {
		in[i] = float32(i % 17)
		want += in[i]
	}
	pi, out := alloc(m, 0, in), alloc(m, 0, make([]float32, 1))
	cfg := grid1(1, 256)
	cfg.SharedBytes = 1024
	ok(t, s.Launch(m.kernel(mod, "reduce"), cfg, pack(pi, out, len(in))))
	ok(t, s.Synchronize())
	if got := read[float32](m, 0, out, 1)[0]; got != want {
		t.Fatalf("sum %v, want %v", got, want)
	}
}
