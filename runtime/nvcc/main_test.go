package nvcc

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fakeNvcc stands for a compiler where only what is around it is tested. It counts its
// runs in $FAKE_DIR/runs and does what $FAKE_MODE says.
const fakeNvcc = `#!/bin/sh
if [ "$1" = --version ]; then
	echo "nvcc: NVIDIA (R) Cuda compiler driver"
	echo "Cuda compilation tools, release ${FAKE_VERSION:-13.0}, V${FAKE_VERSION:-13.0}.88"
	exit 0
fi
printf 'run\n' >>"$FAKE_DIR/runs"
while [ $# -gt 0 ]; do
	case $1 in -o) out=$2; shift ;; esac
	src=$1
	shift
done
ptx() {
	printf '// Compiler Build ID: CL-1\n.version 9.0\n.target sm_90a\n// %s\n.entry k()\n{\n}\n' "$(cksum <"$src")" >"$out"
}
case $FAKE_MODE in
slow) sleep 0.4; ptx ;;
hang)
	sleep 60 &
	printf '%s %s\n' "$$" "$!" >"$FAKE_DIR/pids.new"
	mv "$FAKE_DIR/pids.new" "$FAKE_DIR/pids"
	touch tmpxft_leftover
	wait ;;
full)
	case $PWD in
	"$MOEGEN_CACHE_DIR"*) echo "<built-in>: fatal error: when writing output to x.ii: No space left on device"; exit 1 ;;
	esac
	ptx ;;
quiet)
	case $PWD in
	"$MOEGEN_CACHE_DIR"*) echo "nvcc fatal   : Failed to preprocess host compiler properties."; exit 1 ;;
	esac
	ptx ;;
cut)
	case $PWD in
	"$MOEGEN_CACHE_DIR"*) printf '.version 9.0\n.target sm_90a\n.entry k()\n{\n' >"$out"; exit 0 ;;
	esac
	ptx ;;
nothing) ;;
fail)
	echo "$src(3): error: identifier \"zz\" is undefined"
	echo "    p[0]=zz;"
	exit 2 ;;
nogcc)
	echo "gcc: No such file or directory"
	echo "nvcc fatal   : Failed to preprocess host compiler properties."
	exit 1 ;;
*) ptx ;;
esac
`

// childEnv makes the test binary a process that compiles source and says what it got.
const childEnv = "MOEGEN_NVCC_TEST_CHILD"

var (
	source = Source{Name: "dir/k.cu", Text: []byte("__global__ void k() {}\n")}
	target = Target{Arch: "sm_90a", PTX: true}
)

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		c := &Compiler{Path: path, Version: "13.0.88"}
		img, err := c.Compile(context.Background(), source, target)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Printf("%t %s %d %s\n", img.FromCache, digest(img.Data), len(img.Warnings), img.Warnings)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// fake prepares a fake compiler with a cache of its own.
func fake(t *testing.T, mode string) (c *Compiler, cacheDir string) {
	t.Helper()
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("no sh for the fake compiler")
	}
	dir := t.TempDir()
	cacheDir = filepath.Join(dir, "cache")
	t.Setenv("FAKE_DIR", dir)
	t.Setenv("FAKE_MODE", mode)
	t.Setenv("MOEGEN_CACHE_DIR", cacheDir)
	t.Setenv("MOEGEN_DISABLE_JIT", "")
	return &Compiler{Path: writeFake(t, filepath.Join(dir, "nvcc")), Version: "13.0.88"}, cacheDir
}

func writeFake(t *testing.T, path string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(fakeNvcc), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// runs is how often the fake compiler ran.
func runs(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(os.Getenv("FAKE_DIR"), "runs"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Count(string(text), "run")
}

func compile(t *testing.T, c *Compiler) Image {
	t.Helper()
	img, err := c.Compile(t.Context(), source, target)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	return img
}

// child prepares a second process that compiles the same source.
func child(t *testing.T, c *Compiler) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"="+c.Path)
	return cmd
}

// leftovers lists the temporary directories in a cache.
func leftovers(t *testing.T, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, tempPrefix+"*"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// eventually waits for a condition that another process brings about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
