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
	for way, most := range map[Way]float64{LL: 0.06, Bulk: 0.12, NCCL: 0.4} {
		for _, ranks := range []int{2, 4} {
			for _, o := range []Operation{Dispatch, Combine} {
				m := Of(way, o, ranks)
				t.Logf("%s %d, %d ranks: %.2f us + bytes / %.0f GB/s, within %.0f%%", way, o, ranks, m.Start, m.GBs, 100*m.Error)
				if m.Error > most || m.Error == 0 || m.On == "" || m.GBs < 150 || m.GBs > 450 {
					t.Errorf("%s, %d ranks: %+v", way, ranks, m)
				}
				for _, p := range measured[way][ranks].points[o] {
					if e := math.Abs(m.Predict(p.bytes)/p.us - 1); e > m.Error {
						t.Errorf("%s, %d ranks: %d bytes: %v", way, ranks, p.bytes, e)
					}
				}
			}
		}
	}
}

// TestExtrapolation: between and beyond the measured numbers of ranks, starts grow
// evenly with the peers.
func TestExtrapolation(t *testing.T) {
	for _, way := range []Way{LL, Bulk, NCCL} {
		for _, o := range []Operation{Dispatch, Combine} {
			two, four := Of(way, o, 2), Of(way, o, 4)
			for ranks, want := range map[int]float64{3: (two.Start + four.Start) / 2, 8: four.Start + 2*(four.Start-two.Start)} {
				m := Of(way, o, ranks)
				if math.Abs(m.Start-want) > 1e-9 || m.GBs != four.GBs || m.On == four.On {
					t.Errorf("%s, %d ranks: %+v, want a start of %v", way, ranks, m, want)
				}
			}
		}
	}
}
