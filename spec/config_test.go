package spec

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

// unpack returns a directory with the files of an archive.
func unpack(t *testing.T, files ...txtar.File) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range files {
		path := filepath.Join(dir, f.Name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, f.Data, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Every family's config gives a spec, by name and written out, that says the same.
func TestConfigFamilies(t *testing.T) {
	type shape struct{ Hidden, Experts, TopK, EP int }
	want := map[string]shape{
		"deepseek-v2": {5120, 160, 6, 8}, "deepseek-v3": {7168, 256, 8, 8}, "kimi-k2": {7168, 384, 8, 8},
		"qwen2-moe": {3584, 64, 8, 8}, "qwen3-moe": {2048, 128, 8, 8}, "qwen3-next": {2048, 512, 10, 8},
		"mixtral": {4096, 8, 2, 8}, "llama4-maverick": {5120, 128, 1, 8}, "glm-4.5": {5120, 160, 8, 8},
		"nemotron-3-nano": {2688, 128, 6, 8}, "minimax-m2": {3072, 256, 8, 8}, "olmoe": {2048, 64, 8, 8},
		"phi-3.5-moe": {4096, 16, 2, 8}, "granite-moe": {1024, 32, 8, 8}, "dbrx": {6144, 16, 4, 8},
		"jamba": {4096, 16, 2, 8}, "qwen3-omni": {2048, 128, 8, 8}, "ernie-4.5": {2560, 64, 6, 8}, "hunyuan": {4096, 64, 8, 8},
		"gpt-oss-120b": {2880, 128, 4, 8}, "nemotron-3-super": {1024, 512, 22, 8},
	}
	more := map[string]Draft{ // what a config leaves open
		"gpt-oss-120b":     {DType: BF16},
		"nemotron-3-super": {HiddenDim: 1024},
	}
	archive, err := txtar.ParseFile("testdata/config/families.txtar")
	if err != nil {
		t.Fatal(err)
	}
	dir := unpack(t, archive.Files...)
	got := map[string]shape{}
	for _, f := range archive.Files {
		name := strings.TrimSuffix(f.Name, ".json")
		d := more[name]
		d.Config = filepath.Join(dir, f.Name)
		if more[name] != (Draft{}) {
			bare := Draft{Config: d.Config}
			var open *DraftError
			if _, err := bare.YAML(); !errors.As(err, &open) || len(open.Open) != 1 {
				t.Errorf("%s: %v does not ask for one field", name, err)
			}
		}
		var specs []*Spec
		for _, d.From = range []string{"", f.Name} {
			text, err := d.YAML()
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			path := filepath.Join(dir, name+".yaml")
			if err := os.WriteFile(path, text, 0o644); err != nil {
				t.Fatal(err)
			}
			s, err := Load(path)
			if err != nil {
				t.Errorf("%s: %v\n%s", name, err, text)
				continue
			}
			if s.From != d.From {
				t.Errorf("%s: from %q, not %q", name, s.From, d.From)
			}
			specs = append(specs, s)
		}
		if len(specs) != 2 {
			continue
		}
		if specs[0].Hash() != specs[1].Hash() {
			t.Errorf("%s: the spec with numbers says\n%s\nthe one with from\n%s", name, specs[0].Canonical(), specs[1].Canonical())
		}
		s := specs[0]
		got[name] = shape{s.HiddenDim, s.NumExperts, s.TopK, s.EPSize}
		if s.DType != BF16 {
			t.Errorf("%s: dtype %s", name, s.DType)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Every testdata/from/NAME.txtar holds a config.json and, unless it is for init,
// a moe.yaml; they are refused with exactly the text in its want.
func TestBadConfigs(t *testing.T) {
	files, err := filepath.Glob("testdata/from/*.txtar")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			t.Chdir(unpack(t, archive.Files...)) // for short paths in errors
			var refusal error
			if _, err := os.Stat("moe.yaml"); err == nil {
				_, refusal = Load("moe.yaml")
			} else {
				_, refusal = Draft{Config: "config.json", From: "config.json"}.YAML()
			}
			if refusal == nil {
				t.Fatal("accepted")
			}
			if list := (ErrorList)(nil); !errors.As(refusal, &list) {
				t.Errorf("the error is a %T: %[1]v", refusal)
			}
			checkArchive(t, file, archive, refusal.Error()+"\n")
		})
	}
}

// checkArchive compares got with the last file of the archive, or writes it.
func checkArchive(t *testing.T, file string, archive *txtar.Archive, got string) {
	t.Helper()
	last := &archive.Files[len(archive.Files)-1]
	if last.Name != "want" {
		t.Fatalf("%s does not end with a file want", file)
	}
	if diff := cmp.Diff(string(last.Data), got); diff != "" && !*update {
		t.Errorf("errors differ (-want +got; -update rewrites them):\n%s", diff)
	}
	if *update {
		last.Data = []byte(got)
		t.Chdir(testDir)
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

var testDir, _ = os.Getwd()

// A config is followed only by Load, and read relative to the spec.
func TestFrom(t *testing.T) {
	if _, err := Parse("moe.yaml", []byte("from: config.json\nep_size: 8\ndtype: bf16\n")); err == nil || !strings.Contains(err.Error(), "moe.yaml:1:7: from: a config is only read for a spec that is loaded") {
		t.Errorf("Parse: %v", err)
	}
	config := func(hidden int) txtar.File {
		return txtar.File{Name: "models/config.json", Data: fmt.Appendf(nil, "{\"hidden_size\": %d, \"num_experts\": 16, \"num_experts_per_tok\": 4}", hidden)}
	}
	dir := unpack(t, config(2048),
		txtar.File{Name: "pkg/moe.yaml", Data: []byte("from: ../models/config.json\nep_size: 8\ndtype: bf16\n")},
		txtar.File{Name: "pkg/same.yaml", Data: []byte("from: ../models/config.json\nmodel: moe\nep_size: 8\ndtype: bf16\nhidden_dim: 2048\n")})
	load := func(name string) *Spec {
		t.Helper()
		s, err := Load(filepath.Join(dir, "pkg", name))
		if err != nil {
			t.Fatal(err)
		}
		alone := *s
		alone.From = ""
		checkRoundTrip(t, &alone)
		return s
	}
	before := load("moe.yaml")
	if before.HiddenDim != 2048 || before.NumExperts != 16 || before.TopK != 4 || before.From != "../models/config.json" {
		t.Errorf("%+v", before)
	}
	if same := load("same.yaml"); same.Hash() != before.Hash() {
		t.Error("a field that repeats the config changes the hash")
	}
	changed := config(4096)
	if err := os.WriteFile(filepath.Join(dir, changed.Name), changed.Data, 0o644); err != nil {
		t.Fatal(err)
	}
	if after := load("moe.yaml"); after.Hash() == before.Hash() {
		t.Error("a changed config leaves the hash as it was")
	}
}

func archive(t *testing.T, file string) []txtar.File {
	t.Helper()
	a, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return a.Files
}

// moegen help config has every key that is looked for.
func TestConfigTopic(t *testing.T) {
	data, err := os.ReadFile("../cmd/moegen/cli/topics/config.txt")
	if err != nil {
		t.Fatal(err)
	}
	words := strings.FieldsFunc(string(data), func(r rune) bool { return strings.ContainsRune(" \n,()", r) })
	for _, keys := range [][]string{hiddenKeys, expertsKeys, topkKeys, dtypeKeys, textKeys, latentKeys} {
		for _, key := range keys {
			if !slices.Contains(words, key) {
				t.Errorf("it lacks %s", key)
			}
		}
	}
}
