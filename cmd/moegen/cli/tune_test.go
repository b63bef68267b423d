package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moegen/moegen/spec"
)

// TestTune: what tune writes, generate bakes in, and run runs; check notices
// when it is gone. Without it the package is what it was.
func TestTune(t *testing.T) {
	dir := t.TempDir()
	file, plan := filepath.Join(dir, "small.yaml"), filepath.Join(dir, "small_plan.yaml")
	if err := os.WriteFile(file, []byte(benchSpec), 0o644); err != nil {
		t.Fatal(err)
	}
	run := func(want int, args ...string) string {
		t.Helper()
		var stdout, stderr bytes.Buffer
		if code := Run(args, nil, &stdout, &stderr); code != want {
			t.Fatalf("%v: exit code %d: %s%s", args, code, stdout.String(), stderr.String())
		}
		return stdout.String() + stderr.String()
	}
	run(exitOK, "generate", "-no-ptx", "-package", "small", file)
	before, err := os.ReadFile(filepath.Join(dir, "small_moegen.go"))
	if err != nil {
		t.Fatal(err)
	}

	if out := run(exitUsage, "tune", "-backend", "emu", "-transport", "p2p", file); !strings.Contains(out, "-o - tries it") {
		t.Error(out)
	}
	out := run(exitOK, "tune", "-backend", "emu", "-transport", "p2p", "-tokens", "1,8", "-o", plan, file)
	if !strings.Contains(out, "EMULATED") || !strings.Contains(out, "wrote "+plan) {
		t.Error(out)
	}
	s, err := spec.Load(file)
	if err != nil || len(s.Plan.Rows) != 2 || s.Plan.Rows[1].Tokens != 8 || s.Plan.Rows[1].Pair <= 0 {
		t.Fatalf("%v: %+v", err, s)
	}

	// A plan that differs from the built-in one for sure.
	s.Plan.Rows[0].Protocol, s.Plan.Rows[0].Blocks, s.Plan.Rows[0].Threads = "bulk", 3, 512
	s.Plan.Rows[1].Protocol, s.Plan.Rows[1].Blocks, s.Plan.Rows[1].Threads = "ll", 1, 256
	if err := os.WriteFile(plan, s.Plan.YAML(), 0o644); err != nil {
		t.Fatal(err)
	}
	run(exitStale, "check", file)
	dep := filepath.Join(dir, "d")
	run(exitOK, "generate", "-no-ptx", "-M", dep, file)
	after, err := os.ReadFile(filepath.Join(dir, "small_moegen.go"))
	if err != nil || !strings.Contains(string(after), "{Tokens: 1, Blocks: 3, Threads: 512}") ||
		!strings.Contains(string(after), "{Tokens: 8, Low: true, Blocks: 1, Threads: 256}") || !strings.Contains(string(after), "was measured: 20") {
		t.Errorf("%v: %s", err, after)
	}
	if rule, err := os.ReadFile(dep); err != nil || !strings.Contains(string(rule), plan) {
		t.Errorf("%v: %s", err, rule)
	}
	run(exitOK, "check", file)
	run(exitOK, "run", "-backend", "emu", "-transport", "p2p", "-capacity", "8", "-tokens", "1,8/3", file)

	if err := os.WriteFile(plan, bytes.Replace(s.Plan.YAML(), []byte("blocks: 3"), []byte("blocks: 99"), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"generate", "check", "run", "bench"} {
		if out := run(exitSpec, command, file); !strings.Contains(out, "small_plan.yaml:10:41: rows[0].blocks: out of range (got 99; allowed: 1..4)") {
			t.Errorf("%s: %s", command, out)
		}
	}
	// A plan for an older spec is what tune is to replace.
	run(exitOK, "tune", "-backend", "emu", "-transport", "p2p", "-tokens", "2", "-o", plan, file)
	if s, err := spec.Load(file); err != nil || len(s.Plan.Rows) != 1 {
		t.Errorf("%v", err)
	}

	if err := os.Remove(plan); err != nil {
		t.Fatal(err)
	}
	run(exitStale, "check", file)
	run(exitOK, "generate", "-no-ptx", file)
	if again, err := os.ReadFile(filepath.Join(dir, "small_moegen.go")); err != nil || !bytes.Equal(again, before) {
		t.Errorf("%v: without the plan the package is not what it was", err)
	}
}

func TestTuneUsage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "small.yaml")
	if err := os.WriteFile(file, []byte(benchSpec), 0o644); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{
		"":                        "takes one spec",
		"-share " + file:          "says nothing about GPUs of their own",
		"-transport nccl " + file: "nothing to choose",
		"-ranks 4 " + file:        "say with -o where to write it",
		"preset:gpt-oss-20b":      "say with -o where to write it",
	} {
		var stdout, stderr bytes.Buffer
		if code := Run(append([]string{"tune"}, strings.Fields(args)...), nil, &stdout, &stderr); code != exitUsage || !strings.Contains(stderr.String(), want) {
			t.Errorf("tune %s: %d: %s, want %q", args, code, stderr.String(), want)
		}
	}
}
