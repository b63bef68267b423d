package emu

import (
	"fmt"
	"math"
	"math/big"
	"math/bits"
	"math/rand/v2"
	"strings"
	"testing"
)

// edges are operands around which things go wrong.
var edges = []uint64{
	0, 1, 2, 31, 32, 33, 63, 64, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff,
	0x7fffffffffffffff, 0x8000000000000000, 0xffffffffffffffff, 0xfffffffffffffffe,
	0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001, 0x00000001, 0x807fffff, 0x00800000, 0x7f7fffff, 0x4f000000, 0x5f000000, 0xcf000000, 0x4effffff,
	0x3ff0000000000000, 0x7ff0000000000000, 0x7ff8000000000000, 0x1, 0x41dfffffffc00000, 0x43e0000000000000, 0xc3e0000000000000,
	0x3c00, 0x7c00, 0xfc00, 0x7e00, 0x0400, 0x03ff, 0x3f80, 0x7f80, 0x3f803f80,
}

// opInputs makes operand triples: pairs of edges, and random values of many
// sizes.
func opInputs(r *rand.Rand) [][3]uint64 {
	var in [][3]uint64
	for _, a := range edges {
		for _, b := range edges {
			in = append(in, [3]uint64{a, b, edges[r.IntN(len(edges))]})
		}
	}
	for range 3000 {
		var x [3]uint64
		for i := range x {
			x[i] = r.Uint64() >> r.IntN(64)
			if r.IntN(2) == 0 { // an f32 of moderate size
				x[i] = uint64(math.Float32bits(float32(r.NormFloat64() * math.Exp2(float64(r.IntN(40)-20)))))
			}
		}
		in = append(in, x)
	}
	return in
}

const opHead = `.version 9.0
.target sm_90a
.address_size 64
.visible .entry k%d(.param .u64 in, .param .u64 out, .param .u32 n) {
.reg .pred %%p<8>; .reg .b16 %%h<8>; .reg .b32 %%r<12>; .reg .b64 %%rd<16>; .reg .f32 %%f<8>; .reg .f64 %%d<8>;
ld.param.u64 %%rd10, [in]; ld.param.u64 %%rd11, [out]; ld.param.u32 %%r10, [n];
mov.u32 %%r8, %%ctaid.x; mov.u32 %%r9, %%ntid.x; mov.u32 %%r11, %%tid.x; mad.lo.u32 %%r8, %%r8, %%r9, %%r11;
setp.ge.u32 %%p7, %%r8, %%r10; @%%p7 ret;
mad.wide.u32 %%rd10, %%r8, 24, %%rd10; mad.wide.u32 %%rd11, %%r8, 8, %%rd11;
ld.global.u64 %%rd1, [%%rd10]; ld.global.u64 %%rd2, [%%rd10+8]; ld.global.u64 %%rd3, [%%rd10+16];
cvt.u32.u64 %%r1, %%rd1; cvt.u32.u64 %%r2, %%rd2; cvt.u32.u64 %%r3, %%rd3;
cvt.u16.u64 %%h1, %%rd1; cvt.u16.u64 %%h2, %%rd2; cvt.u16.u64 %%h3, %%rd3;
mov.b32 %%f1, %%r1; mov.b32 %%f2, %%r2; mov.b32 %%f3, %%r3;
mov.b64 %%d1, %%rd1; mov.b64 %%d2, %%rd2; mov.b64 %%d3, %%rd3;
setp.ne.u32 %%p1, %%r1, 0; setp.gt.s32 %%p2, %%r2, 0;
mov.u64 %%rd0, 0; mov.u32 %%r0, 0;
%s
st.global.u64 [%%rd11], %%rd0;
ret;
}
`

// op is an instruction under test: its result ends up in %rd0.
type op struct {
	text string
	ref  func(a, b, c uint64) uint64
}

// tail moves the result from the register named in the text to %rd0.
func (o op) body() string {
	tail := map[string]string{
		"%r0": "cvt.u64.u32 %rd0, %r0;", "%f0": "mov.b32 %r0, %f0; cvt.u64.u32 %rd0, %r0;",
		"%d0": "mov.b64 %rd0, %d0;", "%h0": "cvt.u64.u16 %rd0, %h0;",
		"%p0": "selp.u32 %r0, 1, 0, %p0; cvt.u64.u32 %rd0, %r0;",
	}
	for reg, t := range tail {
		if strings.Contains(o.text, reg) {
			return o.text + ";\n" + t
		}
	}
	return o.text + ";"
}

