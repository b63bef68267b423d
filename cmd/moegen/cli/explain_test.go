package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moegen/moegen/cmd/moegen/explain"
)

func TestExplain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "small.yaml")
	if err := os.WriteFile(file, []byte(benchSpec), 0o644); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{
		file:                          "moegen_dispatch_ll",
		"-ranks 4 " + file:            "ep_size 4",
		"preset:gpt-oss-20b":          "gpt-oss-20b: hidden 2880",
		"-sms 8 preset:qwen3-30b-a3b": "sm_limit 8",
	} {
		var stdout, stderr bytes.Buffer
		if code := Run(append([]string{"explain"}, strings.Fields(args)...), nil, &stdout, &stderr); code != exitOK || !strings.Contains(stdout.String(), want) {
			t.Errorf("explain %s: %d: %s%s", args, code, stdout.String(), stderr.String())
		}
	}
	var stdout, stderr bytes.Buffer
	var x explain.Explanation
	if code := Run([]string{"explain", "-json", file}, nil, &stdout, &stderr); code != exitOK || json.Unmarshal(stdout.Bytes(), &x) != nil || x.MaxTokens != 16 {
		t.Errorf("%d: %s%s", code, stdout.String(), stderr.String())
	}
	for _, args := range [][]string{{"explain"}, {"explain", "a", "b"}, {"explain", "-ranks", "99", file}, {"explain", "preset:none"}} {
		if code := Run(args, nil, &stdout, &stderr); code != exitUsage {
			t.Errorf("%v: exit code %d", args, code)
		}
	}
}
