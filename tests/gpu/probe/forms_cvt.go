package probe

import "fmt"

// conversions adds cvt where a float is on both sides.
func (l *list) conversions() {
	cvt := func(to, from string, mods ...[]string) {
		each(func(m string) {
			l.add("cvt%s.%s.%s %%%s0, %%%s1", m, to, from, register(to), register(from))
		}, mods...)
	}
	satFinite := []string{"", ".satfinite"}
	integral := []string{".rni", ".rzi", ".rmi", ".rpi"}
	nearest := []string{".rn", ".rz"}

	cvt("f32", "f16", ftz, sat)
	cvt("f64", "f16", sat)
	cvt("f64", "f32", ftz, sat)
	cvt("f32", "bf16")
	cvt("f64", "bf16")
	cvt("f32", "f64", rounds, ftz, sat)
	cvt("f16", "f32", rounds, ftz, sat)
	cvt("f16", "f64", rounds, sat)
	cvt("bf16", "f32", rounds)
	cvt("bf16", "f64", rounds)
	cvt("f16", "bf16", rounds)
	cvt("bf16", "f16", rounds)
	cvt("f32", "f32", integral, ftz, sat)
	cvt("f64", "f64", integral, sat)
	cvt("f16", "f16", integral, sat)
	cvt("bf16", "bf16", integral)
	for _, to := range []string{"f16", "bf16"} {
		cvt(to, "f32", nearest, []string{".relu", ".satfinite", ".relu.satfinite"})
		each(func(m string) {
			l.add("cvt%s.%sx2.f32 %%r0, %%f1, %%f2", m, to)
		}, nearest, relu, satFinite)
	}
	for _, fp8 := range []string{"e4m3x2", "e5m2x2"} {
		for _, m := range relu {
			l.add("cvt.rn.satfinite%s.%s.f32 %%h0, %%f1, %%f2", m, fp8)
			l.add("cvt.rn.satfinite%s.%s.f16x2 %%h0, %%r1", m, fp8)
			l.add("cvt.rn%s.f16x2.%s %%r0, %%h1", m, fp8)
		}
	}
}

// intConversions adds cvt where an integer is on one side or both.
func (l *list) intConversions() {
	ints := []string{"s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64"}
	for _, i := range ints {
		// A narrow result goes to a wider register: the bits above count too.
		wide := register(i)
		if wide == "h" {
			wide = "r"
		}
		for _, j := range ints {
			l.add("cvt.%s.%s %%%s0, %%%s1", i, j, wide, register(j))
			if saturates(i, j) {
				l.add("cvt.sat.%s.%s %%%s0, %%%s1", i, j, wide, register(j))
			}
		}
		for _, f := range []string{"f32", "f64", "f16", "bf16"} {
			to := wide
			if f == "bf16" { // takes no 8-bit integers, and no wider registers
				if to = register(i); i == "s8" || i == "u8" {
					continue
				}
			}
			each(func(m string) {
				l.add("cvt%s.%s.%s %%%s0, %%%s1", m, f, i, register(f), register(i))
			}, rounds)
			each(func(m string) {
				l.add("cvt%s.%s.%s %%%s0, %%%s1", m, i, f, to, register(f))
			}, []string{".rni", ".rzi", ".rmi", ".rpi"})
		}
		for _, m := range []string{".rni", ".rzi"} {
			l.add("cvt%s.ftz.%s.f32 %%%s0, %%f1", m, i, wide)
		}
		l.add("cvt.rn.sat.f32.%s %%f0, %%%s1", i, register(i))
	}
}

// saturates says that ptxas takes .sat: where some value of from is out of to's range.
func saturates(to, from string) bool {
	width := func(t string) (n int) {
		if _, err := fmt.Sscanf(t[1:], "%d", &n); err != nil {
			panic(err) // types are written above
		}
		return n
	}
	switch {
	case to[0] == from[0]:
		return width(to) < width(from)
	case to[0] == 'u': // negative numbers
		return true
	}
	return width(to) <= width(from)
}