// runOps executes every op on every input and compares with the references.
func runOps(t *testing.T, in [][3]uint64, ops []op) {
	t.Helper()
	m := newMachine(t, Config{Devices: 1})
	flat := make([]uint64, 0, 3*len(in))
	for _, x := range in {
		flat = append(flat, x[:]...)
	}
	pin, pout := alloc(m, 0, flat), alloc(m, 0, make([]uint64, len(in)))
	s := m.stream(0)
	for i, o := range ops {
		text := fmt.Sprintf(opHead, i, o.body())
		mod := m.load(0, []byte(text))
		ok(t, s.Launch(m.kernel(mod, fmt.Sprint("k", i)), grid1((len(in)+127)/128, 128), pack(pin, pout, len(in))))
		ok(t, s.Synchronize())
		bad := 0
		for j, got := range read[uint64](m, 0, pout, len(in)) {
			if want := o.ref(in[j][0], in[j][1], in[j][2]); got != want && bad < 3 {
				t.Errorf("%s on %#x: %#x, want %#x", o.text, in[j], got, want)
				bad++
			}
		}
	}
}

func u32(f func(a, b, c uint32) uint32) func(a, b, c uint64) uint64 {
	return func(a, b, c uint64) uint64 { return uint64(f(uint32(a), uint32(b), uint32(c))) }
}

func s32(f func(a, b, c int32) int32) func(a, b, c uint64) uint64 {
	return func(a, b, c uint64) uint64 { return uint64(uint32(f(int32(a), int32(b), int32(c)))) }
}

