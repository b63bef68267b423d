package gen_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moegen/moegen/cmd/moegen/gen"
	"github.com/moegen/moegen/runtime/nvcc"
	"github.com/moegen/moegen/spec"
)

var update = flag.Bool("update", false, "write the packages in generated/")

const small = "hidden_dim: 1024\ntopk: 2\ndtype: bf16\nep_size: 2\n"

// compiler returns nvcc, or skips the test.
func compiler(t *testing.T) *nvcc.Compiler {
	t.Helper()
	c, err := nvcc.Find(t.Context())
	if err != nil {
		t.Skipf("not tested, there is no nvcc (make toolchain): %v", err)
	}
	return c
}

func parse(t *testing.T, yaml string) *spec.Spec {
	t.Helper()
	s, err := spec.Parse("moe.yaml", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// write puts files, given as name and content in turn, into a new directory
// that is called moepkg.
func write(t *testing.T, files ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "moepkg")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(files); i += 2 {
		if err := os.WriteFile(filepath.Join(dir, files[i]), []byte(files[i+1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// generate generates for dir's moe.yaml without PTX and writes the output.
func generate(t *testing.T, dir string, change ...func(*gen.Options)) gen.Report {
	t.Helper()
	o := gen.Options{SpecFile: filepath.Join(dir, "moe.yaml"), NoPTX: true}
	for _, f := range change {
		f(&o)
	}
	set, err := gen.Generate(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	report, err := set.Write(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// states returns what a check of dir's moe.yaml says, as "file state" words.
func states(t *testing.T, dir string) string {
	t.Helper()
	set, err := gen.Generate(t.Context(), gen.Options{SpecFile: filepath.Join(dir, "moe.yaml"), Check: true})
	if err != nil {
		t.Fatal(err)
	}
	differences, err := set.Compare(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, d := range differences {
		list = append(list, d.File+" "+string(d.State))
	}
	return strings.Join(list, ", ")
}

// files returns the names of what is in dir.
func files(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return strings.Join(list, " ")
}

func read(t *testing.T, path ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}
