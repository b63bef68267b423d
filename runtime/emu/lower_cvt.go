package emu

import (
	"math"

	"github.com/moegen/moegen/runtime/emu/ptx"
)

func formatOf(t ptx.Type) (format, bool) {
	switch t {
	case ptx.F32:
		return formatF32, true
	case ptx.F16, ptx.F16x2:
		return formatF16, true
	case ptx.BF16, ptx.BF16x2:
		return formatBF16, true
	case ptx.E4M3x2, ptx.E4M3x4:
		return formatE4M3, true
	case ptx.E5M2x2, ptx.E5M2x4:
		return formatE5M2, true
	}
	return format{}, false
}

func (l *lowerer) lowerCvt(out *inst, in *ptx.Instr) bool {
	if in.Op != ptx.Cvt {
		return false
	}
	var f aluFn
	switch {
	case len(in.Src) == 2:
		f = cvtPack(in)
	case in.SrcType == ptx.E4M3x2 || in.SrcType == ptx.E5M2x2:
		f = cvtFrom8(in)
	case in.Type == ptx.E4M3x2 || in.Type == ptx.E5M2x2:
		f = cvtTo8(in)
	case isInt(in.Type) && isInt(in.SrcType):
		f = cvtInt(in, l.regSize(in.Dst[0]))
	case isInt(in.SrcType):
		f = cvtIntFloat(in)
	case isInt(in.Type):
		f = cvtFloatInt(in, l.regSize(in.Dst[0]))
	default:
		f = cvtFloat(in)
	}
	if f == nil {
		return false
	}
	return l.alu(out, in, f)
}

// relu keeps NaNs.
func relu(x float64, on bool) float64 {
	if on && x <= 0 {
		return 0
	}
	return x
}

// cvtPack converts two f32 into one packed register; the first source is the
// upper half.
func cvtPack(in *ptx.Instr) aluFn {
	to, ok := formatOf(in.Type)
	if !ok || in.SrcType != ptx.F32 {
		return nil
	}
	width := in.Type.Size() * 4
	r, sat, rel := in.Round, in.Sat, in.Relu
	if in.Type == ptx.BF16x2 && r == ptx.RN && !sat && !rel {
		return func(d, a, b, _ *vec) {
			for i := range d {
				d[i] = uint64(toBF16(f32of(uint32(a[i]))))<<16 | uint64(toBF16(f32of(uint32(b[i]))))
			}
		}
	}
	one := func(x uint64) uint64 {
		return uint64(to.encode(relu(float64(f32of(uint32(x))), rel), r, sat))
	}
	return func(d, a, b, _ *vec) {
		for i := range d {
			d[i] = one(a[i])<<width | one(b[i])
		}
	}
}

// cvtFrom8 is e4m3x2 and e5m2x2 to f16x2, which is exact.
func cvtFrom8(in *ptx.Instr) aluFn {
	from, _ := formatOf(in.SrcType)
	if in.Type != ptx.F16x2 {
		return nil
	}
	rel := in.Relu
	return un(func(a uint64) uint64 {
		lo := formatF16.encode(relu(from.decode(uint32(a&0xff)), rel), ptx.RN, false)
		hi := formatF16.encode(relu(from.decode(uint32(a>>8&0xff)), rel), ptx.RN, false)
		return uint64(hi)<<16 | uint64(lo)
	})
}

// cvtTo8 is f16x2 to e4m3x2 and e5m2x2.
func cvtTo8(in *ptx.Instr) aluFn {
	to, _ := formatOf(in.Type)
	from, ok := formatOf(in.SrcType)
	if !ok {
		return nil
	}
	rel, r := in.Relu, in.Round
	return un(func(a uint64) uint64 {
		lo := to.encode(relu(from.decode(uint32(a&0xffff)), rel), r, true)
		hi := to.encode(relu(from.decode(uint32(a>>16&0xffff)), rel), r, true)
		return uint64(hi)<<8 | uint64(lo)
	})
}

// intRange is the range of an integer type, as float64 and as bits.
func clampInt(x int64, neg bool, u uint64, t ptx.Type) uint64 {
	size := t.Size()
	if isSigned(t) {
		lo, hi := int64(-1)<<(8*size-1), int64(1)<<(8*size-1)-1
		if !neg && u > uint64(hi) {
			return uint64(hi)
		}
		if neg && x < lo {
			return uint64(lo)
		}
		return u
	}
	if neg {
		return 0
	}
	return min(u, widthMask(size))
}

func cvtInt(in *ptx.Instr, reg int) aluFn {
	from := normalize(in.SrcType)
	to := normalize(in.Type)
	m := widthMask(reg)
	if reg > in.Type.Size() && !isSigned(in.Type) {
		m = widthMask(in.Type.Size())
	}
	sat, t, signed := in.Sat, in.Type, isSigned(in.SrcType)
	switch {
	case !sat && in.SrcType.Size() == 4 && in.Type.Size() == 8 && signed:
		return func(d, a, _, _ *vec) {
			for i := range d {
				d[i] = uint64(int64(int32(a[i])))
			}
		}
	case !sat && in.Type.Size() <= in.SrcType.Size() && reg <= in.Type.Size(), !sat && in.SrcType.Size() == 4 && in.Type.Size() == 8:
		return movFn(min(in.Type.Size(), in.SrcType.Size()))
	}
	return un(func(a uint64) uint64 {
		x := from(a)
		if sat {
			x = clampInt(int64(x), signed && int64(x) < 0, x, t)
		}
		return to(x) & m
	})
}

