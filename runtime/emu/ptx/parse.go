package ptx

import (
	"fmt"
	"strconv"
	"strings"
)

// Limits on what a source may make the parser hold.
const (
	maxSource = 64 << 20
	maxDepth  = 64      // nested { }
	maxRegs   = 1 << 20 // a register range's length
	maxVar    = 1 << 31 // bytes of one variable
	maxSpace  = 1 << 40 // bytes of all variables of a space
)

// Parse parses the PTX of one module. The name is for messages. The error is
// an *Error, or an ErrorList where several statements are wrong.
func Parse(name string, src []byte) (*Module, error) {
	if len(src) > maxSource {
		return nil, &Error{File: name, Line: 1, Msg: fmt.Sprintf("source is larger than %d bytes", maxSource)}
	}
	p := &parser{
		file: name,
		scan: scanner{src: string(src), line: 1},
		mod:  &Module{Name: name},
	}
	p.top = &scope{}
	p.fill()
	p.protect(p.module)
	switch len(p.errs) {
	case 0:
		p.finish()
		return p.mod, nil
	case 1:
		return nil, p.errs[0]
	}
	return nil, p.errs
}

type parser struct {
	file string
	scan scanner
	tok  token // current
	peek token // the one after
	last int   // end offset of the token before tok

	mod     *Module
	errs    ErrorList
	target  target
	globals []*Var
	shared  int // bytes of the module-scope .shared variables
	top     *scope
	funcs   map[string]bool // names of entries
	fn      *function
}

// protect runs f and records the error it bails out with, if any.
func (p *parser) protect(f func()) (ok bool) {
	defer func() {
		if r := recover(); r != nil {
			b, is := r.(bail)
			if !is {
				panic(r)
			}
			if b.err != nil {
				p.errs = append(p.errs, b.err)
			}
			ok = false
		}
	}()
	f()
	return true
}

func (p *parser) fill() {
	p.tok = p.scan.next()
	p.peek = p.scan.next()
}

func (p *parser) advance() token {
	t := p.tok
	p.last = t.end
	p.tok, p.peek = p.peek, p.scan.next()
	return t
}

// failf ends what is being parsed with an error at line.
func (p *parser) failf(line int, text, format string, args ...any) {
	panic(bail{&Error{File: p.file, Line: line, Text: clip(text), Msg: fmt.Sprintf(format, args...)}})
}

// failTok ends what is being parsed with an error at the current token.
func (p *parser) failTok(format string, args ...any) {
	if p.tok.kind == tokBad {
		p.failf(p.tok.line, p.tok.text, "not PTX")
	}
	p.failf(p.tok.line, p.tok.describe(), format, args...)
}

func (p *parser) accept(s string) bool {
	if p.tok.kind != tokString && p.tok.is(s) {
		p.advance()
		return true
	}
	return false
}

func (p *parser) expect(s string) {
	if !p.accept(s) {
		p.failTok("%q expected", s)
	}
}

func (p *parser) ident(what string) token {
	if p.tok.kind != tokIdent {
		p.failTok("%s expected", what)
	}
	return p.advance()
}

// integer reads an integer constant of a directive, 0 to limit.
func (p *parser) integer(what string, limit uint64) int {
	if p.tok.kind != tokNumber {
		p.failTok("%s expected", what)
	}
	l, ok := parseLiteral(p.tok.text)
	if !ok || l.kind != litInt || l.bits > limit {
		p.failTok("bad %s", what)
	}
	p.advance()
	return int(l.bits)
}

// module parses the file's directives.
func (p *parser) module() {
	p.header()
	p.funcs = map[string]bool{}
	for p.tok.kind != tokEOF {
		p.moduleItem()
	}
}

func (p *parser) header() {
	p.expect(".version")
	v := p.tok
	major, minor, _ := strings.Cut(v.text, ".")
	ma, err1 := strconv.ParseUint(major, 10, 8)
	mi, err2 := strconv.ParseUint(minor, 10, 8)
	if v.kind != tokNumber || err1 != nil || err2 != nil {
		p.failTok("bad .version")
	}
	if ma < 6 || ma > 9 {
		p.failTok("PTX version not supported")
	}
	p.mod.Version = [2]int{int(ma), int(mi)}
	p.advance()
	p.expect(".target")
	t := p.ident("target")
	var ok bool
	if p.target, ok = parseTarget(t.text); !ok {
		p.failf(t.line, t.text, "unknown .target")
	}
	p.mod.Target = t.text
	for p.accept(",") {
		if o := p.ident("target option"); o.text != "debug" {
			p.failf(o.line, o.text, "target option not supported")
		}
	}
	p.expect(".address_size")
	if n := p.integer("address size", 64); n != 64 {
		p.failf(p.tok.line, strconv.Itoa(n), "address size not supported")
	}
}

