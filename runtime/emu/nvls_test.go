package emu

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/moegen/moegen/runtime/driver"
)

// group is n devices with one symmetric buffer each, bound to one multicast
// object.
type group struct {
	machine
	n    int
	mc   driver.DevicePtr
	uc   []driver.DevicePtr
	mods []driver.Module
	ss   []driver.Stream
	err  []driver.DevicePtr
}

func newGroup(t testing.TB, n int, size uint64, ptx string) *group {
	g := &group{machine: newMachine(t, Config{Devices: n, StallLimit: 20 * time.Second}), n: n}
	obj := must(g.CreateMulticast(n, size, driver.HandleNone))(t)
	for _, d := range g.Devices() {
		ok(t, obj.AddDevice(d))
	}
	for i, d := range g.Devices() {
		p, mem := g.peerAlloc(i, size)
		ok(t, obj.Bind(d, 0, mem, 0, size))
		g.uc = append(g.uc, p)
		g.mods = append(g.mods, g.load(i, readFile(t, ptx)))
		g.ss = append(g.ss, g.stream(i))
		g.err = append(g.err, alloc(g.machine, i, make([]int32, 1)))
	}
	g.mc = must(g.Reserve(size, 0))(t)
	ok(t, g.Map(g.mc, size, obj, 0))
	ok(t, g.SetAccess(g.mc, size, g.Devices()...))
	return g
}

func (g *group) sync() {
	g.t.Helper()
	for i, s := range g.ss {
		if err := s.Synchronize(); err != nil {
			g.t.Fatalf("rank %d: %v", i, err)
		}
		if e := read[int32](g.machine, i, g.err[i], 1)[0]; e != 0 {
			g.t.Fatalf("rank %d timed out", i)
		}
	}
}

const (
	flagOff = 1 << 20 // of the barrier words in the buffers
	timeout = uint64(2e9)
)

func TestMulticastGatherReduce(t *testing.T) {
	for _, n := range []int{2, 4, 8} {
		t.Run(fmt.Sprint(n), func(t *testing.T) { testGatherReduce(t, n, 3) })
	}
}

func testGatherReduce(t testing.TB, n, epochs int) {
	const rowVec, blocks, threads = 4, 3, 128 // rows of 64 bytes
	g := newGroup(t, n, Granularity, "nvls_sm90.ptx")
	offs := make([]int32, n+1)
	for r := range n {
		offs[r+1] = offs[r] + int32(5+3*r)
	}
	total := int(offs[n])
	for epoch := 1; epoch <= epochs; epoch++ {
		want := make([]uint32, total*rowVec*4)
		for i := range want {
			want[i] = uint32(i*2654435761 + epoch)
		}
		for r := range n {
			tok := alloc(g.machine, r, offs)
			mine := want[int(offs[r])*rowVec*4 : int(offs[r+1])*rowVec*4]
			src := alloc(g.machine, r, mine)
			ok(t, g.ss[r].Launch(g.kernel(g.mods[r], "ag_push"), grid1(blocks, threads),
				pack(src, g.mc, g.mc+flagOff, g.uc[r]+flagOff, tok, r, n, rowVec, epoch, g.err[r], timeout)))
		}
		g.sync()
		for r := range n {
			got := read[uint32](g.machine, r, g.uc[r], len(want))
			for i := range want {
				if got[i] != want[i] {
					t.Fatalf("epoch %d, rank %d: word %d is %#x, want %#x", epoch, r, i, got[i], want[i])
				}
			}
		}
	}
	// Reduce-scatter of bf16: integers, so that sums are exact in any order.
	const redOff = flagOff + 4096
	elems := total * rowVec * 8
	for epoch := 1; epoch <= epochs; epoch++ {
		dst := make([]driver.DevicePtr, n)
		for r := range n {
			v := make([]uint16, elems)
			for i := range v {
				v[i] = toBF16(float32((i*7+r*3+epoch)%13 - 6))
			}
			ok(t, g.Devices()[r].Write(g.uc[r], toBytes(v)))
			dst[r] = alloc(g.machine, r, make([]uint16, elems))
		}
		for r := range n {
			tok := alloc(g.machine, r, offs)
			ok(t, g.ss[r].Launch(g.kernel(g.mods[r], "rs_pull_bf16"), grid1(blocks, threads),
				pack(g.mc, dst[r], g.mc+redOff, g.uc[r]+redOff, tok, r, n, rowVec, epoch, g.err[r], timeout)))
		}
		g.sync()
		for r := range n {
			lo, hi := int(offs[r])*rowVec*8, int(offs[r+1])*rowVec*8
			got := read[uint16](g.machine, r, dst[r], hi-lo)
			for i := range got {
				want := float32(0)
				for q := range n {
					want += float32(((lo+i)*7+q*3+epoch)%13 - 6)
				}
				if fromBF16(got[i]) != want {
					t.Fatalf("rank %d element %d: %v, want %v", r, i, fromBF16(got[i]), want)
				}
			}
		}
	}
}

