package probe

import "math"

// float is a binary format.
type float struct{ exponent, mantissa int }

var (
	formatF64  = float{11, 52}
	formatF32  = float{8, 23}
	formatF16  = float{5, 10}
	formatBF16 = float{8, 7}
)

func (f float) bits() int { return 1 + f.exponent + f.mantissa }

// value reads a number exactly.
func (f float) value(x uint64) float64 {
	if f == formatF64 {
		return math.Float64frombits(x)
	}
	sign := 1.0
	if x>>(f.bits()-1)&1 != 0 {
		sign = -1
	}
	bias := 1<<(f.exponent-1) - 1
	e, m := int(x>>f.mantissa)&(1<<f.exponent-1), float64(x&(1<<f.mantissa-1))
	switch {
	case e == 1<<f.exponent-1 && m != 0:
		return math.NaN()
	case e == 1<<f.exponent-1:
		return math.Inf(int(sign))
	case e == 0:
		return sign * math.Ldexp(m, 1-bias-f.mantissa)
	}
	return sign * math.Ldexp(m+math.Ldexp(1, f.mantissa), e-bias-f.mantissa)
}

// ulp is the distance of neighbours at x.
func (f float) ulp(x float64) float64 {
	least := 2 - (1 << (f.exponent - 1)) // exponent of the least normal number
	_, e := math.Frexp(x)
	return math.Ldexp(1, max(e-1, least)-f.mantissa)
}

// Close says whether two results of one operand may both be right.
func (t *Tolerance) Close(in [3]uint64, a, b uint64) bool {
	f, lanes := formatF32, 1
	switch t.Type {
	case "f64":
		f = formatF64
	case "f16":
		f = formatF16
	case "bf16":
		f = formatBF16
	case "f16x2":
		f, lanes = formatF16, 2
	case "bf16x2":
		f, lanes = formatBF16, 2
	}
	for i := range lanes {
		shift := i * f.bits()
		lane := func(x uint64) float64 { return f.value(x >> shift & (1<<(f.bits()-1)<<1 - 1)) }
		if t.defined(lane(in[0]), lane(in[1])) && !t.near(f, lane(a), lane(b)) {
			return false
		}
	}
	return true
}

// defined says whether PTX promises anything for the operands.
func (t *Tolerance) defined(operands ...float64) bool {
	if t.Low == 0 && t.High == 0 {
		return true
	}
	for _, x := range operands {
		// The second operand of a unary form is not looked at by the instruction,
		// but leaving some operands out costs nothing.
		if x = math.Abs(x); !(x >= t.Low && x <= t.High) {
			return false
		}
	}
	return true
}

func (t *Tolerance) near(f float, a, b float64) bool {
	if a == b || a != a && b != b {
		return true
	}
	largest := max(math.Abs(a), math.Abs(b))
	if math.IsInf(largest, 0) || largest != largest {
		return false
	}
	off := math.Abs(a - b)
	return off <= t.ULP*f.ulp(largest) || off <= t.Rel*largest || off <= t.Abs
}
