package ptx

import "strings"

// target is a .target: the compute capability without its dot, and the
// suffix, "a" (one architecture's own features) or "f" (its family's).
type target struct {
	cc     int
	suffix string
}

func parseTarget(s string) (target, bool) {
	num, ok := strings.CutPrefix(s, "sm_")
	if !ok {
		return target{}, false
	}
	var t target
	digits := strings.TrimRight(num, "af")
	t.suffix = num[len(digits):]
	for _, d := range digits {
		if d < '0' || d > '9' || len(digits) > 3 {
			return target{}, false
		}
		t.cc = t.cc*10 + int(d-'0')
	}
	switch t.cc {
	case 75, 80, 86, 87, 88, 89:
		return t, t.suffix == ""
	case 90:
		return t, t.suffix == "" || t.suffix == "a"
	case 100, 101, 103, 110, 120, 121:
		return t, t.suffix == "" || t.suffix == "a" || t.suffix == "f"
	}
	return target{}, false
}

// check says why the target does not have the instruction, or "".
func (t target) check(in *Instr) string {
	switch in.Op {
	case Ld, St:
		if in.Vec*in.Type.Size() == 32 && t.cc < 100 {
			return "256-bit loads and stores need .target sm_100 or higher"
		}
	case MultimemLdReduce, MultimemRed, MultimemSt:
		if t.cc < 90 {
			return "multimem needs .target sm_90 or higher"
		}
		if fp8 := in.Type.fp8() || in.AccF16; fp8 && (t.cc < 100 || t.suffix == "") {
			return "multimem on fp8 needs a .target such as sm_100a"
		}
	}
	if in.Type == F32x2 && t.cc < 100 {
		return "f32x2 needs .target sm_100 or higher"
	}
	if in.Op == Redux && in.Type == F32 && (t.cc < 100 || t.suffix == "") {
		return "redux on f32 needs a .target such as sm_100a"
	}
	return ""
}

func (t Type) fp8() bool {
	switch t {
	case E4M3x2, E5M2x2, E4M3x4, E5M2x4:
		return true
	}
	return false
}
