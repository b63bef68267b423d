package gpu

import (
	"testing"

	"github.com/moegen/moegen/tests/gpu/probe"
)

// TestProbes runs every form of instruction that the emulator claims to know
// on a GPU and on the emulator: the same bits, or where PTX only approximates,
// bits that are near. The record goes to runtime/emu/testdata, where tests
// without a GPU compare with it.
func TestProbes(t *testing.T) {
	m := gpus(t, 1)
	d := m.Devices()[0]
	forms := probe.Forms()
	results, err := probe.Run(d, forms)
	if err != nil {
		t.Fatal(err)
	}
	text, err := probe.NewRecord(d.Info().Name, m.Version(), forms, results).Encode()
	if err != nil {
		t.Fatal(err)
	}
	writeResult(t, pick(m, "probe_h200.json", "probe_rehearsal.json"), text)

	emulator, err := probe.Run(emulated(t, 1).Devices()[0], forms)
	if err != nil {
		t.Fatal(err)
	}
	list, count := probe.Differences(forms, results, emulator, 6)
	for _, x := range list {
		t.Logf("%s: %#x gives %#x here and %#x on the emulator", x.Form, x.In, x.First, x.Other)
	}
	for _, f := range forms {
		if n := count[f.Text]; n > 0 {
			t.Errorf("%s: the emulator differs for %d of %d operands", f.Text, n, probe.Count)
		}
	}
	t.Logf("%d forms, %d operands each, on %s; %d forms differ", len(forms), probe.Count, d.Info().Name, len(count))
}
