package tests

import (
	"os"
	"path/filepath"
	"regexp"
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

// TestLinks: pages link to files that are there, and to headings that they have.
func TestLinks(t *testing.T) {
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	links := 0
	read := func(page string) string {
		data, err := os.ReadFile(page)
		if err != nil {
			t.Error(err)
		}
		return string(data)
	}
	heading := regexp.MustCompile(`(?m)^#+ (.*)$`)
	for _, page := range append(pages, "../README.md", "../ARCHITECTURE.md", "../CONTRIBUTING.md", "../CHANGELOG.md") {
		for _, m := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(read(page), -1) {
			file, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(file, "://") {
				continue
			}
			links++
			target := filepath.Join(filepath.Dir(page), file)
			if file == "" {
				target = page
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %v", page, err)
				continue
			}
			found := anchor == ""
			if !found {
				for _, h := range heading.FindAllStringSubmatch(read(target), -1) {
					found = found || slug(h[1]) == anchor
				}
			}
			if !found {
				t.Errorf("%s links to %s, and there is no such heading", page, m[1])
			}
		}
	}
	if links < 20 {
		t.Errorf("only %d links were looked at", links)
	}
}

// slug is a heading's anchor, as GitHub makes it.
func slug(heading string) string {
	kept := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(heading), "")
	return strings.ReplaceAll(kept, " ", "-")
}
