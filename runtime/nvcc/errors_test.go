package nvcc

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestParseDiags holds what nvcc 13.0.88 wrote for real mistakes.
func TestParseDiags(t *testing.T) {
	for name, tc := range map[string]struct {
		log  string
		want []Diag
	}{
		"front end": {
			"/tmp/w/k.cu(3): error: identifier \"zz\" is undefined\n    p[0]=zz;\n         ^\n\n" +
				"k.cu(2): error #177-D: variable \"unused\" was declared but never referenced\n    int unused;\n        ^\n\n" +
				"Remark: The warnings can be suppressed with \"-diag-suppress <warning-number>\"\n\n2 errors detected in the compilation of \"k.cu\".\n",
			[]Diag{{"moe/k.cu", 3, 0, "error", `identifier "zz" is undefined`},
				{"moe/k.cu", 2, 0, "error", `variable "unused" was declared but never referenced`}},
		},
		"preprocessor": {
			"k.cu:1:10: fatal error: nope.h: No such file or directory\n    1 | #include \"nope.h\"\n      |          ^~~~~~~~\ncompilation terminated.\n" +
				"k.cu:5: error: \"A\" redefined [-Werror]\nk.cu:4: note: this is the location of the previous definition\n",
			[]Diag{{"moe/k.cu", 1, 10, "fatal", "nope.h: No such file or directory"},
				{"moe/k.cu", 5, 0, "error", `"A" redefined [-Werror]`},
				{"moe/k.cu", 4, 0, "note", "this is the location of the previous definition"}},
		},
		"assembler": {
			"ptxas /tmp/w/tmpxft_00001813_00000000-6_k.ptx, line 26; error   : Unknown modifier '.bar'\nptxas fatal   : Ptx assembly aborted due to errors\n",
			[]Diag{{"k.ptx", 26, 0, "error", "Unknown modifier '.bar'"},
				{"", 0, 0, "fatal", "ptxas: Ptx assembly aborted due to errors"}},
		},
		"limits": {
			"ptxas error   : Entry function '_Z1kPi' uses too much shared data (0x61a80 bytes, 0x38c00 max)\nptxas info    : 0 bytes gmem\n",
			[]Diag{{"", 0, 0, "error", "ptxas: Entry function '_Z1kPi' uses too much shared data (0x61a80 bytes, 0x38c00 max)"}},
		},
		"driver": {
			"nvcc fatal   : Unsupported gpu architecture 'compute_1'\n",
			[]Diag{{"", 0, 0, "fatal", "nvcc: Unsupported gpu architecture 'compute_1'"}},
		},
		"nothing": {"Killed\n", nil},
	} {
		log := cleanLog(tc.log, "/tmp/w", "k.cu", "moe/k.cu")
		if diff := cmp.Diff(tc.want, parseDiags(log)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if strings.Contains(log, "/tmp/w") || strings.Contains(log, "tmpxft") || strings.Contains(log, `"k.cu"`) {
			t.Errorf("%s: temporary names stay in the log:\n%s", name, log)
		}
	}
}

func TestCompileError(t *testing.T) {
	c, dir := fake(t, "fail")
	_, err := c.Compile(t.Context(), source, target)
	var ce *CompileError
	var exit *exec.ExitError
	if !errors.As(err, &ce) || !errors.As(err, &exit) || exit.ExitCode() != 2 {
		t.Fatalf("error %v", err)
	}
	const want = `nvcc: dir/k.cu:3: error: identifier "zz" is undefined`
	if err.Error() != want || fmt.Sprintf("%v", err) != want || fmt.Sprintf("%q", err) != fmt.Sprintf("%q", want) {
		t.Errorf("error %q, want %q", err, want)
	}
	for _, part := range []string{want + "\n", c.Path, "--generate-code", "    p[0]=zz;\n"} {
		if full := fmt.Sprintf("%+v", err); !strings.Contains(full, part) {
			t.Errorf("%%+v lacks %q:\n%s", part, full)
		}
	}
	if strings.Contains(ce.Log, dir) {
		t.Errorf("the log names a directory that is gone:\n%s", ce.Log)
	}
	if left := leftovers(t, dir); len(left) > 0 || runs(t) != 1 {
		t.Errorf("%d runs, left behind %v", runs(t), left)
	}
	// A failure is not kept: the next call may have another compiler at the same path.
	t.Setenv("FAKE_MODE", "")
	compile(t, c)
}

func TestNoHostCompiler(t *testing.T) {
	c, _ := fake(t, "nogcc")
	_, err := c.Compile(t.Context(), source, target)
	for _, want := range []string{"dir/k.cu (sm_90a)", "install gcc", "NVCC_CCBIN"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not mention %q", err, want)
		}
	}
}

