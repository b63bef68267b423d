package emu

import "testing"

const pollPairPTX = `.version 8.6
.target sm_90
.address_size 64
.visible .entry pair(.param .u64 first, .param .u64 second)
{
	.reg .pred %p<4>;
	.reg .b32 %r<4>;
	.reg .b64 %rd<3>;
	ld.param.u64 %rd1, [first];
	ld.param.u64 %rd2, [second];
	mov.u32 %r1, %ctaid.x;
	setp.eq.s32 %p1, %r1, 1;
	@%p1 bra TELL;
WAIT:
	ld.relaxed.gpu.global.u32 %r2, [%rd1];
	ld.relaxed.gpu.global.u32 %r3, [%rd2];
	setp.eq.s32 %p2, %r2, 0;
	setp.eq.s32 %p3, %r3, 0;
	or.pred %p2, %p2, %p3;
	@%p2 bra WAIT;
	ret;
TELL:
	st.relaxed.gpu.global.u32 [%rd1], 1;
	st.relaxed.gpu.global.u32 [%rd2], 1;
	ret;
}
`

// TestPollPairs: a block that polls two places gives way to the one that writes
// them, wherever they are.
func TestPollPairs(t *testing.T) {
	m := newMachine(t, Config{Devices: 1, Workers: 1})
	k, s := m.kernel(m.load(0, []byte(pollPairPTX)), "pair"), m.stream(0)
	const words = 600
	for i := range words - 1 {
		at := alloc(m, 0, make([]uint32, words))
		ok(t, s.Launch(k, grid1(2, 1), pack(uint64(at), uint64(at)+4*uint64(i+1))))
		ok(t, s.Synchronize())
	}
}
