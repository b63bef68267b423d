package ptx

import (
	"errors"
	"strings"
	"testing"
)

func TestInstructionErrors(t *testing.T) {
	for stmt, want := range map[string]string{
		"frob.u32 %r1;":                                        "unknown opcode frob.u32",
		"add.frob.u32 %r1, %r1, %r2;":                          "add does not take .frob",
		"add.u32.ftz %r1, %r1, %r2;":                           "add does not take .ftz here",
		"add %r1, %r1, %r2;":                                   "add lacks a modifier",
		"add.q32 %r1, %r1, %r2;":                               "add does not take .q32",
		"add.u32 %r1, %r2;":                                    "wrong number of operands (2)",
		"add.u32 %r1, %r2, %r3, %r4;":                          "wrong number of operands (4)",
		"add.u32 %r1, %r2, %rd3;":                              "%rd3 is a .b64 register, not a .u32",
		"add.u32 %r1, %r2, %f3;":                               "%f3 is a .f32 register, not a .u32",
		"add.u32 %r1, %r2, %p3;":                               "%p3 is a .pred register",
		"add.u32 %r1, %r2, %r9;":                               "undeclared register or unknown special register %r9",
		"add.u32 %r1, %r2, %r01;":                              "undeclared register",
		"add.u32 %r1, %r2, x;":                                 "undeclared x",
		"add.u32 %r1, %r2, %tid.x;":                            "only mov reads the special register %tid.x",
		"add.u32 %r1, %r2, 0f3F800000;":                        "constant is not a .u32",
		"add.f32 %f1, %f2, 1;":                                 "constant is not a .f32",
		"add.u32 %r1, %r2, {%r3};":                             "register expected",
		"add.u32 %r1, %r2, [%rd1];":                            "register expected",
		"add.u32 %r1, %r2, !%r3;":                              "! needs a predicate",
		"add.u32 5, %r2, %r3;":                                 "register expected",
		"add.u32 _, %r2, %r3;":                                 "add cannot discard its result",
		"add.u32 %r1|%p1, %r2, %r3;":                           "add has one destination",
		"mov.u32 %r1, %tid.w;":                                 "unknown special register",
		"mov.u32 %r1, %r2.x;":                                  "unknown special register, or vector element",
		"mov.u32 %r1, %frob;":                                  "unknown special register",
		"mov.u64 %rd1, %tid.x;":                                "%tid.x is not a .u64",
		"mov.f32 %f1, a;":                                      "cannot hold the address of a",
		"mov.b32 %r1, {%rs1,%rs2,%rs3};":                       "does not hold 3 registers",
		"mov.u32 %r1, {%rs1,%rs2};":                            "packing needs a .b type",
		"mov.u32 %r1, (1+2);":                                  "constant expressions",
		"ld.global.u32 %r1, [x];":                              "undeclared address",
		"ld.global.u32 %r1, %rd1;":                             "address expected",
		"ld.global.u32 %r1, [%r1];":                            "no address in .global",
		"ld.global.u32 %r1, [%f1];":                            "no address",
		"ld.global.u32 %r1, [16];":                             "must have a register or a variable",
		"ld.global.u32 %r1, [a];":                              "a is in .param, not in .global",
		"ld.global.u32 _, [%rd1];":                             "cannot discard",
		"ld.global.v4.u32 {%r1,%r2}, [%rd1];":                  "vector of 4 expected, not of 2",
		"ld.global.v4.u32 %r1, [%rd1];":                        "vector of 4 expected",
		"ld.global.v4.b64 {%rd1,%rd2,%rd3,%rd4}, [%rd1];":      "need .target sm_100",
		"ld.global.u32 %rs1, [%rd1];":                          "%rs1 is a .b16 register",
		"ld.shared::cluster.u32 %r1, [%r2];":                   "ld does not take .shared::cluster",
		"ld.acquire.u32 %r1, [%rd2];":                          "ld lacks a modifier",
		"st.global.nc.u32 [%rd1], %r1;":                        "st does not take .nc",
		"st.param.u32 [a], %r1;":                               "st does not take .param",
		"multimem.st.global.v4.b32 [%rd1], {%r1,%r2,%r3,%r4};": "multimem.st does not take",
		"multimem.st.relaxed.u32 [%rd1], %r1;":                 "a scope goes with",
		"multimem.ld_reduce.global.add.v4.e4m3x4 {%r1,%r2,%r3,%r4}, [%rd1];":                                     "needs a .target such as sm_100a",
		"multimem.cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r1], 512;":                               "asynchronous multicast copies are not supported",
		"cp.async.cg.shared.global [%r1], [%rd1], 8;":                                                            "cannot copy 8 bytes",
		"barrier.cluster.arrive;":                                                                                "clusters are not supported",
		"createpolicy.fractional.L2::evict_last.b64 %rd1;":                                                       "not supported",
		"cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r1], [%rd1], [%r2];": "tensor maps are not supported",
		"call.uni foo, (a);":               "calls are not supported",
		"dp4a.s32.s32 %r1, %r2, %r3, %r4;": "unknown opcode dp4a.s32.s32",
		"bra NOWHERE;":                     "undeclared label NOWHERE",
		"bra %r1;":                         "label expected",
		"brx.idx %r1, NOWHERE;":            "undeclared label NOWHERE",
		"L: brx.idx %r1, L;":               "not a .branchtargets list",
		"{ IN: } bra IN;":                  "undeclared label IN",
		"L: L: trap;":                      "declared twice",
		"@%r1 bra L; L:":                   "guard is not a declared predicate",
		"@P bra L; L:":                     "guard is not a declared predicate",
		"shfl.up.b32 %r1, %r2, 1, 0, -1;":  "shfl lacks a modifier",
		"elect.sync %r1, -1;":              "needs a second destination",
		".reg .b32 %r<3>;":                 "declared twice",
		".reg .frob x;":                    "type expected",
		".frob 3;":                         "unknown directive",
		".shared .b32 x = 3;":              "cannot have an initialiser",
		".shared .b32 x[];":                "array length missing",
		".local .pred x;":                  "predicate cannot be in memory",
		".shared .align 3 .b8 x[8];":       "not a power of two",
		".pragma \"frob\";":                "unknown pragma",
		"{ .param .b64 param0; st.param.b64 [param0], %rd1; call.uni (retval0), vprintf, (param0); }": "vprintf",
		"add.u32 %r1, %r1, %r2":              "where an operand ends",
		"mov.u32 %r1, 0x;":                   "bad number",
		"mov.u32 %r1, 08;":                   "bad number",
		"mov.u32 %r1, 1_0;":                  "bad number",
		"mov.u32 %r1, 99999999999999999999;": "bad number",
		"mov.f32 %f1, 0f3F8;":                "bad number",
		"`":                                  "not PTX",
		"\"x\"":                              "statement expected",
		"/* no end":                          "not PTX",
	} {
		src := header + ".entry k(.param .u64 a)\n{\n" + regs + "\n" + stmt + "\n}\n"
		_, err := Parse("t.ptx", []byte(src))
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%s: %v, want %q", stmt, err, want)
			continue
		}
		if !strings.Contains(e.Error(), want) || e.Line != 7 || e.File != "t.ptx" || e.Text == "" || !strings.HasPrefix(e.Error(), "t.ptx:7: ") {
			t.Errorf("%s: %v, want %q", stmt, e, want)
		}
		if n := len(strings.Split(err.Error(), "\n")); n != 1 {
			t.Errorf("%s: %d errors for one mistake:\n%v", stmt, n, err)
		}
	}
}

