package emu

import (
	"fmt"
	"testing"
	"time"

	"github.com/moegen/moegen/runtime/driver"
)

// runWarps runs a body once per thread with %r1 = tid and the address of the
// thread's own 32-bit result in %rd2 (and the buffer's in %rd1).
func runWarps(t *testing.T, threads int, body string) ([]uint32, error) {
	t.Helper()
	m := newMachine(t, Config{Devices: 1, StallLimit: 2 * time.Second})
	src := head + ".visible .entry k(.param .u64 p)\n{\n.reg .b32 %r<16>; .reg .b64 %rd<16>; .reg .pred %p<8>; .reg .f32 %f<8>; .reg .b16 %h<8>;\n" +
		".shared .align 128 .b8 sh[4096];\nld.param.u64 %rd1, [p];\nmov.u32 %r1, %tid.x; mad.wide.u32 %rd2, %r1, 4, %rd1; mov.u32 %r2, %laneid;\n" +
		body + "\nst.global.u32 [%rd2], %r0;\nret;\n}\n"
	mod := m.load(0, []byte(src))
	out := alloc(m, 0, make([]uint32, 2048))
	s := m.stream(0)
	ok(t, s.Launch(m.kernel(mod, "k"), grid1(1, threads), pack(out)))
	if err := s.Synchronize(); err != nil {
		return nil, err
	}
	return read[uint32](m, 0, out, 2048), nil
}

func TestWarpOps(t *testing.T) {
	for _, c := range []struct {
		body string
		want func(i uint32) uint32 // of lane i
	}{
		{"shfl.sync.up.b32 %r0, %r1, 3, 0, 0xffffffff;", func(i uint32) uint32 {
			if i < 3 {
				return i
			}
			return i - 3
		}},
		{"shfl.sync.down.b32 %r0|%p1, %r1, 2, 0x1807, 0xffffffff; @!%p1 mov.u32 %r0, 99;", func(i uint32) uint32 { // width 8
			if i%8 >= 6 {
				return 99
			}
			return i + 2
		}},
		{"shfl.sync.bfly.b32 %r0, %r1, 5, 31, 0xffffffff;", func(i uint32) uint32 { return i ^ 5 }},
		{"shfl.sync.idx.b32 %r0, %r1, 3, 0x1c03, 0xffffffff;", func(i uint32) uint32 { return i&^3 | 3 }}, // width 4
		{"setp.gt.u32 %p1, %r1, 20; vote.sync.ballot.b32 %r0, %p1, 0xffffffff;", func(uint32) uint32 { return 0xffe00000 }},
		{"setp.gt.u32 %p1, %r1, 20; vote.sync.all.pred %p2, %p1, 0xffffffff; selp.u32 %r0, 1, 0, %p2;", func(uint32) uint32 { return 0 }},
		{"setp.gt.u32 %p1, %r1, 20; vote.sync.any.pred %p2, %p1, 0xffffffff; selp.u32 %r0, 1, 0, %p2;", func(uint32) uint32 { return 1 }},
		{"setp.gt.u32 %p1, %r1, 40; vote.sync.uni.pred %p2, %p1, 0xffffffff; selp.u32 %r0, 1, 0, %p2;", func(uint32) uint32 { return 1 }},
		{"and.b32 %r3, %r1, 3; match.any.sync.b32 %r0, %r3, 0xffffffff;", func(i uint32) uint32 { return 0x11111111 << (i & 3) }},
		{"mov.u32 %r3, 5; match.all.sync.b32 %r0|%p1, %r3, 0xffffffff; @%p1 add.u32 %r0, %r0, 1;", func(uint32) uint32 { return 0 }},
		{"redux.sync.add.u32 %r0, %r1, 0xffffffff;", func(uint32) uint32 { return 31 * 16 }},
		{"neg.s32 %r3, %r1; redux.sync.min.s32 %r0, %r3, 0xffffffff;", func(uint32) uint32 { return 0xffffffe1 }},
		{"elect.sync %r0|%p1, 0xfffffff0; @%p1 add.u32 %r0, %r0, 100;", nil},
		{"activemask.b32 %r0;", func(uint32) uint32 { return fullMask }},
		// Halves of the warp call with masks of their own, from one instruction.
		{"mov.u32 %r3, 0xffff; setp.ge.u32 %p1, %r1, 16; @%p1 mov.u32 %r3, 0xffff0000; redux.sync.add.u32 %r0, %r1, %r3;", func(i uint32) uint32 {
			if i < 16 {
				return 120
			}
			return 376
		}},
		// Both sides of a branch call different copies of one shuffle.
		{"setp.ge.u32 %p1, %r1, 7; @%p1 bra A; add.u32 %r3, %r1, 100; shfl.sync.bfly.b32 %r0, %r3, 1, 31, 0xffffffff; bra B;\nA: shfl.sync.bfly.b32 %r0, %r1, 1, 31, 0xffffffff;\nB:", func(i uint32) uint32 {
			if i^1 < 7 {
				return i ^ 1 + 100
			}
			return i ^ 1
		}},
		// Lanes that left do not count.
		{"setp.ge.u32 %p1, %r1, 30; @%p1 bra X; mov.u32 %r3, 0x3fffffff; shfl.sync.idx.b32 %r0, %r1, 4, 31, 0xffffffff; bra Y;\nX: mov.u32 %r0, 1; st.global.u32 [%rd2], %r0; ret;\nY:", func(i uint32) uint32 {
			if i >= 30 {
				return 1
			}
			return 4
		}},
		{"mov.u32 %r3, %lanemask_lt; popc.b32 %r0, %r3;", func(i uint32) uint32 { return i }},
		{"mov.u32 %r0, %lanemask_ge;", func(i uint32) uint32 { return fullMask << i }},
		// An indexed branch.
		{"T: .branchtargets A0, A1, A2; rem.u32 %r3, %r1, 3; brx.idx %r3, T;\nA0: mov.u32 %r0, 10; bra Z;\nA1: mov.u32 %r0, 11; bra Z;\nA2: mov.u32 %r0, 12;\nZ:", func(i uint32) uint32 { return 10 + i%3 }},
	} {
		if c.want == nil {
			_, err := runWarps(t, 32, c.body)
			wantErr(t, err, driver.CodeIllegalInstruction, "not in the member mask")
			continue
		}
		got, err := runWarps(t, 32, c.body)
		if err != nil {
			t.Errorf("%s: %v", c.body, err)
			continue
		}
		for i := range uint32(32) {
			if got[i] != c.want(i) {
				t.Errorf("%s: lane %d has %#x, want %#x", c.body, i, got[i], c.want(i))
				break
			}
		}
	}
}

