package emu

import (
	"math"

	"github.com/moegen/moegen/runtime/emu/ptx"
)

// Every narrow float is computed in float64 and rounded once. Where float64
// could not hold the exact result it is rounded to odd first, which leaves
// enough of a trace for the second rounding to come out as if it were the only
// one (Boldo and Melquiond, 2008).

// format is a binary floating-point format of at most 32 bits.
type format struct {
	exp, man int // widths
	// ieee formats have infinities in the top exponent; e4m3 has only a NaN.
	noInf bool
	nan   uint32 // canonical
}

var (
	formatF32  = format{8, 23, false, 0x7fffffff}
	formatF16  = format{5, 10, false, 0x7fff}
	formatBF16 = format{8, 7, false, 0x7fff}
	formatE4M3 = format{4, 3, true, 0x7f}
	formatE5M2 = format{5, 2, false, 0x7f}
)

// maxFinite is the bits of the largest finite number.
func (f format) maxFinite() uint32 {
	if f.noInf {
		return 1<<(f.exp+f.man) - 2 // all ones is the NaN
	}
	return (1<<f.exp-1)<<f.man - 1
}

func (f format) inf() uint32 { return (1<<f.exp - 1) << f.man }

// minNormal is the least normal number.
func (f format) minNormal() float64 {
	return math.Float64frombits(uint64(1023+2-1<<(f.exp-1)) << 52)
}

// decode is exact. A NaN keeps its sign and its payload, and is quiet.
func (f format) decode(b uint32) float64 {
	sign := b >> (f.exp + f.man) & 1
	e := int(b >> f.man & (1<<f.exp - 1))
	m := b & (1<<f.man - 1)
	bias := 1<<(f.exp-1) - 1
	var x float64
	switch {
	case f.noInf && b&(1<<(f.exp+f.man)-1) == f.nan, e == 1<<f.exp-1 && !f.noInf && m != 0:
		return math.Float64frombits(uint64(sign)<<63 | inf64 | quiet64 | uint64(m)<<(52-f.man))
	case e == 1<<f.exp-1 && !f.noInf:
		x = math.Inf(1)
	case e == 0:
		x = math.Ldexp(float64(m), 1-bias-f.man)
	default:
		x = math.Ldexp(float64(m|1<<f.man), e-bias-f.man)
	}
	if sign != 0 {
		x = -x
	}
	return x
}

// encode rounds x. With sat, what is too large becomes the largest finite
// number; NaNs stay NaNs (canonical and positive).
func (f format) encode(x float64, r ptx.Round, sat bool) uint32 {
	if x != x {
		return f.nan
	}
	b := math.Float64bits(x)
	sign := uint32(b>>63) << (f.exp + f.man)
	neg := sign != 0
	if math.IsInf(x, 0) {
		if sat || f.noInf {
			return sign | f.maxFinite()
		}
		return sign | f.inf()
	}
	e := int(b >> 52 & 0x7ff)
	m := b & (1<<52 - 1)
	if e == 0 {
		if m == 0 {
			return sign
		}
		e = 1 // a float64 subnormal: far below every format's range
	} else {
		m |= 1 << 52
	}
	e -= 1023
	bias := 1<<(f.exp-1) - 1
	drop := 52 - f.man
	biased := e + bias
	if biased < 1 {
		drop += 1 - biased
		biased = 0
	} else {
		m &^= 1 << 52
	}
	var kept, rest, half uint64
	if drop > 63 {
		rest, half = 1, 2 // some trace below everything
	} else {
		kept, rest, half = m>>drop, m&(1<<drop-1), 1<<(drop-1)
	}
	mag := uint64(biased)<<f.man + kept
	up := false
	switch r {
	case ptx.RZ:
	case ptx.RM:
		up = neg && rest != 0
	case ptx.RP:
		up = !neg && rest != 0
	case ptx.RNA:
		up = rest >= half
	default:
		up = rest > half || rest == half && kept&1 != 0
	}
	if up {
		mag++ // carries into the exponent as it should
	}
	if mag > uint64(f.maxFinite()) {
		toward := r == ptx.RZ || r == ptx.RM && !neg || r == ptx.RP && neg
		if sat || toward || f.noInf {
			return sign | f.maxFinite()
		}
		return sign | f.inf()
	}
	return sign | uint32(mag)
}

