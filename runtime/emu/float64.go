package emu

import (
	"math"
	"math/bits"

	"github.com/moegen/moegen/runtime/emu/ptx"
)

// f64 arithmetic rounds to nearest as Go's does. The other roundings are done
// on integers; they are rare. NaNs are the GPU's, not the host's: a NaN operand
// comes out with its sign and its payload, quieted, and what has no result is
// noResult64.

const (
	inf64      = 0x7ff << 52
	quiet64    = 1 << 51
	noResult64 = 0xfff8000000000000
)

// quieted is the NaN that an operation makes of the NaN x.
func quieted(x float64) float64 { return math.Float64frombits(math.Float64bits(x) | quiet64) }

// nanOf is what an operation makes of the first NaN among its operands.
func nanOf(operands ...float64) float64 {
	for _, x := range operands {
		if x != x {
			return quieted(x)
		}
	}
	return math.Float64frombits(noResult64)
}

// parts64 splits a number other than 0 into m*2^e with the top bit of m set.
func parts64(x float64) (m uint64, e int) {
	b := math.Float64bits(x)
	m, e = b&(1<<52-1), int(b>>52&0x7ff)
	if e == 0 {
		e = 1
	} else {
		m |= 1 << 52
	}
	n := bits.LeadingZeros64(m)
	return m << n, e - 1075 - n
}

// pack64 rounds ±m*2^e, where the top bit of m is set; more says that the
// number is a little larger, by less than m's last bit.
func pack64(neg bool, m uint64, e int, more bool, r ptx.Round) float64 {
	drop, biased := 11, e+63+1023
	if biased < 1 { // subnormal
		drop, biased = drop+1-biased, 0
	}
	kept, rest := m>>drop, uint64(1) // a trace of what is far below
	if drop <= 64 {
		rest = m << (64 - drop)
	}
	mag := uint64(biased)<<52 + kept&(1<<52-1)
	var up bool
	switch r {
	case ptx.RZ:
	case ptx.RM:
		up = neg && (rest != 0 || more)
	case ptx.RP:
		up = !neg && (rest != 0 || more)
	default:
		up = rest > 1<<63 || rest == 1<<63 && (more || mag&1 != 0)
	}
	if up {
		mag++
	}
	if biased >= 0x7ff || mag >= inf64 {
		mag = inf64
		if r == ptx.RZ || r == ptx.RM && !neg || r == ptx.RP && neg {
			mag--
		}
	}
	if neg {
		mag |= 1 << 63
	}
	return math.Float64frombits(mag)
}

// special64 says that Go's result s of x and y is right in every rounding:
// zeros, infinities and NaNs go in.
func special64(x, y float64) bool {
	return x == 0 || y == 0 || math.IsInf(x, 0) || math.IsInf(y, 0) || x != x || y != y
}

func add64(a, b float64, r ptx.Round) float64 {
	if s := a + b; special64(a, b) {
		return zeroSum(s, a, b, r)
	}
	if math.Abs(a) < math.Abs(b) {
		a, b = b, a
	}
	if a == -b {
		return zeroSum(0, a, b, r)
	}
	neg := a < 0
	m, e := parts64(a)
	n, f := parts64(b)
	// a is hi, the other one n at its place in 128 bits; a carry needs a bit more.
	hi, lo, d := m>>1, m<<63, e-f+1
	var nhi, nlo uint64
	switch {
	case d < 64:
		nhi, nlo = n>>d, n<<(64-d)
	case d < 128-11: // nothing is lost: n has 53 bits
		nlo = n >> (d - 64)
	default:
		nlo = 1
	}
	e++
	var carry uint64
	if neg == (b < 0) {
		lo, carry = bits.Add64(lo, nlo, 0)
		hi, _ = bits.Add64(hi, nhi, carry)
	} else {
		lo, carry = bits.Sub64(lo, nlo, 0)
		hi, _ = bits.Sub64(hi, nhi, carry)
	}
	if hi == 0 {
		hi, lo, e = lo, 0, e-64
	}
	if k := bits.LeadingZeros64(hi); k > 0 {
		hi, lo, e = hi<<k|lo>>(64-k), lo<<k, e-k
	}
	return pack64(neg, hi, e, lo != 0, r)
}

