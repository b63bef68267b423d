package nvcc

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFindOrder puts a compiler at every place, then takes them away one by one.
func TestFindOrder(t *testing.T) {
	fake(t, "")
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func(p string) { systemPath = p }(systemPath)
	systemPath = filepath.Join(dir, "system", "nvcc")
	sh := os.Getenv("PATH")
	t.Setenv("MOEGEN_NVCC", filepath.Join(dir, "env", "nvcc"))
	t.Setenv("PATH", filepath.Join(dir, "path")+string(os.PathListSeparator)+sh)
	t.Setenv("CUDA_HOME", filepath.Join(dir, "home"))
	t.Setenv("CUDA_PATH", filepath.Join(dir, "cudapath"))
	deep := filepath.Join(dir, "checkout", "a", "b")
	mkdir(t, deep)
	t.Chdir(deep)

	places := []struct{ found, path string }{
		{"MOEGEN_NVCC", filepath.Join(dir, "env", "nvcc")},
		{"PATH", filepath.Join(dir, "path", "nvcc")},
		{"CUDA_HOME", filepath.Join(dir, "home", "bin", "nvcc")},
		{"CUDA_PATH", filepath.Join(dir, "cudapath", "bin", "nvcc")},
		{".toolchain", filepath.Join(dir, "checkout", ".toolchain", "bin", "nvcc")},
		{"system", systemPath},
	}
	for _, p := range places {
		writeFake(t, p.path)
	}
	for i, p := range places {
		c, err := Find(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if c.Found != p.found || c.Path != p.path || c.Version != "13.0.88" {
			t.Errorf("found %+v, want %s in %s", *c, p.path, p.found)
		}
		remove(t, p.path)
		if i == 0 { // an order that cannot be followed is an error
			if _, err := Find(t.Context()); err == nil || !strings.Contains(err.Error(), "MOEGEN_NVCC="+p.path) {
				t.Errorf("MOEGEN_NVCC names no file: error %v", err)
			}
			t.Setenv("MOEGEN_NVCC", "")
		}
	}
	_, err = Find(t.Context())
	if !errors.Is(err, ErrNotFound) {
		t.Fatalf("nothing there: %v", err)
	}
	for _, want := range []string{"MOEGEN_NVCC: not set", "PATH: no nvcc", places[2].path, places[3].path,
		".toolchain: no .toolchain/bin/nvcc in " + deep, systemPath, "make toolchain", "install CUDA 13"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not mention %q:\n%v", want, err)
		}
	}
}

// TestFindSkipsOld has an old compiler before a new one.
func TestFindSkipsOld(t *testing.T) {
	fake(t, "")
	dir := t.TempDir()
	t.Setenv("MOEGEN_NVCC", "")
	t.Setenv("PATH", filepath.Join(dir, "path")+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Setenv("CUDA_HOME", filepath.Join(dir, "home"))
	writeFake(t, filepath.Join(dir, "home", "bin", "nvcc"))
	old := writeFake(t, filepath.Join(dir, "path", "nvcc"))
	edit(t, old, func(b []byte) []byte {
		return []byte(strings.ReplaceAll(string(b), "${FAKE_VERSION:-13.0}", "12.4"))
	})
	if c, err := Find(t.Context()); err != nil || c.Found != "CUDA_HOME" {
		t.Errorf("found %+v, error %v", c, err)
	}
	if _, err := At(t.Context(), old); !errors.Is(err, ErrTooOld) || !strings.Contains(err.Error(), "12.4.88") {
		t.Errorf("old compiler: %v", err)
	}
}

// TestAtResolvesLinks: nvcc started through a link does not find its own files.
func TestAtResolvesLinks(t *testing.T) {
	c, _ := fake(t, "")
	dir := t.TempDir()
	real, err := filepath.EvalSymlinks(c.Path)
	if err != nil {
		t.Fatal(err)
	}
	wrapper := writeFake(t, filepath.Join(dir, "ccache"))
	for target, want := range map[string]string{c.Path: real, wrapper: ""} {
		link := filepath.Join(dir, "nvcc")
		_ = os.Remove(link)
		if err := os.Symlink(target, link); err != nil {
			t.Skip(err)
		}
		if want == "" {
			want = link // a program that goes by the name it is called
		}
		if c, err := At(t.Context(), link); err != nil || c.Path != want {
			t.Errorf("link to %s: %+v, error %v", target, c, err)
		}
	}
}

func TestAtErrors(t *testing.T) {
	dir := t.TempDir()
	script := func(name, text string) string {
		path := filepath.Join(dir, name)
		edit(t, path, func([]byte) []byte { return []byte("#!/bin/sh\n" + text) })
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, tc := range map[string]struct {
		ctx  context.Context
		path string
		want string
	}{
		"no file":   {t.Context(), filepath.Join(dir, "none"), "no such file"},
		"fails":     {t.Context(), script("fails", "echo cannot load libfoo; exit 3\n"), "cannot load libfoo"},
		"no nvcc":   {t.Context(), script("other", "echo gcc 12\n"), "is not nvcc"},
		"cancelled": {cancelled, script("slow", "sleep 9\n"), "context canceled"},
	} {
		if _, err := At(tc.ctx, tc.path); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %q", name, err, tc.want)
		}
	}
}

func TestParseVersion(t *testing.T) {
	for out, want := range map[string]string{
		"nvcc: NVIDIA (R) Cuda compiler driver\nCuda compilation tools, release 13.0, V13.0.88\nBuild cuda_13.0.r13.0/compiler.36424714_0\n": "13.0.88",
		"Cuda compilation tools, release 12.8, V12.8.93\r\n":    "12.8.93",
		"Cuda compilation tools, release 14.1 (internal build)": "14.1",
		"gcc (Debian) 12.2.0": "",
		"":                    "",
	} {
		if got, err := parseVersion(out); got != want || (err != nil) != (want == "") {
			t.Errorf("parseVersion(%q) = %q, %v; want %q", out, got, err, want)
		}
	}
	for _, tc := range []struct {
		a, b string
		want int
	}{{"12.8", "12.8.0", 0}, {"12.10", "12.8", 1}, {"12.4.99", "12.8", -1}, {"13.0.88", "12.8", 1}} {
		if got := compareVersions(tc.a, tc.b); got != tc.want {
			t.Errorf("compareVersions(%s, %s) = %d, want %d", tc.a, tc.b, got, tc.want)
		}
	}
}
