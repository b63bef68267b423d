package gen_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/moegen/moegen/cmd/moegen/gen"
)

// unpack writes a txtar archive to a new directory that is called moepkg.
func unpack(t *testing.T, archive string) string {
	t.Helper()
	var list []string
	for _, f := range txtar.Parse([]byte(archive)).Files {
		list = append(list, f.Name, string(f.Data))
	}
	return write(t, append(list, "moe.yaml", small)...)
}

const module = "-- go.mod --\nmodule example.com/moepkg\n\ngo 1.26\n"

func TestPackage(t *testing.T) {
	for _, tc := range []struct {
		name, archive string
		change        func(*gen.Options)
		want, err     string // the package, or a part of the error
	}{
		{name: "the directory", want: "moepkg"},
		{name: "existing files", archive: "-- a.go --\npackage other\n", want: "other"},
		{name: "existing files in a module", archive: module + "-- a.go --\npackage other\n", want: "other"},
		{name: "only an external test", archive: module + "-- a_test.go --\npackage other_test\n", want: "moepkg"},
		{name: "only an internal test", archive: module + "-- a_test.go --\npackage other\n", want: "other"},
		{name: "ignored files", archive: module + "-- a.go --\n//go:build ignore\n\npackage main\n", want: "moepkg"},
		{name: "a file for no system", archive: "-- a.go --\n//go:build never\n\npackage main\n", want: "moepkg"},
		{name: "a broken file", archive: module + "-- a.go --\npackage other\n\nfunc {\n", want: "other"},
		{name: "-package", change: func(o *gen.Options) { o.Package = "given" }, want: "given"},
		{name: "GOPACKAGE", change: func(o *gen.Options) { o.GoPackage = "given" }, want: "given"},
		{name: "GOPACKAGE of an external test", change: func(o *gen.Options) { o.GoPackage = "given_test" }, want: "given"},
		{name: "-package wins", change: func(o *gen.Options) { o.Package, o.GoPackage = "given", "other" }, want: "given"},
		{
			name: "-package against a file", archive: module + "-- a.go --\n// Comment.\npackage other\n",
			change: func(o *gen.Options) { o.Package = "given" },
			err:    "a.go:2:9: package other, and -package says given",
		},
		{
			name: "GOPACKAGE against a file", archive: "-- a.go --\npackage other\n",
			change: func(o *gen.Options) { o.GoPackage = "given" },
			err:    "a.go:1:9: package other, and $GOPACKAGE says given",
		},
		{
			name: "two packages", archive: module + "-- a.go --\npackage one\n-- b.go --\npackage two\n",
			err: "b.go:1:9: package two, and ",
		},
		{name: "a keyword", change: func(o *gen.Options) { o.Package = "func" }, err: `"func" cannot be the name of a Go package`},
		{name: "a prefix in lower case", change: func(o *gen.Options) { o.Prefix = "qwen" }, err: `"qwen" cannot start exported Go names`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := unpack(t, tc.archive)
			o := gen.Options{SpecFile: filepath.Join(dir, "moe.yaml"), NoPTX: true}
			if tc.change != nil {
				tc.change(&o)
			}
			set, err := gen.Generate(t.Context(), o)
			switch {
			case tc.err != "":
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("the error is %v, want %s", err, tc.err)
				}
			case err != nil:
				t.Error(err)
			case set.Package != tc.want:
				t.Errorf("package %s, want %s", set.Package, tc.want)
			}
		})
	}
}

func TestPackageOfDirectory(t *testing.T) {
	for dir, want := range map[string]string{"Qwen3-MoE": "qwen3moe", "8x7b": "x7b", "a_b.c": "abc", "123": "", "func": ""} {
		path := filepath.Join(t.TempDir(), dir)
		set, err := gen.Generate(t.Context(), gen.Options{SpecFile: "moe.yaml", Spec: parse(t, small), Dir: path, NoPTX: true})
		if want == "" {
			if err == nil || !strings.Contains(err.Error(), "-package") {
				t.Errorf("%s: the error is %v", dir, err)
			}
		} else if err != nil || set.Package != want {
			t.Errorf("%s: package %v, %v, want %s", dir, set, err, want)
		}
	}
}

