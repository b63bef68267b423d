package cli

import (
	"bytes"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/moegen/moegen/cmd/moegen/layer"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/emu"
)

func TestParseTokens(t *testing.T) {
	got, err := parseTokens("0/1, 7,512/500", 2, 512, "max_tokens")
	if want := [][]int{{0, 1}, {7, 7}, {512, 500}}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	for list, want := range map[string]string{
		"":                    `"" is not a number`,
		"1,":                  `"" is not a number`,
		"1/2/3":               "counts for 3 ranks, and there are 2",
		"-1":                  `"-1" is not a number`,
		"1e2":                 "not a number",
		"513":                 "513 tokens are more than max_tokens 512",
		"1/9999":              "9999 tokens are more than max_tokens 512",
		"9999999999999999999": "not a number",
	} {
		if _, err := parseTokens(list, 2, 512, "max_tokens"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, not %q", list, err, want)
		}
	}
}

// TestDefaultTokens: the default always has a rank without tokens, uneven
// counts, and fits.
func TestDefaultTokens(t *testing.T) {
	for ranks := 1; ranks <= 72; ranks++ {
		for _, capacity := range []int{1, 2, 7, 16, 512} {
			steps := defaultTokens(ranks, capacity, 0)
			zero, full := false, false
			for _, counts := range steps {
				if len(counts) != ranks || slices.Min(counts) < 0 || slices.Max(counts) > capacity {
					t.Fatalf("%d ranks, capacity %d: %v", ranks, capacity, steps)
				}
				zero = zero || slices.Min(counts) == 0
				full = full || slices.Max(counts) == min(16, capacity)
			}
			if !zero || !full {
				t.Errorf("%d ranks, capacity %d: %v", ranks, capacity, steps)
			}
			// Where there is a way to run more, one step has more.
			with := defaultTokens(ranks, capacity, 2*capacity)
			more := slices.DeleteFunc(slices.Clone(with), func(counts []int) bool { return slices.Max(counts) <= capacity })
			if len(with) != len(steps)+1 || len(more) != 1 || slices.Max(more[0]) > 2*capacity {
				t.Errorf("%d ranks, capacity %d, more in prefills: %v", ranks, capacity, with)
			}
		}
	}
}

func TestClosest(t *testing.T) {
	for word, want := range map[string]string{
		"rum": "run", "generat": "generate", "chekc": "check", "doc": "", "": "", "xyzzy": "", "docter": "doctor",
	} {
		if got := closest(word, []string{"run", "generate", "check", "doctor"}); got != want {
			t.Errorf("%q: %q, not %q", word, got, want)
		}
	}
}

func TestVersionText(t *testing.T) {
	if got := versionText(nil); !strings.Contains(got, "without module information") {
		t.Error(got)
	}
	info := &debug.BuildInfo{GoVersion: "go1.26", Main: debug.Module{Version: "v1.2.3"}, Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "true"}, {Key: "GOOS", Value: "linux"}, {Key: "GOARCH", Value: "arm64"}, {Key: "-tags", Value: "nomulticast"}}}
	if got := versionText(info); got != "moegen v1.2.3 abc+changes go1.26 linux/arm64 tags nomulticast" {
		t.Error(got)
	}
}

// TestBackend: auto takes CUDA where it is enough, and says why it does not.
func TestBackend(t *testing.T) {
	cudaWith := func(gpus int) func() (driver.Driver, error) {
		return func() (driver.Driver, error) {
			d, err := emu.New(emu.Config{Devices: gpus})
			return asCUDA{d}, err
		}
	}
	defer func(f func() (driver.Driver, error)) { openCUDA = f }(openCUDA)
	for _, c := range []struct {
		name string
		cuda func() (driver.Driver, error)
		want string // driver, reason; or the error
	}{
		{"auto", cudaWith(2), "cuda: 2 GPUs for 2 ranks"},
		{"auto", cudaWith(1), "emu: 1 GPU for 2 ranks"},
		{"cuda", cudaWith(4), "cuda: asked for"},
		{"cuda", cudaWith(1), "error: 1 GPU for 2 ranks; -backend emu runs without GPUs"},
		{"emu", cudaWith(2), "emu: asked for"},
		{"auto", func() (driver.Driver, error) { return nil, driver.ErrNoDriver }, "emu: no CUDA driver; moegen doctor tells more"},
		{"auto", func() (driver.Driver, error) { return nil, errors.New("fabric is down") }, "emu: fabric is down"},
	} {
		openCUDA = c.cuda
		b, err := openBackend(c.name, 2, false, emu.Config{})
		got := ""
		if err != nil {
			got = "error: " + err.Error()
		} else {
			got = b.driver.Name() + ": " + b.why
			if err := b.driver.Close(); err != nil {
				t.Error(err)
			}
		}
		if got != c.want {
			t.Errorf("%s: %q, not %q", c.name, got, c.want)
		}
	}
}

// TestPrintFailure: what is wrong is told after the table, and the last line
// says so.
func TestPrintFailure(t *testing.T) {
	ranks := make([]layer.Rank, 9)
	for i := range ranks {
		ranks[i] = layer.Rank{Rank: i, Tokens: i, Gathered: 36, MaxError: 0.5}
	}
	ranks[7].Faults, ranks[7].MoreFaults, ranks[7].MaxError = []string{"layer 1: output: token 3"}, 12, 3
	r := &runReport{Model: "m", Ranks: 9, Runs: []*transportRun{
		{Asked: "p2p", Result: &layer.Result{Transport: moert.P2P, Steps: []layer.Step{{Index: 4, Graph: true, Ranks: ranks}}}},
		{Asked: "nvls", Skipped: "no multicast"},
	}}
	for all, lines := range map[bool]int{false: 1, true: 9} {
		var b bytes.Buffer
		r.print(&b, all)
		wantText(t, b.String(), "WRONG", "replay 4 rank 7: layer 1: output: token 3", "replay 4 rank 7: 12 more", "transport nvls: skipped: no multicast",
			"FAILED: 0 eager steps and 1 replay", "m: FAILED")
		if got := strings.Count(b.String(), "36  "); got != lines {
			t.Errorf("all %v: %d lines of ranks:\n%s", all, got, &b)
		}
	}
}

func TestJSONHasNoInfinity(t *testing.T) {
	var b bytes.Buffer
	var rank layer.Rank
	reflect.ValueOf(&rank.MaxError).Elem().SetFloat(math.Inf(1))
	if err := printJSON(&b, rank); err != nil {
		t.Fatal(err)
	}
	wantText(t, b.String(), `"max_error_of_bound": "+Inf"`)
}

// TestEnvironmentTopic: moegen help environment has every variable of ours.
func TestEnvironmentTopic(t *testing.T) {
	text, err := topicFiles.ReadFile("topics/environment.txt")
	if err != nil {
		t.Fatal(err)
	}
	variable := regexp.MustCompile(`"(MOEGEN_[A-Z_]+)"`)
	found := 0
	for _, root := range []string{"../../../runtime", ".."} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "testdata") {
				return err
			}
			data, err := os.ReadFile(path)
			for _, m := range variable.FindAllSubmatch(data, -1) {
				found++
				if !bytes.Contains(text, m[1]) {
					t.Errorf("%s reads %s, which moegen help environment does not have", path, m[1])
				}
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	if found < 5 {
		t.Errorf("only %d variables found", found)
	}
}

func wantText(t *testing.T, got string, wants ...string) {
	t.Helper()
	flat := strings.Join(strings.Fields(got), " ")
	for _, want := range wants {
		if !strings.Contains(flat, want) {
			t.Errorf("there is no %q in\n%s", want, got)
		}
	}
}
