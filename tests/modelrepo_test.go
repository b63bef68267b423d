package tests

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moegen/moegen/runtime/nvcc"
)

// repo is a copy of modelrepo, as its own repository would be.
type repo struct {
	t    *testing.T
	dir  string
	root string // moegen's
}

func newRepo(t *testing.T) *repo {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	r := &repo{t: t, dir: filepath.Join(t.TempDir(), "engine"), root: root}
	err = filepath.WalkDir("modelrepo", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.Contains(d.Name(), "_moegen.") || strings.HasSuffix(d.Name(), "_moegen_test.go") { // generated where somebody tried it out
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel("modelrepo", path)
		if err != nil {
			return err
		}
		r.write(rel, string(data))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	r.replace("go.mod", "=> ../..", "=> "+root)
	// The module's own sums, but those of moegen's newest dependencies too.
	sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	r.write("go.sum", string(sums))
	return r
}

func (r *repo) path(name string) string { return filepath.Join(r.dir, filepath.FromSlash(name)) }

func (r *repo) write(name, text string) {
	r.t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(r.path(name)), 0o755), os.WriteFile(r.path(name), []byte(text), 0o644)); err != nil {
		r.t.Fatal(err)
	}
}

func (r *repo) read(name string) string {
	r.t.Helper()
	data, err := os.ReadFile(r.path(name))
	if err != nil {
		r.t.Fatal(err)
	}
	return string(data)
}

func (r *repo) replace(name, old, new string) {
	r.t.Helper()
	text := r.read(name)
	if !strings.Contains(text, old) {
		r.t.Fatalf("%s has no %q", name, old)
	}
	r.write(name, strings.ReplaceAll(text, old, new))
}

// files returns the names of what is in a folder, written by hand and generated.
func (r *repo) files(name string) (byHand, generated string) {
	r.t.Helper()
	entries, err := os.ReadDir(r.path(name))
	if err != nil {
		r.t.Fatal(err)
	}
	var hand, moegen []string
	for _, e := range entries {
		if strings.Contains(e.Name(), "_moegen") && !strings.HasSuffix(e.Name(), ".txt") {
			moegen = append(moegen, e.Name())
		} else {
			hand = append(hand, e.Name())
		}
	}
	return strings.Join(hand, " "), strings.Join(moegen, " ")
}

