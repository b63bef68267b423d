package ptx

import (
	"bufio"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// verdictSource is the module around one instruction of the verdict files.
const verdictSource = `.version 9.0
.target %s
.address_size 64
.global .align 16 .b8 g[256];
.const .align 16 .b8 c[64];
.extern .shared .align 16 .b8 dyn[];
.visible .entry k(.param .u64 a, .param .align 8 .b8 st[64])
{
.reg .pred %%p<20>;
.reg .b16 %%h<20>;
.reg .b32 %%r<20>;
.reg .b64 %%rd<20>; .reg .b64 %%l<4>;
.reg .f32 %%f<20>;
.reg .f64 %%d<20>;
.reg .b128 %%q<9>;
.reg .s32 %%s<9>; .reg .u64 %%ul<9>; .reg .f16 %%hf<9>; .reg .u16 %%uh<9>;
.shared .align 16 .b8 sm[256];
.local .align 16 .b8 lo[256];
%s
ret;
}
`

// verdicts calls f for each "OK|FAIL target ... :: instruction" line of a file.
func verdicts(t *testing.T, file string, f func(t *testing.T, ok bool, target, instr string)) {
	t.Helper()
	r, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	n := 0
	for sc := bufio.NewScanner(r); sc.Scan(); {
		fields := strings.SplitN(sc.Text(), " :: ", 3)
		head := strings.Fields(fields[0])
		if len(fields) < 2 || len(head) < 2 || head[0] != "OK" && head[0] != "FAIL" {
			continue
		}
		n++
		f(t, head[0] == "OK", head[1], fields[1])
	}
	if n < 50 {
		t.Fatalf("%s: only %d lines", file, n)
	}
}

// TestVerdicts holds the opcode table to what ptxas accepts and rejects.
func TestVerdicts(t *testing.T) {
	for _, file := range []string{"testdata/forms.txt", "testdata/verdicts.txt"} {
		verdicts(t, file, func(t *testing.T, ok bool, target, instr string) {
			_, err := Parse("t.ptx", fmt.Appendf(nil, verdictSource, target, instr))
			if ok && err != nil {
				t.Errorf("%s: ptxas accepts it, not so: %v", target, err)
			}
			if !ok && err == nil {
				t.Errorf("%s: ptxas rejects %s", target, instr)
			}
		})
	}
}

// TestOpcodeHistogram compares what is parsed with a count made by a script.
func TestOpcodeHistogram(t *testing.T) {
	text, err := os.ReadFile("testdata/opcodes.txt")
	if err != nil {
		t.Fatal(err)
	}
	parts := regexp.MustCompile(`(?m)^\d+ full$`).Split(string(text), -1)
	if len(parts) != 3 {
		t.Fatalf("%d parts", len(parts))
	}
	entry := regexp.MustCompile(`^([\w.:]+)\((\d+)\)$`)
	for i, file := range []string{"testdata/nvls_sm90.ptx", "testdata/nvls_sm100a.ptx"} {
		want := map[string]int{}
		for _, w := range strings.Fields(parts[i+1]) {
			if m := entry.FindStringSubmatch(w); m != nil {
				want[m[1]], _ = strconv.Atoi(m[2])
			}
		}
		got := map[string]int{}
		for _, f := range parseFile(t, file).Funcs {
			for j := range f.Body {
				opcode, _, _ := strings.Cut(f.Body[j].Text, " ")
				got[opcode]++
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-script +parser):\n%s", file, d)
		}
	}
}
