package gen_test

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/moegen/moegen/cmd/moegen/gen"
	"github.com/moegen/moegen/spec"
)

// What is emitted reads as if clang-format had written it, whatever the spec.
func TestClangFormat(t *testing.T) {
	const tool = "../../../.toolchain/bin/clang-format"
	if _, err := os.Stat(tool); err != nil {
		t.Skipf("not tested, there is no clang-format (make toolchain): %v", err)
	}
	specs := map[string]*spec.Spec{}
	for name, yaml := range oddSpecs {
		specs[name] = parse(t, yaml)
	}
	for _, path := range generatedSpecs(t) {
		s, err := spec.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		specs[path] = s
	}
	for name, s := range specs {
		t.Run(name, func(t *testing.T) {
			source, err := gen.CUDA(s)
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(tool, "--dry-run", "-Werror", "--style=file:../../../.clang-format", "--assume-filename=moe.cu")
			cmd.Stdin = bytes.NewReader(source)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			for line := range strings.Lines(string(source)) {
				if len(line) > 121 {
					t.Errorf("a line of %d characters: %s", len(line)-1, line)
				}
			}
			if strings.Contains(string(source), "\n\n\n") || strings.Contains(string(source), "{{") {
				t.Error("the template shows through")
			}
		})
	}
}