// try runs a command in the repository, on a machine without GPUs.
func (r *repo) try(args ...string) (code int, output string) {
	r.t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off", "MOEGEN_LIBCUDA="+r.path("nowhere"), "MOEGEN_NCCL="+r.path("nowhere"))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		r.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

// do runs a command that must succeed and returns what it prints.
func (r *repo) do(args ...string) string {
	r.t.Helper()
	code, out := r.try(args...)
	if code != 0 {
		r.t.Fatalf("%s: exit code %d\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

// use makes nvcc known to commands in the repository, which lies outside the one
// whose .toolchain has it.
func (r *repo) use(c *nvcc.Compiler) {
	r.t.Setenv("MOEGEN_NVCC", c.Path)
	r.t.Setenv("MOEGEN_CACHE_DIR", filepath.Join(r.t.TempDir(), "cache"))
}

// TestModelRepo walks the life of a repository that holds models: README of
// modelrepo tells the same.
func TestModelRepo(t *testing.T) {
	compiler, err := nvcc.Find(t.Context())
	if err != nil {
		t.Skipf("not tested, there is no nvcc (make toolchain): %v", err)
	}
	r := newRepo(t)
	r.use(compiler)
	wantFiles := func(model, byHand, generated string) {
		t.Helper()
		if hand, made := r.files(model); hand != byHand || made != generated {
			t.Errorf("%s holds %s and %s, not %s and %s", model, hand, made, byHand, generated)
		}
	}

	// Generate, build, vet, run.
	r.do("go", "generate", "./...")
	_, generated := r.files("models/qwen3")
	for _, ext := range []string{"cu", "go", "json", "ptx"} {
		if !slices.Contains(strings.Fields(generated), "moe_moegen."+ext) {
			t.Errorf("models/qwen3 holds %s", generated)
		}
	}
	for _, model := range []string{"models/qwen3", "models/mixtral-8x7b"} {
		wantFiles(model, "config.json layer.go moe.yaml", generated)
	}
	r.do("go", "build", "./...")
	r.do("go", "vet", "./...")
	r.do("go", "test", "./models/...")
	wantRun := func(lines ...string) {
		t.Helper()
		out := r.do("go", "run", ".")
		for _, line := range lines {
			if !strings.Contains(out, line+"\n") {
				t.Errorf("go run does not print %q:\n%s", line, out)
			}
		}
	}
	mixtral := "mixtral: a layer of 4096 elements on 2 ranks (emu): ok"
	wantRun("qwen3: a layer of 2048 elements on 2 ranks (emu): ok", mixtral)
	r.do("go", "tool", "moegen", "check", "models/qwen3", "models/mixtral-8x7b")
	if again := r.do("go", "generate", "./..."); strings.Contains(again, "wrote") {
		t.Errorf("a second go generate writes:\n%s", again)
	}

	// The package of models/mixtral-8x7b is called mixtral.
	if text := r.read("models/mixtral-8x7b/moe_moegen.go"); !strings.Contains(text, "\npackage mixtral\n") {
		t.Error("models/mixtral-8x7b is not of package mixtral")
	}

	// The model changes.
	r.replace("models/qwen3/config.json", `"hidden_size": 2048`, `"hidden_size": 1024`)
	if code, out := r.try("go", "tool", "moegen", "check", "models/qwen3", "models/mixtral-8x7b"); code != 4 || !strings.Contains(out, "\n-\tHiddenDim   = 2048") || strings.Contains(out, "mixtral") {
		t.Errorf("check of a changed model: exit code %d\n%s", code, out)
	}
	r.do("go", "generate", "./...")
	r.do("go", "tool", "moegen", "check", "models/qwen3", "models/mixtral-8x7b")
	wantRun("qwen3: a layer of 1024 elements on 2 ranks (emu): ok", mixtral)

	// Its spec is renamed: what came of the old one goes, and nothing else. The old
	// Go file waits for the next run, because go generate has yet to read it.
	r.do("mv", "models/qwen3/moe.yaml", "models/qwen3/small.yaml")
	r.replace("models/qwen3/layer.go", "generate moe.yaml", "generate small.yaml")
	r.write("models/qwen3/notes_moegen.txt", "by hand\n")
	if code, out := r.try("go", "tool", "moegen", "check", "models/qwen3/small.yaml"); code != 4 || !strings.Contains(out, "moe_moegen.go: orphaned") {
		t.Errorf("check of a renamed spec: exit code %d\n%s", code, out)
	}
	if out := r.do("go", "generate", "./..."); !strings.Contains(out, "emptied moe_moegen.go") || !strings.Contains(out, "removed moe_moegen.ptx") {
		t.Errorf("go generate prints\n%s", out)
	}
	wantRun("qwen3: a layer of 1024 elements on 2 ranks (emu): ok", mixtral)
	r.do("go", "generate", "./...")
	generated = strings.ReplaceAll(generated, "moe_m", "small_m")
	wantFiles("models/qwen3", "config.json layer.go notes_moegen.txt small.yaml", generated)
	wantRun("qwen3: a layer of 1024 elements on 2 ranks (emu): ok", mixtral)

	// A second spec in the same package.
	r.write("models/qwen3/draft.yaml", "hidden_dim: 256\ntopk: 2\nep_size: 2\ndtype: bf16\n")
	if code, out := r.try("go", "tool", "moegen", "generate", "models/qwen3/draft.yaml"); code != 1 || !strings.Contains(out, "-prefix") {
		t.Errorf("two specs with the same names: exit code %d\n%s", code, out)
	}
	wantFiles("models/qwen3", "config.json draft.yaml layer.go notes_moegen.txt small.yaml", generated)
	r.replace("models/qwen3/layer.go", "//go:generate", "//go:generate go tool moegen generate -prefix Draft draft.yaml\n//go:generate")
	r.do("go", "generate", "./...")
	r.write("models/qwen3/draft.go", "package qwen3\n\nvar _ = [...]any{NewDispatcher, NewDraftDispatcher, DraftHidden{}, Hidden{}}\n")
	r.do("go", "vet", "./...")
	wantRun("qwen3: a layer of 1024 elements on 2 ranks (emu): ok", mixtral)
	r.do("go", "tool", "moegen", "check", "models/qwen3/small.yaml", "models/qwen3/draft.yaml", "models/mixtral-8x7b")

	// Removed again.
	for _, name := range []string{"draft.yaml", "draft.go"} {
		if err := os.Remove(r.path("models/qwen3/" + name)); err != nil {
			t.Fatal(err)
		}
	}
	r.replace("models/qwen3/layer.go", "//go:generate go tool moegen generate -prefix Draft draft.yaml\n", "")
	r.do("go", "tool", "moegen", "generate", "models/qwen3/small.yaml")
	wantFiles("models/qwen3", "config.json layer.go notes_moegen.txt small.yaml", generated)
	r.do("go", "build", "./...")
}

// TestModelRepoVersions: modelrepo's go.mod pins what moegen's own does.
func TestModelRepoVersions(t *testing.T) {
	requires := func(file string) []string {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var list []string
		for line := range strings.Lines(string(data)) {
			if f := strings.Fields(strings.TrimPrefix(line, "require ")); len(f) > 1 && strings.HasPrefix(f[1], "v") {
				list = append(list, f[0]+" "+f[1])
			}
		}
		return list
	}
	ours := requires("../go.mod")
	for _, line := range requires("modelrepo/go.mod") {
		if line != "github.com/moegen/moegen v0.0.0" && !slices.Contains(ours, line) {
			t.Errorf("modelrepo requires %s, and moegen does not: run go mod tidy in tests/modelrepo", line)
		}
	}
}
