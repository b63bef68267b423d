package tests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moegen/moegen/runtime/nvcc"
)

// TestGeneratedTests: the tests that are generated pass, whatever a spec asks
// for, outside their package and in it. Those in generated/ run as all others do.
func TestGeneratedTests(t *testing.T) {
	compiler, err := nvcc.Find(t.Context())
	if err != nil {
		t.Skipf("not tested, there is no nvcc (make toolchain): %v", err)
	}
	r := newRepo(t)
	r.use(compiler)
	specs, err := filepath.Glob("features/*.yaml")
	if err != nil || len(specs) == 0 {
		t.Fatalf("no specs: %v", err)
	}
	args := []string{"go", "tool", "moegen", "generate"}
	for _, path := range specs {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		// A name that is no package's.
		name := "features/" + strings.TrimSuffix(filepath.Base(path), ".yaml") + "/moe.yaml"
		r.write(name, string(text))
		args = append(args, name)
	}
	const (
		alone = "hidden_dim: 8\ntopk: 1\ndtype: bf16\nep_size: 1\nmax_tokens: 1\n"
		small = "hidden_dim: 64\ntopk: 3\ndtype: fp32\nep_size: 3\n"
	)
	r.write("features/alone/moe.yaml", alone)
	r.do(append(args, "features/alone/moe.yaml")...)
	// Two in one package; and a command, whose test is in the package.
	r.write("features/two/small.yaml", small)
	r.do("go", "tool", "moegen", "generate", "-prefix", "Draft", "features/two/small.yaml")
	r.write("features/two/alone.yaml", alone)
	r.do("go", "tool", "moegen", "generate", "features/two/alone.yaml")
	r.write("features/cmd/small.yaml", small)
	r.write("features/cmd/main.go", "package main\n\nfunc main() { println(EPSize) }\n")
	r.do("go", "tool", "moegen", "generate", "features/cmd/small.yaml")

	r.do("go", "vet", "./features/...")
	out := r.do("go", "test", "-v", "./features/...")
	for _, want := range []string{"--- PASS: TestDispatcher", "--- PASS: ExampleDispatcher", "--- PASS: TestDraftDispatcher", "--- PASS: ExampleDraftDispatcher"} {
		n := len(specs) + 3
		if strings.Contains(want, "Draft") {
			n = 1
		}
		if got := strings.Count(out, want+" "); got != n {
			t.Errorf("%q comes %d times, want %d:\n%s", want, got, n, out)
		}
	}
}
