package race

import (
	"maps"
	"math/rand/v2"
	"testing"
)

// A view is the map that it stands for, whatever made it, and a join that
// learns nothing is the view itself.
func TestView(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	views, want := []*view{nil}, []map[uint32]uint64{{}}
	for range 2000 {
		i, j := rng.IntN(len(views)), rng.IntN(len(views))
		m := maps.Clone(want[i])
		var v *view
		if rng.IntN(3) == 0 {
			v = joinView(views[i], views[j])
			for loc, seq := range want[j] {
				m[loc] = max(m[loc], seq)
			}
			if joinView(v, views[i]).top() != v.top() || joinView(views[j], v).top() != v.top() {
				t.Fatal("a join with a part of a view made a view of its own")
			}
		} else {
			loc, seq := uint32(1)<<rng.IntN(18)-1+rng.Uint32N(3), rng.Uint64N(100)+1
			v = views[i].with(loc, seq)
			m[loc] = max(m[loc], seq)
		}
		for loc, seq := range m {
			if got := v.get(loc); got != seq {
				t.Fatalf("location %d: %d, not %d", loc, got, seq)
			}
		}
		for range 10 {
			if loc := rng.Uint32N(1 << 20); v.get(loc) != m[loc] {
				t.Fatalf("location %d: %d, not %d", loc, v.get(loc), m[loc])
			}
		}
		views, want = append(views, v), append(want, m)
	}
}

// top is the view without the levels that hold one kid only, the first.
func (v *view) top() *view {
	for v != nil && v.level > 0 {
		for _, k := range v.kids[1:] {
			if k != nil {
				return v
			}
		}
		v = v.kids[0]
	}
	return v
}
