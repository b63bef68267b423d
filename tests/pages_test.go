package tests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// block is a fenced block of a page, or a comment that begins with "test:", of
// which text is the rest.
type block struct {
	kind string // what stands behind the fence, or "test"
	file string // named in a comment <!-- file: NAME --> before it
	text string
	line int // of the page, where the text begins
}

// blocks reads those of a page of docs.
func blocks(t *testing.T, page string) []block {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "docs", page))
	if err != nil {
		t.Fatal(err)
	}
	var list []block
	var open *block
	end, file := "", ""
	for i, line := range strings.Split(string(data), "\n") {
		name, isFile := strings.CutPrefix(line, "<!-- file: ")
		switch {
		case open != nil && line == end:
			list = append(list, *open)
			open, file = nil, ""
		case open != nil:
			open.text += line + "\n"
		case strings.HasPrefix(line, "```"):
			open, end = &block{kind: line[3:], file: file, line: i + 2}, "```"
		case line == "<!-- test:":
			open, end = &block{kind: "test", line: i + 2}, "-->"
		case isFile:
			file = strings.TrimSuffix(name, " -->")
		}
	}
	if open != nil || len(list) == 0 {
		t.Fatalf("%s has a block that does not end, or none", page)
	}
	return list
}
