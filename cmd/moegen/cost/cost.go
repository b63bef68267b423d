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

// points are times with so many tokens a rank, of which each sends so many bytes.
func points(row int, tokens []int, us ...float64) []point {
	list := make([]point, len(us))
	for i := range us {
		list[i] = point{tokens[i] * row, us[i]}
	}
	return list
}

// The measured shape: 7168 elements of bf16, and for dispatch 8 experts' numbers
// and probabilities of 4 bytes each, which ll sends twice as wide.
const (
	combineRow  = 2 * 7168
	dispatchRow = combineRow + 2*8*4
	lowRow      = combineRow + 2*2*8*4
)

var (
	tokens     = []int{1, 8, 64, 256, 1024}
	bulkTokens = []int{1, 8, 64, 256, 2048}
)

// measured holds what is known: docs/measurements.md, run 22; for bulk bench's rows
// of 2048 tokens and TestFP8's of bf16.
var measured = map[Way]measurements{
	LL: {"moegen bench on two NVIDIA H200, hidden 7168 bf16, 2026-11-26", [2][]point{
		points(lowRow, tokens, 2.00, 2.35, 4.62, 12.39, 44.41), points(combineRow, tokens, 2.18, 2.57, 4.83, 12.55, 44.50)}},
	Bulk: {"moegen's kernels on two NVIDIA H200, hidden 7168 bf16, 2026-11-26", [2][]point{
		points(dispatchRow, bulkTokens, 3.06, 3.33, 5.82, 13.63, 86.15), points(combineRow, bulkTokens, 3.42, 3.71, 6.11, 14.33, 93.43)}},
	NCCL: {"NCCL 2.28.9 on two NVIDIA H200, without symmetric windows, hidden 7168 bf16, 2026-11-26", [2][]point{
		points(dispatchRow, tokens, 7.18, 10.07, 18.67, 32.76, 81.12), points(combineRow, tokens, 5.96, 6.55, 13.74, 29.32, 81.22)}},
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
