package emu

import (
	"fmt"
	"math/bits"
	"strings"

	"github.com/moegen/moegen/runtime/emu/ptx"
)

// vec is a register of a warp. Values are kept zero-extended from the width of
// the instruction that wrote them.
type vec = [32]uint64

const fullMask = ^uint32(0)

// aluFn computes all lanes; what inactive lanes get is thrown away.
type aluFn func(d, a, b, c *vec)

// execFn performs an instruction for the lanes in m. It returns false if the
// split cannot simply go on with the next instruction.
type execFn func(w *warp, s *split, in *inst, m uint32) bool

type instKind uint8

const (
	kindExec instKind = iota
	kindALU
	kindSetp
	kindBra
	kindNop
)

// inst is a lowered instruction. Operands are slots: registers from 0 up, the
// program's constants from -1 down.
type inst struct {
	kind   instKind
	guard  int32  // predicate slot, -1: none
	gxor   uint32 // all ones for @!p
	d      int32
	a      int32
	b      int32
	c      int32
	target int
	alu    aluFn
	exec   execFn
	set    *setpOp
	mem    *memOp
	sync   *syncOp
	src    *ptx.Instr
}

// setpOp is a comparison with its combination.
type setpOp struct {
	cmp  func(a, b *vec) uint32
	p, q int32 // destinations, -1: none
	bool ptx.BoolOp
	in   int32 // predicate to combine with, -1: none
	inX  uint32
}

// program is a kernel in executable form, for one device.
type program struct {
	fn       *ptx.Func
	files    []string
	code     []inst
	nregs    int
	npreds   int
	consts   []vec
	specials []specialSlot
	nmem     int // memory operands, each with an address cache per warp
	memOps   []*memOp
	dynBase  int // where dynamic shared memory starts
	ck       *programCheck
}

// specialSlot is a register that a warp fills when it starts.
type specialSlot struct {
	sp   ptx.Special
	slot int32
}

func (p *program) loc(in *ptx.Instr) (file string, line int) {
	if f := in.Loc.File; f > 0 && f < len(p.files) {
		file = p.files[f]
	}
	return file, in.Loc.Line
}

// where describes an instruction for people.
func (p *program) where(in *ptx.Instr) string {
	s := fmt.Sprintf("kernel %s, PTX line %d (%s)", p.fn.Name, in.Line, in.Text)
	if f, l := p.loc(in); l > 0 {
		s += fmt.Sprintf(", CUDA %s:%d", f, l)
	}
	return s
}

// loadError is an instruction that cannot be executed.
type loadError struct {
	fn   string
	line int
	text string
	why  string
}

func (e *loadError) Error() string {
	return fmt.Sprintf("kernel %s, line %d: %s: %s", e.fn, e.line, e.text, e.why)
}

// lowerer turns a ptx.Func into a program.
type lowerer struct {
	p       *program
	slots   []int32 // by register index: register or predicate slot
	scratch int32   // register that sinks write to
	consts  map[uint64]int32
	special map[ptx.Special]int32
	vars    map[string]uint64 // addresses of module variables
	globals map[string]*ptx.Var
	in      *ptx.Instr
}

func lowerFunc(fn *ptx.Func, m *ptx.Module, vars map[string]uint64) (p *program, err error) {
	l := &lowerer{
		p: &program{fn: fn, files: m.Files}, consts: map[uint64]int32{}, special: map[ptx.Special]int32{},
		vars: vars, globals: map[string]*ptx.Var{},
	}
	for i := range m.Globals {
		l.globals[m.Globals[i].Name] = &m.Globals[i]
	}
	l.p.dynBase = int(alignUp(uint64(fn.SharedBytes), 16))
	for _, r := range fn.Regs {
		if r.Type == ptx.Pred {
			l.slots = append(l.slots, int32(l.p.npreds))
			l.p.npreds++
		} else {
			l.slots = append(l.slots, int32(l.p.nregs))
			l.p.nregs++
		}
	}
	l.scratch = l.newReg()
	// Lowering functions report by panicking with a string: they are many, small
	// and nested, and this is the only place that wants the error.
	defer func() {
		switch r := recover().(type) {
		case nil:
		case lowerFailure:
			p, err = nil, &loadError{fn.Name, l.in.Line, l.in.Text, string(r)}
		default:
			panic(r)
		}
	}()
	l.p.code = make([]inst, len(fn.Body)+1)
	for i := range fn.Body {
		l.in = &fn.Body[i]
		l.lower(&l.p.code[i], l.in)
	}
	end := &l.p.code[len(fn.Body)]
	end.guard, end.exec, end.src = -1, execExit, &ptx.Instr{Op: ptx.Exit, Text: "end of kernel", Line: fn.Line}
	return l.p, nil
}

type lowerFailure string

func (l *lowerer) failf(format string, args ...any) {
	panic(lowerFailure(fmt.Sprintf(format, args...)))
}

func (l *lowerer) unsupported() {
	panic(lowerFailure("the emulator does not execute this instruction"))
}

func (l *lowerer) newReg() int32 {
	l.p.nregs++
	return int32(l.p.nregs - 1)
}

