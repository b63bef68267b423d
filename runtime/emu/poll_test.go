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

// TestPollGroups: so does one whose lanes poll in ever new groups, of which each
// sees what it has seen before.
func TestPollGroups(t *testing.T) {
	w, s := &warp{}, &split{}
	var a vec
	for i := range a {
		a[i] = 1<<32 + uint64(16*(i%5))
	}
	spins := false
	for range spinAfter {
		for _, mask := range []uint32{0xff, 0xf, 0xf1, 0x81} {
			spins = w.poll(s, lanesKey(7, mask, &a), uint64(mask)) || spins
		}
		a[3] += 16 // a lane that has gone on to another place
		spins = w.poll(s, lanesKey(7, 0xff, &a), 5) || spins
		a[3] -= 16
	}
	if !spins {
		t.Fatal("groups of lanes poll for ever")
	}
}
