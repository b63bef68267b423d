package layer

import (
	"strings"
	"testing"

	moert "github.com/moegen/moegen/runtime"
)

// TestSessionSteps: a graph goes on to be right when steps of other capacities
// and prefills have come since, and what a session cannot do is refused.
func TestSessionSteps(t *testing.T) {
	c := emulated(t, "hidden_dim: 64\ntopk: 2\ndtype: bf16\nmax_tokens: 9\nmax_prefill_tokens: 21\nsm_limit: 3\nep_size: 2\n")
	c.Transport, c.Tokens = moert.P2P, [][]int{{21, 21}}
	x, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	}()
	refused := func(want string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	right := func(s *Step, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if s.Took <= 0 {
			t.Errorf("%s took %v", s.Name(), s.Took)
		}
		for _, r := range s.Ranks {
			for _, f := range r.Faults {
				t.Errorf("%s: rank %d: %s", s.Name(), r.Rank, f)
			}
		}
	}
	_, err = x.Replay(t.Context(), []int{1, 1})
	refused("nothing is captured", err)
	for _, early := range []bool{false, true} {
		if err := x.Capture(5, early); err != nil {
			t.Fatal(err)
		}
		right(x.Replay(t.Context(), []int{5, 0}))
		right(x.Eager(t.Context(), []int{9, 2}, 9, early))
		right(x.Replay(t.Context(), []int{1, 5}))
		right(x.Eager(t.Context(), []int{0, 21}, 3, false)) // a prefill
		right(x.Replay(t.Context(), []int{0, 0}))
	}
	_, err = x.Replay(t.Context(), []int{6, 0})
	refused("a capacity of 5", err)
	_, err = x.Eager(t.Context(), []int{22, 0}, 9, false)
	refused("for up to 21", err)
	_, err = x.Eager(t.Context(), []int{1}, 9, false)
	refused("2 ranks", err)
	refused("allowed are 1 to 9", x.Capture(10, false))
	right(x.Replay(t.Context(), []int{2, 3}))
}
