package emu

import (
	"sync"
	"testing"

	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/emu/ptx"
)

// recorder keeps copies of all events.
type recorder struct {
	mu       sync.Mutex
	access   []Access
	fences   []FenceEvent
	barriers []BarrierEvent
	launches []GridEvent
	ends     int
	switches int
}

func (r *recorder) lock() func()            { r.mu.Lock(); return r.mu.Unlock }
func (r *recorder) Launch(e *GridEvent)     { defer r.lock()(); r.launches = append(r.launches, *e) }
func (r *recorder) End(*GridEvent)          { defer r.lock()(); r.ends++ }
func (r *recorder) Access(e *Access)        { defer r.lock()(); r.access = append(r.access, *e) }
func (r *recorder) Fence(e *FenceEvent)     { defer r.lock()(); r.fences = append(r.fences, *e) }
func (r *recorder) Barrier(e *BarrierEvent) { defer r.lock()(); r.barriers = append(r.barriers, *e) }
func (r *recorder) Switch(*Event)           { defer r.lock()(); r.switches++ }

func TestObserver(t *testing.T) {
	rec := new(recorder)
	m := newMachine(t, Config{Devices: 2, Observer: rec})
	mc := must(m.CreateMulticast(2, Granularity, driver.HandleNone))(t)
	va := must(m.Reserve(Granularity, 0))(t)
	var uc []driver.DevicePtr
	for i, d := range m.Devices() {
		ok(t, mc.AddDevice(d))
		p, mem := m.peerAlloc(i, Granularity)
		uc = append(uc, p)
		defer func() { _ = mem.Release() }()
		if i == 1 {
			ok(t, mc.Bind(m.Devices()[1], 0, mem, 0, Granularity))
			ok(t, mc.Bind(m.Devices()[0], 0, must(m.devices[0].CreateMemory(Granularity, driver.HandleNone))(t), 0, Granularity))
		}
	}
	ok(t, m.Map(va, Granularity, mc, 0))
	ok(t, m.SetAccess(va, Granularity, m.Devices()...))
	body := "mov.u32 %r1, %tid.x; mul.wide.u32 %rd2, %r1, 4; add.u64 %rd2, %rd1, %rd2;\n" +
		"multimem.st.release.sys.global.u32 [%rd2+64], %r1; fence.acq_rel.gpu; bar.sync 0;\n" +
		"setp.ge.u32 %p1, %r1, 8; @%p1 bra D; fence.proxy.alias;\nD: bar.warp.sync 0xffffffff; multimem.ld_reduce.acquire.sys.global.add.u32 %r2, [%rd2];"
	s := m.stream(0)
	ok(t, s.Launch(m.kernel(m.load(0, ptxKernel(body)), "k"), grid1(2, 32), pack(va)))
	ok(t, s.Launch(m.kernel(m.load(0, ptxKernel("ld.volatile.global.u32 %r1, [%rd1+8]; atom.release.gpu.global.add.u32 %r1, [%rd1], 1;")), "k"), grid1(1, 1), pack(uc[1])))
	ok(t, s.Synchronize())
	if len(rec.launches) != 2 || rec.ends != 2 || rec.switches == 0 {
		t.Fatalf("%d launches, %d ends, %d switches", len(rec.launches), rec.ends, rec.switches)
	}
	replicas := map[int]int{}
	allocs := map[uint64]bool{}
	for _, a := range rec.access {
		if a.Multicast {
			replicas[a.Replica]++
			allocs[a.Alloc[3]] = true
			if a.Mask != fullMask || a.Line == 0 || a.Size != 4 || a.Space != ptx.Global || a.Scope != ptx.Sys {
				t.Fatalf("%+v", a)
			}
			want := uint64(12)
			if a.Kind == WriteAccess {
				want += 64
			}
			if a.Offset[3] != want || a.Addr[3] != uint64(va)+want {
				t.Fatalf("lane 3 at offset %d, address %#x", a.Offset[3], a.Addr[3])
			}
		}
	}
	if replicas[0] != 4 || replicas[1] != 4 || len(allocs) != 2 {
		t.Fatalf("accesses by replica: %v, memories: %v", replicas, allocs)
	}
	last := rec.access[len(rec.access)-2:]
	if v := last[0]; !v.Volatile || v.Kind != ReadAccess || v.Replica != -1 || v.Offset[0] != 8 || v.Mask != 1 {
		t.Fatalf("volatile load: %+v", v)
	}
	if v := last[1]; v.Kind != RMWAccess || v.Sem != ptx.Release || v.Scope != ptx.GPU || v.Grid != 2 {
		t.Fatalf("atomic: %+v", v)
	}
	kinds := map[ptx.FenceKind]uint32{}
	for _, f := range rec.fences {
		kinds[f.Kind] |= f.Mask
	}
	if kinds[ptx.FenceThread] != fullMask || kinds[ptx.FenceProxyAlias] != 0xff {
		t.Fatalf("fences %v", kinds)
	}
	var arrived, released, warpWide int
	for _, b := range rec.barriers {
		switch {
		case b.ID < 0:
			warpWide++
		case b.Released:
			released++
		default:
			arrived++
		}
	}
	if arrived != 2 || released != 2 || warpWide == 0 {
		t.Fatalf("barriers: %d arrivals, %d releases, %d of warps", arrived, released, warpWide)
	}
}

// A rank that never comes: the others give up when virtual time says so.
func TestMissingRankTimesOut(t *testing.T) {
	const n = 4
	g := newGroup(t, n, Granularity, "nvls_sm90.ptx")
	for r := 1; r < n; r++ {
		tok := alloc(g.machine, r, make([]int32, n+1))
		src := alloc(g.machine, r, make([]int32, 4))
		ok(t, g.ss[r].Launch(g.kernel(g.mods[r], "ag_push"), grid1(4, 64),
			pack(src, g.mc, g.mc+flagOff, g.uc[r]+flagOff, tok, r, n, 4, 1, g.err[r], uint64(50e6))))
	}
	for r := 1; r < n; r++ {
		ok(t, g.ss[r].Synchronize())
		if e := read[int32](g.machine, r, g.err[r], 1)[0]; e != 1 {
			t.Fatalf("rank %d did not time out", r)
		}
	}
}
