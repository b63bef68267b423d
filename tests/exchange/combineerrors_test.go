package exchange

import (
	"errors"
	"strings"
	"testing"

	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/emu"
)

// TestCombineErrors: tensors that are missing, misplaced, too small or in each
// other's way are refused before anything is launched.
func TestCombineErrors(t *testing.T) {
	p := program(t, "hidden_dim: 128\ndtype: bf16\ntopk: 2\nnum_experts: 8\nep_size: 2\nmax_tokens: 9\nsm_limit: 2\n"+fused)
	r := newRig(t, machine(t, emu.Config{Devices: 2}), p)
	good := make([]moert.CombineArgs, 2)
	for rank, d := range r.d {
		rows := func(n, bytes int) moert.Tensor { return tensor(t, d, n, bytes, make([]byte, n*bytes)) }
		good[rank] = moert.CombineArgs{Partial: d.PartialBuffer(), Shared: rows(9, 256), Residual: rows(9, 256), Weight: rows(1, 256),
			Out: rows(9, 128), Scales: rows(9, 4), Sum: rows(9, 256)}
		write(t, d, d.PartialBuffer(), make([]byte, 18*256))
	}
	d, s := r.d[0], r.streams[0]
	for name, c := range map[string]struct {
		change func(*moert.CombineArgs)
		says   string
	}{
		"no shared":               {func(a *moert.CombineArgs) { a.Shared = moert.Tensor{} }, "shared has no memory"},
		"no residual":             {func(a *moert.CombineArgs) { a.Residual.Ptr = 0 }, "residual has no memory"},
		"no weight":               {func(a *moert.CombineArgs) { a.Weight = moert.Tensor{} }, "weight has no memory"},
		"short residual":          {func(a *moert.CombineArgs) { a.Residual.Rows = 8 }, "residual has 8 rows and 9 are needed"},
		"no row of weight":        {func(a *moert.CombineArgs) { a.Weight.Rows = 0 }, "weight has 0 rows"},
		"short scales":            {func(a *moert.CombineArgs) { a.Scales.Rows = 1 }, "scales has 1 rows"},
		"misaligned sum":          {func(a *moert.CombineArgs) { a.Sum.Ptr += 8 }, "sum at"},
		"misaligned weight":       {func(a *moert.CombineArgs) { a.Weight.Ptr += 2 }, "weight at"},
		"out is the sum":          {func(a *moert.CombineArgs) { a.Out = a.Sum }, "sum overlaps out"},
		"out over shared":         {func(a *moert.CombineArgs) { a.Out = a.Shared }, "out overlaps shared"}, // rows of other sizes
		"sum a row into shared":   {func(a *moert.CombineArgs) { a.Sum.Ptr = a.Shared.Ptr + 256 }, "sum overlaps shared"},
		"scales over weight":      {func(a *moert.CombineArgs) { a.Scales.Ptr = a.Weight.Ptr }, "scales overlaps weight"},
		"sum over partial":        {func(a *moert.CombineArgs) { a.Partial = moert.Tensor{Ptr: a.Sum.Ptr, Rows: 18} }, "sum overlaps partial"},
		"out in symmetric memory": {func(a *moert.CombineArgs) { a.Out.Ptr = d.Gathered().Hidden.Ptr }, "out overlaps the dispatcher's symmetric memory"},
	} {
		t.Run(name, func(t *testing.T) {
			check(t, d.BeginStep(s, moert.HostTokens(3)))
			_, err := d.Dispatch(s, r.in[0].rows())
			check(t, err)
			bad := good[0]
			c.change(&bad)
			if _, err := d.Combine(s, bad); !errors.Is(err, moert.ErrTensor) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %q", err, c.says)
			}
			// The step can go on.
			_, err = d.Combine(s, good[0])
			check(t, err)
			check(t, r.d[1].BeginStep(r.streams[1], moert.HostTokens(2)))
			_, err = r.d[1].Dispatch(r.streams[1], r.in[1].rows())
			check(t, err)
			_, err = r.d[1].Combine(r.streams[1], good[1])
			check(t, err)
			check(t, errors.Join(d.Synchronize(s), r.d[1].Synchronize(r.streams[1])))
		})
	}

	plain := program(t, small)
	r = newRig(t, machine(t, emu.Config{Devices: 2}), plain)
	d, s = r.d[0], r.streams[0]
	check(t, d.BeginStep(s, moert.HostTokens(3)))
	_, err := d.Dispatch(s, r.in[0].rows())
	check(t, err)
	if _, err := d.Combine(s, moert.CombineArgs{Partial: d.PartialBuffer(), Residual: r.in[0].hidden}); !errors.Is(err, moert.ErrTensor) || !strings.Contains(err.Error(), "residual is given, and this program has none") {
		t.Errorf("%v", err)
	}
	_, err = d.Combine(s, moert.CombineArgs{Partial: d.PartialBuffer()})
	check(t, err)
	check(t, r.step(1, moert.HostTokens(1)))
	check(t, errors.Join(d.Synchronize(s), r.d[1].Synchronize(r.streams[1])))
}
