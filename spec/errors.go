package spec

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Error is one mistake in a spec.
type Error struct {
	File      string // as given to Parse or Load; empty for a spec that came from Go
	Line, Col int    // both from 1, Col in characters; 0 for a spec that came from Go
	Field     string // path of the field, such as combine.wire or arch[1]; may be empty
	Value     string // what was given, shortened for display; may be empty
	Allowed   string // what is allowed instead; may be empty
	Msg       string // what is wrong
}

// Error returns "file:line:col: field: message (got X; allowed: Y)", less the
// parts that are not known.
func (e *Error) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File + ":")
	}
	if e.Line > 0 {
		fmt.Fprintf(&b, "%d:%d:", e.Line, e.Col)
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	if e.Field != "" {
		b.WriteString(e.Field + ": ")
	}
	b.WriteString(e.Msg)
	var more []string
	if e.Value != "" {
		more = append(more, "got "+e.Value)
	}
	if e.Allowed != "" {
		more = append(more, "allowed: "+e.Allowed)
	}
	if len(more) > 0 {
		b.WriteString(" (" + strings.Join(more, "; ") + ")")
	}
	return b.String()
}

// ErrorList is all the mistakes of a spec, in order of position.
type ErrorList []*Error

// Error returns the errors' texts, one a line.
func (l ErrorList) Error() string {
	lines := make([]string, len(l))
	for i, e := range l {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets [errors.Is] and [errors.As] look at every error of the list.
func (l ErrorList) Unwrap() []error {
	errs := make([]error, len(l))
	for i, e := range l {
		errs[i] = e
	}
	return errs
}

// maxErrors is how many errors are told of one file. A person reads a few; a
// megabyte of rubbish would make a hundred thousand.
const maxErrors = 100

// collector gathers the errors of one file.
type collector struct {
	file string
	errs ErrorList
}

func (c *collector) add(p pos, e Error) {
	if e.File == "" {
		e.File = c.file
	}
	e.Line, e.Col = p.line, p.col
	c.errs = append(c.errs, &e)
}

// err returns what was gathered as an ErrorList, or nil, never a typed nil. The
// file itself comes first, then others that it names.
func (c *collector) err() error {
	if len(c.errs) == 0 {
		return nil
	}
	l := c.errs
	slices.SortStableFunc(l, func(a, b *Error) int {
		return cmp.Or(c.rank(a)-c.rank(b), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
	})
	if more := len(l) - maxErrors; more > 0 {
		next := *l[maxErrors]
		l = append(l[:maxErrors:maxErrors], &Error{File: next.File, Line: next.Line, Col: next.Col,
			Msg: fmt.Sprintf("%d more errors from here on", more)})
	}
	return l
}

func (c *collector) rank(e *Error) int {
	if e.File == c.file {
		return 0
	}
	return 1
}

// show makes text from a file fit for a one-line message.
func show(s string) string {
	s = shorten(s)
	if q := strconv.Quote(s); q != `"`+s+`"` || strings.TrimSpace(s) != s || s == "" {
		return q
	}
	return s
}

func shorten(s string) string {
	const limit = 40
	if utf8.RuneCountInString(s) > limit {
		s = string([]rune(s)[:limit]) + "…"
	}
	return s
}
