package race

import "testing"

// A warp stores 16 bytes per lane, another reads them behind a barrier.
func benchAccess(b *testing.B, devices, blocks, warps int, size uint64) {
	d := New(Config{NoUninit: true})
	var g *Grid
	for i := range devices {
		g = d.GridStart(GridInfo{Device: i, Blocks: blocks, WarpsPerBlock: warps})
	}
	a := d.NewAlloc("m", 1<<16, 1)
	st, ld := d.Op(Op{Kind: Write}), d.Op(Op{})
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		off := uint64(n) % (1 << 16 / (32 * size)) * 32 * size
		d.AccessRow(g.Warp(0, 0), ^uint32(0), st, a, 0, off, size)
		d.BlockBarrier(g, 0)
		d.AccessRow(g.Warp(0, 1), ^uint32(0), ld, a, 0, off, size)
		d.BlockBarrier(g, 0)
		n++
	}
	if len(d.Reports()) > 0 {
		b.Fatal(d.Reports())
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n)/64, "ns/access")
}

func BenchmarkAccess16Small(b *testing.B) { benchAccess(b, 2, 2, 2, 16) }
func BenchmarkAccess16Large(b *testing.B) { benchAccess(b, 8, 32, 16, 16) }
func BenchmarkAccess4Small(b *testing.B)  { benchAccess(b, 2, 2, 2, 4) }
func BenchmarkAccess2Small(b *testing.B)  { benchAccess(b, 2, 2, 2, 2) }

// All warps of the machine read the same table.
func BenchmarkSharedRead(b *testing.B) {
	d := New(Config{NoUninit: true})
	g := d.GridStart(GridInfo{Blocks: 32, WarpsPerBlock: 16})
	a := d.NewAlloc("m", 1<<12, 1)
	ld := d.Op(Op{})
	n := 0
	for b.Loop() {
		var off [32]uint64
		d.AccessWarp(g.Warp(n%32, n/32%16), ^uint32(0), ld, a, 0, &off, 16)
		n++
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n)/32, "ns/access")
}

// One grid barrier over all devices: red.release by a thread of each block,
// polls by each, block barriers around it.
func benchGridBarrier(b *testing.B, devices, blocks, warps int) {
	d := New(Config{NoUninit: true})
	var g []*Grid
	for i := range devices {
		g = append(g, d.GridStart(GridInfo{Device: i, Blocks: blocks, WarpsPerBlock: warps}))
	}
	a := d.NewAlloc("m", 64, 1)
	red := d.Op(Op{Kind: RMW, Sem: Release, Scope: Sys, Red: true})
	ld := d.Op(Op{Sem: Acquire, Scope: Sys})
	for b.Loop() {
		for _, g := range g {
			for k := range blocks {
				d.BlockBarrier(g, k)
				d.FenceAlias(g.Warp(k, 0), 1)
				d.Access(g.Warp(k, 0), 0, red, a, 0, 0, 4)
			}
		}
		for _, g := range g {
			for k := range blocks {
				d.Access(g.Warp(k, 0), 0, ld, a, 0, 0, 4)
				d.BlockBarrier(g, k)
			}
		}
	}
	if len(d.Reports()) > 0 {
		b.Fatal(d.Reports())
	}
}

func BenchmarkGridBarrierSmall(b *testing.B) { benchGridBarrier(b, 2, 2, 2) }
func BenchmarkGridBarrierLarge(b *testing.B) { benchGridBarrier(b, 8, 32, 16) }

func BenchmarkWarpBarrier(b *testing.B) {
	d := New(Config{})
	g := d.GridStart(GridInfo{Blocks: 32, WarpsPerBlock: 16})
	for b.Loop() {
		d.WarpBarrier(g.Warp(3, 3), ^uint32(0))
	}
}
