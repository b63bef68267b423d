package runtime

import (
	"fmt"
	"testing"

	"github.com/moegen/moegen/cmd/moegen/gen"
	"github.com/moegen/moegen/spec"
)

// TestWords: what this package works out of a layout is where the generator has
// put it.
func TestWords(t *testing.T) {
	for _, text := range []string{
		"hidden_dim: 64\ntopk: 2\ndtype: bf16\nep_size: 2\nmax_tokens: 16\nsm_limit: 4\n",
		"hidden_dim: 7168\ntopk: 8\ndtype: bf16\nep_size: 8\n",
		"hidden_dim: 4096\ntopk: 3\ndtype: fp32\nep_size: 72\nsm_limit: 13\n",
		"hidden_dim: 4096\ntopk: 3\ndtype: bf16\nep_size: 3\ntransports: [nccl]\n", // without ll
	} {
		s, err := spec.Parse("moe.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		launch := gen.LaunchOf(s)
		l := launch.Layout
		p := &Program{Ranks: s.EPSize, MaxBlocks: launch.MaxBlocks, Layout: Layout{Signals: l.CountSlots, Routing: l.Routing,
			Staging: l.LowDispatch, Bytes: l.Bytes, Control: l.ControlBytes, Step: l.StepOffset, Epochs: l.EpochOffset}}
		w := p.words()
		if got, want := fmt.Sprint(w.counts, w.dispatch, w.combine, w.lowDispatch, w.lowCombine),
			fmt.Sprint(l.CountSlots, l.DispatchFlags, l.CombineFlags, l.LowDispatchHeaders, l.LowCombineHeaders); got != want {
			t.Errorf("%ssignals at %s, want %s", text, got, want)
		}
		if w.end > l.Routing || p.low() && w.end > l.LowLines {
			t.Errorf("%ssignals end at %d", text, w.end)
		}
		if end := w.combineEpochs + 4*uint64(p.MaxBlocks*p.Ranks); (end+7)&^7 != l.ControlBytes {
			t.Errorf("%sepochs end at %d, the private state at %d", text, end, l.ControlBytes)
		}
	}
}
