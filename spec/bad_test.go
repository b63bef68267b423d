package spec

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the expected errors in testdata/bad")

// Every testdata/bad/NAME.yaml is refused with exactly the text in NAME.txt.
func TestBadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no bad files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s, refusal := Parse(filepath.Base(file), data)
			if refusal == nil {
				t.Fatalf("accepted:\n%s", s.Canonical())
			}
			checkErrors(t, refusal)
			golden := strings.TrimSuffix(file, ".yaml") + ".txt"
			got := refusal.Error() + "\n"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("errors differ (-want +got; -update rewrites them):\n%s", diff)
			}
		})
	}
}

// checkErrors checks what holds of every error of Parse.
func checkErrors(t *testing.T, err error) {
	t.Helper()
	var list ErrorList
	if !errors.As(err, &list) || len(list) == 0 {
		t.Fatalf("error is a %T, want a filled ErrorList: %v", err, err)
	}
	for i, e := range list {
		if e.Line < 1 || e.Col < 1 || e.Msg == "" || strings.ContainsAny(e.Error(), "\n\r\x00") {
			t.Errorf("bad error %#v", e)
		}
		if i > 0 && (e.Line < list[i-1].Line || e.Line == list[i-1].Line && e.Col < list[i-1].Col) {
			t.Errorf("error %d is out of order: %v", i, e)
		}
	}
}

const four = "hidden_dim: 4096\ntopk: 8\ndtype: bf16\nep_size: 8\n"

// Cases that editors and git would spoil if they were files.
func TestBadText(t *testing.T) {
	deep := func(open, end string) string {
		return four + "model: " + strings.Repeat(open, 5000) + strings.Repeat(end, 5000)
	}
	tests := []struct{ name, data, want string }{
		{"empty", "", "x.yaml:1:1: the file is empty; a spec needs at least hidden_dim, topk, dtype and ep_size"},
		{"whitespace", " \n\n\t\n  ", "x.yaml:1:1: the file is empty; a spec needs at least hidden_dim, topk, dtype and ep_size"},
		{"comments", "# nothing\n", "x.yaml:1:1: the document is empty; a spec needs at least hidden_dim, topk, dtype and ep_size"},
		{"marker only", "---\n", "x.yaml:2:1: the document is empty; a spec needs at least hidden_dim, topk, dtype and ep_size"},
		{"bom only", "\ufeff", "x.yaml:1:1: the file is empty; a spec needs at least hidden_dim, topk, dtype and ep_size"},
		{"bom inside", four + "mod\ufeffel: x\n", "x.yaml:5:4: byte order mark U+FEFF inside the text"},
		{"nul", "hidden_dim: 4096\ntopk: \x008\n", "x.yaml:2:7: NUL byte; is this a text file saved as UTF-8?"},
		{"utf-16", "\xff\xfeh\x00i\x00", "x.yaml:1:1: byte 0xff is not UTF-8; save the file as UTF-8"},
		{"latin-1", four + "model: é\xe9\n", "x.yaml:5:9: byte 0xe9 is not UTF-8; save the file as UTF-8"},
		{"surrogate", "\xed\xa0\x80", "x.yaml:1:1: byte 0xed is not UTF-8; save the file as UTF-8"},
		{"escape", four + "model: \x1b[31m\n", "x.yaml:5:8: control character U+001B"},
		{"line separator", four + "# a\u2028b\n", "x.yaml:5:4: invisible line separator U+2028"},
		{"crlf", strings.ReplaceAll(four, "\n", "\r\n") + "topk: 9\r\n", "x.yaml:5:1: topk: duplicate key, first given in line 2; keep one of them"},
		{"cr", strings.ReplaceAll(four, "\n", "\r") + "topk: 9\r", "x.yaml:5:1: topk: duplicate key, first given in line 2; keep one of them"},
		{"tab indent", four + "combine:\n\torder: any\n", "x.yaml:6:1: a tab in the indentation; YAML indents with spaces"},
		{"tab in a list", four + "arch:\n  - sm_90a\n\t- sm_100a\n", "x.yaml:7:1: a tab in the indentation; YAML indents with spaces"},
		{"too large", strings.Repeat("#", 1<<20) + "\n", "x.yaml:1:1: the file is too large for a spec (got 1048577 bytes; allowed: up to 1 MiB)"},
		{"deep lists", deep("[", "]"), "x.yaml:5:16: model[0][0][0][0][0][0][0][0]: nested more than 8 levels deep"},
		{"deep mappings", deep("{a: ", "}"), "x.yaml:5:40: model.a.a.a.a.a.a.a.a: nested more than 8 levels deep"},
		{"deeper", four + "model: " + strings.Repeat("[", 500000), "x.yaml:5:1: not YAML: exceeded max depth of 10000"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := Parse("x.yaml", []byte(tt.data))
			if err == nil {
				t.Fatalf("accepted:\n%s", s.Canonical())
			}
			checkErrors(t, err)
			if got := err.Error(); !strings.Contains(got+"\n", tt.want+"\n") {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestManyErrors(t *testing.T) {
	var b strings.Builder
	b.WriteString(four)
	for i := range 150 {
		b.WriteString("x" + strings.Repeat("y", i) + ": 1\n")
	}
	_, err := Parse("x.yaml", []byte(b.String()))
	checkErrors(t, err)
	list := err.(ErrorList)
	if got, want := list[len(list)-1].Error(), "x.yaml:105:1: 50 more errors from here on"; len(list) != maxErrors+1 || got != want {
		t.Errorf("%d errors, the last %q; want %d, %q", len(list), got, maxErrors+1, want)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "qwen3 moe.yaml")
	big := filepath.Join(dir, "big.yaml")
	if err := os.WriteFile(good, []byte(four), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(big, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(big, 1<<40); err != nil {
		t.Fatal(err)
	}
	s, err := Load(good)
	if err != nil || s.Model != "qwen3-moe" {
		t.Errorf("Load = %+v, %v", s, err)
	}
	if _, err := Load(big); err == nil || err.Error() != big+":1:1: the file is too large for a spec (got 1099511627776 bytes; allowed: up to 1 MiB)" {
		t.Errorf("Load(big) = %v", err)
	}
	if _, err := Load(filepath.Join(dir, "none.yaml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Load of no file = %v", err)
	}
	if _, err := Load(dir); err == nil {
		t.Error("Load of a directory succeeded")
	}
	if _, err := os.Stat("/dev/zero"); err == nil {
		if _, err := Load("/dev/zero"); err == nil || !strings.Contains(err.Error(), "too large") {
			t.Errorf("Load(/dev/zero) = %v", err)
		}
	}
}
