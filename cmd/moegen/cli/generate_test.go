package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const smallSpec = "hidden_dim: 1024\ntopk: 2\ndtype: bf16\nep_size: 2\n"

// moegen runs a command line in a new directory with the given files, which are
// given as name and content in turn.
func moegen(t *testing.T, files []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	for i := 0; i < len(files); i += 2 {
		if err := os.MkdirAll(filepath.Dir(files[i]), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(files[i], []byte(files[i+1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var out, errs bytes.Buffer
	code = Run(args, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

func TestGenerateAndCheck(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("GOPACKAGE", "")
	spec := []string{"moepkg/moe.yaml", smallSpec}
	expect := func(wantCode int, wantOut, wantErr string, files []string, args ...string) {
		t.Helper()
		code, out, errs := moegen(t, files, args...)
		if code != wantCode || out != wantOut && !(wantOut != "" && strings.HasSuffix(wantOut, "...") && strings.HasPrefix(out, strings.TrimSuffix(wantOut, "..."))) || !strings.Contains(errs, wantErr) {
			t.Errorf("moegen %s: code %d\nstdout:\n%s\nstderr:\n%s\nwant %d\n%s\n%s", strings.Join(args, " "), code, out, errs, wantCode, wantOut, wantErr)
		}
	}
	wrote := "wrote moepkg/moe_moegen.cu\nwrote moepkg/moe_moegen.go\nwrote moepkg/moe_moegen.h\nwrote moepkg/moe_moegen_test.go\nwrote moepkg/moe_moegen.json\n"
	expect(exitStale, "moepkg/moe_moegen.cu: missing\n...", "run moegen generate", spec, "check", "-no-ptx", "moepkg")
	expect(exitOK, wrote, "", nil, "generate", "-no-ptx", "moepkg/moe.yaml")
	expect(exitOK, "", "5 files unchanged", nil, "generate", "-no-ptx", "moepkg")
	expect(exitOK, "", "", nil, "check", "moepkg/moe.yaml")
	spec[1] += "max_tokens: 64\n"
	expect(exitStale, "moepkg/moe_moegen.cu: stale\ndiff moe_moegen.cu moe_moegen.cu (generated)\n--- ...", "4 generated files", spec, "check", "moepkg/moe.yaml")
	expect(exitOK, strings.Replace(wrote, "wrote moepkg/moe_moegen_test.go\n", "", 1), "", nil, "generate", "-no-ptx", "moepkg")
	expect(exitOK, "", "", nil, "check", "moepkg")

	// Several specs at once; a bad one among them: nothing is written.
	bad := []string{"a/moe.yaml", smallSpec, "b/bad.yaml", "hidden_dim: x\n", "c/moe.yaml", smallSpec}
	expect(exitSpec, "", "b/bad.yaml:1:13: ", bad, "generate", "-no-ptx", "a", "b/bad.yaml", "c")
	expect(exitUsage, "", "a/moe.yaml and c/moe.yaml have the same output", nil, "generate", "-o", "d", "a", "c")
	expect(exitOK, "wrote a/moe_moegen.cu\nwrote a/moe_moegen.go\nwrote a/moe_moegen.h\nwrote a/moe_moegen_test.go\nwrote a/moe_moegen.json\nwrote c/...", "", nil, "generate", "-no-ptx", "a", "c")
	expect(exitOK, "wrote d/moe_moegen.cu\n...", "", nil, "generate", "-no-ptx", "-o", "d", "a")

	// Without the test: check knows from the manifest, or is told.
	expect(exitOK, "wrote d/moe_moegen.json\nremoved d/moe_moegen_test.go\n", "", nil, "generate", "-no-ptx", "-no-test", "-o", "d", "a")
	expect(exitOK, "", "", nil, "check", "-o", "d", "a")
	expect(exitStale, "c/moe_moegen.json: stale\n...", "2 generated files", nil, "check", "-no-test", "c")
	expect(exitOK, "wrote d/moe_moegen_test.go\nwrote d/moe_moegen.json\n", "", nil, "generate", "-no-ptx", "-o", "d", "a")

	expect(exitUsage, "", "takes at least one spec", nil, "generate")
	expect(exitUsage, "", "moegen init -o moe.yaml mixtral-8x7b", nil, "generate", "preset:mixtral-8x7b")
	expect(exitFailure, "", "no such file", nil, "generate", "nowhere.yaml")
	expect(exitFailure, "", `"func" cannot be`, nil, "generate", "-package", "func", "a")
	expect(exitOK, "Usage: moegen generate ...", "", nil, "generate", "-h")
	expect(exitOK, "Usage: moegen check ...", "", nil, "check", "-h")
}

// $GOPACKAGE is about the current directory.
func TestGoPackage(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("GOPACKAGE", "given")
	if code, _, errs := moegen(t, []string{"moe.yaml", smallSpec, "other/moe.yaml", smallSpec}, "generate", "-no-ptx", "moe.yaml", "other"); code != exitOK {
		t.Fatal(errs)
	}
	for path, want := range map[string]string{"moe_moegen.go": "given", "other/moe_moegen.go": "other"} {
		text, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(text), "\npackage "+want+"\n") {
			t.Errorf("%s is not of package %s: %v", path, want, err)
		}
	}
}
