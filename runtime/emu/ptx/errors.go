package ptx

import (
	"fmt"
	"strings"
)

// maxErrors is how many errors Parse collects before it gives up.
const maxErrors = 10

// Error is one thing in the source that this package does not accept.
type Error struct {
	File string // the name given to Parse
	Line int    // 1-based
	Text string // the statement, or what was found
	Msg  string
}

func (e *Error) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Msg)
	}
	return fmt.Sprintf("%s:%d: %s: %s", e.File, e.Line, e.Msg, e.Text)
}

// ErrorList is what Parse returns when it found several errors, in source
// order; errors.As finds the first one as an *Error.
type ErrorList []*Error

func (l ErrorList) Error() string {
	lines := make([]string, len(l))
	for i, e := range l {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap makes errors.Is and errors.As look at every error.
func (l ErrorList) Unwrap() []error {
	errs := make([]error, len(l))
	for i, e := range l {
		errs[i] = e
	}
	return errs
}

// bail carries an error out of nested parsing functions; only this package's
// entry points recover it, and nothing else is recovered.
type bail struct{ err *Error }