// zeroSum is s, which is a+b, or the zero that r makes of it.
func zeroSum(s, a, b float64, r ptx.Round) float64 {
	if s == 0 && r == ptx.RM && (math.Signbit(a) || math.Signbit(b)) {
		return math.Copysign(0, -1)
	}
	return s
}

func mul64(a, b float64, r ptx.Round) float64 {
	if special64(a, b) {
		return a * b
	}
	m, e := parts64(a)
	n, f := parts64(b)
	hi, lo := bits.Mul64(m, n)
	e += f + 64
	if hi>>63 == 0 {
		hi, lo, e = hi<<1|lo>>63, lo<<1, e-1
	}
	return pack64((a < 0) != (b < 0), hi, e, lo != 0, r)
}

func div64(a, b float64, r ptx.Round) float64 {
	if special64(a, b) {
		return a / b
	}
	m, e := parts64(a)
	n, f := parts64(b)
	e -= f + 64
	if m >= n {
		m, e = m>>1, e+1
	}
	q, rem := bits.Div64(m, 0, n)
	return pack64((a < 0) != (b < 0), q, e, rem != 0, r)
}

func sqrt64(a float64, r ptx.Round) float64 {
	if special64(a, 1) || a < 0 {
		return math.Sqrt(a)
	}
	// Far from the subnormals, what rounding to nearest lost is a float64.
	scale := 0
	if a < 0x1p-900 {
		a, scale = a*0x1p200, -100
	}
	s := math.Sqrt(a)
	b := math.Float64bits(s)
	switch rest := math.FMA(-s, s, a); {
	case rest > 0 && r == ptx.RP:
		b++
	case rest < 0 && (r == ptx.RZ || r == ptx.RM):
		b--
	}
	return math.Ldexp(math.Float64frombits(b), scale)
}

// arith64 are the operations on f64.
func arith64(in *ptx.Instr) func(a, b, c float64) float64 {
	r := in.Round
	near := r == ptx.NoRound || r == ptx.RN
	two := func(nearest func(a, b float64) float64, directed func(a, b float64, r ptx.Round) float64, nan func(a, b float64) float64) func(a, b, c float64) float64 {
		return func(a, b, _ float64) float64 {
			var x float64
			if near {
				x = nearest(a, b)
			} else {
				x = directed(a, b, r)
			}
			if x != x {
				return nan(a, b)
			}
			return x
		}
	}
	first := func(a, b float64) float64 { return nanOf(a, b) }
	second := func(a, b float64) float64 { return nanOf(b, a) }
	switch in.Op {
	case ptx.Add:
		return two(func(a, b float64) float64 { return a + b }, add64, second)
	case ptx.Sub: // -b, but a NaN keeps its sign
		return two(func(a, b float64) float64 { return a - b }, func(a, b float64, r ptx.Round) float64 { return add64(a, -b, r) }, second)
	case ptx.Mul:
		return two(func(a, b float64) float64 { return a * b }, mul64, second)
	case ptx.Fma:
		if !near {
			return nil
		}
		return func(a, b, c float64) float64 {
			x := math.FMA(a, b, c)
			if x != x {
				return nanOf(b, c, a)
			}
			return x
		}
	case ptx.Div:
		return two(func(a, b float64) float64 { return a / b }, div64, first)
	case ptx.Rcp:
		return func(a, _, _ float64) float64 {
			if a != a {
				return quieted(a)
			}
			return div64(1, a, r)
		}
	case ptx.Sqrt:
		return func(a, _, _ float64) float64 {
			if x := sqrt64(a, r); x == x {
				return x
			}
			return nanOf(a)
		}
	case ptx.Neg, ptx.Abs:
		f := arithCommon(in)
		return func(a, b, c float64) float64 {
			if a != a { // its sign stays
				return quieted(a)
			}
			return f(a, b, c)
		}
	case ptx.Min, ptx.Max:
		f := arithCommon(in)
		return func(a, b, c float64) float64 {
			if a != a && b != b {
				return quieted(b)
			}
			return f(a, b, c)
		}
	}
	return arithCommon(in)
}