func TestBlockBarriers(t *testing.T) {
	for _, c := range []struct {
		body string
		want func(i uint32) uint32
	}{
		{"setp.lt.u32 %p1, %r1, 40; bar.red.popc.u32 %r0, 0, %p1;", func(uint32) uint32 { return 40 }},
		{"setp.lt.u32 %p1, %r1, 127; bar.red.and.pred %p2, 0, !%p1; selp.u32 %r0, 1, 0, %p2;", func(uint32) uint32 { return 0 }},
		{"setp.eq.u32 %p1, %r1, 127; bar.red.or.pred %p2, 0, %p1; selp.u32 %r0, 1, 0, %p2;", func(uint32) uint32 { return 1 }},
		// Producers arrive, consumers wait.
		{"mov.u32 %r3, sh; setp.ge.u32 %p1, %r1, 64; @%p1 bra C; shl.b32 %r4, %r1, 2; add.u32 %r4, %r4, %r3; st.shared.u32 [%r4], %r1; bar.arrive 3, 128; mov.u32 %r0, 0; bra D;\n" +
			"C: bar.sync 3, 128; shl.b32 %r4, %r1, 2; add.u32 %r4, %r4, %r3; ld.shared.u32 %r0, [%r4+-256];\nD:", func(i uint32) uint32 {
			if i < 64 {
				return 0
			}
			return i - 64
		}},
		// Warps that have exited are not waited for; lanes of one warp may come apart.
		{"setp.ge.u32 %p1, %r1, 96; @%p1 ret; and.b32 %r3, %r1, 1; setp.eq.u32 %p2, %r3, 0; @%p2 bra E; barrier.sync 1; mov.u32 %r0, 1; bra F;\nE: barrier.sync 1; mov.u32 %r0, 2;\nF:", func(i uint32) uint32 {
			if i >= 96 {
				return 0
			}
			return 2 - i&1
		}},
		// mbarrier: all threads arrive, all wait for the phase, twice.
		{"mov.u32 %r3, sh; setp.ne.u32 %p1, %r1, 0; @%p1 bra G; mbarrier.init.shared::cta.b64 [%r3], 128;\nG: bar.sync 0; mov.u32 %r5, 0;\n" +
			"L: setp.eq.u32 %p3, %r5, 0; and.b32 %r6, %r5, 1; shl.b32 %r4, %r1, 2; add.u32 %r4, %r4, %r3; add.u32 %r7, %r1, %r5; st.shared.u32 [%r4+128], %r7;\n" +
			"mbarrier.arrive.shared::cta.b64 %rd4, [%r3];\nW: mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r3], %r6; @!%p2 bra W;\n" +
			"mbarrier.test_wait.shared::cta.b64 %p2, [%r3], %rd4; @!%p2 trap;\n" +
			"xor.b32 %r8, %r1, 127; shl.b32 %r8, %r8, 2; add.u32 %r8, %r8, %r3; ld.shared.u32 %r0, [%r8+128]; bar.sync 0; add.u32 %r5, %r5, 1; @%p3 bra L;", func(i uint32) uint32 { return i ^ 127 + 1 }},
		// Bulk copies through shared memory and out again.
		{"mov.u32 %r3, sh; mov.u32 %r0, 0; st.shared.u32 [%r3+64], %r0; bar.sync 0; setp.ne.u32 %p1, %r1, 0; @%p1 bra H; mov.u32 %r4, 77; st.shared.u32 [%r3+16], %r4; add.u32 %r5, %r3, 16; " +
			"cp.async.bulk.global.shared::cta.bulk_group [%rd1+1024], [%r5], 16; cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;\nH: bar.sync 0; ld.global.u32 %r0, [%rd1+1024];", func(uint32) uint32 { return 77 }},
	} {
		got, err := runWarps(t, 128, c.body)
		if err != nil {
			t.Errorf("%s: %v", c.body, err)
			continue
		}
		for i := range uint32(128) {
			if got[i] != c.want(i) {
				t.Errorf("%s: thread %d has %#x, want %#x", c.body, i, got[i], c.want(i))
				break
			}
		}
	}
	_, err := runWarps(t, 64, "mov.u32 %r3, sh; mbarrier.arrive.shared::cta.b64 %rd4, [%r3+8];")
	wantErr(t, err, driver.CodeLaunchFailed, "not an initialised mbarrier")
	_, err = runWarps(t, 64, "ld.shared.u32 %r0, [sh+4096];")
	wantErr(t, err, driver.CodeIllegalAddress, "shared memory, of which the block has 4096")
}

