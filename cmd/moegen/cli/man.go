package cli

import (
	"fmt"
	"io"
	"strings"
)

// printMan prints a page for man: what "moegen help" says, with the topics that
// such pages have a section for.
func printMan(w io.Writer) {
	fmt.Fprint(w, `.TH MOEGEN 1
.SH NAME
moegen \- token exchanges for mixture\-of\-experts inference
.SH SYNOPSIS
.B moegen
.I COMMAND
[\fIFLAGS\fR] [\fIARGUMENTS\fR]
.SH DESCRIPTION
`)
	fmt.Fprint(w, roff(usageText))
	fmt.Fprint(w, ".SH COMMANDS\n")
	for _, c := range commands() {
		if c.summary != "" {
			fmt.Fprintf(w, ".TP\n.B %s\n%s\n", roff(c.name), roff(c.summary))
		}
	}
	fmt.Fprint(w, ".SH TOPICS\n")
	for _, t := range topics() {
		fmt.Fprintf(w, ".TP\n.B %s\n%s\n", roff("help "+t.name), roff(t.summary))
	}
	fmt.Fprint(w, ".SH EXAMPLES\n")
	printVerbatim(w, startText)
	for _, s := range []struct{ section, topic string }{{"EXIT STATUS", "exit-codes"}, {"ENVIRONMENT", "environment"}} {
		fmt.Fprintf(w, ".SH %s\n", s.section)
		var b strings.Builder
		printTopic(&b, s.topic)
		_, text, _ := strings.Cut(b.String(), "\n\n") // the section has the title
		printVerbatim(w, text)
	}
}

// printVerbatim prints a text as it stands.
func printVerbatim(w io.Writer, text string) {
	fmt.Fprintf(w, ".nf\n%s\n.fi\n", roff(strings.TrimRight(text, "\n")))
}

// roff escapes what man would take for its own.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
