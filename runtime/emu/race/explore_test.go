package race

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// lit is an instruction of an explore litmus test: a load into a result slot
// or a store of a value.
type lit struct {
	op    Op
	off   uint64
	val   uint64
	res   int // loads: 1 + index of the result
	fence bool
}

func L(s Sem, off uint64, res int) lit {
	return lit{op: Op{Sem: s, Scope: Sys}, off: off, res: res + 1}
}
func S(s Sem, off, val uint64) lit {
	return lit{op: Op{Kind: Write, Sem: s, Scope: Sys}, off: off, val: val}
}
func F(s Sem) lit { return lit{op: Op{Sem: s, Scope: Sys}, fence: true} }

// outcomes runs random interleavings with random choices of stores.
func outcomes(progs [][]lit, results int, mode SCMode) map[string]int {
	out := map[string]int{}
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 7))
		d := New(Config{Explore: true, NoUninit: true, SC: mode})
		a := d.NewAlloc("m", 64, 1)
		mem := map[uint64]uint64{}
		var warps []*Warp
		for i := range progs {
			g := d.GridStart(GridInfo{Device: i % 2, Kernel: "k", Blocks: 1, WarpsPerBlock: 1})
			warps = append(warps, g.Warp(0, 0))
		}
		pc := make([]int, len(progs))
		res := make([]uint64, results)
		for {
			var ready []int
			for i := range progs {
				if pc[i] < len(progs[i]) {
					ready = append(ready, i)
				}
			}
			if len(ready) == 0 {
				break
			}
			t := pick(r, ready...)
			in := progs[t][pc[t]]
			pc[t]++
			id, w := d.Op(in.op), warps[t]
			switch {
			case in.fence:
				d.Fence(w, 1, id)
			case in.op.Kind == Write:
				d.ExploreStore(w, 0, id, a, 0, in.off, 4, mem[in.off], in.val)
				mem[in.off] = in.val
			default:
				v := mem[in.off]
				if c := d.Candidates(w, 0, id, a, 0, in.off, 4); c != nil {
					s := pick(r, c...)
					v = s.Value
					d.Observe(w, 0, id, a, 0, in.off, 4, s)
				} else {
					d.Access(w, 0, id, a, 0, in.off, 4)
				}
				res[in.res-1] = v
			}
		}
		out[fmt.Sprint(res)]++
	}
	return out
}

func TestExplore(t *testing.T) {
	const x, y = 0, 32
	for _, c := range []struct {
		name      string
		progs     [][]lit
		results   int
		reached   []string
		forbidden []string
	}{
		{"MP relaxed", [][]lit{{S(Relaxed, x, 1), S(Relaxed, y, 1)}, {L(Relaxed, y, 0), L(Relaxed, x, 1)}}, 2, []string{"[1 0]", "[0 0]", "[1 1]"}, nil},
		{"MP release acquire", [][]lit{{S(Weak, x, 1), S(Release, y, 1)}, {L(Acquire, y, 0), L(Weak, x, 1)}}, 2, []string{"[1 1]", "[0 0]"}, []string{"[1 0]"}},
		{"MP fences", [][]lit{{S(Relaxed, x, 1), F(AcqRel), S(Relaxed, y, 1)}, {L(Relaxed, y, 0), F(AcqRel), L(Relaxed, x, 1)}}, 2, []string{"[1 1]"}, []string{"[1 0]"}},
		{"MP no acquire", [][]lit{{S(Relaxed, x, 1), S(Release, y, 1)}, {L(Relaxed, y, 0), L(Relaxed, x, 1)}}, 2, []string{"[1 0]"}, nil},
		{"SB release acquire", [][]lit{{S(Release, x, 1), L(Acquire, y, 0)}, {S(Release, y, 1), L(Acquire, x, 1)}}, 2, []string{"[0 0]", "[1 1]"}, nil},
		{"SB fence.sc", [][]lit{{S(Relaxed, x, 1), F(SC), L(Relaxed, y, 0)}, {S(Relaxed, y, 1), F(SC), L(Relaxed, x, 1)}}, 2, []string{"[1 1]", "[0 1]"}, []string{"[0 0]"}},
		{"LB: never a store executed later", [][]lit{{L(Relaxed, x, 0), S(Relaxed, y, 1)}, {L(Relaxed, y, 1), S(Relaxed, x, 1)}}, 2, []string{"[0 0]"}, []string{"[1 1]"}},
		{"CoRR", [][]lit{{S(Relaxed, x, 1), S(Relaxed, x, 2)}, {L(Relaxed, x, 0), L(Relaxed, x, 1)}}, 2, []string{"[1 2]", "[0 2]", "[2 2]"}, []string{"[2 1]", "[1 0]", "[2 0]"}},
		{"CoWR", [][]lit{{S(Relaxed, x, 1), L(Relaxed, x, 0)}, {S(Relaxed, x, 2)}}, 1, []string{"[1]", "[2]"}, []string{"[0]"}},
		{"IRIW acquire", [][]lit{{S(Release, x, 1)}, {S(Release, y, 1)}, {L(Acquire, x, 0), L(Acquire, y, 1)}, {L(Acquire, y, 2), L(Acquire, x, 3)}}, 4, []string{"[1 0 1 0]"}, nil},
		{"IRIW fence.sc", [][]lit{{S(Relaxed, x, 1)}, {S(Relaxed, y, 1)}, {L(Relaxed, x, 0), F(SC), L(Relaxed, y, 1)}, {L(Relaxed, y, 2), F(SC), L(Relaxed, x, 3)}}, 4, nil, []string{"[1 0 1 0]"}},
		{"WRC", [][]lit{{S(Relaxed, x, 1)}, {L(Relaxed, x, 0), S(Release, y, 1)}, {L(Acquire, y, 1), L(Relaxed, x, 2)}}, 3, []string{"[1 1 1]"}, []string{"[1 1 0]"}},
	} {
		for _, mode := range []SCMode{SCNoOrder, SCExact} {
			got := outcomes(c.progs, c.results, mode)
			for _, o := range c.reached {
				if got[o] == 0 {
					t.Errorf("%s, mode %d: %s not reached: %v", c.name, mode, o, got)
				}
			}
			for _, o := range c.forbidden {
				if got[o] > 0 {
					t.Errorf("%s, mode %d: %s is forbidden: %v", c.name, mode, o, got)
				}
			}
		}
	}
}

