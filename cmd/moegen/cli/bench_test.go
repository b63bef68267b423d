package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moegen/moegen/cmd/moegen/bench"
)

const benchSpec = "hidden_dim: 256\ntopk: 2\ndtype: bf16\nep_size: 2\nmax_tokens: 16\nsm_limit: 4\n"

// TestBench: a dry run, its files, and a comparison with itself.
func TestBench(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(at("small.yaml"), []byte(benchSpec), 0o644); err != nil {
		t.Fatal(err)
	}
	bench1 := func(args ...string) (int, string, string) {
		var stdout, stderr bytes.Buffer
		code := Run(append([]string{"bench", "-backend", "emu", "-transport", "p2p", "-tokens", "1,4"}, args...), nil, &stdout, &stderr)
		return code, stdout.String(), stderr.String()
	}
	code, out, stderr := bench1("-save", at("before.json"), "-svg", at("plots.svg"), at("small.yaml"))
	if code != exitOK || !strings.Contains(out, "EMULATED") || !strings.Contains(out, "step of 2 layers") {
		t.Fatalf("%d: %s%s", code, out, stderr)
	}
	svg, err := os.ReadFile(at("plots.svg"))
	if err != nil || !bytes.Contains(svg, []byte("EMULATED")) {
		t.Errorf("%v: %.200s", err, svg)
	}
	code, out, stderr = bench1("-baseline", at("before.json"), at("small.yaml"))
	if code != exitOK || !strings.Contains(out, "before") {
		t.Errorf("%d: %s%s", code, out, stderr)
	}
	code, out, stderr = bench1("-json", at("small.yaml"))
	var r bench.Result
	if err := json.Unmarshal([]byte(out), &r); code != exitOK || err != nil || len(r.Rows) != 2 || !r.Emulated {
		t.Errorf("%d, %v: %s%s", code, err, out, stderr)
	}
}

func TestBenchUsage(t *testing.T) {
	dir := t.TempDir()
	specFile, one := filepath.Join(dir, "small.yaml"), filepath.Join(dir, "one.yaml")
	for path, text := range map[string]string{specFile: benchSpec, one: strings.Replace(benchSpec, "ep_size: 2", "ep_size: 1", 1)} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for args, want := range map[string]string{
		"":                                       "takes one spec",
		"a b":                                    "takes one spec",
		"-backend gpu " + specFile:               "allowed are auto, cuda, emu",
		"-transport ib " + specFile:              "allowed are auto, nvls, p2p, nccl",
		"-protocol fast " + specFile:             "allowed are auto, ll, bulk, mixed",
		"-layers -1 " + specFile:                 "allowed are 1 to",
		"-ranks -2 " + specFile:                  "at least 0",
		"-tokens 8,4 " + specFile:                "4 does not come after 8",
		"-tokens 1,x " + specFile:                `"x" is not a number`,
		"-tokens 17 " + specFile:                 "more than max_tokens 16: raise that with -max-tokens",
		"-baseline none.json " + specFile:        "no such file",
		"-baseline " + specFile + " " + specFile: "holds no results of moegen bench",
		one:                                      "take -ranks 2",
		"preset:gpt-oss-2":                       "gpt-oss-20b",
	} {
		var stdout, stderr bytes.Buffer
		if code := Run(append([]string{"bench"}, strings.Fields(args)...), nil, &stdout, &stderr); code != exitUsage || !strings.Contains(stderr.String(), want) {
			t.Errorf("bench %s: %d: %s, want %q", args, code, stderr.String(), want)
		}
	}
}
