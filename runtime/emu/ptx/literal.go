package ptx

import (
	"math"
	"strconv"
	"strings"
)

// litKind is what a literal may be used for: PTX keeps integers, exact single
// floats (0f) and doubles (0d and decimal) apart.
type litKind int

const (
	litInt litKind = iota
	litF32
	litF64
)

type literal struct {
	kind litKind
	bits uint64 // the integer, or the float's bits in its own format
}

// parseLiteral reads a number token.
func parseLiteral(s string) (literal, bool) {
	if len(s) > 2 && s[0] == '0' {
		switch s[1] {
		case 'f', 'F':
			v, err := strconv.ParseUint(s[2:], 16, 32)
			return literal{litF32, v}, err == nil && len(s) == 10
		case 'd', 'D':
			v, err := strconv.ParseUint(s[2:], 16, 64)
			return literal{litF64, v}, err == nil && len(s) == 18
		}
	}
	digits := s
	if n := len(s) - 1; s[n] == 'U' {
		digits = s[:n]
	}
	if digits == "" || strings.Contains(digits, "_") { // Go's separators are not PTX's
		return literal{}, false
	}
	base := 10
	if len(digits) > 1 && digits[0] == '0' {
		switch digits[1] {
		case 'x', 'X':
			base, digits = 16, digits[2:]
		case 'b', 'B':
			base, digits = 2, digits[2:]
		default:
			base = 8
		}
	}
	if v, err := strconv.ParseUint(digits, base, 64); err == nil {
		return literal{litInt, v}, true
	}
	if strings.Trim(s, "0123456789.eE+-") != "" || !strings.ContainsAny(s, ".eE") {
		return literal{}, false
	}
	f, err := strconv.ParseFloat(s, 64)
	return literal{litF64, math.Float64bits(f)}, err == nil
}

// negate is unary minus.
func (l literal) negate() literal {
	switch l.kind {
	case litF32:
		l.bits ^= 1 << 31
	case litF64:
		l.bits ^= 1 << 63
	default:
		l.bits = -l.bits
	}
	return l
}

// fit gives the literal's bits as an operand of type t, or false where PTX
// does not allow it.
func (l literal) fit(t Type) (uint64, bool) {
	switch t {
	case Pred:
		if l.kind == litInt && l.bits != 0 {
			return 1, true
		}
		return 0, l.kind == litInt
	case F32:
		switch l.kind {
		case litF32:
			return l.bits, true
		case litF64:
			return uint64(math.Float32bits(float32(math.Float64frombits(l.bits)))), true
		}
		return 0, false
	case F64:
		switch l.kind {
		case litF32:
			return math.Float64bits(float64(math.Float32frombits(uint32(l.bits)))), true
		case litF64:
			return l.bits, true
		}
		return 0, false
	case B32:
		if l.kind == litF32 {
			return l.bits, true
		}
	case B64:
		if l.kind == litF64 {
			return l.bits, true
		}
	}
	if l.kind != litInt || t.class() == classFloat {
		return 0, false
	}
	switch t.Size() {
	case 1:
		return uint64(int8(l.bits)), true
	case 2:
		return uint64(int16(l.bits)), true
	case 4:
		return uint64(int32(l.bits)), true
	case 8:
		return l.bits, true
	}
	return 0, false
}
