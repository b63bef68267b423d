package emu

import (
	"math"

	"github.com/moegen/moegen/runtime/emu/ptx"
)

// fp describes a float type whose scalars are computed in float64.
type fp struct {
	size   int // of a scalar
	n      int // scalars in a register
	format format
	f64    bool
}

func fpOf(t ptx.Type) (fp, bool) {
	switch t {
	case ptx.F32:
		return fp{4, 1, formatF32, false}, true
	case ptx.F32x2:
		return fp{4, 2, formatF32, false}, true
	case ptx.F16:
		return fp{2, 1, formatF16, false}, true
	case ptx.F16x2:
		return fp{2, 2, formatF16, false}, true
	case ptx.BF16:
		return fp{2, 1, formatBF16, false}, true
	case ptx.BF16x2:
		return fp{2, 2, formatBF16, false}, true
	case ptx.F64:
		return fp{8, 1, format{}, true}, true
	}
	return fp{}, false
}

// get reads scalar i of a register.
func (t fp) get(x uint64, i int, ftz bool) float64 {
	if t.f64 {
		return math.Float64frombits(x)
	}
	b := uint32(x >> (8 * t.size * i) & widthMask(t.size))
	if t.size == 4 {
		return float64(f32of(ftz32(b, ftz)))
	}
	if ftz && b&t.format.inf() == 0 {
		b &= 1 << (t.format.exp + t.format.man)
	}
	return t.format.decode(b)
}

// put rounds v into scalar i of a register that is zero there.
func (t fp) put(v float64, i int, r ptx.Round, ftz bool) uint64 {
	if t.f64 {
		return math.Float64bits(v)
	}
	if ftz {
		v = t.format.flush(v, r)
	}
	return uint64(t.format.encode(v, r, false)) << (8 * t.size * i)
}

func (l *lowerer) lowerFloat(out *inst, in *ptx.Instr) bool {
	if in.Op == ptx.Set {
		return l.lowerSet(out, in)
	}
	if in.Op == ptx.Setp {
		cmp := floatCmp(in.Type, in.Cmp, in.Ftz)
		if cmp == nil || in.Type == ptx.F16x2 || in.Type == ptx.BF16x2 {
			return false
		}
		return l.lowerSetp(out, in, cmp)
	}
	t, ok := fpOf(in.Type)
	if !ok {
		return false
	}
	if f := fastF32(in); f != nil {
		return l.alu(out, in, f)
	}
	if in.Op == ptx.CopySign && t.n == 1 {
		return l.alu(out, in, copySign(t.size))
	}
	f := arith(in, t)
	if f == nil {
		return false
	}
	ftz := in.Ftz
	// Vector types have at most three operands like all others.
	return l.alu(out, in, func(d, a, b, c *vec) {
		for i := range d {
			var r uint64
			for j := range t.n {
				r |= t.put(f(t.get(a[i], j, ftz), t.get(b[i], j, ftz), t.get(c[i], j, ftz)), j, in.Round, ftz)
			}
			d[i] = r
		}
	})
}

// fastF32 has loops of their own for plain f32 arithmetic, rounded to nearest.
func fastF32(in *ptx.Instr) aluFn {
	if in.Type != ptx.F32 || in.Sat || in.Ftz || in.Round != ptx.NoRound && in.Round != ptx.RN || in.XorSign || in.NaN {
		return nil
	}
	f := func(x uint64) float32 { return math.Float32frombits(uint32(x)) }
	switch in.Op {
	case ptx.Add:
		return func(d, a, b, _ *vec) {
			for i := range d {
				d[i] = bits32(f(a[i]) + f(b[i]))
			}
		}
	case ptx.Sub:
		return func(d, a, b, _ *vec) {
			for i := range d {
				d[i] = bits32(f(a[i]) - f(b[i]))
			}
		}
	case ptx.Mul:
		return func(d, a, b, _ *vec) {
			for i := range d {
				d[i] = bits32(f(a[i]) * f(b[i]))
			}
		}
	case ptx.Fma:
		return func(d, a, b, c *vec) {
			for i := range d {
				d[i] = bits32(fma32(f(a[i]), f(b[i]), f(c[i])))
			}
		}
	case ptx.Max:
		return func(d, a, b, _ *vec) {
			for i := range d {
				d[i] = bits32(float32(minmax(float64(f(a[i])), float64(f(b[i])), true, false)))
			}
		}
	case ptx.Div:
		return func(d, a, b, _ *vec) { // div.rn; .approx and .full may be as exact
			for i := range d {
				d[i] = bits32(f(a[i]) / f(b[i]))
			}
		}
	}
	return nil
}

// copySign puts the sign of the first on the second's magnitude, whatever they are.
func copySign(size int) aluFn {
	sign := uint64(1) << (8*size - 1)
	return bin(func(a, b uint64) uint64 { return a&sign | b&(sign-1) })
}

// minmax is PTX's: a NaN loses against a number unless nan is set, and -0 < +0.
func minmax(a, b float64, wantMax, nan bool) float64 {
	switch {
	case a != a && b != b, nan && (a != a || b != b):
		return math.NaN()
	case a != a:
		return b
	case b != b:
		return a
	case wantMax:
		return math.Max(a, b)
	}
	return math.Min(a, b)
}

