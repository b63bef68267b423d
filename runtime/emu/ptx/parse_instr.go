package ptx

import "strings"

// instrParser is the parser at one instruction.
type instrParser struct {
	*parser
	in    *Instr
	scope *scope
	key   string   // of the table
	words []string // modifiers after the key
	line  int
	start int // offset of the opcode
}

// instruction parses [@p] opcode.mods operands ;
func (p *parser) instruction(s *scope) {
	in := Instr{Guard: Guard{Reg: -1}, Line: p.tok.line, Loc: p.fn.loc}
	if p.accept("@") {
		in.Guard.Neg = p.accept("!")
		r := p.named(s)
		if r.kind != rawReg || p.fn.f.Regs[r.reg].Type != Pred {
			p.failf(in.Line, r.name, "guard is not a declared predicate")
		}
		in.Guard.Reg = r.reg
		in.Line = p.tok.line
	}
	ip := &instrParser{parser: p, in: &in, scope: s, line: in.Line, start: p.tok.start}
	base := p.ident("opcode")
	var words []string
	for p.tok.kind == tokDot {
		words = append(words, p.advance().text)
	}
	found := ip.opcode(base.text, words)

	var ops []raw
	if !p.tok.is(";") {
		for {
			ops = append(ops, p.operand(s))
			if !p.accept(",") {
				break
			}
			const most = 16
			if len(ops) == most {
				ip.fail("more than %d operands", most)
			}
		}
	}
	if !p.tok.is(";") {
		ip.fail("%q where an operand ends", p.tok.describe())
	}
	in.Text = ip.text()
	p.advance()
	ip.resolve(found, ops)

	switch in.Op {
	case CpAsync, CpAsyncBulk, CpAsyncCtl, GridDepControl,
		MbarArrive, MbarExpectTx, MbarInit, MbarInval, MbarTestWait, MbarTryWait:
	default:
		in.Mods = ""
	}
	p.fn.f.Body = append(p.fn.f.Body, in)
}

// fail ends the statement with an error about it.
func (ip *instrParser) fail(format string, args ...any) {
	ip.failf(ip.line, ip.text(), format, args...)
}

// text is the statement so far as one line.
func (ip *instrParser) text() string {
	if ip.in.Text != "" {
		return ip.in.Text
	}
	end := ip.last
	if ip.tok.kind != tokEOF && !ip.tok.is(";") && ip.tok.line == ip.line {
		end = ip.tok.end
	}
	if end <= ip.start {
		return ip.tok.describe()
	}
	return oneLine(ip.scan.src[ip.start:end])
}

// oneLine puts single spaces for all white space and comments.
func oneLine(s string) string {
	if strings.Contains(s, "/") {
		sc := scanner{src: s, line: 1}
		var b strings.Builder
		end := 0
		for t := sc.next(); t.kind != tokEOF; t = sc.next() {
			if t.start > end && b.Len() > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(s[t.start:t.end])
			end = t.end
		}
		return b.String()
	}
	return strings.Join(strings.Fields(s), " ")
}

// opcode finds the table's forms for an opcode: those of the longest key.
func (ip *instrParser) opcode(base string, words []string) []*form {
	table := forms()
	for n := min(len(words), 3); n >= 0; n-- {
		key := strings.Join(append([]string{base}, words[:n]...), ".")
		if fs := table[key]; fs != nil {
			ip.key, ip.words = key, words[n:]
			ip.in.Mods = strings.Join(words, ".")
			return fs
		}
	}
	full := strings.Join(append([]string{base}, words...), ".")
	for ip.tok.line == ip.line && !ip.tok.is(";") && ip.tok.kind != tokEOF {
		ip.advance() // for the message's text
	}
	ip.why(full)
	ip.fail("unknown opcode %s", clip(full))
	return nil
}

// why ends the statement with the reason, if the opcode is a known one that is
// not supported.
func (ip *instrParser) why(full string) {
	for _, u := range unsupported {
		if full == u.prefix || strings.HasPrefix(full, u.prefix+".") {
			ip.fail("%s", u.why)
		}
	}
}

// resolve finds the form that fits modifiers and operands, and fills in the
// instruction.
func (ip *instrParser) resolve(list []*form, ops []raw) {
	blank := *ip.in
	var match []*form
	worst := 0 // the furthest that a form got
	for _, f := range list {
		in := blank
		in.Op = f.op
		if at := f.match(ip.words, &in); at < 0 {
			match = append(match, f)
		} else {
			worst = max(worst, at)
		}
	}
	if len(match) == 0 {
		ip.failMods(list, worst)
	}
	// Forms that differ only in their operands differ in the number.
	f := match[0]
	for _, m := range match {
		if m.takes(len(ops)) {
			f = m
			break
		}
	}
	if extra := ip.cacheHint(); !f.takes(len(ops) - extra) {
		ip.fail("wrong number of operands (%d)", len(ops))
	} else if extra > 0 {
		// The policy changes where lines are kept, not what is in them.
		ip.reg(ops[len(ops)-1], B64, false)
		ops = ops[:len(ops)-1]
	}
	in := ip.in
	in.Op, in.Vec = f.op, 1
	f.match(ip.words, in)
	ip.operands(f, ops)
	if f.check != nil {
		if msg := f.check(in); msg != "" {
			ip.fail("%s", msg)
		}
	}
	if msg := ip.target.check(in); msg != "" {
		ip.fail("%s", msg)
	}
}

// cacheHint is 1 where the last operand is a cache policy.
func (ip *instrParser) cacheHint() int {
	for _, w := range ip.words {
		if w == "L2::cache_hint" {
			return 1
		}
	}
	return 0
}

// failMods says which modifier is to blame.
func (ip *instrParser) failMods(list []*form, at int) {
	ip.why(ip.key + "." + strings.Join(ip.words, "."))
	for _, w := range ip.words {
		known := false
		for _, f := range list {
			for i := range f.slots {
				known = known || f.slots[i].has(w)
			}
		}
		if !known {
			ip.fail("%s does not take .%s", ip.key, clip(w))
		}
	}
	if at < len(ip.words) {
		ip.fail("%s does not take .%s here", ip.key, clip(ip.words[at]))
	}
	ip.fail("%s lacks a modifier", ip.key)
}

// takes reports whether the form may have n operands.
func (f *form) takes(n int) bool {
	least := len(f.dst)
	for _, s := range f.src {
		if !s.opt {
			least++
		}
	}
	return n >= least && n <= len(f.dst)+len(f.src)
}

// operands fills in Dst and Src.
func (ip *instrParser) operands(f *form, ops []raw) {
	in := ip.in
	for i, s := range f.dst {
		r := ops[i]
		in.Dst = append(in.Dst, ip.dest(s, r))
		if r.pair != nil {
			if !s.pair {
				ip.fail("%s has one destination", ip.key)
			}
			in.Dst = append(in.Dst, ip.dest(shape{kind: shapePred, typ: Pred, sink: true}, *r.pair))
		} else if s.pair && !s.pairOpt {
			ip.fail("%s needs a second destination", ip.key)
		}
	}
	for i, r := range ops[len(f.dst):] {
		if r.pair != nil {
			ip.fail("%s in a source operand", "|")
		}
		if op := ip.source(f.src[i], r); op.Kind != 0 { // a label is none
			in.Src = append(in.Src, op)
		}
	}
}
