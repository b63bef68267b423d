package ptx

import (
	"math/rand"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPostDominators(t *testing.T) {
	for _, c := range []struct {
		name, stmts string
		want        map[int]int // branch -> post-dominator
	}{
		{"if", "@%p1 bra A;\nmov.u32 %r1, 1;\nA: mov.u32 %r1, 2;", map[int]int{0: 2}},
		{"if else", "@%p1 bra A;\nmov.u32 %r1, 1;\nbra B;\nA: mov.u32 %r1, 2;\nB: mov.u32 %r1, 3;", map[int]int{0: 4, 2: 4}},
		{"loop", "A: mov.u32 %r1, 1;\n@%p1 bra A;\nmov.u32 %r1, 2;", map[int]int{1: 2}},
		{"early exit", "@%p1 bra A;\n@%p2 exit;\nA: mov.u32 %r1, 1;", map[int]int{0: 2, 1: 2}},
		{"exit in an arm", "@%p1 bra A;\nexit;\nA: mov.u32 %r1, 1;", map[int]int{0: 4}},
		{"trap in an arm", "@%p1 bra A;\ntrap;\nA: mov.u32 %r1, 1;", map[int]int{0: 2}},
		{"for ever", "@%p1 bra A;\nB: bra B;\nA: mov.u32 %r1, 1;", map[int]int{0: 2, 1: 4}},
		{"table", "T: .branchtargets A, B;\nbrx.idx %r1, T;\nA: mov.u32 %r1, 1;\nbra C;\nB: mov.u32 %r1, 2;\nC:", map[int]int{0: 4}},
	} {
		f := parseBody(t, c.stmts)
		got := f.PostDominators()
		for i, want := range c.want {
			if got[i] != want {
				t.Errorf("%s: post-dominator of %d is %d, want %d (all: %v)", c.name, i, got[i], want, got)
			}
		}
	}
}

// TestPostDominatorsRandom compares with the definition: d post-dominates i if
// without d there is no path from i to the end.
func TestPostDominatorsRandom(t *testing.T) {
	rng := rand.New(rand.NewSource(1))
	for range 300 {
		n := 2 + rng.Intn(12)
		f := &Func{Body: make([]Instr, n)}
		for i := range f.Body {
			in := &f.Body[i]
			in.Guard.Reg, in.Op = -1, Mov
			switch rng.Intn(4) {
			case 0:
				in.Op, in.Target = Bra, rng.Intn(n)
			case 1:
				in.Op, in.Target, in.Guard.Reg = Bra, rng.Intn(n), 0
			case 2:
				if rng.Intn(3) == 0 {
					in.Op = Exit
				}
			}
		}
		f.Body[n-1].Op, f.Body[n-1].Guard.Reg = Exit, -1
		reaches := func(from, without int) bool {
			seen := make([]bool, n+1)
			todo := []int{from}
			for len(todo) > 0 {
				i := todo[len(todo)-1]
				todo = todo[:len(todo)-1]
				if i == n {
					return true
				}
				if seen[i] || i == without {
					continue
				}
				seen[i] = true
				todo = append(todo, f.successors(i)...)
			}
			return false
		}
		want := make([]int, n)
		for i := range want {
			want[i] = n
			if !reaches(i, -1) {
				continue
			}
			var doms []int
			for d := range n {
				if d != i && !reaches(i, d) {
					doms = append(doms, d)
				}
			}
			// The immediate one is post-dominated by all the others.
			for _, d := range doms {
				first := true
				for _, e := range doms {
					first = first && (e == d || !reaches(d, e))
				}
				if first {
					want[i] = d
				}
			}
		}
		if d := cmp.Diff(want, f.PostDominators()); d != "" {
			t.Fatalf("%+v\n(-want +got):\n%s", f.Body, d)
		}
	}
}
