package ptx

// want is the type that a shape asks of its operand in this instruction.
func (ip *instrParser) want(s shape) Type {
	in := ip.in
	switch s.ref {
	case refT:
		return in.Type
	case refS:
		return in.SrcType
	case refW:
		switch in.Type {
		case S16:
			return S32
		case U16:
			return U32
		case S32:
			return S64
		}
		return U64
	}
	return s.typ
}

// dest resolves a destination.
func (ip *instrParser) dest(s shape, r raw) Operand {
	t := ip.want(s)
	if s.kind == shapePred {
		t = Pred
	}
	if s.vec && ip.in.Vec > 1 {
		return ip.vec(s, t, r, false)
	}
	if r.kind == rawSink {
		if !s.sink || s.vec && ip.in.Op == Ld {
			ip.fail("%s cannot discard its result", ip.key)
		}
		return Operand{Kind: SinkOperand}
	}
	if r.kind == rawVec && ip.in.Op == Mov {
		return ip.unpack(t, r, false)
	}
	if r.neg {
		ip.fail("negated destination %s", r.name)
	}
	return ip.reg(r, t, s.wide)
}

// source resolves a source operand.
func (ip *instrParser) source(s shape, r raw) Operand {
	switch s.kind {
	case shapeMem:
		return ip.address(s, r)
	case shapeImm:
		if r.kind != rawConst || r.lit.kind != litInt {
			ip.fail("integer constant expected, not %s", clip(r.name))
		}
		return Operand{Kind: ImmOperand, Imm: r.lit.bits}
	case shapeLabel:
		if r.kind != rawName {
			ip.fail("label expected, not %s", clip(r.name))
		}
		ip.scope.jumps = append(ip.scope.jumps, jump{len(ip.fn.f.Body), -1, r.name, ip.line, ip.in.Text})
		return Operand{}
	case shapeMov:
		return ip.movSource(r)
	case shapePred:
		return ip.reg(r, Pred, false)
	}
	t := ip.want(s)
	if s.vec && ip.in.Vec > 1 {
		return ip.vec(s, t, r, true)
	}
	return ip.value(r, t, s.wide)
}

// value resolves a register or constant of type t.
func (ip *instrParser) value(r raw, t Type, wide bool) Operand {
	if r.kind != rawConst {
		return ip.reg(r, t, wide)
	}
	bits, ok := r.lit.fit(t)
	if !ok {
		ip.fail("constant is not a .%s", t)
	}
	return Operand{Kind: ImmOperand, Imm: bits}
}

// reg resolves a register of type t.
func (ip *instrParser) reg(r raw, t Type, wide bool) Operand {
	switch r.kind {
	case rawReg:
	case rawName:
		if r.name[0] == '%' {
			ip.fail("undeclared register or unknown special register %s", clip(r.name))
		}
		ip.fail("undeclared %s", clip(r.name))
	case rawSink:
		ip.fail("_ where a value is needed")
	case rawSpecial:
		ip.fail("only mov reads the special register %s", r.name)
	default:
		ip.fail("register expected, not %s", clip(r.name))
	}
	have := ip.fn.f.Regs[r.reg].Type
	if !fits(have, t, wide) {
		ip.fail("%s is a .%s register, not a .%s", clip(r.name), have, t)
	}
	if r.neg && t != Pred {
		ip.fail("! needs a predicate, not %s", clip(r.name))
	}
	return Operand{Kind: RegOperand, Reg: r.reg, Neg: r.neg}
}

// vec resolves {a,b,...} of the instruction's vector length.
func (ip *instrParser) vec(s shape, t Type, r raw, src bool) Operand {
	if r.kind != rawVec {
		ip.fail("vector of %d expected, not %s", ip.in.Vec, clip(r.name))
	}
	if len(r.vec) != ip.in.Vec {
		ip.fail("vector of %d expected, not of %d", ip.in.Vec, len(r.vec))
	}
	op := Operand{Kind: VecOperand, Vec: make([]Operand, len(r.vec))}
	for i, e := range r.vec {
		switch {
		case src:
			op.Vec[i] = ip.value(e, t, s.wide)
		case e.kind == rawSink && s.sink:
			op.Vec[i] = Operand{Kind: SinkOperand}
		default:
			op.Vec[i] = ip.reg(e, t, s.wide)
		}
	}
	return op
}

