package nvcc

import (
	"fmt"
	"regexp"
	"strings"
)

// Diag is one message of the compiler. File is empty where the message is about no
// place in the source; Line and Col are 0 where they are not known.
type Diag struct {
	File     string
	Line     int
	Col      int
	Severity string // "fatal", "error", "warning", "note"
	Msg      string
}

// String formats the message the way that editors understand.
func (d Diag) String() string {
	var b strings.Builder
	if d.File != "" {
		b.WriteString(d.File + ":")
		if d.Line > 0 {
			fmt.Fprintf(&b, "%d:", d.Line)
		}
		if d.Col > 0 {
			fmt.Fprintf(&b, "%d:", d.Col)
		}
		b.WriteByte(' ')
	}
	return b.String() + d.Severity + ": " + d.Msg
}

// diagForms are the forms of messages: of the CUDA front end, of the host compiler's
// preprocessor, of the assembler about a line of PTX, and of the tools themselves.
var diagForms = []struct {
	re                          *regexp.Regexp
	file, line, col, level, msg int
	tool                        int
}{
	{re: regexp.MustCompile(`^(.+?)\((\d+)\): (catastrophic error|fatal error|error|warning|remark)( #[\w-]+)?: (.*)$`),
		file: 1, line: 2, level: 3, msg: 5},
	{re: regexp.MustCompile(`^(.+?):(\d+)(?::(\d+))?: (fatal error|error|warning|note): (.*)$`),
		file: 1, line: 2, col: 3, level: 4, msg: 5},
	{re: regexp.MustCompile(`^ptxas (.+?), line (\d+); (fatal|error|warning)\s*: (.*)$`),
		file: 1, line: 2, level: 3, msg: 4},
	{re: regexp.MustCompile(`^(nvcc|ptxas|cicc|cudafe\+\+|nvlink|fatbinary) (fatal|error|warning)\s*: (.*)$`),
		tool: 1, level: 2, msg: 3},
}

// parseDiags finds the messages in a log in which the paths of temporary files have
// been replaced.
func parseDiags(log string) []Diag {
	var diags []Diag
	for line := range strings.Lines(log) {
		line = strings.TrimRight(line, "\r\n")
		for _, form := range diagForms {
			m := form.re.FindStringSubmatch(line)
			if m == nil {
				continue
			}
			pick := func(i int) string {
				if i == 0 {
					return ""
				}
				return m[i]
			}
			d := Diag{File: pick(form.file), Line: number(pick(form.line)), Col: number(pick(form.col)),
				Severity: severity(pick(form.level)), Msg: pick(form.msg)}
			if form.tool > 0 {
				d.Msg = m[form.tool] + ": " + d.Msg
			}
			diags = append(diags, d)
			break
		}
	}
	return diags
}

func severity(level string) string {
	switch level {
	case "fatal error", "catastrophic error":
		return "fatal"
	case "remark":
		return "note"
	}
	return level
}

// tempName is the prefix of nvcc's intermediate files.
var tempName = regexp.MustCompile(`tmpxft_[0-9a-f]+_[0-9a-f]+(-\d+)?_`)

// cleanLog replaces the paths of temporary files in a log: dir is where the compiler
// ran, the file base there is the source called name.
func cleanLog(log, dir, base, name string) string {
	log = strings.ReplaceAll(log, dir+"/", "")
	log = tempName.ReplaceAllString(log, "")
	if base == name {
		return log
	}
	at := regexp.MustCompile(`(?m)(^|[ "])` + regexp.QuoteMeta(base) + `([(:".])`)
	return at.ReplaceAllString(log, "${1}"+strings.ReplaceAll(name, "$", "$$")+"${2}")
}
