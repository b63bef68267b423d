package emu

import (
	"math"
	"math/big"
	"math/rand/v2"
	"sort"
	"testing"

	"github.com/moegen/moegen/runtime/emu/ptx"
)

// nearest is an independent reference for rounding: it searches the table of
// all of a format's numbers.
type nearest struct {
	f    format
	vals []float64 // non-negative and finite, in the order of their bits
}

func newNearest(f format) nearest {
	n := nearest{f: f}
	for b := uint32(0); b <= f.maxFinite(); b++ {
		n.vals = append(n.vals, f.decode(b))
	}
	return n
}

func (n nearest) round(x float64, r ptx.Round, sat bool) uint32 {
	if x != x {
		return n.f.nan
	}
	sign := uint32(0)
	if math.Signbit(x) {
		sign, x = 1<<(n.f.exp+n.f.man), -x
		switch r {
		case ptx.RM:
			r = ptx.RP
		case ptx.RP:
			r = ptx.RM
		}
	}
	top := n.vals[len(n.vals)-1]
	i := sort.SearchFloat64s(n.vals, x) // first not below
	if i == len(n.vals) {
		// Beyond: to nearest, what is less than half a step above stays finite.
		half := top + (top-n.vals[len(n.vals)-2])/2
		if sat || n.f.noInf || !math.IsInf(x, 1) && (r == ptx.RZ || r == ptx.RM || r == ptx.RN && x < half) {
			return sign | uint32(i-1)
		}
		return sign | n.f.inf()
	}
	if n.vals[i] == x {
		return sign | uint32(i)
	}
	lo, hi := n.vals[i-1], n.vals[i]
	up := false
	switch r {
	case ptx.RP:
		up = true
	case ptx.RN:
		up = x-lo > hi-x || x-lo == hi-x && i%2 == 0
	}
	if up {
		return sign | uint32(i)
	}
	return sign | uint32(i-1)
}

// floats are interesting values, random ones and ties.
func floats(r *rand.Rand, f format) []float64 {
	xs := []float64{0, math.Copysign(0, -1), math.Inf(1), math.Inf(-1), math.NaN(), 448, 464, 463.99, 465, 480, 57344, 61440, 61439, 65504, 65519, 65520, 1e-9, 1e30}
	for range 20000 {
		xs = append(xs, r.NormFloat64()*math.Exp2(float64(r.IntN(60)-30)))
	}
	for range 5000 { // exactly halfway between neighbours
		b := uint32(r.Uint64N(uint64(f.maxFinite())))
		xs = append(xs, (f.decode(b)+f.decode(b+1))/2, -f.decode(b))
	}
	return xs
}

func TestEncode(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, f := range []format{formatF16, formatBF16, formatE4M3, formatE5M2} {
		n := newNearest(f)
		for _, x := range floats(r, f) {
			for _, rd := range []ptx.Round{ptx.RN, ptx.RZ, ptx.RM, ptx.RP} {
				for _, sat := range []bool{false, true} {
					if got, want := f.encode(x, rd, sat), n.round(x, rd, sat); got != want {
						t.Fatalf("%+v: encode(%v, %v, %v) = %#x, want %#x", f, x, rd, sat, got, want)
					}
				}
			}
		}
	}
	for range 200000 { // float32 against Go's own conversion
		x := r.NormFloat64() * math.Exp2(float64(r.IntN(300)-160))
		if got, want := uint64(formatF32.encode(x, ptx.RN, false)), bits32(float32(x)); got != want {
			t.Fatalf("f32 of %v: %#x, want %#x", x, got, want)
		}
	}
}

