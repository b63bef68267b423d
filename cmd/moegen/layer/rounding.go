package layer

import (
	"math"

	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/spec"
)

// The bound on an element of the combined output.
//
// Let h be the token's element, and let rank r hold n of the token's experts
// with probabilities p and scales s: its exact partial sum is h*W, W = sum p*s.
// u = 2^-24 is half a unit in the last place of 1 in fp32.
//
//  1. The weight is summed in fp32, n products and n-1 additions with or
//     without fused multiply-add, and multiplied by h in fp32. The error is at
//     most |h| * A * gamma(n+1), A = sum |p*s|, gamma(k) = k*u/(1-k*u)
//     (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1),
//     and where the product is subnormal half of the least such number more.
//     A quantised token's h is itself a product in fp32: k is one more.
//  2. The partial sum is rounded once to the wire's type: half the distance of
//     neighbours there, which halfULP gives.
//  3. The sum over ranks is made in fp32, in any order: gamma(ranks-1) * S, S the
//     sum of the partial sums' magnitudes. Where the switch makes it (nvls, unless
//     in rank order) it is rounded to the wire's type; the GPU's documentation
//     promises nothing about that for 16-bit types: on hardware one wire unit more
//     (GB200 was measured to be within that).
//  4. Every operation of the epilogue rounds once, to fp32; RMSNorm as normalise
//     says (epilogue.go).
//  5. One rounding to the output's type, where the number is not of that type
//     already, or two for fp8: the product with the scale's factor and the
//     conversion.
//
// Each step's magnitude includes the errors before it.

const (
	unitFP32  = 1.0 / (1 << 24)
	leastFP32 = 1.0 / (1 << 75) / (1 << 75) // 2^-150: half of the least subnormal number
	// slack covers that the reference itself is computed in float64.
	slack = 1 + 1.0/(1<<20)
)

func gamma(k int) float64 { return float64(k) * unitFP32 / (1 - float64(k)*unitFP32) }

// rounding bounds what one way of summing does to partial sums.
type rounding struct {
	ranks    int
	wire     moert.DType
	scaled   bool // experts multiply tokens by their scales first
	switched bool // the sum comes from the switch, in the wire's type
	hardware bool // from a real one
	stored   bool // the sum is the output, and of its type already
}

func newRounding(s *spec.Spec, p *moert.Program, t moert.Transport, driverName string) rounding {
	r := rounding{ranks: p.Ranks, wire: p.Wire, scaled: p.ScaleBlock > 0,
		switched: t == moert.NVLS && s.Combine.Order == spec.OrderAny && p.Ranks > 1}
	r.hardware = r.switched && driverName == "cuda"
	plain := p.Epilogue == moert.Epilogue{} && !s.Combine.Has(spec.Scale)
	r.stored = plain && p.Wire == p.Hidden && (r.switched || p.Ranks == 1 || p.Hidden == moert.FP32)
	return r
}

// partial returns the error of a partial sum whose exact value is h*w: steps 1
// and 2. a is the sum of the n coefficients' magnitudes.
func (r rounding) partial(h, w, a float64, n int) float64 {
	roundings := n + 1
	if r.scaled {
		roundings++
	}
	e := math.Abs(h)*a*gamma(roundings) + leastFP32
	if r.wire != moert.FP32 {
		e += halfULP(r.wire, math.Abs(h*w)+e)
	}
	return e
}

// sum returns the error that adding makes, step 3: exact is the magnitude of the
// exact sum, carried the error of the partial sums together, and total the sum of
// their magnitudes with their errors.
func (r rounding) sum(exact, carried, total float64) float64 {
	if r.ranks == 1 {
		return 0
	}
	e := gamma(r.ranks-1) * total
	if r.switched && r.wire != moert.FP32 {
		e += halfULP(r.wire, exact+carried+e)
	}
	if r.hardware {
		e += 2 * halfULP(r.wire, exact+carried+e)
	}
	return e
}
