package probe

func (l *list) integers() {
	all := []string{"s16", "u16", "s32", "u32", "s64", "u64"}
	for _, typ := range all {
		for _, op := range []string{"add", "sub", "mul.lo", "mul.hi", "div", "rem", "min", "max"} {
			l.op(op, typ, 2)
		}
		for _, op := range []string{"mad.lo", "mad.hi", "sad"} {
			l.op(op, typ, 3)
		}
	}
	for _, w := range [][3]string{{"s16", "h", "r"}, {"u16", "h", "r"}, {"s32", "r", "rd"}, {"u32", "r", "rd"}} {
		l.add("mul.wide.%s %%%s0, %%%s1, %%%s2", w[0], w[2], w[1], w[1])
		l.add("mad.wide.%s %%%s0, %%%s1, %%%s2, %%%s3", w[0], w[2], w[1], w[1], w[2])
	}
	l.op("add.sat", "s32", 2)
	l.op("sub.sat", "s32", 2)
	l.op("mad.hi.sat", "s32", 3)
	l.op("min.relu", "s32", 2)
	l.op("max.relu", "s32", 2)
	l.carries()
	for _, typ := range []string{"s16", "s32", "s64"} {
		l.op("abs", typ, 1)
		l.op("neg", typ, 1)
	}
	for _, typ := range []string{"b16", "b32", "b64"} {
		for _, op := range []string{"and", "or", "xor"} {
			l.op(op, typ, 2)
		}
		l.op("not", typ, 1)
		l.op("cnot", typ, 1)
		l.shift("shl", typ)
	}
	for _, typ := range append(all, "b16", "b32", "b64") {
		l.shift("shr", typ)
	}
	l.bits()
}

func (l *list) carries() {
	for _, typ := range []string{"s32", "u32", "s64", "u64"} {
		r := register(typ)
		l.add("add.cc.%s %%%s4, %%%s1, %%%s2; addc.%s %%%s0, %%%s3, %%%s1", typ, r, r, r, typ, r, r, r)
		l.add("sub.cc.%s %%%s4, %%%s1, %%%s2; subc.%s %%%s0, %%%s3, %%%s1", typ, r, r, r, typ, r, r, r)
		l.add("mad.lo.cc.%s %%%s4, %%%s1, %%%s2, %%%s3; madc.hi.%s %%%s0, %%%s1, %%%s2, %%%s3", typ, r, r, r, r, typ, r, r, r, r)
	}
}

// shift adds shifts by amounts that mostly exceed the width, and by few bits.
func (l *list) shift(op, typ string) {
	r := register(typ)
	l.add("%s.%s %%%s0, %%%s1, %%r2", op, typ, r, r)
	l.add("and.b32 %%r4, %%r2, 127; %s.%s %%%s0, %%%s1, %%r4", op, typ, r, r)
}

func (l *list) bits() {
	for _, dir := range []string{"l", "r"} {
		for _, mode := range []string{"clamp", "wrap"} {
			l.add("shf.%s.%s.b32 %%r0, %%r1, %%r2, %%r3", dir, mode)
			l.add("and.b32 %%r4, %%r3, 63; shf.%s.%s.b32 %%r0, %%r1, %%r2, %%r4", dir, mode)
		}
	}
	for _, typ := range []string{"s32", "u32", "s64", "u64"} {
		r := register(typ)
		l.add("bfe.%s %%%s0, %%%s1, %%r2, %%r3", typ, r, r)
		l.add("and.b32 %%r4, %%r2, 63; and.b32 %%r5, %%r3, 63; bfe.%s %%%s0, %%%s1, %%r4, %%r5", typ, r, r)
		l.add("bfind.%s %%r0, %%%s1", typ, r)
		l.add("bfind.shiftamt.%s %%r0, %%%s1", typ, r)
	}
	for _, typ := range []string{"b32", "b64"} {
		r := register(typ)
		l.add("bfi.%s %%%s0, %%%s1, %%%s2, %%r2, %%r3", typ, r, r, r)
		l.add("and.b32 %%r4, %%r2, 63; and.b32 %%r5, %%r3, 63; bfi.%s %%%s0, %%%s1, %%%s2, %%r4, %%r5", typ, r, r, r)
		l.op("brev", typ, 1)
		l.add("clz.%s %%r0, %%%s1", typ, r)
		l.add("popc.%s %%r0, %%%s1", typ, r)
	}
	for lut := 0; lut < 256; lut += 15 {
		l.add("lop3.b32 %%r0, %%r1, %%r2, %%r3, 0x%x", lut)
	}
	for _, mode := range []string{"", ".f4e", ".b4e", ".rc8", ".ecl", ".ecr", ".rc16"} {
		l.add("prmt.b32%s %%r0, %%r1, %%r2, %%r3", mode)
	}
	l.add("mov.b64 %%rd0, {%%r1, %%r2}")
	l.add("mov.b64 {%%r4, %%r5}, %%rd1; mov.b64 %%rd0, {%%r5, %%r4}")
	l.add("mov.b32 {%%h4, %%h5}, %%r1; mov.b32 %%r0, {%%h5, %%h4}")
	l.add("@%%p1 mov.u64 %%rd0, 5; @!%%p1 mov.u64 %%rd0, 6")
}

// warp adds operations of a whole warp. All lanes take part.
func (l *list) warp() {
	const all = "0xffffffff"
	for _, mode := range []string{"up", "down", "bfly", "idx"} {
		// The segment mask and the clamp, as __shfl_*_sync make them for widths
		// of 32 and 8, and one that no width gives.
		for _, c := range []string{"0", "0x1f", "0x1800", "0x181f", "0x0a15"} {
			l.add("shfl.sync.%s.b32 %%r0|%%p0, %%r1, %%r2, %s, %s", mode, c, all)
		}
		l.add("shfl.sync.%s.b32 %%r0|%%p0, %%r1, 3, 0x1f, %s", mode, all)
	}
	for _, p := range []string{"%p1", "%p2", "!%p2"} {
		for _, mode := range []string{"all", "any", "uni"} {
			l.add("vote.sync.%s.pred %%p0, %s, %s", mode, p, all)
		}
		l.add("vote.sync.ballot.b32 %%r0, %s, %s", p, all)
	}
	l.add("and.b32 %%r4, %%r1, 3; match.any.sync.b32 %%r0, %%r4, %s", all)
	l.add("and.b32 %%r4, %%r1, 0; match.all.sync.b32 %%r0|%%p0, %%r4, %s", all)
	l.add("and.b32 %%r4, %%r1, 3; match.all.sync.b32 %%r0|%%p0, %%r4, %s", all)
	l.add("and.b64 %%rd4, %%rd1, 0x8000000000000001; match.any.sync.b64 %%r0, %%rd4, %s", all)
	l.add("and.b64 %%rd4, %%rd1, 0; match.all.sync.b64 %%r0|%%p0, %%rd4, %s", all)
	for _, typ := range []string{"s32", "u32"} {
		for _, op := range []string{"add", "min", "max"} {
			l.add("redux.sync.%s.%s %%r0, %%r1, %s", op, typ, all)
		}
	}
	for _, op := range []string{"and", "or", "xor"} {
		l.add("redux.sync.%s.b32 %%r0, %%r1, %s", op, all)
	}
}
