package tests

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var codeSpan = regexp.MustCompile("`[^`]*`")

// TestTables: all rows of a table in a page have as many cells as its first one.
func TestTables(t *testing.T) {
	root, err := filepath.Glob("../*.md")
	if err != nil {
		t.Fatal(err)
	}
	docs, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for _, page := range slices.Concat(root, docs) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		cells := 0
		for i, line := range strings.Split(string(text), "\n") {
			if !strings.HasPrefix(line, "|") {
				cells = 0
				continue
			}
			n := strings.Count(strings.ReplaceAll(codeSpan.ReplaceAllString(line, ""), `\|`, ""), "|")
			if cells == 0 {
				cells = n
			}
			if rows++; n != cells {
				t.Errorf("%s:%d: %d cells in a table of %d: %s", page, i+1, n-1, cells-1, line)
			}
		}
	}
	if rows < 100 {
		t.Errorf("%d rows in all pages", rows)
	}
}