func TestAtomics(t *testing.T) {
	for _, c := range []struct {
		body    string
		threads int
		init    func(i int) uint32
		cell    uint32 // what 128 threads leave behind
	}{
		{body: "atom.global.add.u32 %r3, [%rd1+4096], %r1;", cell: 127 * 64},
		{body: "red.relaxed.sys.global.max.u32 [%rd1+4096], %r1;", cell: 127},
		{body: "atom.global.inc.u32 %r3, [%rd1+4096], 9;", cell: 8},
		{body: "atom.global.dec.u32 %r3, [%rd1+4096], 9;", cell: 2},
		{body: "mov.u32 %r3, 1; shl.b32 %r3, %r3, %r2; atom.global.or.b32 %r4, [%rd1+4096], %r3;", cell: fullMask},
		{body: "mov.u32 %r3, 1; shl.b32 %r3, %r3, %r2; atom.global.xor.b32 %r4, [%rd1+4096], %r3;", cell: 0},
		{body: "atom.acq_rel.gpu.global.cas.b32 %r3, [%rd1+4096], %r1, 55; add.u32 %r3, %r3, 0;", cell: 55},
		{body: "mov.f32 %f1, 0f3F800000; atom.global.add.f32 %f2, [%rd1+4096], %f1;", cell: 0x43000000},
		{body: "mov.b32 %r3, 0x3c003c00; atom.global.add.noftz.f16x2 %r4, [%rd1+4096], %r3;", cell: 0x58005800},
		{body: "mov.f32 %f1, 0f3F800000; red.global.add.v2.f32 [%rd1+4096], {%f1, %f1};", cell: 0x43000000},
		{body: "mov.b32 %r3, 0x3f803f80; mov.b32 {%h1, %h2}, %r3; atom.global.add.noftz.bf16 %h3, [%rd1+4098], %h1;", cell: 0x43000000},
		{body: "cvt.u64.u32 %rd5, %r1; atom.global.min.s64 %rd6, [%rd1+4096], %rd5;", cell: 0},
		{body: "mov.u32 %r3, sh; mov.u32 %r5, 0; st.shared.u32 [%r3], %r5; bar.sync 0; atom.shared.add.u32 %r4, [%r3], 2; bar.sync 0; ld.shared.u32 %r4, [%r3]; st.global.u32 [%rd1+4096], %r4;", cell: 256},
		{body: "atom.global.exch.b32 %r3, [%rd1+4096], 3;", cell: 3},
		// Generic addresses into shared memory.
		{body: "mov.u32 %r3, sh; cvt.u64.u32 %rd5, %r3; cvta.shared.u64 %rd5, %rd5; mov.u32 %r5, 0; st.u32 [%rd5], %r5; bar.sync 0; atom.add.u32 %r4, [%rd5], 1; bar.sync 0; ld.u32 %r4, [%rd5]; st.global.u32 [%rd1+4096], %r4;", cell: 128},
	} {
		got, err := runWarps(t, 128, "mov.u32 %r0, 0;\n"+c.body)
		if err != nil {
			t.Errorf("%s: %v", c.body, err)
			continue
		}
		if got[1024] != c.cell {
			t.Errorf("%s: %#x, want %#x", c.body, got[1024], c.cell)
		}
	}
}

