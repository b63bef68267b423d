package spec

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Whatever the file holds, Parse returns a spec that survives a round trip, or
// errors that a person can find and read.
func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/bad/*.yaml")
	more, _ := filepath.Glob("presets/*.yaml")
	for _, file := range append(files, more...) {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add(full().Canonical())
	for _, s := range []string{"", "\ufeff" + four, "\t", "*", "&a *a", "{", "[[[", "- - -", "? ", "!", "!!", "%YAML 9.9\n---\n", "%TAG ! x\n---\n!y",
		"\"\\ud800\"", "'\n", "|9\n", ">-\n x", "a: |\n\tb", "a: {b: [c, {d: e}]}", "...", "--- ---", "#\n---\n#\n...\n#", "<<: {a: b}", "a:\r\rb:\n", "0: 0", "!!binary a: 1"} {
		f.Add([]byte(s))
		f.Add([]byte(four + s))
		f.Add([]byte(four + "combine: " + s + "\n"))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse("fuzz.yaml", data)
		if err != nil {
			checkErrors(t, err)
			if strings.Contains(err.Error(), "the YAML library failed") {
				t.Logf("yaml.v3 panics on %q: %v", data, err)
			}
			return
		}
		checkRoundTrip(t, s)
	})
}
