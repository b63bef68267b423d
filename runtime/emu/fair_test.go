package emu

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

// TestBusyBlocksDoNotStarve: blocks that always have something to do wait for one
// that spun before what it waits for came. There are more busy ones than workers.
func TestBusyBlocksDoNotStarve(t *testing.T) {
	busy := runtime.GOMAXPROCS(0) + 2
	m := newMachine(t, Config{Devices: 1})
	mod := m.load(0, fmt.Appendf(nil, `.version 8.6
.target sm_90
.address_size 64
.visible .entry k(.param .u64 words)
{
	.reg .pred %%p<3>;
	.reg .b32 %%r<8>;
	.reg .b64 %%rd<4>;
	ld.param.u64 %%rd1, [words];
	mov.u32 %%r1, %%ctaid.x;
	mov.u32 %%r2, 0;
	setp.eq.u32 %%p1, %%r1, %d;
	@%%p1 bra LAST;
	mul.wide.u32 %%rd2, %%r1, 4;
	add.s64 %%rd2, %%rd1, %%rd2;
BUSY:
	add.u32 %%r2, %%r2, 1;
	st.relaxed.sys.global.u32 [%%rd2+8], %%r2;
	ld.relaxed.sys.global.u32 %%r3, [%%rd2+8];
	setp.eq.u32 %%p2, %%r2, 100000;
	@%%p2 st.relaxed.sys.global.u32 [%%rd1], %%r2;
	ld.relaxed.sys.global.u32 %%r3, [%%rd1+4];
	setp.eq.u32 %%p2, %%r3, 0;
	@%%p2 bra BUSY;
	ret;
LAST:
	ld.relaxed.sys.global.u32 %%r3, [%%rd1];
	setp.eq.u32 %%p2, %%r3, 0;
	@%%p2 bra LAST;
	st.relaxed.sys.global.u32 [%%rd1+4], %%r3;
	ret;
}
`, busy))
	words := alloc(m, 0, make([]uint32, 2+busy))
	s := m.stream(0)
	ok(t, s.Launch(m.kernel(mod, "k"), grid1(busy+1, 1), pack(words)))
	done := make(chan error, 1)
	go func() { done <- s.Synchronize() }()
	select {
	case err := <-done:
		ok(t, err)
	case <-time.After(time.Minute):
		t.Fatal("the busy blocks starve the one that they wait for")
	}
}
