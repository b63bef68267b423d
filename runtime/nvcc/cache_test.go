package nvcc

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestCacheHit(t *testing.T) {
	c, dir := fake(t, "")
	first := compile(t, c)
	if first.FromCache || first.CachePath == "" || len(first.Warnings) > 0 {
		t.Errorf("first: from cache %t, path %q, warnings %q", first.FromCache, first.CachePath, first.Warnings)
	}
	if strings.Contains(string(first.Data), "Build ID") {
		t.Errorf("the PTX is not normalised:\n%s", first.Data)
	}
	second := compile(t, c)
	if !second.FromCache || runs(t) != 1 {
		t.Errorf("second: from cache %t after %d runs", second.FromCache, runs(t))
	}
	second.FromCache = false
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("the cached image differs (-compiled +cached):\n%s", diff)
	}
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Dir(first.CachePath): 0o700, first.CachePath: 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, error %v; want mode %v", path, info.Mode(), err, want)
		}
	}
	if want := filepath.Join(dir, "k."+first.Key, "image.ptx"); first.CachePath != want {
		t.Errorf("path %s, want %s", first.CachePath, want)
	}
	if left, _ := os.ReadDir(filepath.Join(dir, lockDir)); len(left) > 0 || len(leftovers(t, dir)) > 0 {
		t.Errorf("left behind: locks %v, %v", left, leftovers(t, dir))
	}
}

// TestKey changes one thing at a time.
func TestKey(t *testing.T) {
	key := func(src Source, target Target, version string) string {
		j, err := newJob(src, target)
		if err != nil {
			t.Fatal(err)
		}
		return j.key(version)
	}
	base := key(source, target, "13.0.88")
	if moved := key(Source{Name: "elsewhere/k.cu", Text: source.Text}, target, "13.0.88"); moved != base {
		t.Error("the source's directory changes the key")
	}
	seen := map[string]string{base: "base"}
	add := func(what, key string) {
		if other, ok := seen[key]; ok {
			t.Errorf("%s has the key of %s", what, other)
		}
		seen[key] = what
	}
	add("version", key(source, target, "13.0.89"))
	add("text", key(Source{Name: source.Name, Text: []byte("x")}, target, "13.0.88"))
	add("name", key(Source{Name: "other.cu", Text: source.Text}, target, "13.0.88"))
	add("arch", key(source, Target{Arch: "sm_100a", PTX: true}, "13.0.88"))
	add("cubin", key(source, Target{Arch: "sm_90a"}, "13.0.88"))
	add("lines", key(source, Target{Arch: "sm_90a", PTX: true, LineInfo: true}, "13.0.88"))
	t.Setenv("NVCC_APPEND_FLAGS", "-G")
	add("NVCC_APPEND_FLAGS", key(source, target, "13.0.88"))
	if hash("ab", "c") == hash("a", "bc") {
		t.Error("hash does not keep fields apart")
	}
}

