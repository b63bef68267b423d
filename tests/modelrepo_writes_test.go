//go:build unix

package tests

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// writer is a folder with a spec, and the command, built once.
type writer struct {
	t      *testing.T
	moegen string
	dir    string
}

const specText = "topk: 2\ndtype: bf16\nep_size: 2\nhidden_dim: %d\n"

// newWriter makes them where any user can get at them.
func newWriter(t *testing.T) *writer {
	t.Helper()
	base, err := os.MkdirTemp("", "moegen-writes")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	w := &writer{t: t, moegen: filepath.Join(base, "moegen"), dir: filepath.Join(base, "models", "moepkg")}
	if err := errors.Join(os.Chmod(base, 0o755), os.MkdirAll(w.dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "build", "-o", w.moegen, "../cmd/moegen").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	w.spec(1024)
	return w
}

func (w *writer) spec(hidden int) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, "moe.yaml"), fmt.Appendf(nil, specText, hidden), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func (w *writer) command(args ...string) *exec.Cmd {
	cmd := exec.Command(w.moegen, append(args, w.dir)...)
	cmd.Env = append(os.Environ(), "GOPACKAGE=", "GOFILE=")
	return cmd
}

// run returns the exit code and what was printed.
func (w *writer) run(cmd *exec.Cmd) (int, string) {
	w.t.Helper()
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		w.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

func (w *writer) generate() {
	w.t.Helper()
	if code, out := w.run(w.command("generate", "-no-ptx")); code != 0 {
		w.t.Fatalf("generate: exit code %d\n%s", code, out)
	}
}

// contents returns the files by name, without the spec.
func (w *writer) contents() map[string]string {
	w.t.Helper()
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(w.dir, e.Name()))
		if err != nil {
			w.t.Fatal(err)
		}
		files[e.Name()] = string(data)
	}
	delete(files, "moe.yaml")
	return files
}

func (w *writer) want(files map[string]string) {
	w.t.Helper()
	got := w.contents()
	for name, text := range files {
		if got[name] != text {
			w.t.Errorf("%s is not what was generated", name)
		}
	}
	for name := range got {
		if _, ok := files[name]; !ok {
			w.t.Errorf("%s is left over", name)
		}
	}
}

// TestReadOnlyTarget: what cannot be written is said, and nothing is changed.
// Permissions do not hold root back, so root becomes somebody else for it.
func TestReadOnlyTarget(t *testing.T) {
	w := newWriter(t)
	w.generate()
	before := w.contents()
	w.spec(2048)
	if err := os.Chmod(w.dir, 0o555); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(w.dir, 0o755) })
	unprivileged := func(args ...string) (int, string) {
		cmd := w.command(args...)
		cmd.Dir = filepath.Dir(w.moegen)
		if os.Getuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			cmd.Env = append(cmd.Env, "HOME=/nonexistent")
		}
		return w.run(cmd)
	}
	if code, out := unprivileged("generate", "-no-ptx"); code != 1 || !strings.Contains(out, "moe_moegen.cu: permission denied") || strings.Contains(out, "wrote") {
		t.Errorf("generate: exit code %d\n%s", code, out)
	}
	w.want(before)
	if code, out := unprivileged("check"); code != 4 {
		t.Errorf("check: exit code %d\n%s", code, out)
	}
	// Where there is nothing to write, there is nothing to complain about.
	w.spec(1024)
	if code, out := unprivileged("generate", "-no-ptx"); code != 0 || !strings.Contains(out, " files unchanged") {
		t.Errorf("generate of what is there: exit code %d\n%s", code, out)
	}
	w.want(before)
}

// TestKilledGenerate kills the command at random moments: every file is the old
// one or the new one, and the next run mends it all.
func TestKilledGenerate(t *testing.T) {
	w := newWriter(t)
	states := map[int]map[string]string{}
	start := time.Now()
	for _, hidden := range []int{1024, 2048} {
		w.spec(hidden)
		w.generate()
		states[hidden] = w.contents()
	}
	length := time.Since(start) / 2
	random := rand.New(rand.NewPCG(3, 4))
	killed, between := 0, 0
	const rounds = 60
	for round := range rounds {
		hidden := []int{1024, 2048}[round%2]
		w.spec(hidden)
		cmd := w.command("generate", "-no-ptx")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(random.Int64N(int64(length * 5 / 4))))
		_ = cmd.Process.Kill() // it may have ended
		if err := cmd.Wait(); err != nil {
			killed++
		}
		news := 0
		for name, text := range w.contents() {
			switch {
			case strings.HasPrefix(name, ".moe_moegen"): // no Go file and no kernel to anybody
			case text == states[hidden][name]:
				news++
			case text != states[3072-hidden][name]:
				t.Fatalf("round %d: %s is torn:\n%s", round, name, text)
			}
		}
		total := len(states[hidden])
		if 0 < news && news < total {
			between++
		}
		code, out := w.run(w.command("check"))
		if code != 0 && code != 4 || (code == 0) != (news == total) {
			t.Fatalf("round %d: %d of %d files are new, and check exits with %d\n%s", round, news, total, code, out)
		}
		w.generate()
		w.want(states[hidden])
		if t.Failed() {
			return
		}
	}
	t.Logf("%d of %d runs were killed, %d of them between two files", killed, rounds, between)
	if killed < rounds/4 {
		t.Errorf("only %d of %d runs were killed", killed, rounds)
	}
}

// TestGenerateTwiceAtOnce: several runs at once end well and leave what one does.
func TestGenerateTwiceAtOnce(t *testing.T) {
	w := newWriter(t)
	w.generate()
	old := w.contents()
	w.spec(2048)
	w.generate()
	want := w.contents()
	for range 5 {
		for name, text := range old {
			if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				cmd := exec.CommandContext(ctx, w.moegen, "generate", "-no-ptx", w.dir)
				var out bytes.Buffer
				cmd.Stdout, cmd.Stderr = &out, &out
				if err := cmd.Run(); err != nil {
					t.Errorf("%v\n%s", err, &out)
				}
			})
		}
		all.Wait()
		w.want(want)
	}
}