// arith returns the operation on scalars. The result is exact, or rounded to
// odd, where a rounding of fewer bits follows.
func arith(in *ptx.Instr, t fp) func(a, b, c float64) float64 {
	f := arithBase(in, t)
	if f == nil {
		return nil
	}
	switch {
	case in.Sat:
		return func(a, b, c float64) float64 { return sat01(f(a, b, c)) }
	case in.Relu:
		return func(a, b, c float64) float64 {
			x := f(a, b, c)
			if x < 0 { // NaNs stay
				return 0
			}
			return x + 0
		}
	}
	return f
}

func arithBase(in *ptx.Instr, t fp) func(a, b, c float64) float64 {
	if t.f64 {
		return arith64(in)
	}
	add := addOdd
	if in.Round == ptx.RM {
		add = addOddDown
	}
	switch in.Op {
	case ptx.Add:
		return func(a, b, _ float64) float64 { return add(a, b) }
	case ptx.Sub:
		return func(a, b, _ float64) float64 { return add(a, -b) }
	case ptx.Mul:
		return func(a, b, _ float64) float64 { return a * b }
	case ptx.Fma: // float64 holds the product
		return func(a, b, c float64) float64 { return add(a*b, c) }
	case ptx.Div:
		return func(a, b, _ float64) float64 { return divOdd(a, b) }
	case ptx.Rcp:
		return func(a, _, _ float64) float64 { return divOdd(1, a) }
	case ptx.Sqrt:
		return func(a, _, _ float64) float64 { return sqrtOdd(a) }
	}
	return arithCommon(in)
}

// arithCommon is what needs no care about rounding: selections, and functions
// that PTX itself only approximates.
func arithCommon(in *ptx.Instr) func(a, b, c float64) float64 {
	nan, xorSign := in.NaN, in.XorSign
	switch in.Op {
	case ptx.Min, ptx.Max:
		wantMax := in.Op == ptx.Max
		if xorSign {
			return func(a, b, _ float64) float64 {
				s := math.Signbit(a) != math.Signbit(b)
				m := minmax(math.Abs(a), math.Abs(b), wantMax, nan)
				if s {
					return -m
				}
				return m
			}
		}
		return func(a, b, _ float64) float64 { return minmax(a, b, wantMax, nan) }
	case ptx.Abs:
		return func(a, _, _ float64) float64 { return math.Abs(a) }
	case ptx.Neg:
		return func(a, _, _ float64) float64 { return -a }
	case ptx.Rsqrt:
		return func(a, _, _ float64) float64 { return 1 / math.Sqrt(a) }
	case ptx.Ex2:
		return func(a, _, _ float64) float64 { return math.Exp2(a) }
	case ptx.Lg2:
		return func(a, _, _ float64) float64 { return math.Log2(a) }
	case ptx.Sin:
		return func(a, _, _ float64) float64 { return math.Sin(a) }
	case ptx.Cos:
		return func(a, _, _ float64) float64 { return math.Cos(a) }
	case ptx.Tanh:
		return func(a, _, _ float64) float64 { return math.Tanh(a) }
	}
	return nil
}

// floatCmp compares lanes as floats.
func floatCmp(ty ptx.Type, c ptx.Cmp, ftz bool) func(a, b *vec) uint32 {
	t, ok := fpOf(ty)
	if !ok {
		return nil
	}
	f := cmpFloat(c)
	if f == nil {
		return nil
	}
	if ty == ptx.F32 && !ftz {
		return func(a, b *vec) uint32 {
			var r uint32
			for i := range a {
				if f(float64(f32of(uint32(a[i]))), float64(f32of(uint32(b[i])))) {
					r |= 1 << i
				}
			}
			return r
		}
	}
	return func(a, b *vec) uint32 {
		var r uint32
		for i := range a {
			if f(t.get(a[i], 0, ftz), t.get(b[i], 0, ftz)) {
				r |= 1 << i
			}
		}
		return r
	}
}

func cmpFloat(c ptx.Cmp) func(a, b float64) bool {
	switch c {
	case ptx.EQ:
		return func(a, b float64) bool { return a == b }
	case ptx.NE:
		return func(a, b float64) bool { return a < b || a > b }
	case ptx.LT:
		return func(a, b float64) bool { return a < b }
	case ptx.LE:
		return func(a, b float64) bool { return a <= b }
	case ptx.GT:
		return func(a, b float64) bool { return a > b }
	case ptx.GE:
		return func(a, b float64) bool { return a >= b }
	case ptx.EQU:
		return func(a, b float64) bool { return !(a < b || a > b) }
	case ptx.NEU:
		return func(a, b float64) bool { return a != b }
	case ptx.LTU:
		return func(a, b float64) bool { return !(a >= b) }
	case ptx.LEU:
		return func(a, b float64) bool { return !(a > b) }
	case ptx.GTU:
		return func(a, b float64) bool { return !(a <= b) }
	case ptx.GEU:
		return func(a, b float64) bool { return !(a < b) }
	case ptx.NUM:
		return func(a, b float64) bool { return a == a && b == b }
	case ptx.NAN:
		return func(a, b float64) bool { return a != a || b != b }
	}
	return nil
}
