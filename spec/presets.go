package spec

import (
	"embed"
	"fmt"
	"strings"
)

//go:embed presets/*.yaml
var presets embed.FS

// Presets returns the names of the presets, sorted.
func Presets() []string {
	entries, err := presets.ReadDir("presets")
	if err != nil {
		panic(err) // embedded: cannot fail
	}
	names := make([]string, len(entries)) // ReadDir sorts
	for i, e := range entries {
		names[i] = strings.TrimSuffix(e.Name(), ".yaml")
	}
	return names
}

// Preset returns the spec of a known model as YAML text with comments, to be
// written to a file and edited.
func Preset(name string) ([]byte, error) {
	names := Presets()
	for _, n := range names {
		if n == name {
			text, err := presets.ReadFile("presets/" + name + ".yaml")
			return append([]byte(SchemaLine), text...), err
		}
	}
	hint := ""
	if s := suggest(name, names); s != "" {
		hint = "; did you mean " + s + "?"
	}
	return nil, fmt.Errorf("no preset %s%s (presets: %s)", show(name), hint, strings.Join(names, ", "))
}
