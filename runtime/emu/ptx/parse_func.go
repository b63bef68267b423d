package ptx

// function is a kernel while it is being parsed.
type function struct {
	f      *Func
	params []*Var
	vars   []*Var
	shared int // bytes of its own .shared variables so far
	// usesShared: it names a module-scope .shared variable, so that all of
	// those are part of its shared memory.
	usesShared bool
	dynAlign   int // of the extern arrays that it uses
	loc        Loc // of the last .loc
	depth      int // of nested scopes
}

// entry parses .entry name (params) directives { body }.
func (p *parser) entry(line int) {
	p.expect(".entry")
	id := p.ident("kernel name")
	if p.funcs[id.text] || p.top.declared(id.text) {
		p.failf(id.line, id.text, "declared twice")
	}
	p.funcs[id.text] = true
	f := &Func{Name: id.text, Line: line}
	s := &scope{parent: p.top}
	p.fn = &function{f: f}
	p.fn.params = p.params(f, s)
	p.performance(f)
	p.body(s)
	p.seal()
	p.mod.Funcs = append(p.mod.Funcs, f)
	p.fn = nil
}

// performance parses the directives between the parameters and the body.
func (p *parser) performance(f *Func) {
	for !p.tok.is("{") {
		if p.tok.kind != tokDot {
			p.failTok("kernel body expected")
		}
		switch p.tok.text {
		case "maxntid":
			p.advance()
			f.MaxNTID = p.dims()
		case "reqntid":
			p.advance()
			f.ReqNTID = p.dims()
		case "minnctapersm":
			p.advance()
			f.MinNCTAPerSM = p.integer("number of blocks", 1<<16)
		case "maxnreg":
			p.advance()
			p.integer("number of registers", 1<<16)
		case "noreturn":
			p.advance()
		case "pragma":
			p.pragma()
		case "explicitcluster", "reqnctapercluster", "maxclusterrank", "blocksareclusters":
			p.failTok("thread block clusters are not supported")
		default:
			p.failTok("unknown directive")
		}
	}
}

func (p *parser) dims() [3]int {
	d := [3]int{p.integer("number of threads", 1<<16), 1, 1}
	for i := 1; i < 3 && p.accept(","); i++ {
		d[i] = p.integer("number of threads", 1<<16)
	}
	return d
}

// body parses { ... } with the nested scopes of inline asm. After a wrong
// statement it goes on with the next one, so that a report has more than one.
func (p *parser) body(s *scope) {
	open := p.tok.line
	p.expect("{")
	for {
		switch {
		case p.tok.kind == tokEOF:
			if len(p.errs) > 0 { // whose consequence this may be
				panic(bail{})
			}
			p.failf(open, "{", "block does not end")
		case p.accept("{"):
			if p.fn.depth++; p.fn.depth > maxDepth {
				p.failTok("blocks nested deeper than %d", maxDepth)
			}
			s = &scope{parent: s}
		case p.tok.is("}"):
			p.close(s)
			if p.fn.depth == 0 {
				p.end(p.tok.line)
				p.advance()
				return
			}
			p.advance()
			p.fn.depth--
			s = s.parent
		default:
			if !p.protect(func() { p.statement(s) }) {
				if len(p.errs) >= maxErrors {
					panic(bail{})
				}
				p.recoverStatement()
			}
		}
	}
}

// recoverStatement skips the rest of a wrong statement.
func (p *parser) recoverStatement() {
	line, open := p.tok.line, 0 // braces of a vector, which stay on the line
	for p.tok.kind != tokEOF {
		switch {
		case p.tok.is(";"):
			p.advance()
			return
		case p.tok.is("{") && p.tok.line == line:
			open++
		case p.tok.is("}") && (open > 0 || p.peek.is(";") || p.peek.is(",")):
			open = max(open-1, 0)
		case p.tok.is("{"), p.tok.is("}"):
			return
		}
		p.advance()
	}
}

func (p *parser) statement(s *scope) {
	switch p.tok.kind {
	case tokDot:
		p.directive(s)
	case tokIdent:
		if p.peek.is(":") {
			p.label(s)
			return
		}
		p.instruction(s)
	default:
		if !p.tok.is("@") {
			p.failTok("statement expected")
		}
		p.instruction(s)
	}
}

func (p *parser) directive(s *scope) {
	switch p.tok.text {
	case "reg":
		p.regs(s)
	case "shared", "local":
		p.vars(s, false)
	case "extern":
		p.advance()
		if !p.tok.is(".shared") {
			p.failTok("unknown directive")
		}
		p.vars(s, true)
	case "loc":
		p.fn.loc = p.locDirective()
	case "pragma":
		p.pragma()
	case "param":
		p.call()
	default:
		p.failTok("unknown directive")
	}
}

// call reports the call that a .param in a body prepares, and skips the block
// that nvcc puts around it so that the error stands alone.
func (p *parser) call() {
	line, callee := p.tok.line, ""
	for depth := 0; p.tok.kind != tokEOF && (depth > 0 || !p.tok.is("}")); p.advance() {
		switch {
		case p.tok.is("{"):
			depth++
		case p.tok.is("}"):
			depth--
		case p.tok.is("call") && callee == "":
			line, callee = p.tok.line, "call"
		case callee == "call" && p.tok.kind == tokIdent && p.peek.is(","):
			callee = p.tok.text
		}
	}
	p.failf(line, callee, "%s", noCalls)
}