// Atomics of several workers on one word must not lose updates.
func TestAtomicsBetweenWorkers(t *testing.T) {
	m := newMachine(t, Config{Devices: 4, Workers: 8, StallLimit: 10 * time.Second})
	p, _ := m.peerAlloc(0, Granularity)
	body := "mov.u32 %r1, 0;\nL: red.relaxed.sys.global.add.u32 [%rd1], 1; atom.global.sys.add.u64 %rd2, [%rd1+8], 3; add.u32 %r1, %r1, 1; setp.lt.u32 %p1, %r1, 20; @%p1 bra L;"
	var ss []driver.Stream
	for i := range 4 {
		s := m.stream(i)
		ok(t, s.Launch(m.kernel(m.load(i, ptxKernel(body)), "k"), grid1(10, 64), pack(p)))
		ss = append(ss, s)
	}
	for _, s := range ss {
		ok(t, s.Synchronize())
	}
	if got := read[uint64](m, 0, p, 2); got[0] != 4*640*20 || got[1] != 3*4*640*20 {
		t.Fatal(got)
	}
}

// Many devices with many spinning blocks, on few workers: nobody may time out.
func TestManyDevices(t *testing.T) {
	for _, n := range []int{16, 72} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			if n > 16 && testing.Short() {
				t.Skip("slow")
			}
			testGatherReduce(t, n, 1)
		})
	}
}

func TestNewerArchitecture(t *testing.T) {
	m := newMachine(t, Config{Devices: 1, CC: [2]int{10, 0}})
	mod := m.load(0, readFile(t, "nvls_sm100a.ptx"))
	m.kernel(mod, "ag_push")
	m.load(0, []byte(".version 9.0\n.target sm_90\n.address_size 64\n"))
	_, err := m.Devices()[0].LoadModule(driver.Image{Name: "x", PTX: []byte(".version 9.0\n.target sm_90a\n.address_size 64\n")})
	wantErr(t, err, driver.CodeNoBinaryForGPU)
}
