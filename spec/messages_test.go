package spec

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

var (
	// place is where a message says that something is wrong, and in which field.
	place   = regexp.MustCompile(`^[A-Za-z0-9]+\.(?:yaml|json):[1-9][0-9]*:[1-9][0-9]*: (?:[a-z0-9_.\[\]-]+: )?(.*)$`)
	inField = regexp.MustCompile(`^[A-Za-z0-9]+\.(?:yaml|json):[0-9]+:[0-9]+: [a-z0-9_.\[\]-]+: `)
	// wayOut is what a message offers: what is allowed, the nearest, or what to do.
	wayOut = regexp.MustCompile(`allowed: |the nearest |did you mean |one of |[;:] (?:use|write|keep|leave|put|save|or|moegen is for|a spec is|a spec needs) |needs at least|must be a mapping|YAML indents with spaces|a key must be the name|is an object with keys|once is enough`)
	// aboutTheFile are the messages about a text that has no fields yet.
	aboutTheFile = regexp.MustCompile(`^(?:not YAML: |not JSON: |a second YAML document|a spec must be a mapping|a model's config.json is an object|a key must be the name|aliases |anchors |merge keys )`)
)

// Every message of the golden files says where, in which field, and what to do
// about it. There are many of them, so that none is forgotten.
func TestMessages(t *testing.T) {
	var all []string
	bad, err := filepath.Glob("testdata/bad/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range bad {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(data))
	}
	archives, err := filepath.Glob("testdata/from/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range archives {
		a, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(a.Files[len(a.Files)-1].Data))
	}
	if len(all) < 60 {
		t.Errorf("only %d bad specs and configs", len(all))
	}
	kinds := map[string]bool{}
	for _, text := range all {
		for line := range strings.Lines(text) {
			line = strings.TrimSuffix(line, "\n")
			m := place.FindStringSubmatch(line)
			if m == nil {
				t.Errorf("no place: %s", line)
				continue
			}
			whole := aboutTheFile.MatchString(m[1])
			if !whole && !inField.MatchString(line) {
				t.Errorf("no field: %s", line)
			}
			if syntax := strings.HasPrefix(m[1], "not "); !syntax && !wayOut.MatchString(m[1]) {
				t.Errorf("no way out: %s", line)
			}
			kinds[regexp.MustCompile(`[0-9]+`).ReplaceAllString(m[1], "")] = true
		}
	}
	if len(kinds) < 60 {
		t.Errorf("only %d different messages", len(kinds))
	}
}
