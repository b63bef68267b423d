// Package cost predicts how long an exchange takes, by a model fitted to
// measurements.
//
// An exchange of one phase takes a start, whatever its size, and then as long as
// its bytes need at some rate. Both are fitted, for each way to do it, to times
// that were measured on two GPUs and on four; how far the fit is from them is told
// with it. Other numbers of GPUs are an extrapolation: starts grow with the peers as
// they do from one to three, rates are those of four GPUs. Multicast has never been
// measured: it is taken for p2p, whose bytes a GPU receives as well.
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

// points are times with so many tokens a rank, for each of which it sends row bytes.
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

// measured holds what is known, of two GPUs and of four: docs/measurements.md. Bulk's
// times up to 256 tokens are TestFP8's of bf16, the others moegen bench's. Of four
// GPUs those of ll are of the grids that the built-in plan takes now.
var measured = map[Way]map[int]measurements{
	LL: {
		2: {"moegen bench on two NVIDIA H200, hidden 7168 bf16, 2026-11-26", [2][]point{
			points(lowRow, []int{1, 8, 64, 256, 1024}, 2.02, 2.33, 4.61, 12.41, 44.36),
			points(combineRow, []int{1, 8, 64, 256, 1024}, 2.09, 2.40, 4.69, 12.50, 44.57)}},
		4: {"moegen's kernels on four NVIDIA H200, hidden 7168 bf16, 2026-11-26", [2][]point{
			points(3*lowRow, []int{1, 8, 64, 128}, 2.29, 3.07, 10.36, 18.45),
			points(3*combineRow, []int{1, 8, 64, 128}, 2.67, 3.44, 10.46, 18.59)}},
	},
	Bulk: {
		2: {"moegen's kernels on two NVIDIA H200, hidden 7168 bf16, 2026-11-26", [2][]point{
			points(dispatchRow, []int{1, 8, 64, 256, 2048}, 3.09, 3.32, 5.79, 13.57, 85.92),
			points(combineRow, []int{1, 8, 64, 256, 2048}, 3.43, 3.73, 6.14, 14.38, 93.48)}},
		4: {"moegen bench on four NVIDIA H200, hidden 7168 bf16, 1024 tokens and more, 2026-11-26", [2][]point{
			points(3*dispatchRow, []int{1024, 2048, 4096}, 131.89, 259.04, 513.47),
			points(3*combineRow, []int{1024, 2048, 4096}, 141.00, 277.41, 550.12)}},
	},
	NCCL: {
		2: {"NCCL 2.28.9 on two NVIDIA H200, without symmetric windows, hidden 7168 bf16, 2026-11-26", [2][]point{
			points(dispatchRow, []int{1, 8, 64, 256, 1024}, 7.48, 9.87, 18.58, 32.79, 80.92),
			points(combineRow, []int{1, 8, 64, 256, 1024}, 6.10, 6.64, 13.63, 28.89, 81.42)}},
		4: {"NCCL 2.28.9 on four NVIDIA H200, without symmetric windows, hidden 7168 bf16, 2026-11-26", [2][]point{
			points(3*dispatchRow, []int{1, 8, 64, 256, 1024}, 14.32, 15.29, 37.05, 58.56, 165.82),
			points(3*combineRow, []int{1, 8, 64, 256, 1024}, 8.11, 8.90, 31.60, 52.24, 166.78)}},
	},
}

// Of returns the model of a way to do an operation among so many ranks.
func Of(w Way, o Operation, ranks int) Model {
	of := func(n int) Model {
		m := fit(measured[w][n].points[o])
		m.On = measured[w][n].on
		return m
	}
	two, four := of(2), of(4)
	switch {
	case ranks <= 2:
		return two
	case ranks == 4:
		return four
	}
	m := four
	m.Start = two.Start + (four.Start-two.Start)/2*float64(ranks-2)
	m.On = "extrapolated: " + m.On
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
