package exchange

import (
	"testing"

	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/emu"
)

// TestOneRank: a group of one passes its inputs through, and casts where the
// partial sums are of another type than the output.
func TestOneRank(t *testing.T) {
	for _, transports := range []string{"[nvls]", "[p2p]", "[nccl]", "[nvls, p2p, nccl]"} {
		base := "hidden_dim: 64\ntopk: 2\ndtype: bf16\nep_size: 1\nmax_tokens: 16\ntransports: " + transports + "\n"
		r := newRig(t, machine(t, emu.Config{Devices: 1}), program(t, base))
		d, s, in := r.d[0], r.streams[0], r.in[0]
		if err := d.BeginStep(s, moert.HostTokens(5)); err != nil {
			t.Fatal(err)
		}
		g, err := d.Dispatch(s, in.rows())
		if err != nil {
			t.Fatal(err)
		}
		if g.Routing != in.routing || g.Probs != in.probs || g.Hidden != in.hidden {
			t.Errorf("%s: Dispatch returned %+v, want its arguments", transports, g)
		}
		out, err := d.Combine(s, moert.CombineArgs{Partial: in.hidden})
		if err != nil {
			t.Fatal(err)
		}
		if out.Out != in.hidden {
			t.Errorf("%s: Combine returned %+v, want its argument", transports, out)
		}
		if err := d.Synchronize(s); err != nil {
			t.Fatal(err)
		}
		total := make([]byte, 4)
		if err := d.Device().Read(total, g.Step.Total); err != nil || total[0] != 5 {
			t.Errorf("%s: total %v, %v", transports, total, err)
		}
		if d.Transport() != moert.Local {
			t.Errorf("%s: transport %s", transports, d.Transport())
		}

		// 1.0 in fp32 becomes 1.0 in bf16.
		r = newRig(t, machine(t, emu.Config{Devices: 1}), program(t, base+"combine: {wire: fp32}\n"))
		d, s, in = r.d[0], r.streams[0], r.in[0]
		partial := d.PartialBuffer()
		row := make([]byte, 64*4)
		for i := range 64 {
			row[4*i+2], row[4*i+3] = 0x80, 0x3f
		}
		if err := d.Device().Write(partial.Ptr, row); err != nil {
			t.Fatal(err)
		}
		if err := d.BeginStep(s, moert.HostTokens(1)); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Dispatch(s, in.rows()); err != nil {
			t.Fatal(err)
		}
		if out, err = d.Combine(s, moert.CombineArgs{Partial: partial}); err != nil {
			t.Fatal(err)
		}
		if err := d.Synchronize(s); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 64*2)
		if err := d.Device().Read(got, out.Out.Ptr); err != nil {
			t.Fatal(err)
		}
		for i := range 64 {
			if got[2*i] != 0x80 || got[2*i+1] != 0x3f {
				t.Fatalf("%s: element %d is %x%x, want 3f80", transports, i, got[2*i+1], got[2*i])
			}
		}
	}
}
