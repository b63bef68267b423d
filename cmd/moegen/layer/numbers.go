package layer

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"math/rand/v2"
	"strconv"

	moert "github.com/moegen/moegen/runtime"
)

// toBF16 rounds to bfloat16, to nearest even, as cvt.rn.bf16.f32 does.
func toBF16(f float32) uint16 {
	b := math.Float32bits(f)
	if f != f {
		return 0x7fff // the NaN that GPUs make
	}
	// Half of the last place kept, less one if that place is even: a tie then
	// does not carry. An overflow carries into infinity, which is right.
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

func fromBF16(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }

// toFP16 rounds to IEEE half precision, to nearest even, as cvt.rn.f16.f32 does.
func toFP16(f float32) uint16 {
	b := math.Float32bits(f)
	sign, b := uint16(b>>16&0x8000), b&0x7fffffff
	switch {
	case b > 0x7f800000:
		return 0x7fff
	case b >= 0x477ff000: // 65520 and more round to infinity
		return sign | 0x7c00
	case b < 0x38800000:
		// Subnormal, in units of 2^-24: adding 2^23 times the unit leaves the
		// rounded number of units in the mantissa's last bits.
		const magic = 0.5 // 2^23 * 2^-24
		return sign | uint16(math.Float32bits(math.Float32frombits(b)+magic)-math.Float32bits(magic))
	}
	b += 0xfff + b>>13&1
	return sign | uint16((b-(112<<23))>>13)
}

func fromFP16(h uint16) float32 {
	sign, exp, frac := uint32(h&0x8000)<<16, uint32(h>>10&0x1f), uint32(h&0x3ff)
	switch exp {
	case 0:
		f := float32(frac) * (1.0 / (1 << 24))
		return math.Float32frombits(math.Float32bits(f) | sign)
	case 0x1f:
		return math.Float32frombits(sign | 0x7f800000 | frac<<13)
	}
	return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
}

// put stores v as element i of p.
func put(p []byte, i int, t moert.DType, v float32) {
	switch t {
	case moert.BF16:
		binary.LittleEndian.PutUint16(p[2*i:], toBF16(v))
	case moert.FP16:
		binary.LittleEndian.PutUint16(p[2*i:], toFP16(v))
	default:
		binary.LittleEndian.PutUint32(p[4*i:], math.Float32bits(v))
	}
}

// get returns element i of p, exactly.
func get(p []byte, i int, t moert.DType) float64 {
	switch t {
	case moert.BF16:
		return float64(fromBF16(binary.LittleEndian.Uint16(p[2*i:])))
	case moert.FP16:
		return float64(fromFP16(binary.LittleEndian.Uint16(p[2*i:])))
	}
	return float64(math.Float32frombits(binary.LittleEndian.Uint32(p[4*i:])))
}

// fromE2M1 is the fp4 number in the low four bits of b.
func fromE2M1(b byte) float64 {
	magnitudes := [8]float64{0, 0.5, 1, 1.5, 2, 3, 4, 6}
	return math.Copysign(magnitudes[b&7], float64(int8(b<<4))+0.5)
}

// putScale stores some scale of moderate size as element i of p.
func putScale(p []byte, i int, t moert.DType, rng *rand.Rand) {
	switch t {
	case moert.FP8:
		p[i] = byte(0x28 + rng.IntN(0x20)) // 0.25 to 3.75
	case moert.UE8M0:
		p[i] = byte(127 - 4 + rng.IntN(8)) // 2^-4 to 2^3
	default:
		put(p, i, moert.FP32, 0.25+4*rng.Float32())
	}
}

// getScale returns scale i of p, exactly.
func getScale(p []byte, i int, t moert.DType) float64 {
	switch t {
	case moert.FP8:
		return fromE4M3(p[i])
	case moert.UE8M0:
		return math.Ldexp(1, int(p[i])-127)
	}
	return get(p, i, t)
}

// putInt stores v as element i of p.
func putInt(p []byte, i int, t moert.DType, v int) {
	switch t {
	case moert.Int16:
		binary.LittleEndian.PutUint16(p[2*i:], uint16(v))
	case moert.Int64:
		binary.LittleEndian.PutUint64(p[8*i:], uint64(v))
	default:
		binary.LittleEndian.PutUint32(p[4*i:], uint32(v))
	}
}

// halfULP is the most by which rounding a number of at most that magnitude to
// t, to nearest, changes it: half the distance between neighbours there.
func halfULP(t moert.DType, magnitude float64) float64 {
	precision, least := 24, -126 // significant bits, exponent of the least normal number
	switch t {
	case moert.BF16:
		precision = 8
	case moert.FP16:
		precision, least = 11, -14
	case moert.FP8:
		precision, least = 4, -6
	}
	// The exponent field of a float64 is its binade; no format here has
	// numbers so small that a float64's own subnormals matter.
	exponent := max(int(math.Float64bits(magnitude)>>52&0x7ff)-1023, least)
	return math.Float64frombits(uint64(exponent-precision+1023) << 52)
}

func marshalNumber(f float64) ([]byte, error) {
	if math.IsInf(f, 0) || math.IsNaN(f) {
		return json.Marshal(strconv.FormatFloat(f, 'g', -1, 64))
	}
	return json.Marshal(f)
}
