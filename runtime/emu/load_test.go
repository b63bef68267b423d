package emu

import (
	"testing"
	"time"
)

// Virtual time stands still while anything computes: a deadline of 50 ms
// outlasts a producer that takes far longer.
func TestSlowProducerIsNoTimeout(t *testing.T) {
	for _, workers := range []int{1, 2, 4} {
		m := newMachine(t, Config{Devices: 2, Workers: workers, StallLimit: 20 * time.Second})
		flag, _ := m.peerAlloc(0, Granularity)
		out, junk := alloc(m, 0, make([]int64, 1)), alloc(m, 1, make([]int32, 32))
		s0, s1 := m.stream(0), m.stream(1)
		alu := m.kernel(m.load(1, readFile(t, "basic.ptx")), "alu")
		// Four launches of about 100 ms each, however slow this machine is. The
		// best of five counts: one that was interrupted would make them too short.
		best := time.Hour
		for range 5 {
			start := time.Now()
			ok(t, s1.Launch(alu, grid1(1, 32), pack(junk, 2000)))
			ok(t, s1.Synchronize())
			best = min(best, time.Since(start))
		}
		loops := int(100 * time.Millisecond * 2000 / best)
		start := time.Now()
		ok(t, s0.Launch(m.kernel(m.load(0, readFile(t, "basic.ptx")), "timeout"), grid1(1, 1), pack(flag, int64(50e6), out)))
		for range 4 {
			ok(t, s1.Launch(alu, grid1(1, 32), pack(junk, loops)))
		}
		ok(t, s1.MemsetAsync(flag, 1, 4))
		ok(t, s0.Synchronize())
		took := time.Since(start)
		if got := read[int64](m, 0, out, 1)[0]; got != -1 || took < 60*time.Millisecond {
			t.Fatalf("%d workers: timed out after %d ns, took %v", workers, got, took)
		}
	}
}