func (p *parser) moduleItem() {
	line := p.tok.line
	if p.tok.kind != tokDot {
		p.failTok("directive expected")
	}
	switch p.tok.text {
	case "file":
		p.fileDirective()
	case "loc":
		p.locDirective()
	case "section":
		p.section()
	case "pragma":
		p.pragma()
	default:
		p.linkage(line)
	}
}

// linkage parses what may bear .visible and the like: variables and functions.
func (p *parser) linkage(line int) {
	extern := false
	for {
		switch {
		case p.accept(".visible"), p.accept(".weak"):
			continue
		case p.accept(".extern"):
			extern = true
			continue
		case p.tok.is(".common"):
			p.failTok("linkage not supported")
		}
		break
	}
	switch {
	case p.tok.is(".entry"):
		if extern {
			p.failTok("an extern kernel cannot be linked")
		}
		p.entry(line)
	case p.tok.is(".func"):
		p.funcDirective(line, extern)
	case p.tok.is(".global"), p.tok.is(".const"), p.tok.is(".shared"):
		p.vars(p.top, extern)
	default:
		p.failTok("unknown directive")
	}
}

// funcDirective skips a declaration: nvcc leaves those of printf and of
// __assertfail behind. A definition, like a call, is an error.
func (p *parser) funcDirective(line int, extern bool) {
	if !extern {
		p.failf(line, ".func", "device functions are not supported: every call must be inlined")
	}
	p.skipTo(";", line)
}

// skipTo skips to and over a punctuation outside of braces.
func (p *parser) skipTo(end string, line int) {
	for !p.accept(end) {
		if p.tok.kind == tokEOF || p.tok.kind == tokBad || p.tok.is("{") || p.tok.is("}") {
			p.failf(line, p.tok.describe(), "%q expected, found", end)
		}
		p.advance()
	}
}

func (p *parser) fileDirective() {
	p.expect(".file")
	line := p.tok.line
	n := p.integer("file number", 1<<16)
	if p.tok.kind != tokString {
		p.failTok("file name expected")
	}
	text := p.advance().text
	for p.accept(",") { // time stamp, size
		p.integer("number", 1<<63)
	}
	for len(p.mod.Files) <= n {
		p.mod.Files = append(p.mod.Files, "")
	}
	if n == 0 && p.mod.Version[0] < 7 {
		p.failf(line, ".file", "file numbers start at 1")
	}
	p.mod.Files[n] = text
}

// locDirective reads .loc and returns its position. There is no end mark: the
// attributes, if any, come after a comma.
func (p *parser) locDirective() Loc {
	p.expect(".loc")
	loc := Loc{File: p.integer("file number", 1<<16), Line: p.integer("line number", 1<<31)}
	p.integer("column", 1<<31)
	for p.accept(",") {
		switch a := p.ident("attribute of .loc"); a.text {
		case "function_name":
			p.ident("label")
			if p.accept("+") {
				p.integer("offset", 1<<31)
			}
		case "inlined_at":
			p.integer("file number", 1<<16)
			p.integer("line number", 1<<31)
			p.integer("column", 1<<31)
		default:
			p.failf(a.line, a.text, "unknown attribute of .loc")
		}
	}
	return loc
}

// section skips a debug section: nothing in it changes what runs. Other
// sections could, so they are errors.
func (p *parser) section() {
	line := p.tok.line
	p.expect(".section")
	if p.tok.kind != tokDot || !strings.HasPrefix(p.tok.text, "debug_") {
		p.failTok("only debug sections are supported")
	}
	p.advance()
	p.expect("{")
	for !p.accept("}") {
		if p.tok.kind == tokEOF || p.tok.kind == tokBad || p.tok.is("{") {
			p.failf(line, p.tok.describe(), "debug section does not end")
		}
		p.advance()
	}
}

// pragma accepts those known to be without effect on results.
func (p *parser) pragma() {
	p.expect(".pragma")
	for {
		if p.tok.kind != tokString {
			p.failTok("pragma expected")
		}
		word, _, _ := strings.Cut(strings.TrimSpace(p.tok.text), " ")
		switch word {
		case "nounroll", "used_bytes_mask", "enable_smem_spilling", "frequency":
		default:
			p.failTok("unknown pragma")
		}
		p.advance()
		if !p.accept(",") {
			break
		}
	}
	p.expect(";")
}