// unpack resolves the vector of mov.b32 {a,b},r and of its reverse: elements
// of one size that add up to the type.
func (ip *instrParser) unpack(t Type, r raw, src bool) Operand {
	if t.class() != classBits {
		ip.fail("packing needs a .b type, not .%s", t)
	}
	var elem Type
	if n := len(r.vec); n == 2 || n == 4 {
		elem = map[int]Type{1: B8, 2: B16, 4: B32, 8: B64}[t.Size()/n]
	}
	if elem == NoType || elem == B8 {
		ip.fail("a .%s does not hold %d registers", t, len(r.vec))
	}
	op := Operand{Kind: VecOperand, Vec: make([]Operand, len(r.vec))}
	for i, e := range r.vec {
		switch {
		case src:
			op.Vec[i] = ip.value(e, elem, false)
		case e.kind == rawSink:
			op.Vec[i] = Operand{Kind: SinkOperand}
		default:
			op.Vec[i] = ip.reg(e, elem, false)
		}
	}
	return op
}

// movSource resolves what mov (and cvta) can take.
func (ip *instrParser) movSource(r raw) Operand {
	in := ip.in
	t := in.Type
	switch r.kind {
	case rawSpecial:
		fit := t.Size() == r.spec.size() || r.spec == GridID && t.Size() == 4
		if in.Op != Mov || t.class() == classFloat || t.class() == classPred || !fit {
			ip.fail("%s is not a .%s", r.name, t)
		}
		return Operand{Kind: SpecialOperand, Special: r.spec}
	case rawVar:
		return ip.varAddress(r)
	case rawVec:
		if in.Op != Mov || in.Dst[0].Kind == VecOperand {
			ip.fail("%s cannot take a vector here", ip.key)
		}
		return ip.unpack(t, r, true)
	}
	if in.Dst[0].Kind == VecOperand {
		return ip.reg(r, t, false)
	}
	return ip.value(r, t, false)
}

// varAddress resolves the address of a variable as a value.
func (ip *instrParser) varAddress(r raw) Operand {
	in := ip.in
	if t := in.Type; t.class() == classFloat || t.class() == classPred || t.Size() < 4 {
		ip.fail("a .%s cannot hold the address of %s", t, clip(r.name))
	}
	// Global and constant memory have 64-bit addresses, the others small ones.
	if s := r.v.Space; in.Type.Size() == 4 && (s == Global || s == Const) {
		ip.fail("the address of %s has 64 bits", clip(r.name))
	}
	if in.Op == Cvta && in.Space != r.v.Space {
		ip.fail("%s is in .%s", clip(r.name), r.v.Space)
	}
	return Operand{Kind: VarOperand, Var: r.v, Off: r.off, Reg: -1}
}

// address resolves a memory operand.
func (ip *instrParser) address(s shape, r raw) Operand {
	in := ip.in
	if r.kind != rawMem {
		ip.fail("address expected, not %s", clip(r.name))
	}
	space := in.Space
	switch {
	case s.fixed:
		space = s.space
	case in.Op == MultimemLdReduce || in.Op == MultimemSt || in.Op == MultimemRed:
		space = Global
	}
	op := Operand{Kind: MemOperand, Reg: r.reg, Off: r.off, Var: r.v}
	switch {
	case r.v != nil:
		if space == Generic && r.v.Space != Param {
			space = r.v.Space // a generic access to what is known to be there
			in.Space = space
		}
		if r.v.Space != space {
			ip.fail("%s is in .%s, not in .%s", clip(r.v.Name), r.v.Space, space)
		}
	case r.reg >= 0:
		t := ip.fn.f.Regs[r.reg].Type
		short := t.Size() == 4 && space != Generic && space != Global && space != Const
		if c := t.class(); c != classBits && c != classInt || t.Size() != 8 && !short {
			ip.fail("%s is a .%s register: no address in .%s", clip(r.name), t, space)
		}
	default:
		if space != Local {
			ip.fail("an address must have a register or a variable")
		}
	}
	return op
}