func TestDamagedEntry(t *testing.T) {
	damage := map[string]func(t *testing.T, dir string){
		"flipped bit": func(t *testing.T, dir string) {
			edit(t, filepath.Join(dir, "image.ptx"), func(b []byte) []byte { b[3] ^= 1; return b })
		},
		"truncated": func(t *testing.T, dir string) {
			edit(t, filepath.Join(dir, "image.ptx"), func(b []byte) []byte { return b[:len(b)/2] })
		},
		"empty image": func(t *testing.T, dir string) {
			edit(t, filepath.Join(dir, "image.ptx"), func([]byte) []byte { return nil })
		},
		"no image":  func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "image.ptx")) },
		"no meta":   func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "meta.json")) },
		"empty dir": func(t *testing.T, dir string) { remove(t, dir); mkdir(t, dir) },
		"a file instead": func(t *testing.T, dir string) {
			remove(t, dir)
			edit(t, dir, func([]byte) []byte { return []byte("x") })
		},
		"half of meta": func(t *testing.T, dir string) {
			edit(t, filepath.Join(dir, "meta.json"), func(b []byte) []byte { return b[:len(b)/2] })
		},
		"another's meta": func(t *testing.T, dir string) {
			edit(t, filepath.Join(dir, "meta.json"), func(b []byte) []byte {
				return []byte(strings.Replace(string(b), `"key": "`, `"key": "0`, 1))
			})
		},
	}
	for name, harm := range damage {
		t.Run(name, func(t *testing.T) {
			c, dir := fake(t, "")
			good := compile(t, c)
			harm(t, filepath.Dir(good.CachePath))
			again := compile(t, c)
			if again.FromCache || runs(t) != 2 || string(again.Data) != string(good.Data) || len(again.Warnings) > 0 {
				t.Errorf("from cache %t, %d runs, warnings %q", again.FromCache, runs(t), again.Warnings)
			}
			if third := compile(t, c); !third.FromCache {
				t.Error("the entry was not mended")
			}
			if left := leftovers(t, dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func edit(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
}

// TestUnusableCache has caches that cannot be written. The tests may run as root, whom
// modes do not stop, so files stand where directories should be.
func TestUnusableCache(t *testing.T) {
	cases := map[string]func(t *testing.T, dir string){
		"a file":          func(t *testing.T, dir string) { edit(t, dir, func([]byte) []byte { return []byte("x") }) },
		"beneath a file":  func(t *testing.T, dir string) { t.Setenv("MOEGEN_CACHE_DIR", os.Args[0]+"/cache") },
		"a kernel's dir":  func(t *testing.T, dir string) { t.Setenv("MOEGEN_CACHE_DIR", "/proc/self/cache") },
		"no directory":    func(t *testing.T, dir string) { unsetHome(t) },
		"read-only mount": func(t *testing.T, dir string) { t.Setenv("MOEGEN_CACHE_DIR", "/proc/self/task") },
	}
	for name, set := range cases {
		t.Run(name, func(t *testing.T) {
			c, dir := fake(t, "")
			set(t, dir)
			for range 2 {
				img := compile(t, c)
				if img.FromCache || img.CachePath != "" || len(img.Data) == 0 || len(img.Warnings) == 0 {
					t.Errorf("from cache %t, path %q, %d bytes, warnings %q", img.FromCache, img.CachePath, len(img.Data), img.Warnings)
				}
			}
			if runs(t) != 2 {
				t.Errorf("%d runs, want 2", runs(t))
			}
		})
	}
}

// TestForeignCache: kernels are not taken from where other users could have put
// them, and new ones are not put there.
func TestForeignCache(t *testing.T) {
	c, dir := fake(t, "")
	compile(t, c) // fills the cache
	refused := func(what string) {
		t.Helper()
		img := compile(t, c)
		if img.FromCache || img.CachePath != "" || len(img.Warnings) == 0 || !strings.Contains(img.Warnings[0], "MOEGEN_CACHE_DIR") {
			t.Errorf("%s: from cache %t, path %q, warnings %q", what, img.FromCache, img.CachePath, img.Warnings)
		}
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	refused("open to all")
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if !compile(t, c).FromCache {
		t.Error("the user's own cache is not used")
	}
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: a cache of another user (needs root)")
	}
	if err := os.Chown(dir, 4242, 4242); err != nil {
		t.Fatal(err)
	}
	refused("another user's")
}

func unsetHome(t *testing.T) {
	for _, name := range []string{"MOEGEN_CACHE_DIR", "HOME", "XDG_CACHE_HOME", "LocalAppData"} {
		t.Setenv(name, "")
	}
}

// TestFullDisk has disks that fill up: while the entry is written, while the compiler
// writes, and while it writes and does not notice.
func TestFullDisk(t *testing.T) {
	t.Run("storing", func(t *testing.T) {
		for _, failing := range []string{"image.ptx", metaFile} {
			c, dir := fake(t, "")
			full := func(path string, data []byte) error {
				if filepath.Base(path) == failing {
					_ = writeSynced(path, data[:len(data)/2])
					return errors.New("no space left on device")
				}
				return writeSynced(path, data)
			}
			j, err := newJob(source, target)
			if err != nil {
				t.Fatal(err)
			}
			img, err := c.compile(t.Context(), &cache{dir: dir, write: full}, j)
			if err != nil || len(img.Data) == 0 || len(img.Warnings) != 1 || img.CachePath != "" {
				t.Errorf("%s: %d bytes, path %q, warnings %q, error %v", failing, len(img.Data), img.CachePath, img.Warnings, err)
			}
			left, _ := filepath.Glob(filepath.Join(dir, "k.*"))
			if left = append(left, leftovers(t, dir)...); len(left) > 0 {
				t.Errorf("%s: half an entry: %v", failing, left)
			}
		}
	})
	for _, mode := range []string{"full", "quiet", "cut"} {
		t.Run(mode, func(t *testing.T) {
			c, dir := fake(t, mode)
			img := compile(t, c)
			if len(img.Data) == 0 || len(img.Warnings) != 1 || img.CachePath != "" || runs(t) != 2 {
				t.Errorf("%d bytes, path %q, warnings %q, %d runs", len(img.Data), img.CachePath, img.Warnings, runs(t))
			}
			if left := leftovers(t, dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestDisabled(t *testing.T) {
	c, dir := fake(t, "")
	t.Setenv("MOEGEN_DISABLE_JIT", "1")
	_, err := c.Compile(t.Context(), source, target)
	var disabled *DisabledError
	if !errors.Is(err, ErrDisabled) || !errors.As(err, &disabled) || disabled.Name != source.Name || disabled.Arch != "sm_90a" || disabled.CacheDir != dir {
		t.Fatalf("error %v", err)
	}
	for _, want := range []string{"dir/k.cu", "sm_90a", "not cached", dir, "MOEGEN_DISABLE_JIT"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %s", err, want)
		}
	}
	if _, err := os.Stat(dir); err == nil || runs(t) != 0 {
		t.Errorf("a disabled compiler ran %d times, cache: %v", runs(t), err)
	}
	t.Setenv("MOEGEN_DISABLE_JIT", "0")
	compile(t, c)
	t.Setenv("MOEGEN_DISABLE_JIT", "on")
	if img := compile(t, c); !img.FromCache {
		t.Error("the cached image was not used")
	}
}

func TestCached(t *testing.T) {
	c, _ := fake(t, "")
	if _, err := Cached(source, target); !errors.Is(err, ErrNotCached) {
		t.Errorf("empty cache: %v", err)
	}
	old := compile(t, c)
	c.Version = "13.10.1"
	newest := compile(t, c)
	c.Version = "13.9.9"
	compile(t, c)
	if img, err := Cached(source, target); err != nil || img.Key != newest.Key || !img.FromCache {
		t.Errorf("got key %.8s, error %v; want %.8s", img.Key, err, newest.Key)
	}
	// An entry under another's name must not pass for it.
	if err := os.Rename(filepath.Dir(old.CachePath), filepath.Join(os.Getenv("MOEGEN_CACHE_DIR"), "k.0")); err != nil {
		t.Fatal(err)
	}
	if _, err := Cached(Source{Name: "k.cu", Text: []byte("other")}, target); !errors.Is(err, ErrNotCached) {
		t.Errorf("another source: %v", err)
	}
}

func TestSweep(t *testing.T) {
	c, dir := fake(t, "")
	live, err := (&cache{dir: mkdirIn(t, dir)}).newWork()
	if err != nil {
		t.Fatal(err)
	}
	defer live.remove()
	dead, fresh, old := filepath.Join(dir, ".tmp-dead"), filepath.Join(dir, ".tmp-fresh"), filepath.Join(dir, ".tmp-old")
	remote := filepath.Join(dir, ".tmp-remote")
	for _, d := range []string{dead, fresh, old, remote} {
		mkdir(t, d)
	}
	edit(t, filepath.Join(dead, "lock"), func([]byte) []byte { return []byte("process 1 on " + hostname() + "\n") })
	edit(t, filepath.Join(remote, "lock"), func([]byte) []byte { return []byte("process 1 on another-host\n") })
	hours := time.Now().Add(-2 * time.Hour)
	for _, d := range []string{old, live.dir} {
		if err := os.Chtimes(d, hours, hours); err != nil {
			t.Fatal(err)
		}
	}
	compile(t, c)
	for path, want := range map[string]bool{live.dir: true, fresh: true, remote: true, dead: false, old: false} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s: kept %t, want %t", filepath.Base(path), err == nil, want)
		}
	}
}

func mkdirIn(t *testing.T, dir string) string { mkdir(t, dir); return dir }
