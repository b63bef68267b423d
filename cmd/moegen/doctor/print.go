package doctor

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// Print writes the report for people.
func (r *Report) Print(w io.Writer) {
	fmt.Fprintf(w, "backend: %s (%s)\n\n", r.Backend, r.Why)
	printFindings(w, r.Findings)
	for _, c := range r.Specs {
		fmt.Fprintf(w, "\nspec %s (%s, %s): %s\n", c.Name, c.Model, plural(c.Ranks, "rank"), c.verdict())
		printFindings(w, append(slices.Clone(c.Findings), c.Transports...))
	}
	fmt.Fprintf(w, "\n%s\n", r.summary())
}

func (c *Case) verdict() string {
	switch {
	case !c.CanRun:
		return "CANNOT run here"
	case c.Ranks == 1:
		return "can run here, with nothing to transport"
	}
	return "can run here, over " + c.Transport
}

func (r *Report) summary() string {
	parts := []string{}
	for _, v := range []Verdict{Failure, Warning} {
		n := 0
		for _, f := range r.Findings {
			if f.Verdict == v {
				n++
			}
		}
		if n > 0 {
			parts = append(parts, plural(n, string(v)))
		}
	}
	text := "this machine: " + strings.Join(parts, ", ")
	if len(parts) == 0 {
		text += "nothing is wrong"
	}
	for _, c := range r.Specs {
		text += fmt.Sprintf("\n%s: %s", c.Name, c.verdict())
	}
	if len(r.Specs) == 0 && !r.CanRun {
		text += "\nNOTHING can run here: no GPU that the kernels are for, no nvcc, no cached kernels for the emulator"
	}
	return text
}

// printFindings has what was not checked at the end, by cause.
func printFindings(w io.Writer, all []Finding) {
	var reasons []string
	unchecked := map[string]*Finding{}
	for _, f := range all {
		if f.Verdict != NotChecked {
			f.print(w)
			continue
		}
		key := f.Reason + f.Found
		if u := unchecked[key]; u != nil {
			u.Subject += ", " + f.Subject
			continue
		}
		reasons, unchecked[key] = append(reasons, key), &f
	}
	for _, key := range reasons {
		unchecked[key].print(w)
	}
}

// Columns of the report.
const (
	textColumn = 39
	width      = 120
)

func (v Verdict) text() string {
	return strings.ReplaceAll(string(v), "_", " ")
}

func (f *Finding) print(w io.Writer) {
	verdict := f.Verdict.text()
	if f.Verdict == Failure {
		verdict = "FAILURE"
	}
	if f.Verdict == NotChecked {
		printWrapped(w, 0, 12, fmt.Sprintf("%-11s %s", verdict, strings.TrimSuffix(f.Subject+": "+f.Found, ": ")))
	} else {
		printWrapped(w, 0, textColumn, fmt.Sprintf("%-11s %-17s %-8s %s", verdict, f.Subject, f.Use, f.Found))
	}
	for _, l := range f.Lines {
		fmt.Fprintf(w, "%*s%s\n", textColumn, "", l)
	}
	for _, part := range []struct{ label, text string }{{"cause:  ", f.Cause}, {"remedy: ", f.Remedy}} {
		if part.text != "" && part.text != "Nothing." {
			printWrapped(w, textColumn, len(part.label), part.label+part.text)
		}
	}
}

// printWrapped prints a text from column left on; its further lines begin hang
// columns to the right of that. Runs of spaces stay.
func printWrapped(w io.Writer, left, hang int, text string) {
	room := width - left
	prefix := strings.Repeat(" ", left)
	for first := true; ; first = false {
		if !first {
			prefix, room = strings.Repeat(" ", left+hang), width-left-hang
		}
		cut := len(text)
		if len(text) > room {
			if cut = strings.LastIndex(text[:room+1], " "); cut <= 0 {
				cut = len(text) // one long word
			}
			if first && cut <= hang {
				cut = len(text)
			}
		}
		fmt.Fprintln(w, strings.TrimRight(prefix+text[:cut], " "))
		if text = strings.TrimLeft(text[cut:], " "); text == "" {
			return
		}
	}
}
