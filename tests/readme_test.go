package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// asProgram makes README's program of runtime/example_test.go.
var asProgram = strings.NewReplacer("package runtime_test\n", "package main\n", "func Example() {", "func main() {", "\t// Output: done: <nil>\n", "")

// TestReadmeExample: README's program is the runtime's Example, and compiles
// and runs as it stands there in a module of its own, as a user's would be.
func TestReadmeExample(t *testing.T) {
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(readme), "<!-- example -->\n```go\n")
	program, _, ok2 := strings.Cut(rest, "```")
	if !ok || !ok2 {
		t.Fatal("README.md has no example")
	}
	example, err := os.ReadFile(filepath.Join(root, "runtime", "example_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(asProgram.Replace(string(example)), program); diff != "" {
		t.Errorf("README.md's program is not that of runtime/example_test.go any more; copy one to the other (-example +README):\n%s", diff)
	}
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	gomod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	_, requires, _ := strings.Cut(string(gomod), "\n\n") // the same pinned versions
	write("go.mod", "module example.test/engine\n\nrequire github.com/moegen/moegen v0.0.0\nreplace github.com/moegen/moegen => "+root+"\n"+requires)
	gosum, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	write("go.sum", string(gosum))
	write("main.go", program)

	for _, args := range [][]string{{"vet", "-mod=mod", "."}, {"run", "-mod=mod", "."}} {
		cmd := exec.Command("go", args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("go %v: %v\n%s", args, err, out)
		}
		if args[0] == "run" && !strings.Contains(string(out), "done: <nil>") {
			t.Errorf("the example printed:\n%s", out)
		}
	}
}
