package ptx

import (
	"encoding/binary"
	"strconv"
)

// scope is a { } block's names, or the module's.
type scope struct {
	parent *scope
	regs   map[string]int // index in Func.Regs, for those in use
	decls  map[string]Type
	ranges map[string]regRange
	vars   map[string]*Var
	labels map[string]int // index in Func.Body
	tables map[string]*branchTable
	jumps  []jump // not resolved yet
}

// regRange is .reg .b32 %r<n>: %r0 to %r(n-1).
type regRange struct {
	typ Type
	n   uint64
}

// jump is a branch whose label may be further down.
type jump struct {
	instr int
	slot  int // index in Targets, -1 for Target
	label string
	line  int
	text  string
}

// branchTable is a .branchtargets list.
type branchTable struct {
	labels  []string
	targets []int // once a branch uses it
}

// declared reports whether the name is taken in this very scope.
func (s *scope) declared(name string) bool {
	_, reg := s.decls[name]
	_, v := s.vars[name]
	_, l := s.labels[name]
	_, t := s.tables[name]
	_, r := s.inRange(name)
	return reg || v || l || t || r
}

// inRange finds the register range that a name such as %r12 belongs to.
func (s *scope) inRange(name string) (Type, bool) {
	if len(s.ranges) == 0 {
		return NoType, false
	}
	// A range's own name may end in digits (%f16<3>), so every split counts.
	for i := len(name); i > 0 && digit(name[i-1]); i-- {
		num := name[i-1:]
		if len(num) > 7 {
			break
		}
		if num[0] == '0' && len(num) > 1 {
			continue
		}
		if r, ok := s.ranges[name[:i-1]]; ok {
			if n, err := strconv.ParseUint(num, 10, 32); err == nil && n < r.n {
				return r.typ, true
			}
		}
	}
	return NoType, false
}

// typ reads a fundamental type.
func (p *parser) typ() Type {
	t, ok := typeWords[p.tok.text]
	if p.tok.kind != tokDot || !ok || t == NoType || t.fp8() || t == F16x2 || t == BF16 || t == BF16x2 || t == F32x2 {
		p.failTok("type expected")
	}
	p.advance()
	return t
}

// regs parses .reg.
func (p *parser) regs(s *scope) {
	p.expect(".reg")
	t := p.typ()
	for {
		id := p.ident("register name")
		p.fresh(s, id)
		if p.accept("<") {
			n := p.integer("number of registers", maxRegs)
			p.expect(">")
			if _, dup := s.ranges[id.text]; dup {
				p.failf(id.line, id.text, "declared twice")
			}
			if s.ranges == nil {
				s.ranges = map[string]regRange{}
			}
			s.ranges[id.text] = regRange{t, uint64(n)}
		} else {
			if s.decls == nil {
				s.decls = map[string]Type{}
			}
			s.decls[id.text] = t
		}
		if !p.accept(",") {
			break
		}
	}
	p.expect(";")
}

// fresh checks that a name may be declared in s.
func (p *parser) fresh(s *scope, id token) {
	if id.text == "_" || id.text == "WARP_SZ" || specialWords[id.text] != 0 {
		p.failf(id.line, id.text, "reserved name")
	}
	if s.declared(id.text) {
		p.failf(id.line, id.text, "declared twice")
	}
}

// declare reads the part of a declaration that variables and parameters
// share: .align, type, name and array bounds.
func (p *parser) declare(space Space) (*Var, token) {
	v := &Var{Space: space, Len: 1}
	for {
		switch {
		case p.accept(".align"):
			v.Align = p.align()
			continue
		case space == Param && p.accept(".ptr"):
			p.ptr()
			continue
		case v.Type == NoType && (p.tok.is(".v2") || p.tok.is(".v4")):
			p.failTok("vector variables are not supported")
		case v.Type == NoType:
			v.Type = p.typ()
			if v.Type == Pred {
				p.failTok("a predicate cannot be in memory")
			}
			continue
		}
		break
	}
	if v.Align == 0 {
		v.Align = v.Type.Size()
	}
	id := p.ident("name")
	v.Name = id.text
	p.bounds(v, id)
	return v, id
}

func (p *parser) align() int {
	n := p.integer("alignment", 1<<10)
	if n == 0 || n&(n-1) != 0 {
		p.failf(p.tok.line, strconv.Itoa(n), "alignment is not a power of two")
	}
	return n
}

// ptr reads what follows .ptr: facts about the pointer's target that bind the
// caller, not us.
func (p *parser) ptr() {
	for _, s := range []string{".global", ".shared", ".const", ".local"} {
		if p.accept(s) {
			break
		}
	}
	if p.accept(".align") {
		p.align()
	}
}

// bounds reads [n][m]...; the empty [] is left as Len 0.
func (p *parser) bounds(v *Var, id token) {
	first := true
	for p.accept("[") {
		n := 0
		if !p.tok.is("]") {
			n = p.integer("array length", maxVar)
			if n == 0 {
				p.failf(id.line, id.text, "array without elements")
			}
		} else if !first {
			p.failf(id.line, id.text, "array length missing")
		}
		p.expect("]")
		v.Len *= n
		first = false
		if v.Len*v.Type.Size() > maxVar {
			p.failf(id.line, id.text, "larger than %d bytes", maxVar)
		}
	}
}