// Every 16-bit value there and back, through the conversions that kernels use.
func TestConversions16(t *testing.T) {
	in := make([][3]uint64, 1<<16)
	for i := range in {
		in[i][0] = uint64(i)
	}
	e4, e5 := newNearest(formatE4M3), newNearest(formatE5M2)
	half := func(f format, x uint64) float64 { return f.decode(uint32(x & 0xffff)) }
	runOps(t, in, []op{
		{"cvt.f32.bf16 %f0, %h1", func(a, _, _ uint64) uint64 { return a & 0xffff << 16 }},
		{"cvt.f32.f16 %f0, %h1", func(a, _, _ uint64) uint64 { return bits32(float32(half(formatF16, a))) }},
		{"cvt.f64.f16 %d0, %h1", func(a, _, _ uint64) uint64 { return math.Float64bits(half(formatF16, a)) }},
		{"cvt.f32.bf16 %f1, %h1; cvt.rn.bf16.f32 %h0, %f1", func(a, _, _ uint64) uint64 {
			if a&0x7fff > 0x7f80 {
				return 0x7fff
			}
			return a
		}},
		{"cvt.f32.f16 %f1, %h1; cvt.rn.f16x2.f32 %r0, %f1, %f1", func(a, _, _ uint64) uint64 {
			if a&0x7fff > 0x7c00 {
				a = 0x7fff
			}
			return a<<16 | a
		}},
		{"mov.b32 %r2, {%h1, %h1}; cvt.rn.satfinite.e4m3x2.f16x2 %h0, %r2", func(a, _, _ uint64) uint64 {
			return uint64(e4.round(half(formatF16, a), ptx.RN, true)) * 0x101
		}},
		{"mov.b32 %r2, {%h1, %h1}; cvt.rn.satfinite.e5m2x2.f16x2 %h0, %r2", func(a, _, _ uint64) uint64 {
			return uint64(e5.round(half(formatF16, a), ptx.RN, true)) * 0x101
		}},
		{"cvt.f32.bf16 %f1, %h1; mov.f32 %f2, 0f3F800000; cvt.rn.satfinite.e4m3x2.f32 %h0, %f1, %f2", func(a, _, _ uint64) uint64 {
			return uint64(e4.round(half(formatBF16, a), ptx.RN, true))<<8 | 0x38
		}},
		{"cvt.rn.f16x2.e4m3x2 %r0, %h1", func(a, _, _ uint64) uint64 {
			lo := formatF16.encode(formatE4M3.decode(uint32(a&0xff)), ptx.RN, false)
			hi := formatF16.encode(formatE4M3.decode(uint32(a>>8)), ptx.RN, false)
			return uint64(hi)<<16 | uint64(lo)
		}},
		{"cvt.rn.f16.s16 %h0, %h1", func(a, _, _ uint64) uint64 {
			return uint64(newNearestF16.round(float64(int16(a)), ptx.RN, false))
		}},
		{"cvt.rni.s32.f16 %r0, %h1", func(a, _, _ uint64) uint64 {
			x := half(formatF16, a)
			switch {
			case x != x:
				return 0
			case x > math.MaxInt32:
				return math.MaxInt32
			case x < math.MinInt32:
				return 1 << 31
			}
			return uint64(uint32(int32(math.RoundToEven(x))))
		}},
	})
}

var newNearestF16 = newNearest(formatF16)

// exact32 rounds a real number to float32 once.
func exact32(x *big.Float, mode big.RoundingMode) uint64 {
	r := new(big.Float).SetPrec(24).SetMode(mode).Set(x)
	if e := r.MantExp(nil); e < -125 { // subnormal: fewer bits, and to the grid
		prec := 24 - (-125 - e)
		if prec < 1 {
			prec = 1
		}
		r = new(big.Float).SetPrec(uint(prec)).SetMode(mode).Set(x)
	}
	f, _ := r.Float32()
	return bits32(f)
}

func f32s(a uint64) float32 { return math.Float32frombits(uint32(a)) }

func finite(xs ...float32) bool {
	for _, x := range xs {
		if x != x || math.IsInf(float64(x), 0) {
			return false
		}
	}
	return true
}

func bigF(x float32) *big.Float { return new(big.Float).SetPrec(2000).SetFloat64(float64(x)) }

func fmaRef(mode big.RoundingMode) func(a, b, c uint64) uint64 {
	return func(a, b, c uint64) uint64 {
		x, y, z := f32s(a), f32s(b), f32s(c)
		if !finite(x, y, z) {
			return bits32(float32(float64(x)*float64(y) + float64(z)))
		}
		p := bigF(x)
		p.Mul(p, bigF(y))
		p.Add(p, bigF(z))
		if p.Sign() == 0 {
			if mode == big.ToNegativeInf {
				return 1 << 63 // the callers avoid this case
			}
			return bits32(float32(float64(x)*float64(y) + float64(z)))
		}
		if p.MantExp(nil) < -140 {
			return exactTiny(p, mode)
		}
		return exact32(p, mode)
	}
}

// exactTiny rounds near the smallest subnormal, where big.Float's precision of
// at least one bit is too much.
func exactTiny(p *big.Float, mode big.RoundingMode) uint64 {
	unit := new(big.Float).SetPrec(2000).SetMantExp(big.NewFloat(1), -149)
	q := new(big.Float).SetPrec(2000).Quo(p, unit)
	neg := q.Sign() < 0
	q.Abs(q)
	i, _ := q.Int(nil)
	frac := new(big.Float).SetPrec(2000).Sub(q, new(big.Float).SetPrec(2000).SetInt(i))
	n := i.Uint64()
	switch c := frac.Cmp(big.NewFloat(0.5)); {
	case mode == big.ToNearestEven && (c > 0 || c == 0 && n&1 == 1):
		n++
	case mode == big.ToPositiveInf && !neg && frac.Sign() > 0:
		n++
	}
	if neg {
		n |= 1 << 31
	}
	return n
}

