package layer

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"github.com/moegen/moegen/cmd/moegen/gen"
	"github.com/moegen/moegen/runtime/nvcc"
	"github.com/moegen/moegen/spec"
	"github.com/moegen/moegen/templates"
)

var update = flag.Bool("update", false, "rewrite templates/experts.ptx")

// TestExpertsPTX: the PTX that is embedded is what the pinned nvcc makes of the
// source that is embedded.
func TestExpertsPTX(t *testing.T) {
	got := compileExperts(t, nil, "sm_90a", true)
	const path = "../../../templates/experts.ptx"
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(got, templates.ExpertsPTX) {
		t.Errorf("%s is stale: go generate ./templates", path)
	}
}

// TestExpertsHeader: the experts compile beside the C header of every model in
// generated/, as a user's do.
func TestExpertsHeader(t *testing.T) {
	files, err := os.ReadDir("../../../generated")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !f.IsDir() {
			continue
		}
		s, err := spec.Load("../../../generated/" + f.Name() + "/moe.yaml")
		if err != nil {
			t.Fatal(err)
		}
		header, err := gen.CHeader(s, "moe")
		if err != nil {
			t.Fatal(err)
		}
		compileExperts(t, header, s.Arch[0], false)
	}
}

func compileExperts(t *testing.T, header []byte, arch string, ptx bool) []byte {
	t.Helper()
	c, err := nvcc.Find(t.Context())
	if err != nil {
		t.Fatalf("%v: make toolchain", err)
	}
	im, err := c.Compile(t.Context(), nvcc.Source{Name: "experts.cu", Text: templates.Experts(header)}, nvcc.Target{Arch: arch, PTX: ptx})
	if err != nil {
		t.Fatal(err)
	}
	return im.Data
}
