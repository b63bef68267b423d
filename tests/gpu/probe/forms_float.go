package probe

func (l *list) floats() {
	three := func(ops []string, typ string, mods ...[]string) {
		for _, op := range ops {
			n := 2
			if op == "fma" {
				n = 3
			}
			each(func(m string) { l.op(op+m, typ, n) }, mods...)
		}
	}
	basic := []string{"add", "sub", "mul"}
	three(append(basic, "fma"), "f32", rounds, ftz, sat)
	three(basic, "f64", rounds)
	l.op("fma.rn", "f64", 3)
	three([]string{"div"}, "f32", rounds, ftz)
	three([]string{"div"}, "f64", rounds)
	for _, op := range []string{"rcp", "sqrt"} {
		each(func(m string) { l.op(op+m, "f32", 1) }, rounds, ftz)
		each(func(m string) { l.op(op+m, "f64", 1) }, rounds)
	}
	for _, typ := range []string{"f16", "f16x2"} {
		three(basic, typ, []string{".rn"}, ftz, sat)
		three([]string{"fma"}, typ, []string{".rn"}, ftz, []string{"", ".sat", ".relu"})
		for _, op := range []string{"neg", "abs"} {
			each(func(m string) { l.op(op+m, typ, 1) }, ftz)
		}
	}
	for _, typ := range []string{"bf16", "bf16x2"} {
		three(basic, typ, []string{".rn"})
		three([]string{"fma"}, typ, []string{".rn"}, relu)
		l.op("neg", typ, 1)
		l.op("abs", typ, 1)
	}
	nan, xorSign := []string{"", ".NaN"}, []string{"", ".xorsign.abs"}
	for _, op := range []string{"min", "max"} {
		for _, typ := range []string{"f32", "f16", "f16x2"} {
			three([]string{op}, typ, ftz, nan, xorSign)
		}
		for _, typ := range []string{"bf16", "bf16x2"} {
			three([]string{op}, typ, nan, xorSign)
		}
		l.op(op, "f64", 2)
	}
	for _, op := range []string{"neg", "abs"} {
		each(func(m string) { l.op(op+m, "f32", 1) }, ftz)
		l.op(op, "f64", 1)
	}
	l.op("copysign", "f32", 2)
	l.op("copysign", "f64", 2)
}

// approximations are instructions whose exact bits PTX leaves open. Bounds are
// those of the PTX ISA, a little more where it states none, twice over because
// the emulator may be off to the other side.
func (l *list) approximations() {
	approx := func(n int, op string, t Tolerance) {
		l.op(op, t.Type, n)
		(*l)[len(*l)-1].Approx = &t
	}
	const most, least = 0x1p126, 0x1p-126
	for _, m := range ftz {
		approx(1, "ex2.approx"+m, Tolerance{Type: "f32", ULP: 4})
		approx(1, "lg2.approx"+m, Tolerance{Type: "f32", ULP: 4, Abs: 0x1p-21})
		approx(1, "sin.approx"+m, Tolerance{Type: "f32", Abs: 0x1p-20, High: 6.28})
		approx(1, "cos.approx"+m, Tolerance{Type: "f32", Abs: 0x1p-20, High: 6.28})
		approx(1, "rsqrt.approx"+m, Tolerance{Type: "f32", ULP: 4})
		approx(1, "rcp.approx"+m, Tolerance{Type: "f32", ULP: 2})
		approx(1, "sqrt.approx"+m, Tolerance{Type: "f32", ULP: 4})
		approx(2, "div.approx"+m, Tolerance{Type: "f32", ULP: 4, Low: least, High: most})
		approx(2, "div.full"+m, Tolerance{Type: "f32", ULP: 4, Low: least, High: most})
	}
	approx(1, "tanh.approx", Tolerance{Type: "f32", Rel: 0x1p-10})
	approx(1, "rcp.approx.ftz", Tolerance{Type: "f64", Rel: 0x1p-18, Low: 0x1p-1000, High: 0x1p1000})
	approx(1, "rsqrt.approx", Tolerance{Type: "f64", Rel: 0x1p-18, Low: 0x1p-1000, High: 0x1p1000})
	for _, typ := range []string{"f16", "f16x2"} {
		approx(1, "ex2.approx", Tolerance{Type: typ, ULP: 2, Rel: 0x1p-9})
		approx(1, "tanh.approx", Tolerance{Type: typ, ULP: 2, Abs: 0x1p-10})
	}
	for _, typ := range []string{"bf16", "bf16x2"} {
		approx(1, "ex2.approx.ftz", Tolerance{Type: typ, ULP: 2, Rel: 0x1p-6})
		approx(1, "tanh.approx", Tolerance{Type: typ, ULP: 2, Abs: 0x1p-7})
	}
}

func (l *list) comparisons() {
	float := []string{"eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan"}
	for _, cmp := range float {
		for _, typ := range []string{"f32", "ftz.f32", "f64", "f16", "ftz.f16", "bf16"} {
			r := map[string]string{"f32": "f", "ftz.f32": "f", "f64": "d", "f16": "h", "ftz.f16": "h", "bf16": "h"}[typ]
			l.add("setp.%s.%s %%p0, %%%s1, %%%s2", cmp, typ, r, r)
		}
		l.add("set.%s.u32.f32 %%r0, %%f1, %%f2", cmp)
		l.add("set.%s.ftz.f32.f32 %%f0, %%f1, %%f2", cmp)
	}
	compare := func(typ string, cmps ...string) {
		r := register(typ)
		for _, cmp := range cmps {
			l.add("setp.%s.%s %%p0, %%%s1, %%%s2", cmp, typ, r, r)
			l.add("set.%s.u32.%s %%r0, %%%s1, %%%s2", cmp, typ, r, r)
		}
	}
	for _, bits := range []string{"16", "32", "64"} {
		compare("s"+bits, "eq", "ne", "lt", "le", "gt", "ge")
		compare("u"+bits, "eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs")
		compare("b"+bits, "eq", "ne")
		r := register("b" + bits)
		l.add("selp.b%s %%%s0, %%%s1, %%%s2, %%p2", bits, r, r, r)
	}
	l.add("selp.f32 %%f0, %%f1, %%f2, %%p2")
	l.add("selp.f64 %%d0, %%d1, %%d2, %%p2")
	for _, b := range []string{"and", "or", "xor"} {
		l.add("setp.lt.%s.f32 %%p0|%%p3, %%f1, %%f2, %%p1", b)
		l.add("setp.lt.%s.f32 %%p3|%%p0, %%f1, %%f2, %%p1", b)
		l.add("setp.lt.%s.f32 %%p0|%%p3, %%f1, %%f2, !%%p1", b)
		l.add("setp.gt.%s.s32 %%p3|%%p0, %%r1, %%r2, %%p1", b)
		l.add("%s.pred %%p0, %%p1, %%p2", b)
	}
	l.add("not.pred %%p0, %%p1")
	l.add("slct.u32.s32 %%r0, %%r1, %%r2, %%r3")
	l.add("slct.u64.f32 %%rd0, %%rd1, %%rd2, %%f3")
	l.add("slct.ftz.u32.f32 %%r0, %%r1, %%r2, %%f3")
}