func TestFloat32Ops(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	in := opInputs(r)
	for range 5000 {
		// A product near a rounding boundary of the sum: where computing in
		// float64 and rounding again goes wrong.
		a := math.Float32frombits(0x3f800000 | r.Uint32()&0x7fffff)
		b := math.Float32frombits(0x3f800000 | r.Uint32()&0x7fffff)
		c := float32(math.Ldexp(float64(1+r.IntN(1<<23)), r.IntN(40)-60)) * float32(r.IntN(3)-1)
		in = append(in, [3]uint64{uint64(math.Float32bits(a)), uint64(math.Float32bits(b)), uint64(math.Float32bits(c))})
	}
	// Two numbers whose product is just beside a tie.
	in = append(in, [3]uint64{uint64(math.Float32bits(1 + 1.0/4096)), uint64(math.Float32bits(1 + 1.0/4096)), uint64(math.Float32bits(1e-30))})
	bin := func(f func(a, b float32) float32) func(a, b, c uint64) uint64 {
		return func(a, b, _ uint64) uint64 { return bits32(f(f32s(a), f32s(b))) }
	}
	un := func(f func(a float32) float32) func(a, b, c uint64) uint64 {
		return func(a, _, _ uint64) uint64 { return bits32(f(f32s(a))) }
	}
	flush := func(a uint64) uint64 { return uint64(ftz32(uint32(a), true)) }
	toInt := func(lo, hi float64, round func(float64) float64) func(a, b, c uint64) uint64 {
		return func(a, _, _ uint64) uint64 {
			x := round(float64(f32s(a)))
			if x != x {
				return 0
			}
			return uint64(uint32(int64(max(lo, min(hi, x)))))
		}
	}
	e4 := newNearest(formatE4M3)
	bf := newNearest(formatBF16)
	runOps(t, in, []op{
		{"add.f32 %f0, %f1, %f2", bin(func(a, b float32) float32 { return a + b })},
		{"add.ftz.f32 %f0, %f1, %f2", func(a, b, _ uint64) uint64 { return flush(bits32(f32s(flush(a)) + f32s(flush(b)))) }},
		{"sub.rn.f32 %f0, %f1, %f2", bin(func(a, b float32) float32 { return a - b })},
		{"mul.f32 %f0, %f1, %f2", bin(func(a, b float32) float32 { return a * b })},
		{"fma.rn.f32 %f0, %f1, %f2, %f3", fmaRef(big.ToNearestEven)},
		{"fma.rz.f32 %f0, %f1, %f2, %f3", func(a, b, c uint64) uint64 {
			x, y, z := f32s(a), f32s(b), f32s(c)
			w := fmaRef(big.ToZero)(a, b, c)
			if finite(x, y, z) && w&0x7fffffff == 0x7f800000 {
				w-- // overflow stays finite
			}
			return w
		}},
		{"div.rn.f32 %f0, %f1, %f2", bin(func(a, b float32) float32 { return a / b })},
		{"rcp.rn.f32 %f0, %f1", un(func(a float32) float32 { return 1 / a })},
		{"sqrt.rn.f32 %f0, %f1", un(func(a float32) float32 { return float32(math.Sqrt(float64(a))) })},
		{"abs.f32 %f0, %f1", un(func(a float32) float32 { return float32(math.Abs(float64(a))) })},
		{"neg.f32 %f0, %f1", un(func(a float32) float32 { return -a })},
		{"max.f32 %f0, %f1, %f2", bin(maxRef)},
		{"min.NaN.f32 %f0, %f1, %f2", bin(func(a, b float32) float32 {
			if a != a || b != b {
				return float32(math.NaN())
			}
			return -maxRef(-a, -b)
		})},
		{"add.sat.f32 %f0, %f1, %f2", bin(func(a, b float32) float32 {
			x := a + b
			if !(x > 0) {
				return 0
			}
			return min(x, 1)
		})},
		{"cvt.rn.bf16x2.f32 %r0, %f1, %f2", func(a, b, _ uint64) uint64 {
			return uint64(bf.round(float64(f32s(a)), ptx.RN, false))<<16 | uint64(bf.round(float64(f32s(b)), ptx.RN, false))
		}},
		{"cvt.rz.f16.f32 %h0, %f1", func(a, _, _ uint64) uint64 {
			return uint64(newNearestF16.round(float64(f32s(a)), ptx.RZ, false))
		}},
		{"cvt.rn.satfinite.e4m3x2.f32 %h0, %f1, %f2", func(a, b, _ uint64) uint64 {
			return uint64(e4.round(float64(f32s(a)), ptx.RN, true))<<8 | uint64(e4.round(float64(f32s(b)), ptx.RN, true))
		}},
		{"cvt.rn.f32.s32 %f0, %r1", func(a, _, _ uint64) uint64 { return bits32(float32(int32(a))) }},
		{"cvt.rn.f32.u64 %f0, %rd1", func(a, _, _ uint64) uint64 { return bits32(float32(a)) }},
		{"cvt.rn.f32.s64 %f0, %rd1", func(a, _, _ uint64) uint64 { return bits32(float32(int64(a))) }},
		{"cvt.rn.f64.u64 %d0, %rd1", func(a, _, _ uint64) uint64 { return math.Float64bits(float64(a)) }},
		{"cvt.rzi.s32.f32 %r0, %f1", toInt(math.MinInt32, math.MaxInt32, math.Trunc)},
		{"cvt.rni.u32.f32 %r0, %f1", toInt(0, math.MaxUint32, math.RoundToEven)},
		{"cvt.rmi.f32.f32 %f0, %f1", un(func(a float32) float32 { return float32(math.Floor(float64(a))) })},
		{"cvt.f64.f32 %d1, %f1; cvt.rn.f32.f64 %f0, %d1", func(a, _, _ uint64) uint64 {
			if a &= 0xffffffff; f32s(a) != f32s(a) {
				return a | 1<<22 // NaNs keep what they carry
			}
			return a
		}},
		{"setp.lt.f32 %p0, %f1, %f2", func(a, b, _ uint64) uint64 { return bool64(f32s(a) < f32s(b)) }},
		{"setp.neu.f32 %p0, %f1, %f2", func(a, b, _ uint64) uint64 { return bool64(f32s(a) != f32s(b)) }},
		{"setp.ne.f32 %p0, %f1, %f2", func(a, b, _ uint64) uint64 { return bool64(f32s(a) < f32s(b) || f32s(a) > f32s(b)) }},
		{"setp.nan.f32 %p0, %f1, %f2", func(a, b, _ uint64) uint64 { return bool64(f32s(a) != f32s(a) || f32s(b) != f32s(b)) }},
		{"fma.rn.bf16x2 %r0, %r1, %r2, %r3", func(a, b, c uint64) uint64 {
			return uint64(bf.fma(a>>16, b>>16, c>>16))<<16 | uint64(bf.fma(a, b, c))
		}},
		{"fma.rn.f16 %h0, %h1, %h2, %h3", func(a, b, c uint64) uint64 { return uint64(newNearestF16.fma(a, b, c)) }},
		{"add.rn.f16x2 %r0, %r1, %r2", func(a, b, _ uint64) uint64 {
			f := func(a, b uint64) uint64 {
				return uint64(newNearestF16.round(formatF16.decode(uint32(a&0xffff))+formatF16.decode(uint32(b&0xffff)), ptx.RN, false))
			}
			return f(a>>16&0xffff, b>>16&0xffff)<<16 | f(a, b)
		}},
	})
}

