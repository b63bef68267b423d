package spec

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
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

// Whatever a config.json holds, a spec that takes its numbers from there is valid
// or refused with errors that have a place.
func FuzzConfig(f *testing.F) {
	for _, pattern := range []string{"testdata/from/*.txtar", "testdata/config/*.txtar"} {
		files, _ := filepath.Glob(pattern)
		for _, file := range files {
			a, err := txtar.ParseFile(file)
			if err != nil {
				f.Fatal(err)
			}
			for _, part := range a.Files {
				if strings.HasSuffix(part.Name, ".json") {
					f.Add(part.Data)
				}
			}
		}
	}
	for _, s := range []string{"", "{", "[", "\"", "{\"a\":", "{\"a\":1}x", "NaN", "-Infinity", "{\"hidden_size\": Infinity}", "\ufeff{}", "{\"hidden_size\":[]}"} {
		f.Add([]byte(s))
	}
	const yaml = "from: config.json\ndtype: bf16\nep_size: 1\n"
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parse("moe.yaml", []byte(yaml), func(path string) (*config, error) { return parseConfig(path, data) })
		if err == nil {
			s.From = ""
			checkRoundTrip(t, s)
			return
		}
		var list ErrorList
		if !errors.As(err, &list) || len(list) == 0 {
			t.Fatalf("the error is a %T: %[1]v", err)
		}
		for _, e := range list {
			if e.Line < 1 || e.Col < 1 || strings.ContainsAny(e.Error(), "\n\r\x00") {
				t.Errorf("bad error %#v", e)
			}
		}
	})
}
