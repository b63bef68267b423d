package emu

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/moegen/moegen/runtime/driver"
)

func TestKernelFaults(t *testing.T) {
	src := readFile(t, "basic.ptx")
	for _, c := range []struct {
		kernel string
		params func(p driver.DevicePtr) []byte
		code   driver.Code
		texts  []string
	}{
		{"oob", func(p driver.DevicePtr) []byte { return pack(p, int64(100)) }, driver.CodeIllegalAddress,
			[]string{"kernel oob", "PTX line", "basic.cu:", "lane 0", "device 0", "bytes after the nearest allocation [0x", "of 400 bytes on device 0"}},
		{"oob", func(p driver.DevicePtr) []byte { return pack(p, int64(-1)) }, driver.CodeIllegalAddress,
			[]string{"4 bytes before the nearest allocation"}},
		{"misalign", func(p driver.DevicePtr) []byte { return pack(p) }, driver.CodeMisalignedAddress,
			[]string{"kernel misalign", "is not aligned to 4 bytes"}},
		{"trapper", func(driver.DevicePtr) []byte { return nil }, driver.CodeLaunchFailed, []string{"trapped"}},
	} {
		m := newMachine(t, Config{Devices: 2})
		mod := m.load(0, src)
		s := m.stream(0)
		p := alloc(m, 0, make([]int32, 100))
		ok(t, s.Launch(m.kernel(mod, c.kernel), grid1(1, 1), c.params(p)))
		err := s.Synchronize()
		wantErr(t, err, c.code, c.texts...)
		// The context is gone, the other device's is not.
		_, err = m.Devices()[0].Alloc(16)
		wantErr(t, err, c.code, "cuMemAlloc: "+codeName(c.code))
		if _, err := m.Devices()[1].Alloc(16); err != nil {
			t.Fatal(err)
		}
		ok(t, m.Devices()[0].Free(p))
	}
}

func TestAccessRights(t *testing.T) {
	m := newMachine(t, Config{Devices: 2})
	mod := m.load(1, readFile(t, "basic.ptx"))
	s := m.stream(1)
	p := alloc(m, 0, make([]int32, 4)) // plain memory of device 0
	ok(t, s.Launch(m.kernel(mod, "oob"), grid1(1, 1), pack(p, int64(0))))
	wantErr(t, s.Synchronize(), driver.CodeIllegalAddress, "device 1 has no access to address", "on device 0")

	m = newMachine(t, Config{Devices: 2})
	mod = m.load(0, readFile(t, "basic.ptx"))
	s = m.stream(0)
	q := alloc(m, 0, make([]int32, 4))
	ok(t, m.Devices()[0].Free(q))
	ok(t, s.Launch(m.kernel(mod, "oob"), grid1(1, 1), pack(q, int64(1))))
	wantErr(t, s.Synchronize(), driver.CodeIllegalAddress, "4 bytes into a freed allocation")
}

const head = ".version 9.0\n.target sm_90a\n.address_size 64\n"

func ptxKernel(body string) []byte {
	return []byte(head + ".visible .entry k(.param .u64 p)\n{\n.reg .b32 %r<8>; .reg .b64 %rd<8>; .reg .pred %p<4>; .reg .f32 %f<8>;\nld.param.u64 %rd1, [p];\n" + body + "\nret;\n}\n")
}

func TestMultimemMisuse(t *testing.T) {
	for _, c := range []struct {
		body string
		addr func(g *group) driver.DevicePtr
		text string
	}{
		{"multimem.red.relaxed.sys.global.add.u32 [%rd1], 1;", func(g *group) driver.DevicePtr { return g.uc[0] }, "multimem on unicast address"},
		{"ld.global.u32 %r1, [%rd1];", func(g *group) driver.DevicePtr { return g.mc }, "is a multicast address: only multimem instructions may use it"},
		{"red.global.add.u32 [%rd1], 1;", func(g *group) driver.DevicePtr { return g.mc }, "is a multicast address"},
		{"multimem.ld_reduce.global.add.u32 %r1, [%rd1];", func(g *group) driver.DevicePtr { return g.mc + Granularity }, "unmapped address"},
		{"multimem.ld_reduce.global.add.v4.f32 {%f1,%f2,%f3,%f4}, [%rd1];", func(g *group) driver.DevicePtr { return g.mc + 4 }, "is not aligned to 16 bytes"},
	} {
		g := newGroup(t, 2, Granularity, "nvls_sm90.ptx")
		mod := g.load(0, ptxKernel(c.body))
		ok(t, g.ss[0].Launch(g.kernel(mod, "k"), grid1(1, 1), pack(c.addr(g))))
		err := g.ss[0].Synchronize()
		if !strings.Contains(c.text, "aligned") {
			wantErr(t, err, driver.CodeIllegalAddress, c.text)
		} else {
			wantErr(t, err, driver.CodeMisalignedAddress, c.text)
		}
	}
}

