//go:build linux && cgo

package nccl

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOpen(t *testing.T) {
	t.Setenv(LibraryEnv, "/nonexistent/libnccl.so")
	_, err := Open()
	if !errors.Is(err, ErrNoLibrary) {
		t.Error(err)
	}
	wantText(t, err, "/nonexistent/libnccl.so (cannot open shared object file", "check the path in MOEGEN_NCCL")

	f := openFake(t, "")
	if f.lib.Version() != "2.29.3" || !f.lib.HasWindows() || f.lib.Path() != os.Getenv(LibraryEnv) {
		t.Error(f.lib)
	}
	if must(Open())(t) != f.lib {
		t.Error("opened twice")
	}
	t.Setenv(LibraryEnv, buildFake(t, "BROKEN_LIBRARY"))
	_, err = Open()
	wantText(t, err, "lacks ncclAllGather;", "NCCL 2.14")
}

func TestCandidates(t *testing.T) {
	prefix := t.TempDir()
	lib := filepath.Join(prefix, "lib/python3.12/site-packages/nvidia/nccl/lib/libnccl.so.2")
	python := filepath.Join(prefix, "bin/python3")
	for _, path := range []string{lib, python} {
		check(t, os.MkdirAll(filepath.Dir(path), 0o700))
		check(t, os.WriteFile(path, []byte("#!/bin/false\n"), 0o700))
	}
	want := []string{"libnccl.so.2", lib}
	t.Setenv("PATH", filepath.Dir(python))
	if diff := cmp.Diff(want, candidates()); diff != "" {
		t.Error(diff)
	}
	t.Setenv("PATH", "")
	t.Setenv("VIRTUAL_ENV", prefix)
	if diff := cmp.Diff(want, candidates()); diff != "" {
		t.Error(diff)
	}
	_, err := Open()
	if err == nil {
		t.Skip("this machine has NCCL")
	}
	wantText(t, err, "libnccl.so.2 (cannot open", lib, "install NCCL")
}

// TestNoMulticastTag looks into binaries for the name of the multicast call.
func TestNoMulticastTag(t *testing.T) {
	for _, tag := range []string{"", "nomulticast"} {
		bin := filepath.Join(t.TempDir(), "program")
		if out, err := exec.Command("go", "build", "-tags", tag, "-o", bin, "./testdata/program").CombinedOutput(); err != nil {
			t.Fatalf("go build: %v\n%s", err, out)
		}
		data := string(must(os.ReadFile(bin))(t))
		for _, name := range []string{"ncclGetLsaMultimemDevicePointer", "cuMulticast"} {
			if got := strings.Contains(data, name); got != (tag == "") {
				t.Errorf("tag %q: %s in the binary: %v", tag, name, got)
			}
		}
	}
}
