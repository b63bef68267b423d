package emu

import (
	"fmt"
	"testing"

	"github.com/moegen/moegen/runtime/driver"
)

// BenchmarkALU reports the time of one full-mask warp instruction: alu's loop
// has 9 instructions, nearly all of them 32-bit integer arithmetic.
func BenchmarkALU(b *testing.B) {
	m := newMachine(b, Config{Devices: 1, Workers: 1})
	mod := m.load(0, readFile(b, "basic.ptx"))
	s := m.stream(0)
	out := alloc(m, 0, make([]uint32, 32))
	const loops = 100000
	f := m.kernel(mod, "alu")
	perLoop := loopLength(f.(*function).p)
	b.ResetTimer()
	for range b.N {
		ok(b, s.Launch(f, grid1(1, 32), pack(out, loops)))
		ok(b, s.Synchronize())
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/loops/float64(perLoop), "ns/warp-instr")
}

// loopLength is the length of the program's longest loop.
func loopLength(p *program) int {
	n := 1
	for i := range p.code {
		if c := &p.code[i]; c.kind == kindBra && c.target <= i {
			n = max(n, i-c.target+1)
		}
	}
	return n
}

func BenchmarkCopy16(b *testing.B) {
	m := newMachine(b, Config{Devices: 1, Workers: 1})
	mod := m.load(0, readFile(b, "basic.ptx"))
	s := m.stream(0)
	const n = 1 << 16
	in, out := alloc(m, 0, make([]uint64, 2*n)), alloc(m, 0, make([]uint64, 2*n))
	b.SetBytes(16 * n)
	for b.Loop() {
		ok(b, s.Launch(m.kernel(mod, "copy16"), grid1(8, 256), pack(in, out, n)))
		ok(b, s.Synchronize())
	}
}

// BenchmarkGatherReduce is an all-gather and a reduce-scatter of 64 rows of 4
// KiB per rank; bytes are those that each rank receives in both.
func BenchmarkGatherReduce(b *testing.B) {
	for _, n := range []int{2, 8} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			const rowVec, rows = 256, 64
			g := newGroup(b, n, 2*Granularity, "nvls_sm90.ptx")
			offs := make([]int32, n+1)
			for r := range n {
				offs[r+1] = offs[r] + rows
			}
			const flags = 3 << 20
			var tok, src, dst []driver.DevicePtr
			for r := range n {
				tok = append(tok, alloc(g.machine, r, offs))
				src = append(src, alloc(g.machine, r, make([]uint32, rows*rowVec*4)))
				dst = append(dst, alloc(g.machine, r, make([]uint32, rows*rowVec*4)))
			}
			b.SetBytes(int64(2 * n * rows * rowVec * 16))
			epoch := 0
			for b.Loop() {
				epoch++
				for r := range n {
					ok(b, g.ss[r].Launch(g.kernel(g.mods[r], "ag_push"), grid1(8, 256),
						pack(src[r], g.mc, g.mc+flags, g.uc[r]+flags, tok[r], r, n, rowVec, epoch, g.err[r], timeout)))
					ok(b, g.ss[r].Launch(g.kernel(g.mods[r], "rs_pull_bf16"), grid1(8, 256),
						pack(g.mc, dst[r], g.mc+flags+4096, g.uc[r]+flags+4096, tok[r], r, n, rowVec, epoch, g.err[r], timeout)))
				}
				g.sync()
			}
		})
	}
}

// BenchmarkLaunch is the latency of an empty kernel and its synchronisation.
func BenchmarkLaunch(b *testing.B) {
	m := newMachine(b, Config{Devices: 1})
	mod := m.load(0, readFile(b, "basic.ptx"))
	s := m.stream(0)
	out := alloc(m, 0, make([]int32, 64))
	f := m.kernel(mod, "vars")
	for b.Loop() {
		ok(b, s.Launch(f, grid1(1, 64), pack(out)))
		ok(b, s.Synchronize())
	}
}

func BenchmarkPingPong(b *testing.B) {
	m := newMachine(b, Config{Devices: 2})
	p, _ := m.peerAlloc(0, Granularity)
	q, _ := m.peerAlloc(1, Granularity)
	const rounds = 100
	mods := []driver.Module{m.load(0, readFile(b, "basic.ptx")), m.load(1, readFile(b, "basic.ptx"))}
	ss := []driver.Stream{m.stream(0), m.stream(1)}
	for b.Loop() {
		for _, a := range []driver.DevicePtr{p, q} {
			ok(b, m.Devices()[0].Write(a, make([]byte, 4)))
		}
		ok(b, ss[0].Launch(m.kernel(mods[0], "pingpong"), grid1(1, 1), pack(p, q, 0, rounds)))
		ok(b, ss[1].Launch(m.kernel(mods[1], "pingpong"), grid1(1, 1), pack(q, p, 1, rounds)))
		for _, s := range ss {
			ok(b, s.Synchronize())
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rounds, "ns/round")
}
