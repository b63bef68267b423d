package spec

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

// maxFileSize bounds what is read: a spec is a page of text, and YAML parsers
// take long over megabytes of brackets.
const maxFileSize = 1 << 20

// pos is a place in a file, both from 1; the zero pos is "nowhere".
type pos struct{ line, col int }

var bom = []byte("\ufeff")

// checkText finds what no YAML parser should be asked to read, and what yaml.v3
// reports without a position. It returns the text without a byte order mark:
// Windows editors write one and show none, so it is not the user's mistake.
func checkText(data []byte, c *collector) ([]byte, bool) {
	if len(data) > maxFileSize {
		c.add(pos{1, 1}, tooLarge(int64(len(data))))
		return nil, false
	}
	data = bytes.TrimPrefix(data, bom)
	p := pos{1, 1}
	for rest := data; len(rest) > 0; {
		r, n := utf8.DecodeRune(rest)
		if msg := badRune(r, n, rest[0]); msg != "" {
			c.add(p, Error{Msg: msg})
			return nil, false
		}
		rest = rest[n:]
		switch {
		case r == '\n', r == '\r' && !bytes.HasPrefix(rest, []byte("\n")):
			p = pos{p.line + 1, 1}
		default:
			p.col++
		}
	}
	if len(bytes.TrimSpace(data)) == 0 {
		c.add(pos{1, 1}, Error{Msg: "the file is empty; a spec needs at least hidden_dim, topk, dtype and ep_size"})
		return nil, false
	}
	return data, true
}

func badRune(r rune, n int, first byte) string {
	switch {
	case r == utf8.RuneError && n == 1:
		return fmt.Sprintf("byte 0x%02x is not UTF-8; save the file as UTF-8", first)
	case r == 0:
		return "NUL byte; is this a text file saved as UTF-8?"
	case r == '\t', r == '\n', r == '\r':
		return ""
	case r < 0x20, r == 0x7f, r >= 0x80 && r < 0xa0 && r != 0x85, r == 0xfffe, r == 0xffff:
		return fmt.Sprintf("control character U+%04X", r)
	case r == 0x85, r == 0x2028, r == 0x2029:
		// YAML ends a line here and editors do not, so positions would be wrong.
		return fmt.Sprintf("invisible line separator U+%04X", r)
	case r == 0xfeff:
		return "byte order mark U+FEFF inside the text"
	}
	return ""
}

// tooLarge takes the size in bytes, or -1 where it is not known.
func tooLarge(size int64) Error {
	e := Error{Msg: "the file is too large for a spec", Allowed: "up to 1 MiB"}
	if size >= 0 {
		e.Value = fmt.Sprintf("%d bytes", size)
	}
	return e
}

// indentTab finds a tab in the indentation of the given line, from 1.
func indentTab(data []byte, line int) (pos, bool) {
	for n := 1; len(data) > 0; n++ {
		l, rest, _ := bytes.Cut(data, []byte("\n"))
		if n == line {
			indent := l[:len(l)-len(bytes.TrimLeft(l, " \t"))]
			i := bytes.IndexByte(indent, '\t')
			return pos{line, i + 1}, i >= 0
		}
		data = rest
	}
	return pos{}, false
}