func TestNoImage(t *testing.T) {
	c, _ := fake(t, "nothing")
	if _, err := c.Compile(t.Context(), source, target); err == nil || !strings.Contains(err.Error(), "did not write a whole image") {
		t.Errorf("error %v", err)
	}
	c.Path += "-gone"
	if _, err := c.Compile(t.Context(), source, target); err == nil || !strings.Contains(err.Error(), "cannot run "+c.Path) {
		t.Errorf("no compiler: error %v", err)
	}
}

func TestBadArch(t *testing.T) {
	c, _ := fake(t, "")
	for _, arch := range []string{"", "90a", "sm_90a -G", "compute_90", "sm_90x", "sm_9"} {
		if _, err := c.Compile(t.Context(), source, Target{Arch: arch}); err == nil || !strings.Contains(err.Error(), "sm_90a") {
			t.Errorf("%q: error %v", arch, err)
		}
	}
	if runs(t) != 0 {
		t.Errorf("%d runs", runs(t))
	}
}

func TestFileName(t *testing.T) {
	for name, want := range map[string]string{
		"a/b/moe.cu": "moe.cu", "moe": "moe.cu", "../..": "kernel.cu", "-o x.cu": "o_x.cu", ".cu": "kernel.cu",
		"x\x00y/é.cu": "_.cu", strings.Repeat("k", 300): strings.Repeat("k", 80) + ".cu",
	} {
		if got := fileName(name); got != want {
			t.Errorf("fileName(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestLimitedBuffer(t *testing.T) {
	b := &limitedBuffer{limit: 4}
	for range 3 {
		if n, err := b.Write([]byte("abc")); n != 3 || err != nil {
			t.Fatalf("Write = %d, %v", n, err)
		}
	}
	if got := b.buf.String(); !strings.HasPrefix(got, "abca\n[") || strings.Count(got, "[") != 1 {
		t.Errorf("kept %q", got)
	}
}

func TestParseFuncs(t *testing.T) {
	const log = `ptxas info    : 20 bytes gmem, 24 bytes cmem[4]
ptxas info    : Compiling entry function 'k' for 'sm_90a'
ptxas info    : Function properties for k
    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 16 bytes cumulative stack size, 256+64 bytes smem, 400 bytes cmem[0]
ptxas info    : Compile time = 2.928 ms
ptxas info    : Function properties for _ZN27_INTERNAL_7680b10b_4_k_cu_k1fEf
    0 bytes stack frame, 0 bytes spill stores, 4 bytes spill loads
`
	want := []FuncInfo{
		{Name: "k", Entry: true, Registers: 255, SpillLoads: 12, SpillStores: 8, StackBytes: 16, SharedBytes: 320, BarrierCount: 1},
		{Name: "_ZN27_INTERNAL_7680b10b_4_k_cu_k1fEf", SpillLoads: 4},
	}
	if diff := cmp.Diff(want, Image{Log: log}.Funcs()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := parseFuncs("nonsense\n    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\nptxas info : Used 3 registers\n"); got != nil {
		t.Errorf("out of nothing: %v", got)
	}
}
