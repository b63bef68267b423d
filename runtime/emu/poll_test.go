package emu

import "testing"

// TestPollPairs: a split that polls two places in vain gives way, wherever they
// are.
func TestPollPairs(t *testing.T) {
	for i := range uint64(2000) {
		w, s := &warp{}, &split{}
		first, second := pollKey(7, 1<<32), pollKey(9, 1<<32+16*i)
		spins := false
		for range spinAfter {
			spins = w.poll(s, first, 0) || spins
			spins = w.poll(s, second, 1) || spins
		}
		if !spins {
			t.Fatalf("places %d bytes apart are polled for ever", 16*i)
		}
		if w.poll(s, second, 2); s.repeats != 0 {
			t.Fatal("something new counts as a poll in vain")
		}
	}
}
