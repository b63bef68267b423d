// Package probe makes one-instruction PTX kernels, one for each form of
// instruction that the emulator claims to execute as GPUs do, and runs them on
// any driver. What a GPU computed is kept as a Record; the emulator has to
// give the same bits (see Compare).
//
// The package is shared by runtime/emu's tests, which need no GPU, and by
// tests/gpu, which makes the record.
package probe

import (
	"fmt"
	"strings"
)

// Form is an instruction under test, with its operands. Registers 1 to 3 of
// each kind hold the low bits of the operands, register 0 takes the result:
//
//	%rd b64   %r b32   %h b16   %d f64   %f f32
//	%p1 = low 32 bits of a are not 0, %p2 = those of b are positive
type Form struct {
	Text   string     // one or more PTX statements, without the last semicolon
	Approx *Tolerance // nil: the result is one bit pattern
}

// Tolerance is how far apart the results of an instruction may be that PTX
// itself only approximates. One of the bounds has to hold.
type Tolerance struct {
	Type          string // "f32", "f64", "f16", "bf16", "f16x2", "bf16x2"
	ULP, Rel, Abs float64
	// Low and High bound the magnitude of the operands for which PTX promises
	// anything; both 0: all.
	Low, High float64
}

// Forms returns all forms, in an order that never changes for one version of
// this package.
func Forms() []Form {
	var l list
	l.floats()
	l.comparisons()
	l.integers()
	l.conversions()
	l.intConversions()
	l.warp()
	l.approximations()
	return l
}

type list []Form

func (l *list) add(format string, args ...any) {
	*l = append(*l, Form{Text: fmt.Sprintf(format, args...)})
}

// register returns the kind of register that a PTX type is kept in.
func register(typ string) string {
	switch typ {
	case "f32":
		return "f"
	case "f64":
		return "d"
	case "f16", "bf16", "e4m3x2", "e5m2x2":
		return "h"
	case "f16x2", "bf16x2":
		return "r"
	}
	switch strings.TrimLeft(typ, "bsu") {
	case "8", "16":
		return "h"
	case "32":
		return "r"
	}
	return "rd"
}

// op adds an instruction whose n sources and destination are of one type: op
// is everything before the type.
func (l *list) op(op, typ string, n int) {
	r := register(typ)
	text := fmt.Sprintf("%s.%s %%%s0", op, typ, r)
	for i := range n {
		text += fmt.Sprintf(", %%%s%d", r, i+1)
	}
	l.add("%s", text)
}

// each calls f with every combination of one string of each set, joined.
func each(f func(string), sets ...[]string) {
	if len(sets) == 0 {
		f("")
		return
	}
	for _, s := range sets[0] {
		each(func(rest string) { f(s + rest) }, sets[1:]...)
	}
}

var (
	rounds = []string{".rn", ".rz", ".rm", ".rp"}
	ftz    = []string{"", ".ftz"}
	sat    = []string{"", ".sat"}
	relu   = []string{"", ".relu"}
)

// destination finds the register that a form's result is in.
func (f Form) destination() string {
	for _, r := range []string{"%r0|%p0", "%rd0", "%r0", "%f0", "%d0", "%h0", "%p0"} {
		if strings.Contains(f.Text, r) {
			return r
		}
	}
	panic("probe: no result in " + f.Text)
}
