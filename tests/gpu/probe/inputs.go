package probe

import (
	"math"
	"math/rand/v2"
)

// Values around which things go wrong, by format.
var (
	edges32 = []uint32{
		0, 0x80000000, 1, 0x80000001, 0x007fffff, 0x807fffff, 0x00800000, 0x80800000, 0x00800001, // zeros and subnormals
		0x3f800000, 0xbf800000, 0x3f7fffff, 0x3f800001, 0x40000000, 0x3f000000, 0x3fc00000, 0x40400000, 0x40200000, // around 1, ties
		0x7f7fffff, 0xff7fffff, 0x7f800000, 0xff800000, 0x7fc00000, 0xffc00000, 0x7f800001, 0x7fffffff, // huge, NaNs
		0x4effffff, 0x4f000000, 0xcf000000, 0x4f800000, 0x5f000000, 0xdf000000, 0x477fe000, 0x477ff000, // ends of s32, u32, s64, f16
		0x43e00000, 0x43e80000, 0x47600000, 0x47700000, 0x38800000, 0x387fc000, 0x33000000, 0x33000001, 0x3a800000, 0x3b000000, // fp8, small f16
		0x7f7f8000, 0x7f7f7fff, 0x3f808000, 0x3f818000, 0x437f8000, 0x43000000, 0x4b000001, 0x4b800001, // bf16 ties, large integers
	}
	edges16 = []uint16{
		0, 0x8000, 1, 0x8001, 0x03ff, 0x0400, 0x0401, 0x3c00, 0xbc00, 0x3bff, 0x3c01, 0x7bff, 0xfbff, 0x7c00, 0xfc00, 0x7e00, 0x7c01, 0xfe01, // f16
		0x007f, 0x0080, 0x0081, 0x3f80, 0xbf80, 0x3f7f, 0x3f81, 0x7f7f, 0xff7f, 0x7f80, 0xff80, 0x7fc0, 0x7f81, // bf16
		0x7e7e, 0x7f7e, 0xfe80, 0x0708, 0x7b7c, // fp8
	}
	edges64 = []uint64{
		0, 1 << 63, 1, 1<<52 - 1, 1 << 52, 0x3ff0000000000000, 0xbff0000000000000, 0x3fefffffffffffff, 0x3ff0000000000001,
		0x7fefffffffffffff, 0x7ff0000000000000, 0xfff0000000000000, 0x7ff8000000000000, 0x7ff0000000000001,
		0x41dfffffffc00000, 0x41e0000000000000, 0xc1e0000000000000, 0x41efffffffe00000, 0x43e0000000000000, 0xc3e0000000000000, 0x43f0000000000000,
		0x47efffffe0000000, 0x47effffff0000000, 0x380fffffffffffff, 0x3690000000000000, 0x368fffffffffffff, 0x3fe0000000000000, 0x4004000000000000,
	}
	edgesInt = []uint64{
		0, 1, 2, 3, 7, 15, 31, 32, 33, 63, 64, 65, 127, 128, 255, 256, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0x80000001,
		0xffffffff, 0xfffffffe, 0x100000000, 1<<63 - 1, 1 << 63, ^uint64(0), ^uint64(1), 0x123456789abcdef0,
	}
)

// Inputs returns the operands of every form. They are the same for ever, or a
// record could not be compared with.
func Inputs() [Count][3]uint64 {
	r := rand.New(rand.NewPCG(0x6d6f6567656e, 1))
	var in [Count][3]uint64
	pick32 := func() uint64 { return uint64(edges32[r.IntN(len(edges32))]) }
	pick16 := func() uint64 { return uint64(edges16[r.IntN(len(edges16))]) }
	number := func() float64 { return r.NormFloat64() * math.Exp2(float64(r.IntN(48)-24)) }
	kinds := []func() uint64{
		// Two edges in one word, so that what should not look at the upper half
		// is found to.
		func() uint64 { return pick32()<<32 | pick32() },
		func() uint64 { return pick16()<<48 | pick16()<<32 | pick16()<<16 | pick16() },
		func() uint64 { return edges64[r.IntN(len(edges64))] },
		func() uint64 { return edgesInt[r.IntN(len(edgesInt))] },
		func() uint64 { return r.Uint64() },
		func() uint64 { return r.Uint64() >> r.IntN(64) },
		func() uint64 { return uint64(math.Float32bits(float32(number()))) },
		func() uint64 { return math.Float64bits(number()) },
	}
	for i := range in {
		kind := kinds[i%len(kinds)]
		for j := range in[i] {
			in[i][j] = kind()
		}
		// Sums that cancel, and quotients near 1.
		if i%5 == 4 {
			in[i][1] = in[i][0] + uint64(r.IntN(5)) - 2
		}
		if i%10 == 9 {
			in[i][1] ^= 0x8000000080008000
		}
	}
	return in
}
