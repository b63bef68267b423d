package emu

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/moegen/moegen/runtime/emu/ptx"
)

// round64 rounds a number other than 0 once, to a multiple of what the last
// bit is worth at its magnitude.
func round64(x *big.Float, r ptx.Round) uint64 {
	mode := map[ptx.Round]big.RoundingMode{ptx.RN: big.ToNearestEven, ptx.RZ: big.ToZero, ptx.RM: big.ToNegativeInf, ptx.RP: big.ToPositiveInf}[r]
	unit := max(x.MantExp(nil)-53, -1074)
	// The sum with this has its last bit, of 53, at unit; the sum of another
	// sign would round across a power of 2.
	big1 := new(big.Float).SetPrec(54).SetMantExp(big.NewFloat(1), unit+53)
	if x.Sign() < 0 {
		big1.Neg(big1)
	}
	y := new(big.Float).SetPrec(54).SetMode(mode).Add(x, big1)
	y.Sub(y.SetPrec(200), big1)
	limit := new(big.Float).SetMantExp(big.NewFloat(1), 1024)
	f, _ := y.Float64()
	if new(big.Float).Abs(y).Cmp(limit) >= 0 {
		f = math.Inf(x.Sign())
		if r == ptx.RZ || r == ptx.RM && f > 0 || r == ptx.RP && f < 0 {
			f = math.Copysign(math.MaxFloat64, f)
		}
	}
	if f == 0 {
		f = math.Copysign(0, float64(x.Sign()))
	}
	return math.Float64bits(f)
}

// operands64 are pairs whose sums, products and quotients are of all sizes.
func operands64(r *rand.Rand) [][2]float64 {
	edges := []float64{5e-324, 0x1p-1022, 0x1.fffffffffffffp-1023, 1, 0x1.fffffffffffffp-1, math.MaxFloat64, 0x1.fffffffffffffp1022, 0x1p-537, 0x1.8p-538, 3}
	pick := func() float64 {
		x := edges[r.IntN(len(edges))]
		switch r.IntN(3) {
		case 0:
			x = math.Ldexp(1+r.Float64(), r.IntN(2100)-1075)
		case 1:
			x = math.Float64frombits(math.Float64bits(x) + r.Uint64N(4))
		}
		if x == 0 || math.IsInf(x, 0) || x != x {
			return 1
		}
		return math.Copysign(x, float64(1-2*r.IntN(2)))
	}
	var in [][2]float64
	for range 40000 {
		a, b := pick(), pick()
		switch r.IntN(3) {
		case 0: // of nearly the same size
			b = math.Float64frombits(math.Float64bits(a)&^(1<<63)+r.Uint64N(5)-1) * float64(1-2*r.IntN(2))
		case 1: // the shorter one reaches just below the other's last bit
			b = math.Ldexp(b/math.Ldexp(1, math.Ilogb(b)), max(math.Ilogb(a)-r.IntN(110), -1074))
		}
		if b != 0 && !math.IsInf(b, 0) && b == b {
			in = append(in, [2]float64{a, b})
		}
	}
	return in
}

func TestDirected64(t *testing.T) {
	wide := func(x float64) *big.Float { return new(big.Float).SetPrec(3000).SetFloat64(x) }
	for _, r := range []ptx.Round{ptx.RN, ptx.RZ, ptx.RM, ptx.RP} {
		for _, x := range operands64(rand.New(rand.NewPCG(8, 9))) {
			a, b := x[0], x[1]
			exact := map[string]*big.Float{
				"add": wide(0).Add(wide(a), wide(b)), "mul": wide(0).Mul(wide(a), wide(b)),
				"div": wide(0).Quo(wide(a), wide(b)), "sqrt": wide(0).Sqrt(wide(math.Abs(a))),
			}
			got := map[string]float64{"add": add64(a, b, r), "mul": mul64(a, b, r), "div": div64(a, b, r), "sqrt": sqrt64(math.Abs(a), r)}
			for op, e := range exact {
				want := uint64(0)
				switch {
				case e.Sign() != 0:
					want = round64(e, r)
				case r == ptx.RM:
					want = 1 << 63
				}
				if math.Float64bits(got[op]) != want {
					t.Fatalf("%s %x and %x, rounding %v: %x, want %x", op, a, b, r, got[op], math.Float64frombits(want))
				}
			}
		}
	}
}

// TestHardware has what an H200 computed for operands that the record does not
// have: the difference between flushing before and after rounding, and between
// rounding with the format's exponents and with more.
func TestHardware(t *testing.T) {
	is := func(want uint64) func(a, b, c uint64) uint64 {
		return func(_, _, _ uint64) uint64 { return want }
	}
	for _, c := range []struct {
		in   [3]uint64
		text string
		want uint64
	}{
		{[3]uint64{0x30fffffe, 0x8f000001, 0x00064cd3}, "mul.rn.ftz.f32 %f0, %f1, %f2", 0x80800000},
		{[3]uint64{0x30fffffe, 0x8f000001, 0x00064cd3}, "mul.rm.ftz.f32 %f0, %f1, %f2", 0x80800000},
		{[3]uint64{0x30fffffe, 0x8f000001, 0x00064cd3}, "mul.rz.ftz.f32 %f0, %f1, %f2", 0x80000000},
		{[3]uint64{0x30fffffe, 0x8f000001, 0x00064cd3}, "fma.rn.ftz.f32 %f0, %f1, %f2, %f3", 0x80800000},
		{[3]uint64{0x80800000, 0x3f800001}, "div.rm.ftz.f32 %f0, %f1, %f2", 0x80000000},
		{[3]uint64{0xaffc, 0x1002}, "mul.rn.ftz.f16 %h0, %h1, %h2", 0x8400},
		{[3]uint64{0x3bff, 0x0400}, "mul.rn.ftz.f16 %h0, %h1, %h2", 0},
		{[3]uint64{0x380fffffffffffff}, "cvt.rn.ftz.f32.f64 %f0, %d1", 0x00800000},
		{[3]uint64{0x380fffffe8000000}, "cvt.rn.ftz.f32.f64 %f0, %d1", 0},
		{[3]uint64{0x380fffffd0000000}, "cvt.rp.ftz.f32.f64 %f0, %d1", 0},
	} {
		runOps(t, [][3]uint64{c.in}, []op{{c.text, is(c.want)}})
	}
}