func (l *lowerer) imm(v uint64) int32 {
	if s, ok := l.consts[v]; ok {
		return s
	}
	var c vec
	for i := range c {
		c[i] = v
	}
	l.p.consts = append(l.p.consts, c)
	s := int32(-len(l.p.consts))
	l.consts[v] = s
	return s
}

// dynamicSpecial says whether the register's value changes while a warp runs.
func dynamicSpecial(s ptx.Special) bool {
	switch s {
	case ptx.Clock, ptx.Clock64, ptx.GlobalTimer, ptx.GlobalTimerLo, ptx.GlobalTimerHi:
		return true
	}
	return false
}

// varAddr is the address of a variable in its own space.
func (l *lowerer) varAddr(v *ptx.Var) uint64 {
	switch v.Space {
	case ptx.Global, ptx.Const:
		a, ok := l.vars[v.Name]
		if !ok {
			l.failf("variable %s has no storage", v.Name)
		}
		return a
	case ptx.Shared:
		if v.Len == 0 {
			return uint64(l.p.dynBase)
		}
	}
	return uint64(v.Offset)
}

// src returns the slot of a source operand (not a predicate).
func (l *lowerer) src(o ptx.Operand) int32 {
	switch o.Kind {
	case ptx.RegOperand:
		if l.isPred(o) {
			l.failf("predicate operand where a value is wanted")
		}
		return l.slots[o.Reg]
	case ptx.ImmOperand:
		return l.imm(o.Imm)
	case ptx.VarOperand:
		return l.imm(l.varAddr(o.Var) + uint64(o.Off))
	case ptx.SpecialOperand:
		if dynamicSpecial(o.Special) {
			l.failf("special register as an operand of other than mov")
		}
		s, ok := l.special[o.Special]
		if !ok {
			s = l.newReg()
			l.special[o.Special] = s
			l.p.specials = append(l.p.specials, specialSlot{o.Special, s})
		}
		return s
	}
	l.failf("operand kind %d where a value is wanted", o.Kind)
	return 0
}

func (l *lowerer) isPred(o ptx.Operand) bool {
	return o.Kind == ptx.RegOperand && l.p.fn.Regs[o.Reg].Type == ptx.Pred
}

// dst returns the slot of a destination register.
func (l *lowerer) dst(o ptx.Operand) int32 {
	switch o.Kind {
	case ptx.SinkOperand:
		return l.scratch
	case ptx.RegOperand:
		if !l.isPred(o) {
			return l.slots[o.Reg]
		}
	}
	l.failf("destination is not a register")
	return 0
}

// pred returns the slot of a predicate operand and the mask to xor it with.
func (l *lowerer) pred(o ptx.Operand) (int32, uint32) {
	switch {
	case o.Kind == ptx.SinkOperand:
		return -1, 0
	case o.Kind == ptx.ImmOperand:
		// An immediate: a slot that is always false, and its complement.
		x := uint32(0)
		if o.Imm != 0 {
			x = fullMask
		}
		return l.falsePred(), x
	case !l.isPred(o):
		l.failf("operand is not a predicate")
	}
	if o.Neg {
		return l.slots[o.Reg], fullMask
	}
	return l.slots[o.Reg], 0
}

func (l *lowerer) falsePred() int32 {
	// Predicates start as 0 and nothing writes this one.
	l.p.npreds++
	return int32(l.p.npreds - 1)
}

func (l *lowerer) regSize(o ptx.Operand) int {
	if o.Kind != ptx.RegOperand {
		return 8
	}
	return l.p.fn.Regs[o.Reg].Type.Size()
}

// lower fills out from in.
func (l *lowerer) lower(out *inst, in *ptx.Instr) {
	out.src, out.guard, out.target = in, -1, in.Target
	if in.Guard.Reg >= 0 {
		out.guard = l.slots[in.Guard.Reg]
		if in.Guard.Neg {
			out.gxor = fullMask
		}
	}
	if !(l.lowerControl(out, in) || l.lowerMemory(out, in) || l.lowerSync(out, in) || l.lowerMove(out, in) ||
		l.lowerInt(out, in) || l.lowerFloat(out, in) || l.lowerCvt(out, in)) {
		l.unsupported()
	}
}

// alu makes out an ALU instruction over all of in's sources.
func (l *lowerer) alu(out *inst, in *ptx.Instr, f aluFn) bool {
	if len(in.Dst) != 1 || len(in.Src) > 3 {
		l.failf("%d destinations and %d sources", len(in.Dst), len(in.Src))
	}
	out.kind, out.alu = kindALU, f
	out.d = l.dst(in.Dst[0])
	for i, p := range []*int32{&out.a, &out.b, &out.c} {
		*p = out.d
		if i < len(in.Src) {
			*p = l.src(in.Src[i])
		}
	}
	return true
}

// lane is the first lane of a mask that is not empty; masks are iterated by
// for m := mask; m != 0; m &= m - 1.
func lane(m uint32) int { return bits.TrailingZeros32(m) & 31 }

// modifiers splits an instruction's opcode at its dots.
func modifiers(text string) []string {
	op, _, _ := strings.Cut(text, " ")
	op, _, _ = strings.Cut(op, "\t")
	return strings.Split(op, ".")
}
