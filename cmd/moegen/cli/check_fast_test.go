//go:build unix && !race

package cli

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// twentySpecs returns the directories of 20 packages with PTX: of the specs in
// generated/, generated anew, so that it does not matter whether those are stale.
func twentySpecs(tb testing.TB) []string {
	tb.Helper()
	models, err := filepath.Glob("../../../generated/*/moe.yaml")
	if err != nil || len(models) == 0 {
		tb.Fatalf("no models: %v", err)
	}
	root := tb.TempDir()
	var dirs []string
	for i := range 20 {
		from := filepath.Dir(models[i%len(models)])
		dir := filepath.Join(root, fmt.Sprint(i), filepath.Base(from))
		read := func(path string) []byte {
			data, err := os.ReadFile(path)
			if err != nil {
				tb.Fatal(err)
			}
			return data
		}
		write := func(name string, data []byte) {
			if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, name), data, 0o644)); err != nil {
				tb.Fatal(err)
			}
		}
		write("moe.yaml", read(models[i%len(models)]))
		generateIn(tb, dir, "-no-ptx")
		// There is no nvcc: let the manifest say that this PTX is of this source.
		ptx := read(filepath.Join(from, "moe_moegen.ptx"))
		var m map[string]any
		if err := json.Unmarshal(read(filepath.Join(dir, "moe_moegen.json")), &m); err != nil {
			tb.Fatal(err)
		}
		outputs := m["outputs"].(map[string]any)
		m["ptx"] = map[string]any{"source": outputs["moe_moegen.cu"], "arch": "sm_90a", "compiler": "nvcc"}
		outputs["moe_moegen.ptx"] = fmt.Sprintf("%x", sha256.Sum256(ptx))
		manifest, err := json.MarshalIndent(m, "", "  ")
		if err != nil {
			tb.Fatal(err)
		}
		write("moe_moegen.json", manifest)
		write("moe_moegen.ptx", ptx)
		generateIn(tb, dir)
		dirs = append(dirs, dir)
	}
	return dirs
}

func generateIn(tb testing.TB, dir string, flags ...string) {
	tb.Helper()
	var errs strings.Builder
	if code := Run(append(append([]string{"generate"}, flags...), dir), strings.NewReader(""), io.Discard, &errs); code != exitOK {
		tb.Fatalf("code %d: %s", code, errs.String())
	}
}

// noTools takes the compiler and the go command away.
func noTools(tb testing.TB) {
	tb.Helper()
	tb.Setenv("PATH", "")
	tb.Setenv("MOEGEN_NVCC", filepath.Join(tb.TempDir(), "nowhere"))
	tb.Setenv("CUDA_HOME", "")
}

// TestCheckIsFast: 20 specs in 300 ms, without nvcc and go. Others use the machine
// too, so the best of several runs counts, and not the time in which the process
// did not run: alone on a machine it takes no longer than its CPU time.
func TestCheckIsFast(t *testing.T) {
	noTools(t)
	args := append([]string{"check"}, twentySpecs(t)...)
	const budget = 300 * time.Millisecond
	best := time.Hour
	for range 20 {
		start, cpu := time.Now(), cpuTime(t)
		var errs strings.Builder
		if code := Run(args, strings.NewReader(""), io.Discard, &errs); code != exitOK {
			t.Fatalf("code %d: %s", code, errs.String())
		}
		if best = min(best, time.Since(start), cpuTime(t)-cpu); best < budget {
			return
		}
	}
	t.Errorf("checking 20 specs takes %v, and may take %v", best, budget)
}

func cpuTime(t *testing.T) time.Duration {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		t.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

func BenchmarkCheck(b *testing.B) {
	noTools(b)
	args := append([]string{"check"}, twentySpecs(b)...)
	for b.Loop() {
		if code := Run(args, strings.NewReader(""), io.Discard, io.Discard); code != exitOK {
			b.Fatalf("code %d", code)
		}
	}
}
