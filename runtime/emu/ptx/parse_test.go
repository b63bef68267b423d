package ptx

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func parseFile(t *testing.T, file string) *Module {
	t.Helper()
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m, err := Parse(file, src)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

const header = ".version 9.0\n.target sm_90a\n.address_size 64\n"

// regs are the registers that kernel's statements may use.
const regs = ".reg .pred %p<9>; .reg .b16 %rs<9>; .reg .b32 %r<9>; .reg .b64 %rd<9>; .reg .f32 %f<9>; .reg .f64 %fd<9>;"

// parseBody parses a kernel made of the statements.
func parseBody(t *testing.T, stmts string) *Func {
	t.Helper()
	src := header + ".visible .entry k(.param .u64 a, .param .align 8 .b8 p[128])\n{\n" + regs + "\n" + stmts + "\nret;\n}\n"
	m, err := Parse("t.ptx", []byte(src))
	if err != nil {
		t.Fatalf("%v\n%s", err, stmts)
	}
	return m.Funcs[0]
}

// one parses a single instruction.
func one(t *testing.T, stmt string) Instr {
	t.Helper()
	f := parseBody(t, stmt)
	if len(f.Body) != 2 {
		t.Fatalf("%d instructions in %s", len(f.Body)-1, stmt)
	}
	return f.Body[0]
}

func TestSamples(t *testing.T) {
	for _, file := range []string{"testdata/nvls_sm90.ptx", "testdata/nvls_sm100a.ptx"} {
		m := parseFile(t, file)
		var names []string
		for _, f := range m.Funcs {
			names = append(names, f.Name)
			for i, d := range f.PostDominators() {
				if d <= 0 || d > len(f.Body) {
					t.Errorf("%s: post-dominator of %d is %d", f.Name, i, d)
				}
			}
			if last := f.Body[len(f.Body)-1]; last.Text != "ret" && last.Op != Bra {
				t.Errorf("%s ends with %q", f.Name, last.Text)
			}
		}
		want := "ag_push rs_pull_bf16 rs_p2p_bf16 rs_f32_f16_mix moe_route staged quant_fp8"
		if got := strings.Join(names, " "); len(names) != 7 {
			t.Errorf("kernels %s, want some order of %s", got, want)
		}
	}
	m := parseFile(t, "testdata/nvls_sm90.ptx")
	f := m.Funcs[0]
	if f.Name != "ag_push" || f.MaxNTID != [3]int{512, 1, 1} || len(f.Params) != 11 || f.ParamBytes != 72 || f.Params[9].Offset != 56 {
		t.Errorf("%s: maxntid %v, %d params in %d bytes", f.Name, f.MaxNTID, len(f.Params), f.ParamBytes)
	}
}

// Traps that nvcc's output sets, one test each.

func TestParamArrayByAddress(t *testing.T) {
	f := parseBody(t, "mov.b64 %rd1, p;\nld.param.u64 %rd2, [%rd1+-64];\nld.param.u64 %rd3, [p+8];")
	p := &f.Params[1]
	if p.Offset != 8 || p.Len != 128 || p.Align != 8 || f.ParamBytes != 136 {
		t.Errorf("p: %+v of %d bytes", *p, f.ParamBytes)
	}
	if s := f.Body[0].Src[0]; s.Kind != VarOperand || s.Var != p {
		t.Errorf("mov: %+v", s)
	}
	if s := f.Body[1].Src[0]; s.Kind != MemOperand || s.Off != -64 || f.Regs[s.Reg].Name != "%rd1" || s.Var != nil {
		t.Errorf("ld: %+v", s)
	}
	if s := f.Body[2].Src[0]; s.Kind != MemOperand || s.Var != p || s.Off != 8 || s.Reg != -1 {
		t.Errorf("ld: %+v", s)
	}
}

func TestNestedScopes(t *testing.T) {
	const asm = `{
.reg .pred P1;
LAB_WAIT:
mbarrier.try_wait.parity.shared::cta.b64 P1, [%r1], %r2;
@P1 bra DONE;
bra LAB_WAIT;
DONE:
}
`
	f := parseBody(t, asm+asm+"@%p1 bra OUT;\n{ .reg .b64 %r1; mov.u64 %r1, 5; bra OUT; }\nmov.u32 %r1, 6;\nOUT:")
	var preds, r1s []int
	for i, r := range f.Regs {
		switch r.Name {
		case "P1":
			preds = append(preds, i)
		case "%r1":
			r1s = append(r1s, i)
		}
	}
	if len(preds) != 2 || len(r1s) != 2 || f.Regs[r1s[1]].Type != B64 {
		t.Fatalf("registers %v", f.Regs)
	}
	var targets []int
	for _, in := range f.Body {
		if in.Op == Bra {
			targets = append(targets, in.Target)
		}
	}
	if d := cmp.Diff([]int{3, 0, 6, 3, 10, 10}, targets); d != "" {
		t.Errorf("targets (-want +got):\n%s", d)
	}
	if g := f.Body[4].Guard; g.Reg != preds[1] || g.Neg {
		t.Errorf("guard %+v, registers %v", g, f.Regs)
	}
	if r := f.Body[9].Dst[0].Reg; r != r1s[0] {
		t.Errorf("the outer register is %d, not %d", r, r1s[0])
	}
}

func TestSinks(t *testing.T) {
	for stmt, want := range map[string][]OperandKind{
		"mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r1], %r2;": {SinkOperand},
		"setp.eq.s32 _|%p1, %r1, 1;":                               {SinkOperand, RegOperand},
		"setp.eq.s32 %p1|_, %r1, 1;":                               {RegOperand, SinkOperand},
		"elect.sync _|%p1, -1;":                                    {SinkOperand, RegOperand},
		"shfl.sync.up.b32 %r1|%p1, %r2, 1, 0, -1;":                 {RegOperand, RegOperand},
		"atom.global.add.u32 _, [%rd1], 1;":                        {SinkOperand},
	} {
		in := one(t, stmt)
		var got []OperandKind
		for _, d := range in.Dst {
			got = append(got, d.Kind)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", stmt, d)
		}
	}
	in := one(t, "ld.global.v4.u32 {%r1,_,%r2,%r3}, [%rd1];")
	if in.Vec != 4 || len(in.Dst) != 1 || len(in.Dst[0].Vec) != 4 || in.Dst[0].Vec[1].Kind != SinkOperand {
		t.Errorf("ld: %+v", in)
	}
}

func TestOffsets(t *testing.T) {
	for s, want := range map[string]int64{
		"[%rd1]": 0, "[%rd1+16]": 16, "[%rd1+-128]": -128, "[%rd1 + 0x10]": 16, "[%rd1+4U]": 4,
	} {
		if in := one(t, "ld.global.u32 %r1, "+s+";"); in.Src[0].Off != want || in.Src[0].Kind != MemOperand {
			t.Errorf("%s: %+v", s, in.Src[0])
		}
	}
}

func TestPacking(t *testing.T) {
	in := one(t, "mov.b32 {%rs1, %rs2}, %r1;")
	if len(in.Dst) != 1 || in.Dst[0].Kind != VecOperand || len(in.Dst[0].Vec) != 2 || in.Src[0].Kind != RegOperand {
		t.Errorf("unpack: %+v", in)
	}
	in = one(t, "mov.b64 %rd1, {%r1, 7};")
	if in.Src[0].Kind != VecOperand || in.Src[0].Vec[1].Kind != ImmOperand || in.Src[0].Vec[1].Imm != 7 {
		t.Errorf("pack: %+v", in)
	}
}

func TestImmediates(t *testing.T) {
	for stmt, want := range map[string]uint64{
		"mov.f32 %f1, 0f3F800000;":            0x3f800000,
		"mov.f32 %f1, 0fBF800000;":            0xbf800000,
		"mov.f32 %f1, 1.5;":                   0x3fc00000,
		"mov.f32 %f1, -1.5e0;":                0xbfc00000,
		"mov.f32 %f1, 0d3FF0000000000000;":    0x3f800000,
		"mov.f64 %fd1, 0f3F800000;":           0x3ff0000000000000,
		"mov.f64 %fd1, 0d4008000000000000;":   0x4008000000000000,
		"mov.b32 %r1, 0f3F800000;":            0x3f800000,
		"mov.b64 %rd1, 0d4008000000000000;":   0x4008000000000000,
		"mov.u32 %r1, -1;":                    ^uint64(0),
		"mov.u32 %r1, 4294967295;":            ^uint64(0),
		"mov.b32 %r1, 0x80000000;":            0xffffffff80000000,
		"mov.u32 %r1, 0b101;":                 5,
		"mov.u32 %r1, 017;":                   15,
		"mov.u32 %r1, 5U;":                    5,
		"mov.u32 %r1, ~5;":                    ^uint64(5),
		"mov.u32 %r1, WARP_SZ;":               32,
		"mov.u64 %rd1, 18446744073709551615;": ^uint64(0),
		"mov.u64 %rd1, 4294967295;":           0xffffffff,
		"mov.b16 %rs1, 0x8000;":               0xffffffffffff8000,
		"mov.pred %p1, -1;":                   1,
		"mov.pred %p1, 0;":                    0,
	} {
		if s := one(t, stmt).Src[0]; s.Kind != ImmOperand || s.Imm != want {
			t.Errorf("%s %#x, want %#x", stmt, s.Imm, want)
		}
	}
	if s := one(t, "bar.warp.sync -1;").Src[0]; s.Imm != ^uint64(0) {
		t.Errorf("mask %#x", s.Imm)
	}
}

func TestStatementsPerLine(t *testing.T) {
	f := parseBody(t, "{ cvt.f32.bf16 %f1, %rs1;} {cvt.rn.satfinite.e4m3x2.f32 %rs1, %f1, %f2;}\nmov.u32 %r1, 1;mov.u32 %r2, 2; /* a;\n b */ add.s32 %r1, // c\n  %r1, /* d */ %r2;")
	var got []string
	for _, in := range f.Body {
		got = append(got, fmt.Sprint(in.Line, " ", in.Text))
	}
	want := []string{
		"7 cvt.f32.bf16 %f1, %rs1", "7 cvt.rn.satfinite.e4m3x2.f32 %rs1, %f1, %f2",
		"8 mov.u32 %r1, 1", "8 mov.u32 %r2, 2", "9 add.s32 %r1, %r1, %r2", "11 ret",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestGuards(t *testing.T) {
	f := parseBody(t, "@%p1 bra A;\n@!%p2 exit;\n@%p1 ret;\nA: not.pred %p3, !%p4;")
	var got []string
	for _, in := range f.Body {
		s := in.Op.String()
		if in.Guard.Reg >= 0 {
			s += fmt.Sprintf(" %s %v", f.Regs[in.Guard.Reg].Name, in.Guard.Neg)
		}
		got = append(got, s)
	}
	want := []string{"bra %p1 false", "exit %p2 true", "exit %p1 false", "not", "exit"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if !f.Body[3].Src[0].Neg || f.Body[0].Target != 3 {
		t.Errorf("%+v", f.Body)
	}
}

func TestLoc(t *testing.T) {
	src := header + `.visible .entry k()
{
	.loc	1 10 5
	.reg .b32 %r<2>;
$L__func_begin0:
	mov.u32 %r1, 1;
	.loc	2 20 5, function_name $L__info_string0, inlined_at 1 11 3
	mov.u32 %r1, 2;
	.loc	2 21 5, function_name $L__info_string0+12, inlined_at 1 11 3
$L__tmp1:
	ret;
$L__func_end0:
}
	.file	1 "a.cu"
	.file	2 "dir/b.h", 1234567890, 99
	.section	.debug_str
	{
$L__info_string0:
.b8 95,90,0
.b32 .debug_abbrev
	}
	.section .debug_loc	{	}
`
	m, err := Parse("t.ptx", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"", "a.cu", "dir/b.h"}, m.Files); d != "" {
		t.Errorf("files (-want +got):\n%s", d)
	}
	var got []Loc
	for _, in := range m.Funcs[0].Body {
		got = append(got, in.Loc)
	}
	if d := cmp.Diff([]Loc{{1, 10}, {2, 20}, {2, 21}}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestKernelDirectives(t *testing.T) {
	src := header + ".weak .entry k()\n.maxntid 256\n.minnctapersm 2\n.maxnreg 64\n{ .pragma \"nounroll\";\n}" +
		".entry l\n.reqntid 32, 2\n{\n.reg .pred %p<2>;\n@%p1 ret;\n}"
	m, err := Parse("t.ptx", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	k, l := m.Funcs[0], m.Funcs[1]
	if k.MaxNTID != [3]int{256, 1, 1} || k.MinNCTAPerSM != 2 || l.ReqNTID != [3]int{32, 2, 1} || l.MaxNTID != [3]int{} {
		t.Errorf("%+v %+v", k, l)
	}
	// Falling off the end is a return.
	if len(k.Body) != 1 || k.Body[0].Op != Exit || len(l.Body) != 2 || l.Body[1].Guard.Reg != -1 {
		t.Errorf("%+v %+v", k.Body, l.Body)
	}
}

func TestVariables(t *testing.T) {
	src := header + `
.const .align 4 .b8 tab[16] = {0, 0, 128, 63, 0, 0, 0, 64};
.const .f32 pi = 0f40490FDB;
.global .align 4 .u32 counter = 7;
.visible .global .align 16 .b64 big[3] = {1, -2};
.global .align 4 .b8 zeros[4096];
.shared .align 16 .b8 both[100];
.extern .shared .align 16 .b8 hist[];
.extern .func (.param .b32 func_retval0) vprintf (.param .b64 vprintf_param_0);
.entry k(.param .u32 n, .param .u64 .ptr .global .align 16 q, .param .u8 b, .param .align 4 .b8 s[6])
{
	.reg .b32 %r<9>; .reg .b64 %SP;
	.local .align 8 .b8 depot[24];
	.shared .align 4 .b8 wsum[130];
	.shared .align 8 .u64 bar;
	.shared .align 16 .f32 buf[2][3];
	mov.u64 %SP, depot;
	mov.u32 %r1, hist;
	ld.shared.u32 %r2, [both+4];
	st.shared.u32 [wsum+128], %r2;
	ld.u32 %r3, [counter];
	ret;
}
.entry l() { .shared .b32 own[2]; .reg .b32 %r<9>; mov.u32 %r1, own; ret; }
`
	m, err := Parse("t.ptx", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	global := func(name string) *Var {
		for i := range m.Globals {
			if m.Globals[i].Name == name {
				return &m.Globals[i]
			}
		}
		t.Fatal(name)
		return nil
	}
	for name, offset := range map[string]int{"tab": 0, "pi": 16, "counter": 0, "big": 16, "zeros": 40, "both": 0, "hist": 0} {
		if v := global(name); v.Offset != offset {
			t.Errorf("%s at %d, want %d", name, v.Offset, offset)
		}
	}
	if m.GlobalBytes != 4136 || m.ConstBytes != 20 {
		t.Errorf("global %d, const %d", m.GlobalBytes, m.ConstBytes)
	}
	if d := cmp.Diff([]byte{1, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, global("big").Init); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]byte{0xdb, 0x0f, 0x49, 0x40}, global("pi").Init); d != "" {
		t.Error(d)
	}
	if v := global("hist"); v.Len != 0 || v.Size() != 0 || v.Space != Shared {
		t.Errorf("%+v", v)
	}
	k, l := m.Funcs[0], m.Funcs[1]
	var got []int
	for _, v := range k.Params {
		got = append(got, v.Offset)
	}
	for _, v := range k.Vars {
		got = append(got, v.Offset)
	}
	if d := cmp.Diff([]int{0, 8, 16, 20, 0, 100, 232, 240}, got); d != "" {
		t.Errorf("offsets (-want +got):\n%s", d)
	}
	if k.SharedBytes != 264 || k.LocalBytes != 24 || k.ParamBytes != 26 {
		t.Errorf("shared %d, local %d, param %d", k.SharedBytes, k.LocalBytes, k.ParamBytes)
	}
	// Who does not use module-scope shared memory does not have it.
	if l.SharedBytes != 8 || l.Vars[0].Offset != 0 {
		t.Errorf("l: %+v", l)
	}
	// Operands name the variables that the module lists.
	if k.Body[1].Src[0].Var != global("hist") || k.Body[2].Src[0].Var != global("both") || k.Body[0].Src[0].Var != &k.Vars[0] {
		t.Error("an operand's variable is a copy")
	}
	// A generic access to a variable is one to its space.
	if in := k.Body[4]; in.Space != Global || in.Src[0].Var != global("counter") {
		t.Errorf("%+v", in)
	}
}

func TestBranchTable(t *testing.T) {
	f := parseBody(t, "T: .branchtargets A, B, A;\n{ .reg .b32 i; brx.idx i, T; }\nA: mov.u32 %r1, 1;\nB: mov.u32 %r1, 2;")
	if d := cmp.Diff([]int{1, 2, 1}, f.Body[0].Targets); d != "" || f.Body[0].Op != Brx || len(f.Body[0].Src) != 1 {
		t.Errorf("%+v\n%s", f.Body[0], d)
	}
}

func TestDynamicSharedAlignment(t *testing.T) {
	m, err := Parse("t.ptx", []byte(header+".extern .shared .align 128 .b8 dyn[];\n.entry k() { .reg .b32 %r<2>; .shared .b32 x; mov.u32 %r1, x; mov.u32 %r1, dyn; }"))
	if err != nil {
		t.Fatal(err)
	}
	if n := m.Funcs[0].SharedBytes; n != 128 {
		t.Errorf("dynamic shared memory starts at %d", n)
	}
}
