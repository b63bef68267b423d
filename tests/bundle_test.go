package tests

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const runScript = "../buildtools/gpu/run.sh"

// TestBundleSteps: what run.sh lists it has, once each, and the tests that it
// runs exist. On a rented machine it would be too late to find out.
func TestBundleSteps(t *testing.T) {
	out, err := exec.Command("sh", runScript, "-l").Output()
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) < 4 || f[2] != "s" {
			t.Fatalf("%q is not a name, seconds and a text", line)
		}
		listed = append(listed, f[0])
	}
	script, err := os.ReadFile(runScript)
	if err != nil {
		t.Fatal(err)
	}
	var has []string
	for _, m := range regexp.MustCompile(`(?m)^\s*(?:step|tests) "?([\w$-]+)"?`).FindAllStringSubmatch(string(script), -1) {
		name := m[1]
		switch {
		case strings.HasSuffix(name, "-$protocol"):
			stem := strings.TrimSuffix(name, "$protocol")
			has = append(has, stem+"ll", stem+"bulk")
		case !strings.Contains(name, "$"): // those of MOEGEN_GPU_SHARE are listed when they run
			has = append(has, name)
		}
	}
	if !slices.Equal(listed, ordered(has, listed)) || len(has) != len(listed) {
		t.Errorf("listed are %q, and there are %q", listed, has)
	}
	sources, err := filepath.Glob("gpu/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, file := range sources {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	run := regexp.MustCompile(`(?m)^tests \S+ (\w+)`).FindAllStringSubmatch(string(script), -1)
	if len(run) < 5 {
		t.Errorf("only %d tests of tests/gpu are run", len(run))
	}
	for _, m := range run {
		if !strings.Contains(all.String(), "func "+m[1]+"(") {
			t.Errorf("tests/gpu has no %s", m[1])
		}
	}
}

// ordered returns the names of list that has has.
func ordered(has, list []string) []string {
	var out []string
	for _, name := range list {
		if slices.Contains(has, name) {
			out = append(out, name)
		}
	}
	return out
}

// TestBundleUnknownStep: a name that is no step is refused before anything runs.
func TestBundleUnknownStep(t *testing.T) {
	results := filepath.Join(t.TempDir(), "results")
	cmd := exec.Command("sh", runScript, results)
	cmd.Env = append(os.Environ(), "MOEGEN_STEPS=growth latencies")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(string(out), "no step latencies") {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := os.Stat(results); err == nil {
		t.Error("it left results")
	}
}
