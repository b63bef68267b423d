package gen

import (
	"bytes"
	"regexp"
	"strings"
)

// tidy makes the assembled source read as if it had been written by hand: no
// runs of blank lines, which template conditions leave behind, section titles of
// one width, and comments at line ends in a column, whose place depends on the
// spec's numbers.
func tidy(src []byte) []byte {
	var lines []string
	for line := range bytes.Lines(src) {
		text := string(bytes.TrimRight(line, " \t\n"))
		if strings.HasPrefix(text, "// ---- ") { // a section's title
			text = strings.TrimRight(text, "- ") + " "
			text += strings.Repeat("-", max(80-len(text), 4))
		}
		if text == "" && len(lines) > 0 && lines[len(lines)-1] == "" {
			continue
		}
		lines = append(lines, text)
	}
	alignComments(lines)
	return []byte(strings.TrimRight(strings.Join(lines, "\n"), "\n") + "\n")
}

// commented matches a line of code with a comment. Lines with string literals
// are left alone.
var commented = regexp.MustCompile(`^(\s*[^\s/"][^"]*?)\s+(// [^"]*)$`)

// alignComments moves the comments of neighbouring lines two spaces behind the
// longest of them.
func alignComments(lines []string) {
	for start := 0; start < len(lines); {
		var code, comment []string
		width := 0
		for _, line := range lines[start:] {
			m := commented.FindStringSubmatch(line)
			if m == nil {
				break
			}
			code, comment = append(code, m[1]), append(comment, m[2])
			width = max(width, len(m[1]))
		}
		for i := range code {
			lines[start+i] = code[i] + strings.Repeat(" ", width-len(code[i])+2) + comment[i]
		}
		start += max(len(code), 1)
	}
}
