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

// measured holds what is known, of two GPUs and of four: docs/measurements.md, run
// 28. Bulk's times of two GPUs up to 256 tokens are TestFP8's of bf16, the others
// moegen bench's. Of four GPUs ll's are, from 64 tokens on, those of mixed kernels,
// which the built-in plan takes there.
var measured = map[Way]map[int]measurements{
	LL: {
		2: {"moegen bench on two NVIDIA H200, hidden 7168 bf16, 2026-11-26", [2][]point{
			points(lowRow, []int{1, 8, 64, 256, 1024}, 1.95, 2.28, 4.56, 12.35, 44.29),
			points(combineRow, []int{1, 8, 64, 256, 1024}, 2.06, 2.37, 4.66, 12.47, 44.45)}},
		4: {"moegen bench on four NVIDIA H200, hidden 7168 bf16, 2026-11-26", [2][]point{
			points(3*lowRow, []int{1, 8, 64, 128, 256, 512}, 2.29, 3.16, 10.47, 19.20, 35.59, 68.52),
			points(3*combineRow, []int{1, 8, 64, 128, 256, 512}, 2.40, 3.26, 10.38, 19.04, 35.57, 68.67)}},
	},
	Bulk: {
		2: {"moegen's kernels on two NVIDIA H200, hidden 7168 bf16, 2026-11-26", [2][]point{
			points(dispatchRow, []int{1, 8, 64, 256, 2048}, 3.12, 3.35, 5.76, 13.61, 85.79),
			points(combineRow, []int{1, 8, 64, 256, 2048}, 3.42, 3.71, 6.10, 14.40, 93.17)}},
		4: {"moegen bench on four NVIDIA H200, hidden 7168 bf16, 64 tokens and more, 2026-11-26", [2][]point{
			points(3*dispatchRow, []int{64, 256, 512, 1024, 2048, 4096}, 12.01, 35.64, 67.04, 131.87, 258.97, 513.69),
			points(3*combineRow, []int{64, 256, 512, 1024, 2048, 4096}, 12.34, 39.16, 78.28, 140.32, 277.07, 549.08)}},
	},
	NCCL: {
		2: {"NCCL 2.28.9 on two NVIDIA H200, without symmetric windows, hidden 7168 bf16, 2026-11-26", [2][]point{
			points(dispatchRow, []int{1, 8, 64, 256, 1024}, 7.41, 9.81, 18.53, 32.75, 80.19),
			points(combineRow, []int{1, 8, 64, 256, 1024}, 5.98, 6.56, 13.70, 28.89, 80.29)}},
		4: {"NCCL 2.28.9 on four NVIDIA H200, without symmetric windows, hidden 7168 bf16, 2026-11-26", [2][]point{
			points(3*dispatchRow, []int{1, 8, 64, 256, 1024}, 14.62, 15.21, 37.21, 58.27, 167.15),
			points(3*combineRow, []int{1, 8, 64, 256, 1024}, 8.13, 8.88, 31.55, 52.74, 166.95)}},
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