func maxRef(a, b float32) float32 {
	switch {
	case a != a:
		return b
	case b != b:
		return a
	}
	return float32(math.Max(float64(a), float64(b)))
}

// fma is the exact fused multiply-add of a 16-bit format, by big numbers.
func (n nearest) fma(a, b, c uint64) uint32 {
	x, y, z := n.f.decode(uint32(a&0xffff)), n.f.decode(uint32(b&0xffff)), n.f.decode(uint32(c&0xffff))
	p := x*y + z
	if p != p || math.IsInf(x*y, 0) || math.IsInf(z, 0) {
		return n.round(p, ptx.RN, false)
	}
	e := new(big.Float).SetPrec(2000).SetFloat64(x)
	e.Mul(e, new(big.Float).SetPrec(2000).SetFloat64(y))
	e.Add(e, new(big.Float).SetPrec(2000).SetFloat64(z))
	if e.Sign() == 0 {
		return n.round(p, ptx.RN, false)
	}
	// Round to odd at 53 bits by hand: truncate, and leave a trace.
	q := new(big.Float).SetPrec(53).SetMode(big.ToZero).Set(e)
	f, _ := q.Float64()
	if q.Cmp(e) != 0 {
		f = math.Float64frombits(math.Float64bits(f) | 1)
	}
	return n.round(f, ptx.RN, false)
}