// An RMW reads the last store, and old stores leave the history.
func TestCandidates(t *testing.T) {
	d := New(Config{Explore: true, NoUninit: true})
	a := d.NewAlloc("m", 64, 1)
	g := d.GridStart(GridInfo{Blocks: 2, WarpsPerBlock: 1})
	st, ld := d.Op(Op{Kind: Write, Sem: Relaxed, Scope: Sys}), d.Op(Op{Sem: Relaxed, Scope: Sys})
	rmw := d.Op(Op{Kind: RMW, Sem: Relaxed, Scope: Sys})
	w, r := g.Warp(0, 0), g.Warp(1, 0)
	values := func(op OpID) (v []uint64) {
		for _, s := range d.Candidates(r, 0, op, a, 0, 8, 8) {
			v = append(v, s.Value)
		}
		return v
	}
	if values(ld) != nil {
		t.Error("candidates for memory that was never written")
	}
	for i := range uint64(3) {
		d.ExploreStore(w, 0, st, a, 0, 8, 8, i, i+1)
	}
	if v := values(ld); !slices.Equal(v, []uint64{0, 1, 2, 3}) {
		t.Errorf("got %v", v)
	}
	if v := values(rmw); !slices.Equal(v, []uint64{3}) {
		t.Errorf("rmw: got %v", v)
	}
	d.Observe(r, 0, ld, a, 0, 8, 8, d.Candidates(r, 0, ld, a, 0, 8, 8)[2])
	if v := values(ld); !slices.Equal(v, []uint64{2, 3}) {
		t.Errorf("after seeing 2: %v", v)
	}
	for i := range uint64(30) {
		d.ExploreStore(w, 0, st, a, 0, 8, 8, i+3, i+4)
	}
	if v := values(ld); len(v) != maxHist || v[len(v)-1] != 33 {
		t.Errorf("bounded history: %v", v)
	}
	d.Access(w, 0, st, a, 0, 8, 8) // of unknown value
	if v := values(ld); v != nil {
		t.Errorf("after a plain store: %v", v)
	}
	d.ExploreStore(w, 0, st, a, 0, 8, 8, 77, 78)
	if v := values(ld); !slices.Equal(v, []uint64{77, 78}) {
		t.Errorf("after a plain store and another: %v", v)
	}
	d.Access(w, 0, d.Op(Op{Kind: Write}), a, 0, 0, 16) // hides the element
	if v := values(ld); v != nil {
		t.Errorf("after a store of another size: %v", v)
	}
}
