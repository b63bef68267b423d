package cost

import (
	"math"
	"testing"
)

// TestFit: the fit finds a line that the points are on.
func TestFit(t *testing.T) {
	var list []point
	for _, n := range []int{1000, 50000, 4000000} {
		list = append(list, point{n, 2.5 + float64(n)/300e3})
	}
	m := fit(list)
	if math.Abs(m.Start-2.5) > 1e-6 || math.Abs(m.GBs-300) > 1e-6 || m.Error > 1e-9 {
		t.Errorf("%+v", m)
	}
}

// TestModels: errors are what they are said to be, and bound the points.
func TestModels(t *testing.T) {
	for way, most := range map[Way]float64{LL: 0.06, Bulk: 0.12, NCCL: 0.3} {
		for _, o := range []Operation{Dispatch, Combine} {
			m := Of(way, o)
			t.Logf("%s %d: %.2f us + bytes / %.0f GB/s, within %.0f%%", way, o, m.Start, m.GBs, 100*m.Error)
			if m.Error > most || m.Error == 0 || m.On == "" || m.GBs < 150 || m.GBs > 450 {
				t.Errorf("%s: %+v", way, m)
			}
			for _, p := range measured[way].points[o] {
				if e := math.Abs(m.Predict(p.bytes)/p.us - 1); e > m.Error {
					t.Errorf("%s: %d bytes: %v", way, p.bytes, e)
				}
			}
		}
	}
}
