package exchange

import (
	"bytes"
	"context"
	"testing"

	model "github.com/moegen/moegen/generated/qwen30bfusedep2"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/emu"
)

// TestFusedPackage drives a generated package whose combine ends the layer, by
// its own types: sums of 3 and -1, a residual stream of 2, which is replaced, and
// a weight of 112 make a root mean square of 4 and an output of 112.
func TestFusedPackage(t *testing.T) {
	const tokens = 3
	group, err := moert.NewLocalGroup(machine(t, emu.Config{Devices: model.EPSize}).Devices()...)
	check(t, err)
	type rank struct {
		d        *model.Dispatcher
		s        moert.Stream
		combined model.Combined
		residual model.Hidden
	}
	ranks := make([]rank, model.EPSize)
	check(t, group.Each(t.Context(), func(ctx context.Context, id int) error {
		var err error
		ranks[id].d, err = model.NewDispatcher(ctx, group, id, moert.WithLogger(quiet))
		return err
	}))
	fill := func(d *model.Dispatcher, p moert.DevicePtr, rows int, bf16 uint16) {
		t.Helper()
		check(t, d.Core().Device().Write(p, bytes.Repeat([]byte{byte(bf16), byte(bf16 >> 8)}, rows*model.HiddenDim)))
	}
	for id := range ranks {
		r := &ranks[id]
		d := r.d
		r.s, err = d.Core().NewStream()
		check(t, err)
		hidden, err := d.NewHidden(model.MaxTokens)
		check(t, err)
		probs, err := d.NewProbs(model.MaxTokens)
		check(t, err)
		routing, err := d.NewRouting(model.MaxTokens)
		check(t, err)
		weight, err := d.NewNormWeight(1)
		check(t, err)
		r.residual, err = d.NewHidden(model.MaxTokens)
		check(t, err)
		fill(d, d.PartialBuffer().Ptr(), 2*tokens, []uint16{0x4040, 0xbf80}[id])
		fill(d, r.residual.Ptr(), tokens, 0x4000)
		fill(d, weight.Ptr(), 1, 0x42e0)
		check(t, d.NextStep(moert.HostTokens(tokens)))
		_, err = d.Dispatch(r.s, model.Local{Hidden: hidden, Probs: probs, Routing: routing})
		check(t, err)
		r.combined, err = d.CombineInto(r.s, d.PartialBuffer(), model.Epilogue{Residual: r.residual, Weight: weight}, model.Combined{Sum: r.residual})
		check(t, err)
	}
	for id, r := range ranks {
		check(t, r.d.Synchronize(r.s))
		dev := r.d.Core().Device()
		out := make([]byte, tokens*model.HiddenDim)
		check(t, dev.Read(out, r.combined.Out.Ptr()))
		sums := make([]byte, 2*tokens*model.HiddenDim)
		check(t, dev.Read(sums, r.residual.Ptr()))
		scale := make([]byte, 4)
		check(t, dev.Read(scale, r.combined.Scales.Ptr()))
		// 448 times a scale of 1/4; bf16 4.0.
		if !bytes.Equal(out, bytes.Repeat([]byte{0x7e}, len(out))) || !bytes.Equal(scale, []byte{0, 0, 0x80, 0x3e}) {
			t.Errorf("rank %d: output %#x with scale %#x", id, out[0], scale)
		}
		if !bytes.Equal(sums, bytes.Repeat([]byte{0x80, 0x40}, tokens*model.HiddenDim)) {
			t.Errorf("rank %d: new residual stream %#x", id, sums[:4])
		}
		check(t, r.s.Close())
	}
	for _, r := range ranks {
		check(t, r.d.Close())
	}
	check(t, group.Close())
}
