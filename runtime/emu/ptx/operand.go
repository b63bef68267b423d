package ptx

// rawKind is what an operand is before it is known what is wanted.
type rawKind int

const (
	rawReg rawKind = iota + 1
	rawConst
	rawSpecial
	rawVar
	rawName // undeclared: a label, or a mistake
	rawMem
	rawVec
	rawSink
)

type raw struct {
	kind rawKind
	name string // as written: registers, variables, names
	reg  int    // rawReg; rawMem: base or -1
	neg  bool   // !p
	lit  literal
	spec Special
	v    *Var // rawVar, rawMem
	off  int64
	vec  []raw
	pair *raw // what follows |
}

// operand reads one operand.
func (p *parser) operand(s *scope) raw {
	r := p.simple(s)
	if p.accept("|") {
		second := p.simple(s)
		r.pair = &second
	}
	return r
}

func (p *parser) simple(s *scope) raw {
	switch {
	case p.tok.is("["):
		return p.memory(s)
	case p.tok.is("{"):
		return p.vector(s)
	case p.accept("!"):
		r := p.named(s)
		if r.kind != rawReg {
			p.failf(p.tok.line, r.name, "! needs a predicate register")
		}
		r.neg = true
		return r
	case p.tok.kind == tokIdent && p.tok.text != "WARP_SZ":
		return p.named(s)
	case p.tok.is("("):
		p.failTok("constant expressions are not supported")
	}
	return raw{kind: rawConst, lit: p.constant(), name: "constant"}
}

// vector reads {a, b}.
func (p *parser) vector(s *scope) raw {
	const most = 8
	p.expect("{")
	r := raw{kind: rawVec, name: "{...}"}
	for {
		if len(r.vec) == most {
			p.failTok("more than %d vector elements", most)
		}
		if p.tok.is("{") || p.tok.is("[") {
			p.failTok("vector element expected")
		}
		r.vec = append(r.vec, p.simple(s))
		if !p.accept(",") {
			break
		}
	}
	p.expect("}")
	return r
}

// memory reads [reg], [reg+n], [var], [var+n] or [n].
func (p *parser) memory(s *scope) raw {
	p.expect("[")
	r := raw{kind: rawMem, reg: -1, name: "[...]"}
	if p.tok.kind == tokIdent && p.tok.text != "WARP_SZ" {
		line := p.tok.line
		switch base := p.named(s); base.kind {
		case rawReg:
			r.reg, r.name = base.reg, "["+base.name+"]"
		case rawVar:
			r.v, r.off, r.name = base.v, base.off, "["+base.name+"]"
		default:
			p.failf(line, base.name, "undeclared address")
		}
		if r.reg >= 0 && p.accept("+") {
			r.off = p.offset()
		}
	} else {
		r.off = p.offset()
	}
	p.expect("]")
	return r
}

func (p *parser) offset() int64 {
	line := p.tok.line
	l := p.constant()
	const limit = 1 << 40
	if off := int64(l.bits); l.kind == litInt && off > -limit && off < limit {
		return off
	}
	p.failf(line, "", "bad address offset")
	return 0
}

// named reads a register, variable (and offset), special register, label or _.
func (p *parser) named(s *scope) raw {
	id := p.ident("operand")
	if id.text == "_" {
		return raw{kind: rawSink, name: "_"}
	}
	full := id.text
	for p.tok.kind == tokDot && p.tok.start == p.last { // %tid.x
		full += "." + p.advance().text
	}
	if sp := specialWords[full]; sp != 0 {
		return raw{kind: rawSpecial, spec: sp, name: full}
	}
	if full != id.text {
		p.failf(id.line, full, "unknown special register, or vector element")
	}
	for at := s; at != nil; at = at.parent {
		if i, ok := p.lookupReg(at, full); ok {
			return raw{kind: rawReg, reg: i, name: full}
		}
		if v := at.vars[full]; v != nil {
			r := raw{kind: rawVar, v: v, name: full}
			if v.Space == Shared {
				p.fn.usesShared = p.fn.usesShared || at == p.top && v.Len != 0
				if v.Len == 0 {
					p.fn.dynAlign = max(p.fn.dynAlign, v.Align)
				}
			}
			if p.accept("+") {
				r.off = p.offset()
			}
			return r
		}
	}
	return raw{kind: rawName, name: full}
}

// lookupReg finds a register of this very scope. Registers get their index at
// first use, so what nvcc declares and never uses takes no room.
func (p *parser) lookupReg(s *scope, name string) (int, bool) {
	if i, ok := s.regs[name]; ok {
		return i, true
	}
	t, ok := s.decls[name]
	if !ok {
		if t, ok = s.inRange(name); !ok {
			return 0, false
		}
	}
	if s.regs == nil {
		s.regs = map[string]int{}
	}
	f := p.fn.f
	i := len(f.Regs)
	s.regs[name] = i
	f.Regs = append(f.Regs, Reg{Name: name, Type: t})
	return i, true
}