// label declares a label at the next instruction, or a branch table.
func (p *parser) label(s *scope) {
	id := p.advance()
	p.expect(":")
	p.fresh(s, id)
	if p.tok.is(".branchtargets") {
		p.advance()
		t := &branchTable{}
		for {
			t.labels = append(t.labels, p.ident("label").text)
			if !p.accept(",") {
				break
			}
		}
		p.expect(";")
		if s.tables == nil {
			s.tables = map[string]*branchTable{}
		}
		s.tables[id.text] = t
		return
	}
	if s.labels == nil {
		s.labels = map[string]int{}
	}
	s.labels[id.text] = len(p.fn.f.Body)
}

// close resolves the branches of a scope that ends. A label that it does not
// have may be in the scope around it.
func (p *parser) close(s *scope) {
	f := p.fn.f
	for _, j := range s.jumps {
		in := &f.Body[j.instr]
		table := j.slot < 0 && in.Op == Brx
		if t := s.tables[j.label]; t != nil && table {
			p.spread(s, in, j, t)
			continue
		}
		at, ok := s.labels[j.label]
		switch {
		case ok && table:
			p.report(j.line, j.text, "not a .branchtargets list")
		case ok && j.slot < 0:
			in.Target = at
		case ok:
			in.Targets[j.slot] = at
		default:
			p.outward(s, j)
		}
	}
	s.jumps = nil
}

// spread turns a brx.idx's list into branches of their own. Instructions that
// use one list share its targets, so that the module cannot outgrow its text.
func (p *parser) spread(s *scope, in *Instr, j jump, t *branchTable) {
	if t.targets == nil {
		t.targets = make([]int, len(t.labels))
		for i, l := range t.labels {
			if at, ok := s.labels[l]; ok {
				t.targets[i] = at
			} else {
				p.outward(s, jump{j.instr, i, l, j.line, j.text})
			}
		}
	}
	in.Targets = t.targets
}

// outward hands a branch to the scope around s.
func (p *parser) outward(s *scope, j jump) {
	if p.fn.depth == 0 {
		p.report(j.line, j.text, "undeclared label "+clip(j.label))
		return
	}
	s.parent.jumps = append(s.parent.jumps, j)
}

// report notes an error without giving up what is being parsed.
func (p *parser) report(line int, text, msg string) {
	p.errs = append(p.errs, &Error{File: p.file, Line: line, Text: clip(text), Msg: msg})
	if len(p.errs) >= maxErrors {
		panic(bail{})
	}
}

// end makes sure that control cannot run off the end of the body: where it
// could, reaching the closing brace returns.
func (p *parser) end(line int) {
	f := p.fn.f
	n := len(f.Body)
	need := n == 0
	if n > 0 {
		last := &f.Body[n-1]
		switch last.Op {
		case Bra, Brx, Exit:
			need = last.Guard.Reg >= 0
		default:
			need = true
		}
	}
	for i := 0; i < n && !need; i++ {
		need = f.Body[i].Op == Bra && f.Body[i].Target == n
		for _, t := range f.Body[i].Targets {
			need = need || t == n
		}
	}
	if need {
		f.Body = append(f.Body, Instr{
			Op: Exit, Guard: Guard{Reg: -1}, Vec: 1, Line: line, Text: "}", Loc: p.fn.loc,
		})
	}
}

// seal lays out the kernel's shared memory: module-scope variables first, if
// it uses any, at the same place in every kernel.
func (p *parser) seal() {
	f := p.fn.f
	if p.fn.usesShared {
		f.SharedBytes = p.shared
	}
	for _, v := range p.fn.vars {
		if v.Space == Shared && v.Len != 0 {
			v.Offset = roundUp(f.SharedBytes, v.Align)
			f.SharedBytes = v.Offset + v.Size()
		}
	}
	if p.fn.dynAlign > 16 {
		f.SharedBytes = roundUp(f.SharedBytes, p.fn.dynAlign)
	}
	moved := map[*Var]*Var{}
	f.Params = settle(p.fn.params, moved)
	f.Vars = settle(p.fn.vars, moved)
	f.repoint(moved)
}

// finish moves the globals to their final place.
func (p *parser) finish() {
	moved := map[*Var]*Var{}
	p.mod.Globals = settle(p.globals, moved)
	for _, f := range p.mod.Funcs {
		f.repoint(moved)
	}
}

// settle copies variables into a slice whose elements do not move any more,
// and notes where each went.
func settle(vars []*Var, moved map[*Var]*Var) []Var {
	if len(vars) == 0 {
		return nil
	}
	list := make([]Var, len(vars))
	for i, v := range vars {
		list[i] = *v
		moved[v] = &list[i]
	}
	return list
}

// repoint makes operands name the settled variables. Only a memory or a
// variable operand names one, and those are never inside of a vector.
func (f *Func) repoint(moved map[*Var]*Var) {
	for i := range f.Body {
		for _, list := range [][]Operand{f.Body[i].Dst, f.Body[i].Src} {
			for j := range list {
				if to := moved[list[j].Var]; to != nil {
					list[j].Var = to
				}
			}
		}
	}
}
