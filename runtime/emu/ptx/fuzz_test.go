package ptx

import (
	"errors"
	"os"
	"testing"
)

// checkParse checks what holds for any input.
func checkParse(t *testing.T, src []byte) {
	t.Helper()
	m, err := Parse("f.ptx", src)
	if err != nil {
		var e *Error
		if !errors.As(err, &e) || e.Line < 1 || e.Msg == "" || m != nil {
			t.Fatalf("error %#v, module %v", err, m)
		}
		return
	}
	for _, f := range m.Funcs {
		n := len(f.Body)
		f.PostDominators()
		for i := range f.Body {
			in := &f.Body[i]
			if in.Op == 0 || in.Vec < 1 || in.Guard.Reg >= len(f.Regs) {
				t.Fatalf("%+v", in)
			}
			targets := in.Targets
			if in.Op == Bra {
				targets = []int{in.Target}
			}
			for _, at := range targets {
				if at < 0 || at >= n {
					t.Fatalf("%s: branch to %d of %d", in.Text, at, n)
				}
			}
			for _, list := range [][]Operand{in.Dst, in.Src} {
				for _, o := range list {
					checkOperand(t, f, in, o)
				}
			}
		}
		if n == 0 {
			t.Fatal("empty body")
		}
		switch last := &f.Body[n-1]; {
		case last.Guard.Reg >= 0, last.Op != Exit && last.Op != Bra && last.Op != Brx:
			t.Fatalf("control runs off the end: %s", last.Text)
		}
	}
}

func checkOperand(t *testing.T, f *Func, in *Instr, o Operand) {
	t.Helper()
	switch o.Kind {
	case RegOperand:
		if o.Reg < 0 || o.Reg >= len(f.Regs) {
			t.Fatalf("%s: register %d of %d", in.Text, o.Reg, len(f.Regs))
		}
	case MemOperand:
		if o.Reg >= len(f.Regs) || o.Reg >= 0 && o.Var != nil {
			t.Fatalf("%s: %+v", in.Text, o)
		}
	case VarOperand:
		if o.Var == nil {
			t.Fatalf("%s: %+v", in.Text, o)
		}
	case VecOperand:
		for _, e := range o.Vec {
			if e.Kind == VecOperand || e.Kind == MemOperand {
				t.Fatalf("%s: %+v", in.Text, o)
			}
			checkOperand(t, f, in, e)
		}
	case ImmOperand, SpecialOperand, SinkOperand:
	default:
		t.Fatalf("%s: %+v", in.Text, o)
	}
}

func FuzzParse(f *testing.F) {
	for _, file := range []string{"testdata/nvls_sm90.ptx", "testdata/nvls_sm100a.ptx"} {
		src, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
	body := header + ".global .b8 g[4] = {1,2};\n.extern .shared .b8 d[];\n.entry k(.param .u64 a)\n{\n" + regs
	for _, s := range []string{
		"", "T: .branchtargets A, B;\n{ brx.idx %r1, T; }\nA: trap; B: @!%p1 bra A;",
		"mov.b64 {%r1,_}, %rd1; mov.f32 %f1, 0f3F800000; ld.global.v2.u32 {%r1,%r2}, [g+-4]; mov.u32 %r1, d;",
		".loc 1 2 3, function_name L+4, inlined_at 1 2 3\n{ .reg .pred P; L: @P bra L; } .pragma \"nounroll\";",
		"lop3.or.b32 %r1|%p1, %r1, -1, ~2, 0x96, !%p2; setp.eq.s32 _|%p1, %r1, WARP_SZ;",
	} {
		f.Add([]byte(body + s + "\n}\n.file 1 \"x\"\n.section .debug_x { .b8 1 }\n"))
	}
	f.Fuzz(checkParse)
}

// TestDamaged parses samples that end early or have a character changed.
func TestDamaged(t *testing.T) {
	src, err := os.ReadFile("testdata/nvls_sm100a.ptx")
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(src); i += 997 {
		checkParse(t, src[:i])
		damaged := append([]byte(nil), src...)
		for _, c := range []byte(";}{.%0 ") {
			damaged[i] = c
			checkParse(t, damaged)
		}
	}
}
