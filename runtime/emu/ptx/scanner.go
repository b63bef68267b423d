package ptx

import "strings"

type tokenKind int

const (
	tokEOF tokenKind = iota
	tokIdent
	tokDot    // ".word", text without the dot; a word may contain "::"
	tokNumber // as written
	tokString // without the quotes
	tokPunct  // one character
	tokBad    // a character or a comment that cannot be scanned
)

type token struct {
	kind       tokenKind
	text       string
	line       int
	start, end int // byte offsets in the source
}

// is reports whether t is the punctuation or the directive s (".reg").
func (t token) is(s string) bool {
	switch t.kind {
	case tokPunct:
		return t.text == s
	case tokDot:
		return len(s) > 1 && s[0] == '.' && t.text == s[1:]
	case tokIdent:
		return t.text == s
	}
	return false
}

// describe is how a token appears in a message.
func (t token) describe() string {
	switch t.kind {
	case tokEOF:
		return "end of file"
	case tokDot:
		return "." + clip(t.text)
	case tokString:
		return `"` + clip(t.text) + `"`
	}
	return clip(t.text)
}

// clip keeps messages readable whatever the input.
func clip(s string) string {
	const limit = 200
	if len(s) > limit {
		return s[:limit] + "..."
	}
	return s
}

type scanner struct {
	src  string
	pos  int
	line int
}

func identStart(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == '$' || c == '%'
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

func identPart(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == '$' || digit(c)
}

// skipBlank skips white space and comments; it reports false at a comment that
// does not end.
func (s *scanner) skipBlank() bool {
	for s.pos < len(s.src) {
		switch c := s.src[s.pos]; {
		case c == '\n':
			s.line++
			s.pos++
		case c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v':
			s.pos++
		case strings.HasPrefix(s.src[s.pos:], "//"):
			n := strings.IndexByte(s.src[s.pos:], '\n')
			if n < 0 {
				n = len(s.src) - s.pos
			}
			s.pos += n
		case strings.HasPrefix(s.src[s.pos:], "/*"):
			n := strings.Index(s.src[s.pos+2:], "*/")
			if n < 0 {
				return false
			}
			s.line += strings.Count(s.src[s.pos:s.pos+2+n], "\n")
			s.pos += n + 4
		default:
			return true
		}
	}
	return true
}

func (s *scanner) next() token {
	if !s.skipBlank() {
		t := token{kind: tokBad, text: "comment without end", line: s.line, start: s.pos, end: len(s.src)}
		s.pos = len(s.src)
		return t
	}
	t := token{line: s.line, start: s.pos}
	if s.pos >= len(s.src) {
		t.end = s.pos
		return t
	}
	switch c := s.src[s.pos]; {
	case identStart(c):
		t.kind = tokIdent
		s.pos++
		s.while(identPart)
	case digit(c):
		t.kind = tokNumber
		s.number()
	case c == '.' && s.pos+1 < len(s.src) && identPart(s.src[s.pos+1]):
		t.kind = tokDot
		s.pos++
		s.dotWord()
		t.text, t.end = s.src[t.start+1:s.pos], s.pos
		return t
	case c == '"':
		return s.str()
	case strings.IndexByte("{}()[]<>,;:|+-!~@=*/&^?.", c) >= 0:
		t.kind = tokPunct
		s.pos++
	default:
		t.kind = tokBad
		s.pos++
	}
	t.text, t.end = s.src[t.start:s.pos], s.pos
	return t
}

func (s *scanner) while(ok func(byte) bool) {
	for s.pos < len(s.src) && ok(s.src[s.pos]) {
		s.pos++
	}
}

// dotWord scans a modifier such as "mbarrier::complete_tx::bytes".
func (s *scanner) dotWord() {
	for {
		s.while(identPart)
		rest := s.src[s.pos:]
		if len(rest) < 3 || rest[0] != ':' || rest[1] != ':' || !identPart(rest[2]) {
			return
		}
		s.pos += 2
	}
}

// number scans integers, 0f and 0d bit patterns, and decimal floats; whether
// the digits make sense is decided when the value is needed.
func (s *scanner) number() {
	start := s.pos
	s.while(identPart)
	lit := s.src[start:s.pos]
	if strings.Trim(lit, "0123456789") == "" && strings.HasPrefix(s.src[s.pos:], ".") {
		s.pos++
		s.while(identPart)
		lit = s.src[start:s.pos]
	}
	// The sign of an exponent: only where everything before it is decimal, as
	// 0x1e-1 is a subtraction.
	if last := lit[len(lit)-1]; (last == 'e' || last == 'E') &&
		strings.Trim(lit[:len(lit)-1], "0123456789.") == "" &&
		s.pos+1 < len(s.src) && (s.src[s.pos] == '+' || s.src[s.pos] == '-') && digit(s.src[s.pos+1]) {
		s.pos++
		s.while(digit)
	}
}

func (s *scanner) str() token {
	t := token{kind: tokString, line: s.line, start: s.pos}
	for i := s.pos + 1; i < len(s.src) && s.src[i] != '\n'; i++ {
		if s.src[i] == '\\' {
			i++
			continue
		}
		if s.src[i] == '"' {
			t.text, t.end = s.src[s.pos+1:i], i+1
			s.pos = i + 1
			return t
		}
	}
	t.kind, t.text, t.end = tokBad, "string without end", len(s.src)
	s.pos = len(s.src)
	return t
}
