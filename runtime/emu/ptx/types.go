package ptx

// class is how PTX tells operand types apart beside their size.
type class int

const (
	classBits class = iota
	classInt
	classFloat
	classPred
)

func (t Type) class() class {
	switch t {
	case U8, U16, U32, U64, S8, S16, S32, S64:
		return classInt
	case F16, F16x2, BF16, BF16x2, F32, F32x2, F64, E4M3x2, E5M2x2, E4M3x4, E5M2x4:
		return classFloat
	case Pred:
		return classPred
	}
	return classBits
}

// fits reports whether a register of type r may stand where an instruction
// wants type t. Sizes must agree, and so must the class unless one of them is
// untyped bits. wide is the relaxed rule of ld, st and cvt, under which a
// wider register may hold an integer, and an untyped one anything.
func fits(r, t Type, wide bool) bool {
	if r == Pred || t == Pred {
		return r == t
	}
	if r.class() != classBits && t.class() != classBits && r.class() != t.class() {
		return false
	}
	if r.Size() == t.Size() {
		return true
	}
	return wide && r.Size() > t.Size() && r.class() != classFloat
}