// flush makes a zero of what would come out subnormal. Hardware decides this
// after rounding, as if the format's exponents had no end: what rounds to the
// least normal number with all bits of a normal number's mantissa stays.
func (f format) flush(x float64, r ptx.Round) float64 {
	if math.Abs(x) < f.minNormal() && f.encode(2*x, r, false)&f.inf() < 2<<f.man {
		return math.Copysign(0, x)
	}
	return x
}

// encodeNaN keeps a NaN's sign and the payload's upper bits. Only conversions of
// f64 do: all other operations of narrower floats make f.nan.
func (f format) encodeNaN(x float64) uint32 {
	b := math.Float64bits(x) | quiet64
	return uint32(b>>63)<<(f.exp+f.man) | f.inf() | uint32(b>>(52-f.man))&(1<<f.man-1)
}

func f32of(b uint32) float32 { return math.Float32frombits(b) }

// bits32 returns f's bits, with the GPU's canonical NaN.
func bits32(f float32) uint64 {
	if f != f {
		return 0x7fffffff
	}
	return uint64(math.Float32bits(f))
}

// ftz32 flushes a subnormal to zero, keeping its sign.
func ftz32(b uint32, ftz bool) uint32 {
	if ftz && b&0x7f800000 == 0 {
		return b & 0x80000000
	}
	return b
}

// odd turns s, the exact value s+err rounded to nearest, into the exact value
// rounded to odd.
func odd(s, err float64) float64 {
	if err == 0 || err != err || math.IsInf(s, 0) || s != s {
		return s
	}
	b := math.Float64bits(s)
	if b&1 != 0 {
		return s
	}
	if (err > 0) == (s > 0) {
		return math.Float64frombits(b + 1)
	}
	return math.Float64frombits(b - 1)
}

// addOdd is a+b rounded to odd.
func addOdd(a, b float64) float64 {
	s := a + b
	t := s - a
	err := (a - (s - t)) + (b - t)
	return odd(s, err)
}

// addOddDown is addOdd where numbers are rounded down: of zeros, the negative
// one wins, and opposite numbers come to it.
func addOddDown(a, b float64) float64 {
	return zeroSum(addOdd(a, b), a, b, ptx.RM)
}

// fmaOdd is a*b+c rounded to odd, for a and b whose product float64 holds.
func fmaOdd(a, b, c float64) float64 {
	p := a * b
	return addOdd(p, c)
}

// divOdd is a/b rounded to odd.
func divOdd(a, b float64) float64 {
	q := a / b
	if math.IsInf(q, 0) || q != q || q == 0 || math.IsInf(b, 0) {
		return q
	}
	r := math.FMA(-q, b, a)
	if b < 0 {
		r = -r
	}
	return odd(q, r)
}

// sqrtOdd is the root rounded to odd.
func sqrtOdd(a float64) float64 {
	s := math.Sqrt(a)
	if s == 0 || math.IsInf(s, 0) || s != s {
		return s
	}
	return odd(s, math.FMA(-s, s, a))
}

// fma32 is the fused f32 multiply-add, rounded to nearest once.
func fma32(a, b, c float32) float32 {
	return float32(fmaOdd(float64(a), float64(b), float64(c)))
}

func sat01(x float64) float64 {
	switch {
	case x != x || x <= 0: // NaN becomes +0, and so does -0
		return 0
	case x > 1:
		return 1
	}
	return x
}

// Halves as float32, for reductions.
func fromBF16(b uint16) float32 { return math.Float32frombits(uint32(b) << 16) }

var halves = func() *[1 << 16]float32 {
	t := new([1 << 16]float32)
	for i := range t {
		t[i] = float32(formatF16.decode(uint32(i)))
	}
	return t
}()

func fromF16(b uint16) float32 { return halves[b] }

// toBF16 rounds to nearest even.
func toBF16(f float32) uint16 {
	b := math.Float32bits(f)
	if f != f {
		return 0x7fff
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

func toF16(f float32) uint16 { return uint16(formatF16.encode(float64(f), ptx.RN, false)) }
