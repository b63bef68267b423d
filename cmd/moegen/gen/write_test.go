package gen_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/moegen/moegen/cmd/moegen/gen"
	"github.com/moegen/moegen/runtime/nvcc"
)

func withPTX(o *gen.Options) { o.NoPTX = false }

func TestCheck(t *testing.T) {
	put := func(name, content string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	edit := func(name, old, new string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			text := string(read(t, dir, name))
			if !strings.Contains(text, old) {
				t.Fatalf("%s has no %q", name, old)
			}
			put(name, strings.Replace(text, old, new, 1))(t, dir)
		}
	}
	remove := func(name string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, tc := range []struct {
		name string
		do   func(*testing.T, string)
		want string
	}{
		{"nothing", func(*testing.T, string) {}, ""},
		{"a comment in the spec", put("moe.yaml", "# new\n"+small), ""},
		{"the spec", put("moe.yaml", strings.Replace(small, "1024", "2048", 1)), "moe_moegen.cu stale, moe_moegen.go stale, moe_moegen.h stale, moe_moegen_test.go stale, moe_moegen.json stale"},
		{"an edited file", edit("moe_moegen.go", "512", "513"), "moe_moegen.go edited"},
		{"edited kernels", edit("moe_moegen.cu", "kRanks = 2", "kRanks = 3"), "moe_moegen.cu edited"},
		{"a missing file", remove("moe_moegen.cu"), "moe_moegen.cu missing"},
		{"a missing test", remove("moe_moegen_test.go"), "moe_moegen_test.go missing"},
		{"an edited test", edit("moe_moegen_test.go", "testing", "testing "), "moe_moegen_test.go edited"},
		{"a missing manifest", remove("moe_moegen.json"), "moe_moegen.json missing"},
		{"a conflict in the manifest", edit("moe_moegen.json", `  "spec"`, "<<<<<<< HEAD\n"), "moe_moegen.json stale"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := write(t, "moe.yaml", small)
			generate(t, dir)
			tc.do(t, dir)
			got := states(t, dir)
			// Without a manifest it is not known that there should be no PTX.
			if strings.Contains(tc.name, "manifest") {
				got = strings.ReplaceAll(got, "moe_moegen.go stale, moe_moegen.ptx missing, ", "")
			}
			if got != tc.want {
				t.Errorf("check says %q, want %q", got, tc.want)
			}
			generate(t, dir)
			if got := states(t, dir); got != "" {
				t.Errorf("after generate check says %q", got)
			}
		})
	}
}

