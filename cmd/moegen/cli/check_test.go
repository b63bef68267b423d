package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestCheckDiffs: every way to be out of date is a unified diff and exit code 4;
// another version alone is not out of date.
func TestCheckDiffs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "moepkg")
	path := func(name string) string { return filepath.Join(dir, name) }
	if code, _, errs := moegen(t, []string{path("moe.yaml"), smallSpec, path("old.yaml"), smallSpec}, "generate", "-no-ptx", path("moe.yaml")); code != exitOK {
		t.Fatal(errs)
	}
	if code, _, errs := moegen(t, nil, "generate", "-no-ptx", "-prefix", "Old", path("old.yaml")); code != exitOK {
		t.Fatal(errs)
	}
	if code, _, errs := moegen(t, []string{path("third.yaml"), smallSpec}, "generate", "-no-ptx", "-prefix", "Third", path("third.yaml")); code != exitOK {
		t.Fatal(errs)
	}
	if err := os.Remove(path("third.yaml")); err != nil {
		t.Fatal(err)
	}
	// What is left over in a package is told once, and not for each of its specs.
	_, out, errs := moegen(t, nil, "check", path("moe.yaml"), path("old.yaml"))
	if n := strings.Count(out, "third_moegen.go: orphaned"); n != 1 || !strings.HasPrefix(errs, fmt.Sprint(strings.Count(out, ": orphaned\n"), " generated files")) {
		t.Errorf("told %d times; %s", n, errs)
	}
	if code, _, errs := moegen(t, nil, "generate", "-no-ptx", path("moe.yaml")); code != exitOK {
		t.Fatal(errs)
	}
	read := func(name string) string {
		data, err := os.ReadFile(path(name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	manifest := read("moe_moegen.json")
	newer := regexp.MustCompile(`"templates": "[0-9a-f]+"`).ReplaceAllString(manifest, `"moegen": "v99.0.0", "templates": "0"`)
	if newer == manifest {
		t.Fatal("the manifest names no templates")
	}
	for _, c := range []struct {
		name   string
		change func() error
		want   []string // nothing: up to date
	}{
		{"version", func() error { return os.WriteFile(path("moe_moegen.json"), []byte(newer), 0o644) }, nil},
		{"edited", func() error {
			return os.WriteFile(path("moe_moegen.go"), []byte(strings.Replace(read("moe_moegen.go"), "EPSize      = 2", "EPSize      = 3", 1)), 0o644)
		}, []string{"moe_moegen.go: edited\n", "--- moe_moegen.go\n+++ moe_moegen.go (generated)\n@@ ", "\n-\tEPSize      = 3", "\n+\tEPSize      = 2"}},
		{"missing", func() error { return os.Remove(path("moe_moegen.cu")) },
			[]string{"moe_moegen.cu: missing\n", "--- /dev/null\n+++ moe_moegen.cu (generated)\n@@ -0,0 +1,", "\n+constexpr int kRanks = 2;"}},
		{"orphaned", func() error { return os.Remove(path("old.yaml")) },
			[]string{"old_moegen.cu: orphaned\n", "--- old_moegen.cu\n+++ /dev/null\n@@ -1,", "\n-constexpr int kRanks = 2;", "old_moegen.go: orphaned\n", "old_moegen.json: orphaned\n"}},
		{"stale", func() error {
			return os.WriteFile(path("moe.yaml"), []byte(strings.Replace(smallSpec, "1024", "2048", 1)), 0o644)
		},
			[]string{"moe_moegen.cu: stale\n", "--- moe_moegen.cu\n+++ moe_moegen.cu (generated)\n@@ ", "moe_moegen.go: stale\n", "moe_moegen.json: stale\n"}},
	} {
		if err := c.change(); err != nil {
			t.Fatal(err)
		}
		code, out, errs := moegen(t, nil, "check", path("moe.yaml"))
		if wantCode := map[bool]int{true: exitOK, false: exitStale}[c.want == nil]; code != wantCode {
			t.Errorf("%s: code %d, not %d: %s", c.name, code, wantCode, errs)
		}
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %q in\n%s", c.name, want, out)
			}
		}
		if c.want == nil && out != "" {
			t.Errorf("%s: %s", c.name, out)
		}
		if code, _, errs := moegen(t, nil, "generate", "-no-ptx", path("moe.yaml")); code != exitOK {
			t.Fatalf("%s: %s", c.name, errs)
		}
		if code, out, _ := moegen(t, nil, "check", path("moe.yaml")); code != exitOK {
			t.Errorf("%s: after generate: %s", c.name, out)
		}
	}
}
