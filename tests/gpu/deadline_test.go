package gpu

import (
	"bytes"
	"testing"

	"github.com/moegen/moegen/cmd/moegen/gen"
	"github.com/moegen/moegen/cmd/moegen/layer"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/nvcc"
	"github.com/moegen/moegen/spec"
)

// TestDeadline measures what it costs that waits look at the clock and at the
// failure word: the kernels as they are beside kernels that never look. It judges
// ll, which plans have for so few tokens. For bulk it only tells: its combine of 64
// tokens has two speeds, 0.27 us apart, with and without the check.
func TestDeadline(t *testing.T) {
	m := gpus(t, 2)
	s := specs(t, func(s *spec.Spec) {
		s.SMLimit, s.MaxTokens = pick(m, 132, 4), pick(m, 64, 8)
	})["deepseek-v3"]
	tokens := pick(m, []int{1, 8, 64}, []int{1, 8})
	p := program(t, s)
	for _, d := range alternate(t, m, "deadline", tokens, [2]version{{"without", s, withoutDeadline(t, p)}, {"as it is", s, p}}) {
		const most = 0.1 // microseconds
		if cost := d.second - d.first; m.real && !m.oneGPU && d.protocol == string(gen.LL) && cost > most {
			t.Errorf("%s, %s of %d tokens: the check costs %.3f us, more than %v", d.protocol, d.operation, d.tokens, cost, most)
		}
	}
}

// withoutDeadline returns the program with waits that never give up: nothing is
// left of the check in what the compiler makes of it.
func withoutDeadline(t testing.TB, p *moert.Program) *moert.Program {
	t.Helper()
	// Where polls are counted, in protocol bulk and combine; where they are bounded, in dispatch and for headers.
	edits := []struct{ from, to string }{
		{"polls % kPollsPerCheck == 0", "polls % kPollsPerCheck == kPollsPerCheck"},
		{"--polls > 0", "polls > 0"}, {"--polls == 0", "polls == 0"}, {"polls < kPollsPerCheck; ++polls", "polls < kPollsPerCheck;"},
	}
	text := p.Source
	for _, e := range edits {
		if !bytes.Contains(text, []byte(e.from)) {
			t.Fatalf("no wait says %q", e.from)
		}
		text = bytes.ReplaceAll(text, []byte(e.from), []byte(e.to))
	}
	q := *p
	q.Name, q.PTX = p.Name+" without a deadline", nil
	q.Source = text
	return &q
}

// TestWithoutDeadline needs no GPU: with the check cut out the kernels compile
// for one, are right, and do not look at the clock any more.
func TestWithoutDeadline(t *testing.T) {
	c, err := nvcc.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p := smallProgram(t)
	q := withoutDeadline(t, p)
	for _, x := range []struct {
		p     *moert.Program
		looks bool
	}{{p, true}, {q, false}} {
		im, err := c.Compile(t.Context(), nvcc.Source{Name: "moe.cu", Text: x.p.Source}, nvcc.Target{Arch: "sm_90a", PTX: true})
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(im.Data, []byte("%globaltimer")) != x.looks {
			t.Errorf("%s: the clock is looked at: %t, want %t", x.p.Name, !x.looks, x.looks)
		}
	}
	if _, err := c.Compile(t.Context(), nvcc.Source{Name: "moe.cu", Text: q.Source}, nvcc.Target{Arch: "sm_90a"}); err != nil {
		t.Error(err)
	}
	s, err := spec.Parse("small.yaml", []byte(small))
	if err != nil {
		t.Fatal(err)
	}
	result, err := layer.Run(t.Context(), layer.Config{
		Spec: s, Program: q, Devices: emulated(t, 2).ranks(2), Transport: moert.P2P, Layers: 2, Seed: 1, Steps: 4, Replays: 4,
		Tokens: [][]int{{0, 1}, {16, 3}, {2, 0}, {8, 8}}, Options: []moert.Option{moert.WithLogger(quiet)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if !result.OK() {
		t.Errorf("without a deadline the results are wrong: %+v", result.Steps)
	}
}
