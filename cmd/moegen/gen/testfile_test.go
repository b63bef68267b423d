package gen_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moegen/moegen/cmd/moegen/gen"
)

func TestTestPackage(t *testing.T) {
	for _, tc := range []struct{ name, gomod, below, pkg, want string }{
		{"the module's root", "module example.com/m\n", ".", "", `package moepkg_test "example.com/m"`},
		{"below it", "// Comment.\nmodule \"example.com/m\" // comment\n\ngo 1.26\n", "models/qwen3-moe", "", `package qwen3moe_test "example.com/m/models/qwen3-moe"`},
		{"no module", "", ".", "", "package moepkg"},
		{"a go.mod without a path", "go 1.26\n", ".", "", "package moepkg"},
		{"a path that cannot be imported", "module example.com/m\n", "a b", "", "package ab"},
		{"a command", "module example.com/m\n", ".", "main", "package main"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := write(t, "go.mod", tc.gomod)
			if tc.gomod == "" {
				root = write(t)
			}
			set, err := gen.Generate(t.Context(), gen.Options{SpecFile: "moe.yaml", Spec: parse(t, small), Dir: filepath.Join(root, tc.below), Package: tc.pkg, NoPTX: true})
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for line := range strings.Lines(string(set.Files["moe_moegen_test.go"])) {
				if line = strings.TrimSpace(line); strings.HasPrefix(line, "package ") || strings.HasPrefix(line, "model ") {
					got = strings.TrimSpace(got + " " + strings.TrimPrefix(line, "model "))
				}
			}
			if got != tc.want {
				t.Errorf("the test is of %s, not of %s", got, tc.want)
			}
		})
	}
}

// The option that leaves the test out holds for checks, and what go generate
// still has to read goes with the next run.
func TestNoTest(t *testing.T) {
	dir := write(t, "moe.yaml", small)
	generate(t, dir)
	without := func(o *gen.Options) { o.NoTest, o.GoFile = true, "generate.go" }
	for _, emptied := range []int{1, 0} {
		if r := generate(t, dir, without); len(r.Emptied) != emptied {
			t.Errorf("the report is %+v, want %d files emptied", r, emptied)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "moe_moegen_test.go")); err == nil {
		t.Error("the test is still there")
	}
	if got := states(t, dir); got != "" {
		t.Errorf("check says %s", got)
	}
	generate(t, dir)
	if got := states(t, dir); got != "" || !strings.Contains(files(t, dir), "moe_moegen_test.go") {
		t.Errorf("there are %s, and check says %q", files(t, dir), got)
	}
}
