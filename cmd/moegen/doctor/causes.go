package doctor

import (
	"fmt"
	"io"
	"regexp"
	"strings"
)

// Cause is a known reason for which something does not work. The table of causes
// is what findings say, what `moegen run` adds to errors, and docs/doctor.md.
type Cause struct {
	ID      string  `json:"reason"` // stable
	Check   string  `json:"-"`      // the check that finds it; run for what only a run can show
	Verdict Verdict `json:"-"`      // of the finding
	Symptom string  `json:"-"`
	Cause   string  `json:"cause"`
	Remedy  string  `json:"remedy"`
	// text, where set, matches the error of which this is the cause.
	text *regexp.Regexp
}

// driverError matches a driver.Error's text by the call, a pattern, and its codes.
// Multicast calls are written with [c] in them: binaries in which no such call
// may be are searched for their names.
func driverError(call, codes string) *regexp.Regexp {
	return regexp.MustCompile(`\b(?:` + call + `)\w*: [^:]*\((?:` + codes + `)\)`)
}

// causeOf returns the cause with that id. There being none is a mistake in this
// package.
func causeOf(id string) *Cause {
	for i := range causes {
		if causes[i].ID == id {
			return &causes[i]
		}
	}
	panic("doctor: no cause " + id)
}

// OfError finds the cause of an error by its text, as errors of other ranks come;
// nil if it is not a known one.
func OfError(text string) *Cause {
	for i := range causes {
		if c := &causes[i]; c.text != nil && c.text.MatchString(text) {
			return c
		}
	}
	return nil
}

// sections are the checks, and where else causes come from.
func sections() []check {
	return append(checks(), check{id: "spec", what: "whether the given spec can run here"},
		check{id: "run", what: "what only a run shows"})
}

func causesOf(check string) []*Cause {
	var list []*Cause
	for i := range causes {
		if causes[i].Check == check {
			list = append(list, &causes[i])
		}
	}
	return list
}

// Tables has all causes, as docs/doctor.md shows them.
func Tables() string {
	var b strings.Builder
	for _, s := range sections() {
		list := causesOf(s.id)
		if list == nil {
			continue
		}
		fmt.Fprintf(&b, "### %s: %s\n\n| symptom | reason, verdict | cause | remedy |\n|---|---|---|---|\n", s.id, s.what)
		for _, c := range list {
			fmt.Fprintf(&b, "| %s | `%s`, %s | %s | %s |\n", c.Symptom, c.ID, c.Verdict.text(), c.Cause, c.Remedy)
		}
		b.WriteString("\n")
	}
	return strings.ReplaceAll(b.String(), "*", `\*`)
}

// PrintCauses prints the same for terminals: moegen help causes.
func PrintCauses(w io.Writer) {
	fmt.Fprint(w, "What \"moegen doctor\" knows, by check: symptom, cause, remedy\n")
	for _, s := range sections() {
		list := causesOf(s.id)
		if list == nil {
			continue
		}
		fmt.Fprintf(w, "\n%s: %s\n", s.id, s.what)
		for _, c := range list {
			fmt.Fprintf(w, "\n  %s (%s)\n", c.ID, c.Verdict.text())
			for _, line := range []string{"symptom: " + c.Symptom, "cause:   " + c.Cause, "remedy:  " + c.Remedy} {
				printWrapped(w, 4, 9, line)
			}
		}
	}
}