func TestLoadErrors(t *testing.T) {
	m := newMachine(t, Config{Devices: 1})
	dev := m.Devices()[0]
	for _, c := range []struct {
		im    driver.Image
		code  driver.Code
		texts []string
	}{
		{driver.Image{Name: "x", Cubin: []byte{1}}, driver.CodeNoBinaryForGPU, []string{"executes PTX", "only a cubin"}},
		{driver.Image{Name: "x"}, driver.CodeInvalidImage, []string{"empty"}},
		{driver.Image{Name: "x", PTX: ptxKernel("wgmma.fence.sync.aligned;")}, driver.CodeInvalidPTX, []string{"8", "wgmma"}},
		{driver.Image{Name: "x", PTX: ptxKernel("redux.sync.min.NaN.f32 %f1, %f2, 0xffffffff;")}, driver.CodeInvalidPTX, []string{"redux"}},
		{driver.Image{Name: "x", PTX: []byte(".version 9.0\n.target sm_100a\n.address_size 64\n")}, driver.CodeNoBinaryForGPU, []string{"sm_100a does not run on sm_90"}},
	} {
		_, err := dev.LoadModule(c.im)
		wantErr(t, err, c.code, c.texts...)
	}
	mod := m.load(0, readFile(t, "basic.ptx"))
	_, err := mod.Function("nope")
	wantErr(t, err, driver.CodeNotFound, "has no kernel nope")
	ok(t, mod.Unload())
	_, err = mod.Function("vadd")
	wantErr(t, err, driver.CodeInvalidHandle, "unloaded")
}

func TestLaunchErrors(t *testing.T) {
	m := newMachine(t, Config{Devices: 2})
	mod := m.load(0, readFile(t, "basic.ptx"))
	nv := m.load(0, readFile(t, "nvls_sm90.ptx"))
	s := m.stream(0)
	f := m.kernel(mod, "trapper")
	wantErr(t, s.Launch(f, grid1(1, 1025), nil), driver.CodeInvalidValue, "1025x1x1 threads")
	wantErr(t, s.Launch(m.kernel(nv, "ag_push"), grid1(1, 1024), make([]byte, 72)), driver.CodeLaunchResources, "at most [512 1 1] threads, 1024 wanted")
	wantErr(t, s.Launch(m.kernel(mod, "vadd"), grid1(1, 32), make([]byte, 8)), driver.CodeInvalidValue, "28 bytes of parameters, 8 given")
	cfg := grid1(1, 32)
	cfg.SharedBytes = 228 << 10
	wantErr(t, s.Launch(f, cfg, nil), driver.CodeInvalidValue, "shared memory")
	wantErr(t, m.stream(1).Launch(f, grid1(1, 1), nil), driver.CodeInvalidHandle, "loaded on device 0")
	wantErr(t, s.CopyAsync(0x1234, 0x5678, 4), driver.CodeInvalidValue, "not mapped")
	n, err := f.MaxActiveBlocks(1024, 0)
	if ok(t, err); n != 2 {
		t.Fatalf("%d blocks of 1024 threads", n)
	}
	if n, _ := f.MaxActiveBlocks(32, 100<<10); n != 2 {
		t.Fatalf("%d blocks of 100 KiB", n)
	}
	if n, _ := f.MaxActiveBlocks(32, 0); n != 32 {
		t.Fatalf("%d blocks of 32 threads", n)
	}
}

func TestStallLimit(t *testing.T) {
	m := newMachine(t, Config{Devices: 2, SMs: 1, StallLimit: 150 * time.Millisecond})
	mod := m.load(0, readFile(t, "basic.ptx"))
	s := m.stream(0)
	p := alloc(m, 0, make([]int32, 1))
	ok(t, s.Launch(m.kernel(mod, "spinner"), grid1(1, 1), pack(p)))
	err := s.Synchronize()
	wantErr(t, err, codeLaunchTimeout, "nothing has made progress", "device 0, kernel spinner, block (0,0,0)", "saw 0x0 at address", "PTX line", "basic.cu:")
	if _, err := m.Devices()[1].Alloc(8); err != nil {
		t.Fatal(err)
	}

	// A grid barrier of more blocks than fit.
	m = newMachine(t, Config{Devices: 1, SMs: 2, ResidentBlocksPerSM: 2, StallLimit: 150 * time.Millisecond})
	mod = m.load(0, readFile(t, "basic.ptx"))
	s = m.stream(0)
	ctr, out := alloc(m, 0, make([]int32, 1)), alloc(m, 0, make([]int32, 8))
	ok(t, s.Launch(m.kernel(mod, "gridbar"), grid1(4, 32), pack(ctr, out)))
	ok(t, s.Synchronize())
	ok(t, m.Devices()[0].Write(ctr, make([]byte, 4)))
	ok(t, s.Launch(m.kernel(mod, "gridbar"), grid1(5, 32), pack(ctr, out)))
	wantErr(t, s.Synchronize(), codeLaunchTimeout, "1 of 5 blocks are not resident", "saw 0x4")

	// Part of a block never comes to the barrier.
	m = newMachine(t, Config{Devices: 1, StallLimit: 150 * time.Millisecond})
	mod = m.load(0, readFile(t, "basic.ptx"))
	s = m.stream(0)
	p = alloc(m, 0, make([]int32, 1))
	ok(t, s.Launch(m.kernel(mod, "halfbar"), grid1(1, 64), pack(p)))
	wantErr(t, s.Synchronize(), codeLaunchTimeout, "warp 1 lanes 0xffffffff waits at a barrier")
}

