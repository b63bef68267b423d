package layer

import (
	"math"
	"sort"
)

// quantBlock is how many elements of a row share one scale.
const quantBlock = 128

// e4m3 are the finite magnitudes of fp8 e4m3, by their bits: 4 bits of exponent
// with bias 7, 3 of mantissa, no infinity, 0x7f the NaN.
var e4m3 = func() (values [0x7f]float64) {
	for b := range values {
		exponent, mantissa := b>>3, float64(b&7)
		if exponent == 0 {
			values[b] = math.Ldexp(mantissa, -6-3)
		} else {
			values[b] = math.Ldexp(8+mantissa, exponent-7-3)
		}
	}
	return values
}()

// toE4M3 rounds to e4m3 as cvt.rn.satfinite.e4m3x2.f32 does: to nearest, ties to
// the even mantissa, what is too large to the largest number.
func toE4M3(f float32) byte {
	if f != f {
		return 0x7f
	}
	sign := byte(math.Float32bits(f) >> 31 << 7)
	x := math.Abs(float64(f))
	above := sort.SearchFloat64s(e4m3[:], x) // the first that is not less
	if above == len(e4m3) {
		return sign | 0x7e
	}
	if above > 0 {
		down, up := x-e4m3[above-1], e4m3[above]-x
		if down < up || down == up && (above-1)%2 == 0 {
			above--
		}
	}
	return sign | byte(above)
}

// fromE4M3 is exact.
func fromE4M3(b byte) float64 {
	if b&0x7f == 0x7f {
		return math.NaN()
	}
	return math.Copysign(e4m3[b&0x7f], float64(int8(b))+0.5)
}

// quantize is the kernels' quantize_block, bit by bit: it rounds a block of up
// to 128 numbers to q and returns their scale.
func quantize(q []byte, x []float32) (scale float32) {
	amax := float32(1e-4)
	for _, v := range x {
		if v = float32(math.Abs(float64(v))); v > amax { // a NaN is not
			amax = v
		}
	}
	amax = min(amax, math.MaxFloat32)
	factor := 448 / amax
	for i, v := range x {
		q[i] = toE4M3(v * factor)
	}
	return amax / 448
}
