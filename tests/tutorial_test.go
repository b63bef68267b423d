package tests

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moegen/moegen/runtime/nvcc"
)

// TestTutorial does what docs/tutorial.md says, in an empty folder and one shell:
// blocks of sh are typed, blocks with a file's name are saved, and each line of
// a text block has to come, in its order, in what the commands before it print.
func TestTutorial(t *testing.T) {
	compiler, err := nvcc.Find(t.Context())
	if err != nil {
		t.Skipf("not tested, there is no nvcc (make toolchain): %v", err)
	}
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	const mark = "@@ block "
	script := "set -e\n"
	page := blocks(t, "tutorial.md")
	for i, b := range page {
		switch {
		case b.file != "":
			script += fmt.Sprintf("cat > '%s' <<'@@ end'\n%s@@ end\n", b.file, b.text)
		case b.kind == "sh" || b.kind == "test":
			script += fmt.Sprintf("echo; echo '%s%d'\n%s", mark, i, b.text)
		case b.kind != "text":
			t.Errorf("line %d: a block of %q is neither typed nor saved nor printed", b.line, b.kind)
		}
	}
	dir := t.TempDir()
	// bash reads the script as it would a user's keys: a command at a time.
	cmd := exec.CommandContext(t.Context(), "bash")
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(script)
	nowhere := filepath.Join(dir, "nowhere") // the page's machine has no GPU, whatever this one has
	cmd.Env = append(os.Environ(), "CHECKOUT="+root, "GOWORK=off", "GOPROXY="+elseOff(t), "GOFLAGS=", "GO111MODULE=", "MOEGEN_TRANSPORT=", "MOEGEN_NVCC="+compiler.Path,
		"MOEGEN_CACHE_DIR="+filepath.Join(dir, "cache"), "MOEGEN_LIBCUDA="+nowhere, "MOEGEN_NCCL="+nowhere)
	out, err := cmd.CombinedOutput()
	printed := map[int]string{}
	for _, part := range strings.Split(string(out), "\n"+mark)[1:] {
		number, text, _ := strings.Cut(part, "\n")
		var i int
		if _, err := fmt.Sscan(number, &i); err != nil {
			t.Fatal(err)
		}
		printed[i] = text
	}
	if err != nil {
		t.Fatalf("the page's commands fail, after %d of its blocks: %v\n%s", len(printed), err, out)
	}
	checked := 0
	for i, b := range page {
		if b.kind != "text" || i == 0 {
			continue
		}
		rest := printed[i-1]
		for line := range strings.Lines(b.text) {
			line = strings.TrimRight(line, "\n")
			_, after, ok := strings.Cut(rest, line)
			if !ok {
				t.Errorf("line %d: the commands before do not print %q, or not there:\n%s", b.line, line, printed[i-1])
				break
			}
			rest = after
			checked++
		}
	}
	if checked == 0 {
		t.Error("nothing that the page promises was looked at")
	}
}

// elseOff is the GOPROXY in use, and the module cache alone where that does not
// answer or does not know this checkout's module.
func elseOff(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOPROXY").Output()
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(out)), ",")
	return first + "|off"
}