func TestInjection(t *testing.T) {
	var failing string
	m := newMachine(t, Config{Devices: 2, Inject: func(op string, dev int) driver.Code {
		if op == failing && dev != 0 {
			return driver.CodeSystemNotReady
		}
		return 0
	}})
	failing = "cuMulticastCreate"
	_, err := m.CreateMulticast(2, Granularity, driver.HandleNone)
	wantErr(t, err, driver.CodeSystemNotReady, "cuMulticastCreate: CUDA_ERROR_SYSTEM_NOT_READY (802)", "injected")
	failing = "cuMemAlloc"
	if _, err := m.Devices()[0].Alloc(8); err != nil {
		t.Fatal(err)
	}
	_, err = m.Devices()[1].Alloc(8)
	wantErr(t, err, driver.CodeSystemNotReady)
	ok(t, m.Close())
	_, err = m.Devices()[0].Alloc(8)
	wantErr(t, err, driver.CodeDeinitialized, "closed")
}

func TestMemoryRules(t *testing.T) {
	m := newMachine(t, Config{Devices: 3, MemoryBytes: 8 << 30, NoPeer: func(a, b int) bool { return a == 2 || b == 2 }})
	dev := m.Devices()
	free0, total, err := dev[0].MemInfo()
	if ok(t, err); free0 != total || total != 8<<30 {
		t.Fatalf("free %d of %d", free0, total)
	}
	mem := must(dev[0].CreateMemory(4<<30, driver.HandleFabric))(t) // untouched: costs nothing
	_, err = dev[0].CreateMemory(5<<30, driver.HandleNone)
	wantErr(t, err, driver.CodeOutOfMemory, "free")
	if !errors.Is(err, driver.ErrOutOfMemory) {
		t.Fatal("errors.Is does not see it")
	}
	_, err = dev[0].CreateMemory(100, driver.HandleNone)
	wantErr(t, err, driver.CodeInvalidValue, "granularity")
	p := must(m.Reserve(8<<20, 0))(t)
	wantErr(t, m.Map(p, 8<<20, mem, 4<<30), driver.CodeInvalidValue, "not inside the memory")
	wantErr(t, m.Map(p+4096, 2<<20, mem, 0), driver.CodeInvalidValue, "multiples")
	ok(t, m.Map(p, 4<<20, mem, 0))
	wantErr(t, m.Map(p+2<<20, 2<<20, mem, 0), driver.CodeInvalidValue)
	wantErr(t, m.Unreserve(p, 8<<20), driver.CodeInvalidValue, "still mapped")
	wantErr(t, dev[0].Write(p, []byte{1}), driver.CodeInvalidValue, "cuMemSetAccess was not called")
	wantErr(t, m.SetAccess(p, 4<<20, dev[2]), driver.CodeInvalidDevice, "device 2 cannot access memory of device 0")
	ok(t, m.SetAccess(p, 4<<20, dev[0], dev[1]))
	ok(t, dev[1].Write(p+1<<20, []byte{1, 2, 3}))

	// A second mapping of the same memory, through an exported handle.
	sh := must(mem.Export(driver.HandleFabric))(t)
	imp := must(m.Import(dev[1], sh, 4<<30))(t)
	q := must(m.Reserve(2<<20, 0))(t)
	ok(t, m.Map(q, 2<<20, imp, 0))
	ok(t, m.SetAccess(q, 2<<20, dev[1]))
	b := make([]byte, 3)
	ok(t, dev[1].Read(b, q+1<<20))
	if b[2] != 3 {
		t.Fatalf("read %v through the alias", b)
	}
	_, err = mem.Export(driver.HandlePosixFD)
	wantErr(t, err, driver.CodeInvalidValue, "created with kind")

	ok(t, mem.Release())
	wantErr(t, mem.Release(), driver.CodeInvalidValue, "released before")
	ok(t, imp.Release())
	ok(t, m.Unmap(q, 2<<20))
	if free, _, _ := dev[0].MemInfo(); free != total-4<<30 {
		t.Fatalf("memory went while it was mapped: %d free", free)
	}
	wantErr(t, m.Unmap(p, 2<<20), driver.CodeInvalidValue, "not exactly one mapping")
	ok(t, m.Unmap(p, 4<<20))
	if free, _, _ := dev[0].MemInfo(); free != total {
		t.Fatalf("%d bytes leaked", total-free)
	}
	_, err = m.Import(dev[1], sh, 4<<30)
	wantErr(t, err, driver.CodeInvalidValue, "live exports")
	ok(t, m.Unreserve(p, 8<<20))
	wantErr(t, dev[0].Free(p), driver.CodeInvalidValue, "not the start of an allocation")
	if can, _ := dev[0].CanAccessPeer(dev[2]); can {
		t.Fatal("device 2 is no peer")
	}
}