// vars parses the variables of one declaration. In a module they are globals,
// in a function they belong to it.
func (p *parser) vars(s *scope, extern bool) {
	space := map[string]Space{"global": Global, "const": Const, "shared": Shared, "local": Local}[p.advance().text]
	v, id := p.declare(space)
	for {
		p.fresh(s, id)
		p.checkVar(v, id, extern)
		if p.accept("=") {
			if space != Global && space != Const {
				p.failf(id.line, id.text, ".%s cannot have an initialiser", space)
			}
			p.initialiser(v, id)
		}
		if v.Len == 0 && !extern {
			p.failf(id.line, id.text, "array length missing")
		}
		p.place(s, v)
		if !p.accept(",") {
			break
		}
		next := p.ident("name")
		v = &Var{Name: next.text, Space: space, Type: v.Type, Align: v.Align, Len: 1}
		p.bounds(v, next)
		id = next
	}
	p.expect(";")
}

func (p *parser) checkVar(v *Var, id token, extern bool) {
	switch {
	case extern && v.Space != Shared:
		p.failf(id.line, id.text, "extern variables cannot be linked")
	case extern && v.Len != 0:
		p.failf(id.line, id.text, "an extern array of given length cannot be linked")
	}
}

// place gives a variable its offset and makes its name known.
func (p *parser) place(s *scope, v *Var) {
	var size *int
	switch {
	case v.Space == Global:
		size = &p.mod.GlobalBytes
	case v.Space == Const:
		size = &p.mod.ConstBytes
	case p.fn == nil: // module-scope shared
		size = &p.shared
	case v.Space == Shared:
		size = &p.fn.shared
	default:
		size = &p.fn.f.LocalBytes
	}
	if v.Len != 0 {
		v.Offset = roundUp(*size, v.Align)
		*size = v.Offset + v.Size()
		if *size > maxSpace {
			p.failf(p.tok.line, v.Name, "more than %d bytes of .%s", maxSpace, v.Space)
		}
	}
	if s.vars == nil {
		s.vars = map[string]*Var{}
	}
	s.vars[v.Name] = v
	if p.fn == nil {
		p.globals = append(p.globals, v)
	} else {
		p.fn.vars = append(p.fn.vars, v)
	}
}

func roundUp(n, align int) int { return (n + align - 1) &^ (align - 1) }

// initialiser reads = x or = {x, y}. Only numbers: an address would need a
// relocation, which the module has no room for.
func (p *parser) initialiser(v *Var, id token) {
	add := func() {
		l := p.constant()
		bits, ok := l.fit(v.Type)
		if !ok {
			p.failf(id.line, id.text, "initialiser is not a .%s", v.Type)
		}
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], bits)
		n := v.Type.Size()
		if n > len(b) {
			p.failf(id.line, id.text, "initialiser of .%s is not supported", v.Type)
		}
		v.Init = append(v.Init, b[:n]...)
	}
	if !p.accept("{") {
		add()
		return
	}
	if !p.tok.is("}") {
		for {
			if p.tok.is("{") {
				p.failTok("nested initialisers are not supported")
			}
			add()
			if !p.accept(",") {
				break
			}
		}
	}
	p.expect("}")
	if n := len(v.Init) / v.Type.Size(); v.Len == 0 {
		v.Len = n
	} else if n > v.Len {
		p.failf(id.line, id.text, "%d initialisers for %d elements", n, v.Len)
	}
}

// constant reads a number, with signs.
func (p *parser) constant() literal {
	const maxSigns = 8
	neg, inv := false, false
	for i := 0; ; i++ {
		if i == maxSigns {
			p.failTok("too many signs")
		}
		if p.accept("-") {
			if inv {
				p.failTok("constant expressions are not supported")
			}
			neg = !neg
		} else if p.accept("~") {
			if neg || inv {
				p.failTok("constant expressions are not supported")
			}
			inv = true
		} else if !p.accept("+") {
			break
		}
	}
	if p.accept("WARP_SZ") {
		return sign(literal{litInt, 32}, neg, inv)
	}
	if p.tok.kind != tokNumber {
		if p.tok.kind == tokIdent {
			p.failTok("a number expected, addresses are not supported here")
		}
		p.failTok("a number expected")
	}
	l, ok := parseLiteral(p.tok.text)
	if !ok || inv && l.kind != litInt {
		p.failTok("bad number")
	}
	p.advance()
	return sign(l, neg, inv)
}

func sign(l literal, neg, inv bool) literal {
	if inv {
		l.bits = ^l.bits
	}
	if neg {
		l = l.negate()
	}
	return l
}

// params parses an entry's parameter list, if there is one.
func (p *parser) params(f *Func, s *scope) []*Var {
	var list []*Var
	if !p.accept("(") {
		return nil
	}
	for !p.accept(")") {
		if len(list) > 0 {
			p.expect(",")
		}
		p.expect(".param")
		v, id := p.declare(Param)
		p.fresh(s, id)
		if v.Len == 0 {
			p.failf(id.line, id.text, "array length missing")
		}
		v.Offset = roundUp(f.ParamBytes, v.Align)
		f.ParamBytes = v.Offset + v.Size()
		if f.ParamBytes > maxVar {
			p.failf(id.line, id.text, "parameters are larger than %d bytes", maxVar)
		}
		if s.vars == nil {
			s.vars = map[string]*Var{}
		}
		s.vars[v.Name] = v
		list = append(list, v)
	}
	return list
}