// A diff goes from what is there to what should be.
func TestCheckDiff(t *testing.T) {
	dir := write(t, "moe.yaml", small)
	generate(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "moe.yaml"), []byte(small+"max_tokens: 64\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	set, err := gen.Generate(t.Context(), gen.Options{SpecFile: filepath.Join(dir, "moe.yaml"), Check: true})
	if err != nil {
		t.Fatal(err)
	}
	differences, err := set.Compare(dir)
	if err != nil || len(differences) != 4 {
		t.Fatalf("%v, %v", differences, err)
	}
	for _, want := range []string{"\n--- moe_moegen.cu\n+++ moe_moegen.cu (generated)\n@@ ", "\n-constexpr int kMaxTokens = 512;", "\n+constexpr int kMaxTokens = 64;"} {
		if !strings.Contains(differences[0].Diff, want) {
			t.Errorf("the diff lacks %q:\n%s", want, differences[0].Diff)
		}
	}
	if _, err := set.Write(t.Context(), dir); err == nil {
		t.Error("what was generated for Compare can be written")
	}
}

func TestOrphans(t *testing.T) {
	const foreign = "// Written by hand.\n"
	dir := write(t, "moe.yaml", small, "old.yaml", small)
	old := func(o *gen.Options) { o.SpecFile, o.Prefix = filepath.Join(dir, "old.yaml"), "Old" }
	generate(t, dir)
	generate(t, dir, old)
	if got, want := files(t, dir), "moe.yaml moe_moegen.cu moe_moegen.go moe_moegen.h moe_moegen.json moe_moegen_test.go old.yaml old_moegen.cu old_moegen.go old_moegen.h old_moegen.json old_moegen_test.go"; got != want {
		t.Fatalf("generated %s, want %s", got, want)
	}
	if got := states(t, dir); got != "" {
		t.Errorf("two specs in one package: check says %s", got)
	}
	// The spec goes, and one of its files is not moegen's any more.
	if err := errors.Join(os.Remove(filepath.Join(dir, "old.yaml")),
		os.WriteFile(filepath.Join(dir, "old_moegen.cu"), []byte(foreign), 0o644)); err != nil {
		t.Fatal(err)
	}
	if got, want := states(t, dir), "old_moegen.go orphaned, old_moegen.h orphaned, old_moegen_test.go orphaned, old_moegen.json orphaned"; got != want {
		t.Errorf("check says %q, want %q", got, want)
	}
	if r := generate(t, dir); len(r.Removed) != 4 || len(r.Written) != 0 {
		t.Errorf("the report is %+v", r)
	}
	if got, want := files(t, dir), "moe.yaml moe_moegen.cu moe_moegen.go moe_moegen.h moe_moegen.json moe_moegen_test.go old_moegen.cu"; got != want {
		t.Errorf("left are %s, want %s", got, want)
	}
}

// A renamed spec replaces its output; the old output is no collision.
func TestRenamedSpec(t *testing.T) {
	dir := write(t, "moe.yaml", small)
	generate(t, dir)
	if err := os.Rename(filepath.Join(dir, "moe.yaml"), filepath.Join(dir, "new.yaml")); err != nil {
		t.Fatal(err)
	}
	generate(t, dir, func(o *gen.Options) { o.SpecFile = filepath.Join(dir, "new.yaml") })
	if got, want := files(t, dir), "new.yaml new_moegen.cu new_moegen.go new_moegen.h new_moegen.json new_moegen_test.go"; got != want {
		t.Errorf("left are %s, want %s", got, want)
	}
}

// A manifest cannot talk moegen into removing what is not its own.
func TestHostileManifest(t *testing.T) {
	dir := write(t, "moe.yaml", small)
	victim := filepath.Join(filepath.Dir(dir), "x_moegen.go")
	if err := os.WriteFile(victim, []byte("// Code generated by moegen. DO NOT EDIT.\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"../x_moegen.go", victim, "moe.yaml"} {
		manifest := `{"generator": "Code generated by moegen. DO NOT EDIT.", "outputs": {"` + name + `": "0"}}`
		if err := os.WriteFile(filepath.Join(dir, "moe_moegen.json"), []byte(manifest), 0o644); err != nil {
			t.Fatal(err)
		}
		if r := generate(t, dir); len(r.Removed) != 0 {
			t.Errorf("with %s in the manifest it removed %v", name, r.Removed)
		}
	}
}

func TestForeign(t *testing.T) {
	dir := write(t, "moe.yaml", small, "moe_moegen.cu", "// mine\n")
	set, err := gen.Generate(t.Context(), gen.Options{SpecFile: filepath.Join(dir, "moe.yaml"), NoPTX: true})
	if err != nil {
		t.Fatal(err)
	}
	_, err = set.Write(t.Context(), dir)
	if err == nil || !strings.Contains(err.Error(), "moe_moegen.cu is in the way") {
		t.Errorf("the error is %v", err)
	}
	if got := files(t, dir); got != "moe.yaml moe_moegen.cu" || string(read(t, dir, "moe_moegen.cu")) != "// mine\n" {
		t.Errorf("it changed the directory: %s", got)
	}
}

func TestUnwritable(t *testing.T) {
	dir := write(t, "moe.yaml", small)
	set, err := gen.Generate(t.Context(), gen.Options{SpecFile: filepath.Join(dir, "moe.yaml"), NoPTX: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Run("a file", func(t *testing.T) {
		if _, err := set.Write(t.Context(), filepath.Join(dir, "moe.yaml")); err == nil || !strings.Contains(err.Error(), "not a directory") {
			t.Errorf("the error is %v", err)
		}
	})
	t.Run("read-only", func(t *testing.T) {
		if os.Geteuid() == 0 {
			t.Skip("not tested: root can write anywhere")
		}
		if err := os.Chmod(dir, 0o555); err != nil {
			t.Fatal(err)
		}
		defer os.Chmod(dir, 0o755)
		_, err := set.Write(t.Context(), dir)
		if want := "write " + filepath.Join(dir, "moe_moegen.cu") + ": permission denied"; err == nil || err.Error() != want {
			t.Errorf("the error is %v, want %s", err, want)
		}
	})
}

// Many processes' worth of generates at once leave whole files and nothing else.
func TestConcurrent(t *testing.T) {
	dir := write(t, "moe.yaml", small)
	g, ctx := errgroup.WithContext(t.Context())
	for range 16 {
		g.Go(func() error {
			set, err := gen.Generate(ctx, gen.Options{SpecFile: filepath.Join(dir, "moe.yaml"), NoPTX: true})
			if err != nil {
				return err
			}
			_, err = set.Write(ctx, dir)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if got, want := files(t, dir), "moe.yaml moe_moegen.cu moe_moegen.go moe_moegen.h moe_moegen.json moe_moegen_test.go"; got != want {
		t.Errorf("there are %s, want %s", got, want)
	}
	if got := states(t, dir); got != "" {
		t.Errorf("check says %s", got)
	}
}

func TestCancelled(t *testing.T) {
	dir := write(t, "moe.yaml", small)
	set, err := gen.Generate(t.Context(), gen.Options{SpecFile: filepath.Join(dir, "moe.yaml"), NoPTX: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := set.Write(ctx, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("Write returns %v", err)
	}
	if got := files(t, dir); got != "moe.yaml" {
		t.Errorf("it wrote %s", got)
	}
}

// PTX needs nvcc once; after that it is kept for as long as the source is the
// same.
func TestWithoutCompiler(t *testing.T) {
	compiler(t)
	dir := write(t, "moe.yaml", small)
	o := gen.Options{SpecFile: filepath.Join(dir, "moe.yaml")}
	first := generate(t, dir, withPTX)
	if len(first.Written) != 6 {
		t.Fatalf("wrote %v", first.Written)
	}
	ptx := read(t, dir, "moe_moegen.ptx")
	t.Setenv("MOEGEN_NVCC", filepath.Join(dir, "no-nvcc"))
	if r := generate(t, dir, withPTX); len(r.Unchanged) != 6 {
		t.Errorf("the second run reports %+v", r)
	}
	if err := os.WriteFile(filepath.Join(dir, "moe_moegen.ptx"), append(bytes.Clone(ptx), '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := states(t, dir); got != "moe_moegen.ptx edited" {
		t.Errorf("check says %q", got)
	}
	_, err := gen.Generate(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "-no-ptx") || !strings.Contains(err.Error(), "MOEGEN_NVCC") {
		t.Errorf("without nvcc the error is: %v", err)
	}
	t.Setenv("MOEGEN_NVCC", "")
	if _, err := nvcc.Find(t.Context()); err != nil {
		t.Skip("not tested: nvcc is known by MOEGEN_NVCC only")
	}
	generate(t, dir, withPTX)
	if !bytes.Equal(ptx, read(t, dir, "moe_moegen.ptx")) {
		t.Error("generate did not restore the PTX")
	}
	// What no compiler is needed for.
	r := generate(t, dir)
	if strings.Join(r.Removed, " ") != "moe_moegen.ptx" {
		t.Errorf("with -no-ptx it removed %v", r.Removed)
	}
	if text := read(t, dir, "moe_moegen.go"); bytes.Contains(text, []byte(".ptx")) || !bytes.Contains(text, []byte("without PTX")) {
		t.Error("the Go file does not say that there is no PTX")
	}
}
