package gen

import (
	"strings"

	"github.com/dave/jennifer/jen"
)

const docWidth = 80

// glue is a space at which comments are not wrapped.
const glue = "\u00a0"

// comment renders text as a comment, wrapped. Paragraphs are divided by blank
// lines; lines that start with a tab or "# " stay as they are.
func comment(text string) []string {
	var out []string
	line := "//"
	flush := func() {
		if line != "//" {
			out = append(out, line)
		}
		line = "//"
	}
	for raw := range strings.Lines(strings.Trim(text, "\n")) {
		raw = strings.TrimRight(raw, "\n")
		switch {
		case raw == "":
			flush()
			out = append(out, "//")
		case raw[0] == '\t':
			flush()
			out = append(out, "//"+raw)
		case strings.HasPrefix(raw, "# "):
			flush()
			out = append(out, "// "+raw)
		default:
			for word := range strings.FieldsFuncSeq(raw, func(r rune) bool { return r == ' ' }) {
				word = strings.ReplaceAll(word, glue, " ")
				if line != "//" && len(line)+1+len(word) > docWidth {
					flush()
				}
				line += " " + word
			}
		}
	}
	flush()
	return out
}

// commenter is what comments can be added to: files and groups.
type commenter interface{ Comment(string) *jen.Statement }

func doc(to commenter, text string) {
	for _, line := range comment(text) {
		to.Comment(line)
	}
}
