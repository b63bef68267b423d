//go:build unix

package nvcc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// outputs runs n processes at once that compile the same source.
func outputs(t *testing.T, c *Compiler, n int) []string {
	t.Helper()
	out := make([]string, n)
	var wg sync.WaitGroup
	for i := range n {
		cmd := child(t, c)
		wg.Go(func() {
			text, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("process %d: %v\n%s", i, err, text)
			}
			out[i] = string(text)
		})
	}
	wg.Wait()
	return out
}

func TestProcessesShareOneCompile(t *testing.T) {
	c, dir := fake(t, "slow")
	out := outputs(t, c, 4)
	fresh := 0
	for _, text := range out {
		if strings.HasPrefix(text, "false ") {
			fresh++
		}
		if strings.Fields(text)[1] != strings.Fields(out[0])[1] {
			t.Errorf("images differ: %q", out)
		}
	}
	if fresh != 1 || runs(t) != 1 {
		t.Errorf("%d runs, %d fresh images, want 1 each: %q", runs(t), fresh, out)
	}
	if left := leftovers(t, dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestProcessesWithoutLocks has a file where the locks should be, so that all compile
// at once and the rename alone decides.
func TestProcessesWithoutLocks(t *testing.T) {
	c, dir := fake(t, "slow")
	mkdir(t, dir)
	edit(t, filepath.Join(dir, lockDir), func([]byte) []byte { return []byte("x") })
	out := outputs(t, c, 3)
	for _, text := range out {
		if fields := strings.Fields(text); fields[1] != strings.Fields(out[0])[1] {
			t.Errorf("images differ: %q", out)
		}
	}
	if runs(t) != 3 {
		t.Logf("%d runs; the race did not happen", runs(t))
	}
	entries, err := filepath.Glob(filepath.Join(dir, "k.*"))
	if err != nil || len(entries) != 1 || len(leftovers(t, dir)) > 0 {
		t.Errorf("entries %v, left behind %v", entries, leftovers(t, dir))
	}
	if img := compile(t, c); !img.FromCache {
		t.Error("the winner's entry is of no use")
	}
}

// TestLoserTakesWinners lets another process store its entry while this one compiles.
func TestLoserTakesWinners(t *testing.T) {
	c, dir := fake(t, "")
	winner := compile(t, c)
	j, err := newJob(source, target)
	if err != nil {
		t.Fatal(err)
	}
	img, err := c.compileInto(t.Context(), &cache{dir: dir, write: writeSynced}, j)
	if err != nil || !img.FromCache || img.CachePath != winner.CachePath || len(img.Warnings) > 0 {
		t.Errorf("from cache %t, path %q, warnings %q, error %v", img.FromCache, img.CachePath, img.Warnings, err)
	}
	if left := leftovers(t, dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestHungHolder has another process that holds the lock and never ends.
func TestHungHolder(t *testing.T) {
	c, dir := fake(t, "")
	defer func(d time.Duration) { lockWait = d }(lockWait)
	lockWait = 50 * time.Millisecond
	j, err := newJob(source, target)
	if err != nil {
		t.Fatal(err)
	}
	mkdir(t, filepath.Join(dir, lockDir))
	lock, err := tryLock(filepath.Join(dir, lockDir, j.entry(j.key(c.Version))))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.unlock()
	img := compile(t, c)
	if len(img.Warnings) != 1 || !strings.Contains(img.Warnings[0], fmt.Sprintf("process %d on ", os.Getpid())) || img.CachePath == "" {
		t.Errorf("path %q, warnings %q", img.CachePath, img.Warnings)
	}
}

func TestKilledProcess(t *testing.T) {
	c, dir := fake(t, "hang")
	cmd := child(t, c)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pids := awaitPIDs(t)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	_ = syscall.Kill(-pids[0], syscall.SIGKILL) // the compiler, which outlives its parent
	if len(leftovers(t, dir)) != 1 {
		t.Fatalf("the killed process left %v; the test needs one directory", leftovers(t, dir))
	}
	t.Setenv("FAKE_MODE", "")
	start := time.Now()
	img := compile(t, c)
	if img.FromCache || len(img.Warnings) > 0 || len(leftovers(t, dir)) > 0 || time.Since(start) > 5*time.Second {
		t.Errorf("after %v: from cache %t, warnings %q, left behind %v", time.Since(start), img.FromCache, img.Warnings, leftovers(t, dir))
	}
}

// awaitPIDs returns the processes of a fake compiler that hangs: itself, its child.
func awaitPIDs(t *testing.T) (pids [2]int) {
	t.Helper()
	eventually(t, "the fake compiler's start", func() bool {
		text, err := os.ReadFile(filepath.Join(os.Getenv("FAKE_DIR"), "pids"))
		if err != nil {
			return false
		}
		_, err = fmt.Sscan(string(text), &pids[0], &pids[1])
		return err == nil
	})
	return pids
}

func TestCancel(t *testing.T) {
	c, dir := fake(t, "hang")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := c.Compile(ctx, source, target)
		done <- err
	}()
	pids := awaitPIDs(t)
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	case <-time.After(8 * time.Second):
		t.Fatal("Compile does not end")
	}
	if left := leftovers(t, dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	for _, pid := range pids {
		eventually(t, fmt.Sprintf("the end of process %d", pid), func() bool { return !running(pid) })
	}
}

// running reports whether a process lives; one that nobody has waited for does not.
func running(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	out, err := exec.Command("ps", "-o", "stat=", "-p", fmt.Sprint(pid)).Output()
	if err != nil {
		stat, rerr := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return rerr == nil && !strings.Contains(string(stat), ") Z ")
	}
	return !strings.HasPrefix(strings.TrimSpace(string(out)), "Z")
}

// TestGoroutines has many callers, the first of which gives up.
func TestGoroutines(t *testing.T) {
	c, _ := fake(t, "slow")
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := c.Compile(ctx, source, target)
		first <- err
	}()
	eventually(t, "the first run", func() bool { return runs(t) == 1 })
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			img, err := c.Compile(t.Context(), source, target)
			if err != nil || len(img.Data) == 0 {
				t.Errorf("a caller who waited: %v", err)
			}
			clear(img.Data) // each has an image of its own
		})
	}
	time.Sleep(20 * time.Millisecond)
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the caller who gave up: %v", err)
	}
	wg.Wait()
	if img := compile(t, c); !strings.Contains(string(img.Data), ".version") || runs(t) != 2 {
		t.Errorf("%d runs, image %q", runs(t), img.Data)
	}
}
