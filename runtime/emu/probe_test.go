package emu

import (
	"encoding/json"
	"errors"
	"math"
	"math/bits"
	"os"
	"strings"
	"testing"

	"github.com/moegen/moegen/tests/gpu/probe"
)

// probeRecord is what tests/gpu's TestProbes writes on an H200.
const probeRecord = "testdata/probe_h200.json"

// runProbes executes every form of instruction once.
func runProbes(t *testing.T, forms []probe.Form) [][]uint64 {
	t.Helper()
	m := newMachine(t, Config{Devices: 1})
	return must(probe.Run(m.Devices()[0], forms))(t)
}

// TestProbes: the emulator computes what an H200 computed.
func TestProbes(t *testing.T) {
	text, err := os.ReadFile(probeRecord)
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("SKIPPED, THE EMULATOR WAS NOT COMPARED WITH HARDWARE: no hardware record yet; run the GPU bundle on an H200 and keep its probe_h200.json as " + probeRecord)
	}
	ok(t, err)
	var r probe.Record
	ok(t, json.Unmarshal(text, &r))
	forms := probe.Forms()
	for _, d := range must(r.Compare(forms, runProbes(t, forms)))(t) {
		t.Error(d)
	}
	t.Logf("%d forms compared with %s, driver %s", len(forms), r.Device, r.Driver)
}

// TestProbesSelf runs every form, so that none is refused, and compares those
// for which Go has an operation of its own.
func TestProbesSelf(t *testing.T) {
	forms := probe.Forms()
	results, in, checked := runProbes(t, forms), probe.Inputs(), 0
	for i, f := range forms {
		name, _, _ := strings.Cut(f.Text, " ")
		reference := probeReferences[name]
		if reference == nil {
			continue
		}
		checked++
		for j, got := range results[i] {
			if want := reference(in[j][0], in[j][1], in[j][2]); got != want {
				t.Errorf("%s: %#x gives %#x, want %#x", f.Text, in[j], got, want)
				break
			}
		}
	}
	if checked != len(probeReferences) {
		t.Errorf("%d forms compared with Go, %d references", checked, len(probeReferences))
	}
	same, _ := probe.NewRecord("emulator", "", forms, results).Compare(forms, results)
	for _, d := range same {
		t.Errorf("a record differs from what it was made of: %s", d)
	}
}

// floats32 is a float32 operation with the NaN that GPUs make.
func floats32(f func(a, b, c float32) float32) func(a, b, c uint64) uint64 {
	return func(a, b, c uint64) uint64 {
		x := f(math.Float32frombits(uint32(a)), math.Float32frombits(uint32(b)), math.Float32frombits(uint32(c)))
		if x != x {
			return 0x7fffffff
		}
		return uint64(math.Float32bits(x))
	}
}

func compare32(f func(a, b float32) bool) func(a, b, c uint64) uint64 {
	return func(a, b, _ uint64) uint64 {
		if f(math.Float32frombits(uint32(a)), math.Float32frombits(uint32(b))) {
			return 1
		}
		return 0
	}
}

var probeReferences = map[string]func(a, b, c uint64) uint64{
	"add.rn.f32":  floats32(func(a, b, _ float32) float32 { return a + b }),
	"sub.rn.f32":  floats32(func(a, b, _ float32) float32 { return a - b }),
	"mul.rn.f32":  floats32(func(a, b, _ float32) float32 { return a * b }),
	"div.rn.f32":  floats32(func(a, b, _ float32) float32 { return a / b }),
	"sqrt.rn.f32": floats32(func(a, _, _ float32) float32 { return float32(math.Sqrt(float64(a))) }),
	"rcp.rn.f32":  floats32(func(a, _, _ float32) float32 { return 1 / a }),

	"cvt.rn.f32.f64": func(a, _, _ uint64) uint64 {
		if a<<1 > 0x7ff<<53 { // NaNs keep their sign and the upper bits
			return a>>32&(1<<31) | 0x7fc00000 | a>>29&0x3fffff
		}
		return floats32(func(_, _, _ float32) float32 { return float32(math.Float64frombits(a)) })(0, 0, 0)
	},
	"setp.lt.f32":  compare32(func(a, b float32) bool { return a < b }),
	"setp.geu.f32": compare32(func(a, b float32) bool { return !(a < b) }),
	"setp.num.f32": compare32(func(a, b float32) bool { return a == a && b == b }),

	"add.u32":      func(a, b, _ uint64) uint64 { return uint64(uint32(a + b)) },
	"mul.hi.u64":   func(a, b, _ uint64) uint64 { hi, _ := bits.Mul64(a, b); return hi },
	"mul.wide.s32": func(a, b, _ uint64) uint64 { return uint64(int64(int32(a)) * int64(int32(b))) },
	"mad.lo.u64":   func(a, b, c uint64) uint64 { return a*b + c },
	"popc.b64":     func(a, _, _ uint64) uint64 { return uint64(bits.OnesCount64(a)) },
	"clz.b32":      func(a, _, _ uint64) uint64 { return uint64(bits.LeadingZeros32(uint32(a))) },
	"brev.b64":     func(a, _, _ uint64) uint64 { return bits.Reverse64(a) },
	"cvt.s64.s8":   func(a, _, _ uint64) uint64 { return uint64(int64(int8(a))) },
	"cvt.s16.s8":   func(a, _, _ uint64) uint64 { return uint64(uint32(int32(int8(a)))) },
	"shl.b64":      func(a, b, _ uint64) uint64 { return a << uint32(b) },
	"cvt.rn.f32.u64": func(a, _, _ uint64) uint64 {
		return uint64(math.Float32bits(float32(a)))
	},
}
