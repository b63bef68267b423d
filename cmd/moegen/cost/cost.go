// Package cost predicts how long an exchange takes, by a model fitted to
// measurements.
//
// An exchange of one phase takes a start, whatever its size, and then as long as
// its bytes need at some rate. Both are fitted, for each way to do it, to times
// that were measured on two GPUs; how far the fit is from them is told with it.
// More GPUs are an extrapolation: each GPU's link carries what it sends to all
// peers, starts stay what they are. Multicast has never been measured: its bytes
// are those that a GPU receives, its start that of protocol bulk over p2p.
package cost

import "math"

// Operation is a half of the exchange.
type Operation int

const (
	Dispatch Operation = iota
	Combine
)

// Way is how an exchange is done.
type Way string

const (
	LL   Way = "ll"   // moegen's protocol ll over p2p
	Bulk Way = "bulk" // moegen's protocol bulk over p2p
	NCCL Way = "nccl" // NCCL's calls: all-gathers in one group, reduce-scatter
)

// Model is a fit.
type Model struct {
	Start float64 // microseconds
	GBs   float64 // the rate: 1e9 bytes a second
	Error float64 // the largest deviation from what it was fitted to, as a part of that
	On    string  // what was measured, on what, and when
}

// Predict returns the microseconds of an exchange in which each rank sends so
// many bytes to its peers.
func (m Model) Predict(bytes int) float64 { return m.Start + float64(bytes)/(m.GBs*1e3) }

// point is a measured time.
type point struct {
	bytes int // that each rank sends
	us    float64
}

type measurements struct {
	on     string
	points [2][]point // of dispatch and of combine
}

// row is what a token of the measured shape sends: 7168 elements of bf16. What
// dispatch sends besides, 64 bytes, is left out.
const row = 2 * 7168

func points(us ...float64) []point {
	list := make([]point, len(us))
	for i, tokens := range []int{1, 8, 64, 256, 1024} {
		list[i] = point{tokens * row, us[i]}
	}
	return list
}

// measured holds what is known. The first two are prototypes of the kernels'
// exchange of hidden states, each with its best grid, 1 to 1024 tokens a rank.
var measured = map[Way]measurements{
	LL: {"prototypes on two NVIDIA H100 80GB HBM3, hidden 7168 bf16, 2026-11-25", [2][]point{
		points(2.29, 2.60, 4.82, 13.22, 44.61), points(2.26, 2.62, 4.83, 13.25, 44.51)}},
	Bulk: {"prototypes on two NVIDIA H100 80GB HBM3, hidden 7168 bf16, 2026-11-25", [2][]point{
		points(4.02, 4.76, 6.35, 14.33, 45.06), points(4.85, 5.10, 7.49, 15.74, 49.59)}},
	NCCL: {"NCCL 2.28.9 on two NVIDIA H200, without symmetric windows, hidden 7168 bf16, 2026-11-23", [2][]point{
		points(7.34, 9.90, 17.41, 33.25, 80.53), points(6.08, 6.51, 13.68, 29.52, 80.58)}},
}

// Of returns the model of a way to do an operation.
func Of(w Way, o Operation) Model {
	m := fit(measured[w].points[o])
	m.On = measured[w].on
	return m
}

// fit minimises the squares of relative deviations.
func fit(points []point) Model {
	// Minimise the sum of ((a + b x)/y - 1)^2: linear in a and b.
	var s11, s12, s22, t1, t2 float64
	for _, p := range points {
		u, v := 1/p.us, float64(p.bytes)/p.us
		s11, s12, s22 = s11+u*u, s12+u*v, s22+v*v
		t1, t2 = t1+u, t2+v
	}
	det := s11*s22 - s12*s12
	a, b := (t1*s22-t2*s12)/det, (t2*s11-t1*s12)/det
	m := Model{Start: a, GBs: 1 / (b * 1e3)}
	for _, p := range points {
		m.Error = max(m.Error, math.Abs(m.Predict(p.bytes)/p.us-1))
	}
	return m
}