func bool64(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

func TestIntegerOps(t *testing.T) {
	clampShift := func(n uint32) uint32 { return min(n, 32) }
	ops := []op{
		{"add.u32 %r0, %r1, %r2", u32(func(a, b, _ uint32) uint32 { return a + b })},
		{"add.s64 %rd0, %rd1, %rd2", func(a, b, _ uint64) uint64 { return a + b }},
		{"add.sat.s32 %r0, %r1, %r2", s32(func(a, b, _ int32) int32 {
			return int32(max(min(int64(a)+int64(b), math.MaxInt32), math.MinInt32))
		})},
		{"add.s16 %h0, %h1, %h2", func(a, b, _ uint64) uint64 { return (a + b) & 0xffff }},
		{"sub.s32 %r0, %r1, %r2", u32(func(a, b, _ uint32) uint32 { return a - b })},
		{"sub.u64 %rd0, %rd1, 77", func(a, _, _ uint64) uint64 { return a - 77 }},
		{"add.cc.u32 %r0, %r1, %r2; addc.u32 %r0, %r3, 0", func(a, b, c uint64) uint64 {
			_, k := bits.Add32(uint32(a), uint32(b), 0)
			return uint64(uint32(c) + k)
		}},
		{"sub.cc.u64 %rd0, %rd1, %rd2; subc.u64 %rd0, %rd3, 5", func(a, b, c uint64) uint64 {
			_, k := bits.Sub64(a, b, 0)
			return c - 5 - k
		}},
		{"mad.lo.cc.u32 %r0, %r1, %r2, %r3; madc.hi.u32 %r0, %r1, %r2, %r3", func(a, b, c uint64) uint64 {
			p := uint64(uint32(a)) * uint64(uint32(b))
			_, k := bits.Add32(uint32(p), uint32(c), 0)
			return uint64(uint32(p>>32) + uint32(c) + k)
		}},
		{"mul.lo.s32 %r0, %r1, %r2", u32(func(a, b, _ uint32) uint32 { return a * b })},
		{"mul.hi.s32 %r0, %r1, %r2", s32(func(a, b, _ int32) int32 { return int32(int64(a) * int64(b) >> 32) })},
		{"mul.hi.u32 %r0, %r1, %r2", u32(func(a, b, _ uint32) uint32 { return uint32(uint64(a) * uint64(b) >> 32) })},
		{"mul.wide.s32 %rd0, %r1, %r2", func(a, b, _ uint64) uint64 { return uint64(int64(int32(a)) * int64(int32(b))) }},
		{"mul.wide.u16 %r0, %h1, %h2", func(a, b, _ uint64) uint64 { return a & 0xffff * (b & 0xffff) & 0xffffffff }},
		{"mul.hi.s64 %rd0, %rd1, %rd2", func(a, b, _ uint64) uint64 {
			p := new(big.Int).Mul(big.NewInt(int64(a)), big.NewInt(int64(b)))
			return uint64(p.Rsh(p, 64).Int64())
		}},
		{"mul.hi.u64 %rd0, %rd1, %rd2", func(a, b, _ uint64) uint64 { h, _ := bits.Mul64(a, b); return h }},
		{"mad.lo.s32 %r0, %r1, %r2, %r3", u32(func(a, b, c uint32) uint32 { return a*b + c })},
		{"mad.wide.s32 %rd0, %r1, %r2, %rd3", func(a, b, c uint64) uint64 { return uint64(int64(int32(a))*int64(int32(b))) + c }},
		{"mad.hi.s32 %r0, %r1, %r2, %r3", s32(func(a, b, c int32) int32 { return int32(int64(a)*int64(b)>>32) + c })},
		{"div.s32 %r0, %r1, %r2", s32(func(a, b, _ int32) int32 {
			if b == 0 {
				return -1
			}
			return a / b
		})},
		{"div.u64 %rd0, %rd1, %rd2", func(a, b, _ uint64) uint64 {
			if b == 0 {
				return ^uint64(0)
			}
			return a / b
		}},
		{"rem.s64 %rd0, %rd1, %rd2", func(a, b, _ uint64) uint64 {
			if b == 0 {
				return ^uint64(0)
			}
			return uint64(int64(a) % int64(b))
		}},
		{"rem.u32 %r0, %r1, %r2", u32(func(a, b, _ uint32) uint32 {
			if b == 0 {
				return ^uint32(0)
			}
			return a % b
		})},
		{"abs.s32 %r0, %r1", s32(func(a, _, _ int32) int32 {
			if a < 0 {
				return -a
			}
			return a
		})},
		{"neg.s64 %rd0, %rd1", func(a, _, _ uint64) uint64 { return -a }},
		{"min.s32 %r0, %r1, %r2", s32(func(a, b, _ int32) int32 { return min(a, b) })},
		{"max.u32 %r0, %r1, %r2", u32(func(a, b, _ uint32) uint32 { return max(a, b) })},
		{"min.u64 %rd0, %rd1, %rd2", func(a, b, _ uint64) uint64 { return min(a, b) }},
		{"max.s64 %rd0, %rd1, %rd2", func(a, b, _ uint64) uint64 { return uint64(max(int64(a), int64(b))) }},
		{"sad.u32 %r0, %r1, %r2, %r3", u32(func(a, b, c uint32) uint32 { return c + max(a, b) - min(a, b) })},
		{"and.b32 %r0, %r1, %r2", u32(func(a, b, _ uint32) uint32 { return a & b })},
		{"or.b64 %rd0, %rd1, %rd2", func(a, b, _ uint64) uint64 { return a | b }},
		{"xor.b16 %h0, %h1, %h2", func(a, b, _ uint64) uint64 { return (a ^ b) & 0xffff }},
		{"not.b32 %r0, %r1", u32(func(a, _, _ uint32) uint32 { return ^a })},
		{"cnot.b64 %rd0, %rd1", func(a, _, _ uint64) uint64 { return bool64(a == 0) }},
		{"shl.b32 %r0, %r1, %r2", u32(func(a, b, _ uint32) uint32 { return a << b })},
		{"shl.b64 %rd0, %rd1, %r2", func(a, b, _ uint64) uint64 { return a << uint32(b) }},
		{"shr.s32 %r0, %r1, %r2", s32(func(a, b, _ int32) int32 { return a >> uint32(b) })},
		{"shr.u64 %rd0, %rd1, %r2", func(a, b, _ uint64) uint64 { return a >> uint32(b) }},
		{"shr.s16 %h0, %h1, %r2", func(a, b, _ uint64) uint64 { return uint64(uint16(int16(a) >> uint32(b))) }},
		{"shf.l.wrap.b32 %r0, %r1, %r2, %r3", u32(func(a, b, c uint32) uint32 { return uint32((uint64(b)<<32 | uint64(a)) << (c & 31) >> 32) })},
		{"shf.r.clamp.b32 %r0, %r1, %r2, %r3", u32(func(a, b, c uint32) uint32 { return uint32((uint64(b)<<32 | uint64(a)) >> clampShift(c)) })},
		{"popc.b64 %r0, %rd1", func(a, _, _ uint64) uint64 { return uint64(bits.OnesCount64(a)) }},
		{"clz.b32 %r0, %r1", u32(func(a, _, _ uint32) uint32 { return uint32(bits.LeadingZeros32(a)) })},
		{"brev.b32 %r0, %r1", u32(func(a, _, _ uint32) uint32 { return bits.Reverse32(a) })},
		{"brev.b64 %rd0, %rd1", func(a, _, _ uint64) uint64 { return bits.Reverse64(a) }},
		{"bfind.u32 %r0, %r1", u32(func(a, _, _ uint32) uint32 { return uint32(bits.Len32(a) - 1) })},
		{"bfind.shiftamt.s32 %r0, %r1", u32(func(a, _, _ uint32) uint32 {
			if int32(a) < 0 {
				a = ^a
			}
			if a == 0 {
				return ^uint32(0)
			}
			return uint32(bits.LeadingZeros32(a))
		})},
		{"bfe.u32 %r0, %r1, 5, 11", u32(func(a, _, _ uint32) uint32 { return a >> 5 & 0x7ff })},
		{"bfe.s32 %r0, %r1, 5, 11", s32(func(a, _, _ int32) int32 { return a << 16 >> 21 })},
		{"bfi.b32 %r0, %r1, %r2, 7, 9", u32(func(a, b, _ uint32) uint32 { return b&^(0x1ff<<7) | a&0x1ff<<7 })},
		{"lop3.b32 %r0, %r1, %r2, %r3, 0xe2", u32(func(a, b, c uint32) uint32 { return a&b | c&^b })},
		{"lop3.b32 %r0, %r1, %r2, %r3, 0x96", u32(func(a, b, c uint32) uint32 { return a ^ b ^ c })},
		{"prmt.b32 %r0, %r1, %r2, 0x5410", u32(func(a, b, _ uint32) uint32 { return a&0xffff | b<<16 })},
		{"prmt.b32 %r0, %r1, %r2, 0x0123", u32(func(a, _, _ uint32) uint32 { return bits.ReverseBytes32(a) })},
		{"selp.b64 %rd0, %rd1, %rd2, %p2", func(a, b, _ uint64) uint64 {
			if int32(b) > 0 {
				return a
			}
			return b
		}},
		{"setp.lt.s64 %p0, %rd1, %rd2", func(a, b, _ uint64) uint64 { return bool64(int64(a) < int64(b)) }},
		{"setp.hi.u32 %p0, %r1, %r2", func(a, b, _ uint64) uint64 { return bool64(uint32(a) > uint32(b)) }},
		{"setp.ge.and.s32 %p0|%p3, %r1, %r2, %p1", func(a, b, _ uint64) uint64 { return bool64(int32(a) >= int32(b) && uint32(a) != 0) }},
		{"setp.ge.or.s32 %p3|%p0, %r1, %r2, !%p1", func(a, b, _ uint64) uint64 { return bool64(int32(a) < int32(b) || uint32(a) == 0) }},
		{"setp.eq.s16 %p0, %h1, %h2", func(a, b, _ uint64) uint64 { return bool64(uint16(a) == uint16(b)) }},
		{"xor.pred %p0, %p1, %p2", func(a, b, _ uint64) uint64 { return bool64(uint32(a) != 0 != (int32(b) > 0)) }},
		{"not.pred %p0, %p1", func(a, _, _ uint64) uint64 { return bool64(uint32(a) == 0) }},
		{"mov.b64 %rd0, {%r1, %r2}", func(a, b, _ uint64) uint64 { return a&0xffffffff | b<<32 }},
		{"mov.b32 {%h4, %h5}, %r1; mov.b32 %r0, {%h5, %h4}", u32(func(a, _, _ uint32) uint32 { return a<<16 | a>>16 })},
		{"slct.u32.s32 %r0, %r1, %r2, %r3", u32(func(a, b, c uint32) uint32 {
			if int32(c) >= 0 {
				return a
			}
			return b
		})},
		{"@%p1 mov.u64 %rd0, 5; @!%p1 mov.u64 %rd0, 6", func(a, _, _ uint64) uint64 { return 5 + bool64(uint32(a) == 0) }},
		{"set.lt.u32.s32 %r0, %r1, %r2", func(a, b, _ uint64) uint64 { return bool64(int32(a) < int32(b)) * 0xffffffff }},
		{"cvt.s64.s32 %rd0, %r1", func(a, _, _ uint64) uint64 { return uint64(int64(int32(a))) }},
		{"cvt.u16.u32 %h0, %r1", func(a, _, _ uint64) uint64 { return a & 0xffff }},
		{"cvt.s32.s8 %r0, %r1", s32(func(a, _, _ int32) int32 { return int32(int8(a)) })},
		{"cvt.u32.s16 %r0, %h1", s32(func(a, _, _ int32) int32 { return int32(int16(a)) })},
		{"cvt.sat.u8.s32 %r0, %r1", s32(func(a, _, _ int32) int32 { return max(min(a, 255), 0) })},
		{"cvt.sat.s32.s64 %r0, %rd1", func(a, _, _ uint64) uint64 {
			return uint64(uint32(max(min(int64(a), math.MaxInt32), math.MinInt32)))
		}},
	}
	runOps(t, opInputs(rand.New(rand.NewPCG(1, 2))), ops)
}