func cvtIntFloat(in *ptx.Instr) aluFn {
	from := normalize(in.SrcType)
	signed := isSigned(in.SrcType)
	r, sat := in.Round, in.Sat
	wide := in.SrcType.Size() == 8
	t, ok := fpOf(in.Type)
	if !ok {
		return nil
	}
	return un(func(a uint64) uint64 {
		x := from(a)
		neg := signed && int64(x) < 0
		if neg {
			x = -x
		}
		f := float64(x)
		if wide {
			f = wideInt(x, t.f64, r, neg)
		}
		if neg {
			f = -f
		}
		if sat {
			f = sat01(f)
		}
		return t.put(f, 0, r, false)
	})
}

// wideInt converts an integer of up to 64 bits: rounded to odd where another
// rounding follows, as r says where it is final.
func wideInt(x uint64, final bool, r ptx.Round, neg bool) float64 {
	const keep = 11 // bits that float64 lacks
	if x < 1<<53 {
		return float64(x)
	}
	if !final {
		if x&(1<<keep-1) != 0 {
			x = x>>keep<<keep | 1<<keep
		}
		return float64(x)
	}
	if r == ptx.RN || r == ptx.NoRound {
		return float64(x)
	}
	f := float64(x)
	// Has rounding to nearest gone up or down?
	over := f >= 1<<64 || uint64(f) > x
	under := !over && uint64(f) < x
	away := r == ptx.RP && !neg || r == ptx.RM && neg
	switch {
	case over && !away:
		return math.Nextafter(f, 0)
	case under && away:
		return math.Nextafter(f, math.Inf(1))
	}
	return f
}

func roundInt(x float64, r ptx.Round) float64 {
	switch r {
	case ptx.RZI, ptx.RZ:
		return math.Trunc(x)
	case ptx.RMI, ptx.RM:
		return math.Floor(x)
	case ptx.RPI, ptx.RP:
		return math.Ceil(x)
	}
	return math.RoundToEven(x)
}

// cvtFloatInt clamps to the destination's range. NaN becomes 0, or where f64 or
// a 64-bit type is on either side the least number of the signed type.
func cvtFloatInt(in *ptx.Instr, reg int) aluFn {
	t, ok := fpOf(in.SrcType)
	if !ok {
		return nil
	}
	r, ftz := in.Round, in.Ftz
	size, signed := in.Type.Size(), isSigned(in.Type)
	m := widthMask(reg)
	if !signed {
		m = widthMask(size)
	}
	lo, hi := 0.0, math.Ldexp(1, 8*size)
	loBits, hiBits := uint64(0), widthMask(size)
	if signed {
		lo, hi = -math.Ldexp(1, 8*size-1), math.Ldexp(1, 8*size-1)
		loBits, hiBits = uint64(int64(-1)<<(8*size-1)), widthMask(size)>>1
	}
	nan := uint64(0)
	if size == 8 || t.f64 {
		nan = uint64(int64(-1)<<(8*size-1)) & m
	}
	return un(func(a uint64) uint64 {
		x := t.get(a, 0, ftz)
		if x != x {
			return nan
		}
		x = roundInt(x, r)
		switch {
		case x < lo || x == lo && lo < 0:
			return loBits & m
		case x >= hi:
			return hiBits
		case signed:
			return uint64(int64(x)) & m
		}
		return uint64(x)
	})
}

func cvtFloat(in *ptx.Instr) aluFn {
	from, ok1 := fpOf(in.SrcType)
	to, ok2 := fpOf(in.Type)
	if !ok1 || !ok2 {
		return nil
	}
	r, sat, rel := in.Round, in.Sat, in.Relu
	// Between f16 and f32 hardware flushes nothing, whatever PTX says: f16 has
	// subnormals of its own, and those of f32 are rounded like all numbers.
	ftz := in.Ftz && in.SrcType != ptx.F16 && in.Type != ptx.F16
	toInt := r == ptx.RNI || r == ptx.RZI || r == ptx.RMI || r == ptx.RPI
	// .sat clamps to [0, 1]; .satfinite, the only form that bf16 and the
	// conversions of f32 to f16 with .relu take, to the finite numbers.
	finite := false
	for _, mod := range modifiers(in.Text) {
		finite = finite || mod == "satfinite"
	}
	if in.Type == ptx.F32 && in.SrcType == ptx.BF16 && !ftz && !sat {
		return un(func(a uint64) uint64 { return a & 0xffff << 16 }) // NaNs too
	}
	if in.Type == ptx.F32 && in.SrcType == ptx.F16 && !ftz && !sat {
		return un(func(a uint64) uint64 { return bits32(fromF16(uint16(a))) })
	}
	return un(func(a uint64) uint64 {
		x := relu(from.get(a, 0, ftz), rel)
		switch {
		case x == x || sat && !finite:
		case to.f64 && ftz: // flushing makes f32's NaN of every NaN
			return math.Float64bits(formatF32.decode(formatF32.nan))
		case to.f64:
			return math.Float64bits(quieted(x))
		case from.f64:
			return uint64(to.format.encodeNaN(x))
		default:
			return uint64(to.format.nan)
		}
		if toInt {
			x = roundInt(x, r)
		}
		if sat && !finite {
			x = sat01(x)
		}
		if to.f64 {
			return math.Float64bits(x)
		}
		if finite {
			return uint64(to.format.encode(x, r, true))
		}
		return to.put(x, 0, r, ftz)
	})
}