func TestCollisions(t *testing.T) {
	for _, tc := range []struct{ name, archive, want string }{
		{"none", module + "-- a.go --\npackage p\n\nimport \"context\"\n\nvar _ context.Context\n\nfunc init() {}\n", ""},
		{"an external test", module + "-- a_test.go --\npackage p_test\n\ntype Dispatcher int\n", ""},
		{"an external test's test", module + "-- a_test.go --\npackage moepkg_test\n\nfunc TestDispatcher() {}\n", "a_test.go:3:6 TestDispatcher"},
		{"an external test's import", module + "-- a_test.go --\npackage moepkg_test\n\nimport \"example.com/step\"\n", "a_test.go:3:8 step"},
		{"a test in the package", module + "-- a_test.go --\npackage p\n\nfunc TestDispatcher() {}\n", ""},
		{"a test in the package, without a module", "-- a_test.go --\npackage p\n\nfunc TestDispatcher() {}\n", "a_test.go:3:6 TestDispatcher"},
		{"a method of another type", module + "-- a.go --\npackage p\n\ntype T int\n\nfunc (T) Dispatch() {}\n", ""},
		{"a type", module + "-- a.go --\npackage p\n\ntype Hidden struct{}\n\nfunc (Hidden) Ptr() {}\n", "a.go:3:6 Hidden"},
		{"a constant in a test", module + "-- a_test.go --\npackage p\n\nconst (\n\tA = 1\n\tTopK = 2\n)\n", "a_test.go:5:2 TopK"},
		{"a method", module + "-- a.go --\npackage p\n\nfunc (d *Dispatcher) Close() {}\n", "a.go:3:22 Dispatcher.Close"},
		{"an unexported name", module + "-- a.go --\npackage p\n\nfunc program() {}\n", "a.go:3:6 program"},
		{"a name that is imported", "-- a.go --\npackage p\n\nvar moert int\n", "a.go:3:5 moert"},
		{"an import", "-- a.go --\npackage p\n\nimport Probs \"fmt\"\n\nvar _ = Probs.Sprint()\n", "a.go:3:8 Probs"},
		{"an import without a name", "-- a.go --\npackage p\n\nimport _ \"example.com/program/v2\"\n", ""},
		{"an import with a version", "-- a.go --\npackage p\n\nimport \"example.com/program/v2\"\n", "a.go:3:8 program"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := unpack(t, tc.archive)
			o := gen.Options{SpecFile: filepath.Join(dir, "moe.yaml"), NoPTX: true}
			_, err := gen.Generate(t.Context(), o)
			var got []string
			var e *gen.CollisionError
			if errors.As(err, &e) {
				for _, c := range e.Collisions {
					got = append(got, filepath.Base(c.Pos)+" "+c.Name)
				}
				way := "-prefix"
				if strings.HasSuffix(e.File, "_test.go") {
					way = "-no-test"
				}
				if !strings.Contains(err.Error(), way) {
					t.Errorf("the error does not say what to do: %v", err)
				}
			} else if err != nil {
				t.Fatal(err)
			}
			if strings.Join(got, ", ") != tc.want {
				t.Errorf("collisions are %q, want %q", got, tc.want)
			}
			if strings.Contains(tc.want, "moert") {
				return // a prefix does not help against the import
			}
			o.Prefix = "Big"
			if _, err := gen.Generate(t.Context(), o); err != nil && !strings.Contains(tc.want, "moert") {
				t.Errorf("with a prefix: %v", err)
			}
		})
	}
}

// Two specs in one package collide, unless one has a prefix.
func TestTwoSpecs(t *testing.T) {
	dir := write(t, "moe.yaml", small, "big.yaml", strings.Replace(small, "1024", "4096", 1))
	generate(t, dir)
	o := gen.Options{SpecFile: filepath.Join(dir, "big.yaml"), NoPTX: true}
	_, err := gen.Generate(t.Context(), o)
	var e *gen.CollisionError
	if !errors.As(err, &e) || !strings.Contains(err.Error(), "more\n") {
		t.Fatalf("the error is %v, want a short list of collisions", err)
	}
	generate(t, dir, func(o *gen.Options) { o.SpecFile, o.Prefix = filepath.Join(dir, "big.yaml"), "Big" })
	text := string(read(t, dir, "big_moegen.go"))
	for _, want := range []string{"type BigHidden struct", "func NewBigDispatcher(", "func BigHiddenAt(", "var programBig = ", "BigTopK"} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q", want)
		}
	}
	if strings.Contains(text, "// Package") {
		t.Error("one of two specs writes the package's comment")
	}
	if got := states(t, dir); got != "" {
		t.Errorf("check says %s", got)
	}
}

func TestFileNames(t *testing.T) {
	for name, ok := range map[string]bool{"moe": true, "deepseek-v3.ep8": true, "_moe": false, ".moe": false, "a b": false, "ü": false} {
		dir := write(t)
		path := filepath.Join(dir, name+".yaml")
		if err := os.WriteFile(path, []byte("model: m\n"+small), 0o644); err != nil {
			t.Fatal(err)
		}
		set, err := gen.Generate(t.Context(), gen.Options{SpecFile: path, NoPTX: true})
		if (err == nil) != ok {
			t.Errorf("%s: %v", name, err)
		} else if ok && set.Name != name+"_moegen" {
			t.Errorf("%s becomes %s", name, set.Name)
		}
	}
}
