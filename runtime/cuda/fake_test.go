//go:build linux && cgo

package cuda

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/moegen/moegen/runtime/driver"
)

var (
	fakeDir  string
	fakeLock sync.Mutex
)

func TestMain(m *testing.M) {
	// Variables of the machine must not decide what the tests see.
	for _, v := range []string{LibraryEnv, "NCCL_NVLS_ENABLE", "TORCH_SYMM_MEM_DISABLE_MULTICAST", "NVSHMEM_DISABLE_NVLS"} {
		os.Unsetenv(v)
	}
	dir, err := os.MkdirTemp("", "fakecuda")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fakeDir = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// fakeLibrary builds the pretended libcuda, with one of the definitions that
// testdata/fake.h names, or "".
func fakeLibrary(t *testing.T, define string) string {
	t.Helper()
	fakeLock.Lock()
	defer fakeLock.Unlock()
	path := filepath.Join(fakeDir, "libcuda"+define+".so.1")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("SKIPPED, NOTHING OF libcuda WAS TESTED: the tests compile a pretended driver, and there is no gcc:", err)
	}
	args := []string{"-shared", "-fPIC", "-fvisibility=hidden", "-O1", "-Wall", "-Wextra", "-Werror", "-o", path}
	if define != "" {
		args = append(args, "-D"+define)
	}
	sources, _ := filepath.Glob("testdata/*.c")
	if out, err := exec.Command(gcc, append(args, sources...)...).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	return path
}

// fake is an opened pretended driver.
type fake struct {
	driver.Driver
	t   *testing.T
	log string
}

// openFake opens the pretended driver. Its end of the test checks that
// nothing is left.
func openFake(t *testing.T, define string, options ...Option) *fake {
	t.Helper()
	f := &fake{t: t, log: filepath.Join(t.TempDir(), "calls")}
	t.Setenv("FAKECUDA_LOG", f.log)
	d, err := Open(append(options, WithLibrary(fakeLibrary(t, define)))...)
	if err != nil {
		t.Fatal(err)
	}
	f.Driver = d
	t.Cleanup(func() {
		os.Unsetenv("FAKECUDA_FAIL")
		for range 2 { // Close is idempotent
			if err := d.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}
		const want = "live 0 0 0 0 0 0 0 0 0"
		if got := f.calls("live"); len(got) != 1 || got[0] != want {
			t.Errorf("left over (streams events modules graphs execs allocs hosts handles ranges): %q", got)
		}
	})
	return f
}

// calls returns the calls so far of the functions with that name, all if "".
func (f *fake) calls(name string) []string {
	f.t.Helper()
	data, err := os.ReadFile(f.log)
	if err != nil && !os.IsNotExist(err) {
		f.t.Fatal(err)
	}
	var calls []string
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if first, _, _ := strings.Cut(line, " "); name == "" || first == name {
			calls = append(calls, line)
		}
	}
	return calls
}

func (f *fake) forget() { os.Remove(f.log) }

// last is the newest call of name.
func (f *fake) last(name string) string {
	f.t.Helper()
	c := f.calls(name)
	if len(c) == 0 {
		f.t.Fatalf("no call of %s", name)
	}
	return c[len(c)-1]
}

func (f *fake) stream(dev int) driver.Stream {
	f.t.Helper()
	s := must(f.Devices()[dev].NewStream())(f.t)
	f.t.Cleanup(func() { closeAll(f.t, s) })
	return s
}

func (f *fake) kernel(dev int, name string) driver.Function {
	f.t.Helper()
	m := must(f.Devices()[dev].LoadModule(driver.Image{Name: "test", PTX: []byte(".entry " + name + "(")}))(f.t)
	f.t.Cleanup(func() { check(f.t, m.Unload()) })
	return must(m.Function(name))(f.t)
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

// closeAll closes twice: it is idempotent.
func closeAll(t *testing.T, objects ...interface{ Close() error }) {
	t.Helper()
	for _, o := range objects {
		check(t, o.Close())
		check(t, o.Close())
	}
}

// wantText checks that err says all of these.
func wantText(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error; want one that says %q", parts)
		return
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("%q does not say %q", err, p)
		}
	}
}