func TestPeerReduceScatter(t *testing.T) {
	const n, nvec, off = 4, 40, 16
	g := newGroup(t, n, Granularity, "nvls_sm90.ptx")
	for epoch := 1; epoch <= 3; epoch++ {
		for r := range n {
			v := make([]uint16, (off+nvec)*8)
			for i := range v {
				v[i] = toBF16(float32((i*5+r+epoch)%11 - 5))
			}
			ok(t, g.Devices()[r].Write(g.uc[r], toBytes(v)))
		}
		var dst []driver.DevicePtr
		for r := range n {
			d := alloc(g.machine, r, make([]uint16, nvec*8))
			dst = append(dst, d)
			var peers [16]uint64
			for q := range n {
				peers[q], peers[8+q] = uint64(g.uc[q]), uint64(g.uc[q]+flagOff)
			}
			params := append(toBytes(peers[:]), pack(d, r, n, int64(off), int64(nvec), epoch)...)
			ok(t, g.ss[r].Launch(g.kernel(g.mods[r], "rs_p2p_bf16"), grid1(2, 64), params))
		}
		g.sync()
		for r := range n {
			for i, got := range read[uint16](g.machine, r, dst[r], nvec*8) {
				want := float32(0)
				for q := range n {
					want += float32(((off*8+i)*5+q+epoch)%11 - 5)
				}
				if fromBF16(got) != want {
					t.Fatalf("rank %d element %d: %v, want %v", r, i, fromBF16(got), want)
				}
			}
		}
	}
}

func TestSampleKernels(t *testing.T) {
	g := newGroup(t, 2, Granularity, "nvls_sm90.ptx")
	t.Run("staged", func(t *testing.T) {
		// The last part of the kernel stores to its multicast pointer by ordinary
		// stores, which the emulator refuses.
		src := make([]uint32, 4*(512+256))
		for i := range src {
			src[i] = uint32(i * 3)
		}
		ps := alloc(g.machine, 0, src)
		ctr := alloc(g.machine, 0, make([]uint32, 8))
		ok(t, g.ss[0].Launch(g.kernel(g.mods[0], "staged"), grid1(1, 128), pack(ps, g.mc, ctr, 1024, 1)))
		err := g.ss[0].Synchronize()
		wantErr(t, err, driver.CodeIllegalAddress, "is a multicast address", "only multimem", "st.global.v4.u32", "kernel staged", "lane")
		for r := range 2 {
			b := make([]byte, 8192)
			ok(t, g.mem.copyOut("test", b, uint64(g.uc[r])))
			if string(b) != string(toBytes(src[:2048])) {
				t.Fatalf("rank %d: the staged copy is wrong", r)
			}
		}
	})
	t.Run("quant", func(t *testing.T) {
		const n = 333
		x := make([]uint16, n)
		top := float32(0)
		for i := range x {
			f := float32(math.Sin(float64(i))) * float32(i)
			x[i] = toBF16(f)
			top = max(top, float32(math.Abs(float64(fromBF16(x[i])))))
		}
		by := make([]uint8, n)
		for i := range by {
			by[i] = uint8(i % 3)
		}
		px, py, ps, pb := alloc(g.machine, 1, x), alloc(g.machine, 1, make([]uint8, n)), alloc(g.machine, 1, make([]float32, 2)), alloc(g.machine, 1, by)
		ok(t, g.ss[1].Launch(g.kernel(g.mods[1], "quant_fp8"), grid1(1, 32), pack(px, py, ps, n, pb)))
		ok(t, g.ss[1].Synchronize())
		if s := read[float32](g.machine, 1, ps, 1)[0]; s != top/448 {
			t.Fatalf("scale %v, want %v", s, top/448)
		}
		inv := 448 / top
		for i, got := range read[uint8](g.machine, 1, py, n) {
			v := float32(math.FMA(float64(fromBF16(x[i])), float64(inv), float64(by[i])))
			if want := formatE4M3.encode(float64(v), 0, true); uint32(got) != want {
				t.Fatalf("y[%d] = %#x, want %#x", i, got, want)
			}
		}
	})
	t.Run("route", func(t *testing.T) {
		const tok, k, nexp = 50, 4, 16
		ids := make([]int32, tok*k)
		count := make([]int, nexp)
		for i := range ids {
			ids[i] = int32(i * i % nexp)
			count[ids[i]]++
		}
		pi, pc, pp := alloc(g.machine, 1, ids), alloc(g.machine, 1, make([]int32, nexp)), alloc(g.machine, 1, make([]int32, tok*k))
		w := make([]float32, tok*k)
		for i := range w {
			w[i] = float32(i) / 100
		}
		pw := alloc(g.machine, 1, w)
		cfg := grid1(1, 64)
		cfg.SharedBytes = nexp * 4
		// 200 items over 64 threads: the last round is partial, and the member
		// masks name lanes that do not come; use a multiple instead.
		ok(t, g.ss[1].Launch(g.kernel(g.mods[1], "moe_route"), cfg, pack(pi, pc, pp, pw, 48, k, nexp)))
		ok(t, g.ss[1].Synchronize())
		sum := int32(0)
		clear(count)
		for i := range 48 * k {
			count[ids[i]]++
		}
		for e, got := range read[int32](g.machine, 1, pc, nexp) {
			if got != sum {
				t.Fatalf("expert %d starts at %d, want %d", e, got, sum)
			}
			sum += int32(count[e])
		}
		seen := make([]int, tok)
		for _, p := range read[int32](g.machine, 1, pp, 48*k) {
			seen[p]++
		}
		for i := range 48 {
			if seen[i] != k {
				t.Fatalf("token %d occurs %d times", i, seen[i])
			}
		}
	})
}
