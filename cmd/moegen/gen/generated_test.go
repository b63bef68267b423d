package gen_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moegen/moegen/cmd/moegen/gen"
)

// generatedSpecs returns the specs of the packages that are checked in.
func generatedSpecs(t *testing.T) []string {
	t.Helper()
	specs, err := filepath.Glob("../../../generated/*/moe.yaml")
	if err != nil || len(specs) < 7 {
		t.Fatalf("found %d specs in generated/ (%v), want at least 7", len(specs), err)
	}
	return specs
}

// The packages in generated/ are what is generated today. go test -update
// writes them anew.
func TestGenerated(t *testing.T) {
	for _, path := range generatedSpecs(t) {
		dir := filepath.Dir(path)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			if *update {
				set, err := gen.Generate(t.Context(), gen.Options{SpecFile: path})
				if err != nil {
					t.Fatal(err)
				}
				report, err := set.Write(t.Context(), dir)
				t.Logf("wrote %v, removed %v", report.Written, report.Removed)
				if err != nil {
					t.Fatal(err)
				}
			}
			set, err := gen.Generate(t.Context(), gen.Options{SpecFile: path, Check: true})
			if err != nil {
				t.Fatal(err)
			}
			differences, err := set.Compare(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range differences {
				t.Errorf("%s is %s; run go test ./cmd/moegen/gen -update\n%s", d.File, d.State, d.Diff)
			}
		})
	}
}

// The PTX in generated/ is, to the byte, what the compiler that the manifest
// names makes of the source, wherever the package lies.
func TestGeneratedPTX(t *testing.T) {
	c := compiler(t)
	for _, path := range generatedSpecs(t) {
		dir := filepath.Dir(path)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			var m gen.Manifest
			if err := json.Unmarshal(read(t, dir, "moe_moegen.json"), &m); err != nil {
				t.Fatal(err)
			}
			if m.PTX == nil || m.PTX.Compiler != "nvcc "+c.Version {
				t.Skipf("not tested: the PTX was made by %+v and this is nvcc %s", m.PTX, c.Version)
			}
			elsewhere := filepath.Join(t.TempDir(), filepath.Base(dir))
			set, err := gen.Generate(t.Context(), gen.Options{SpecFile: path, Dir: elsewhere})
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(set.Files["moe_moegen.ptx"], read(t, dir, "moe_moegen.ptx")) {
				t.Error("the PTX differs; remove it and run go test ./cmd/moegen/gen -update")
			}
		})
	}
}

// The same spec gives the same bytes, whatever the file looks like, and none
// that tell of this machine.
func TestDeterministic(t *testing.T) {
	one := write(t, "moe.yaml", small)
	two := write(t, "moe.yaml", "# a comment\nep_size: 2\ndtype: bf16\n\ntopk: 2\nhidden_dim: 1024\nversion: 1\nmax_tokens: 512\n")
	generate(t, one)
	generate(t, two)
	for _, file := range []string{"moe_moegen.go", "moe_moegen.cu", "moe_moegen.json"} {
		a, b := read(t, one, file), read(t, two, file)
		if d := cmp.Diff(string(a), string(b)); d != "" {
			t.Errorf("%s differs:\n%s", file, d)
		}
		wd, _ := os.Getwd()
		for _, path := range []string{os.TempDir(), wd} {
			if bytes.Contains(a, []byte(path)) {
				t.Errorf("%s contains %s", file, path)
			}
		}
	}
}

// Generating again changes no file, nor its time.
func TestUnchanged(t *testing.T) {
	dir := write(t, "moe.yaml", small)
	if r := generate(t, dir); len(r.Written) != 5 {
		t.Fatalf("wrote %v", r.Written)
	}
	before, err := os.Stat(filepath.Join(dir, "moe_moegen.go"))
	if err != nil {
		t.Fatal(err)
	}
	// A newer moegen that writes the same files leaves the manifest too.
	path := filepath.Join(dir, "moe_moegen.json")
	old := bytes.Replace(read(t, path), []byte(`"templates": "`), []byte(`"moegen": "v0.0.1", "templates": "0`), 1)
	if err := os.WriteFile(path, old, 0o644); err != nil {
		t.Fatal(err)
	}
	if r := generate(t, dir); len(r.Written)+len(r.Removed) != 0 || len(r.Unchanged) != 5 {
		t.Errorf("the second run reports %+v", r)
	}
	if after, err := os.Stat(filepath.Join(dir, "moe_moegen.go")); err != nil || after.ModTime() != before.ModTime() {
		t.Errorf("the second run touched the file: %v", err)
	}
	if got := states(t, dir); got != "" {
		t.Errorf("check says %s", got)
	}
}