func TestModuleErrors(t *testing.T) {
	for src, want := range map[string]string{
		"":                            `".version" expected`,
		".version 9.0":                `".target" expected`,
		".version 5.0":                "PTX version not supported",
		".version x":                  "bad .version",
		".version 9.0 .target sm_90x": "unknown .target",
		".version 9.0 .target sm_91":  "unknown .target",
		".version 9.0 .target sm_90f": "unknown .target",
		".version 9.0 .target sm_90, texmode_unified": "target option not supported",
		".version 9.0 .target sm_90 .address_size 32": "address size not supported",
		header + "frob":                                      "directive expected",
		header + ".frob":                                     "unknown directive",
		header + ".section .text { }":                        "only debug sections",
		header + ".section .debug_x { ":                      "does not end",
		header + ".func f() { ret; }":                        "device functions are not supported",
		header + ".visible .func f();":                       "device functions are not supported",
		header + ".extern .entry k();":                       "cannot be linked",
		header + ".extern .global .b32 x;":                   "cannot be linked",
		header + ".common .global .b32 x;":                   "linkage not supported",
		header + ".global .b32 x; .const .b32 x;":            "declared twice",
		header + ".entry k() {} .entry k() {}":               "declared twice",
		header + ".global .b32 x[2] = {1,2,3};":              "3 initialisers for 2 elements",
		header + ".global .b32 x = 0f3F8000;":                "bad number",
		header + ".global .u32 x = 0f3F800000;":              "initialiser is not a .u32",
		header + ".global .u64 x = generic(y);":              "addresses are not supported here",
		header + ".global .u32 x[2][2] = {{1},{2}};":         "nested initialisers",
		header + ".global .b8 x[99999999999];":               "bad array length",
		header + ".global .b8 x[2000000000][9];":             "larger than",
		header + ".entry k(.param .u64 a, .param .u64 a) {}": "declared twice",
		header + ".entry k(.param .b8 a[]) {}":               "array length missing",
		header + ".entry k()\n.reqnctapercluster 2 {}":       "clusters are not supported",
		header + ".entry k()\n.frob {}":                      "unknown directive",
		header + ".entry k() {":                              "block does not end",
		header + ".entry k() { { }":                          "block does not end",
		header + ".entry k() {} }":                           "directive expected",
		header + ".file 1 x":                                 "file name expected",
		header + ".entry k() {" + strings.Repeat("{", 100):   "nested deeper",
	} {
		m, err := Parse("t.ptx", []byte(src))
		if err == nil || !strings.Contains(err.Error(), want) || m != nil {
			t.Errorf("%q: %v, want %q", clip(src), err, want)
		}
	}
}

// TestManyErrors checks that a report has several errors, in order, and an end.
func TestManyErrors(t *testing.T) {
	src := header + ".entry k()\n{\n" + regs + "\n" + strings.Repeat("add.u32 %r1, %r2, {%x,%y};\nmov.u32 %r1, 2;\n", 50) + "}\n"
	_, err := Parse("t.ptx", []byte(src))
	var list ErrorList
	if !errors.As(err, &list) || len(list) != maxErrors {
		t.Fatalf("%v", err)
	}
	for i, e := range list {
		if e.Line != 7+2*i {
			t.Errorf("error %d is at line %d: %v", i, e.Line, e)
		}
	}
	var first *Error
	if !errors.As(err, &first) || first != list[0] {
		t.Errorf("first error %v", first)
	}
}
