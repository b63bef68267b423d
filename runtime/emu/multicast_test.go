package emu

import (
	"testing"

	"github.com/moegen/moegen/runtime/driver"
)

func TestMulticastRules(t *testing.T) {
	m := newMachine(t, Config{Devices: 3, MulticastSlots: 1, NoPeer: func(a, b int) bool { return a == 2 || b == 2 }})
	dev := m.Devices()
	_, err := m.CreateMulticast(2, 100, driver.HandleNone)
	wantErr(t, err, driver.CodeInvalidValue, "granularity")
	_, err = m.CreateMulticast(4, Granularity, driver.HandleNone)
	wantErr(t, err, driver.CodeInvalidValue, "4 devices on a machine with 3")
	const size = 2 * Granularity
	mc := must(m.CreateMulticast(2, size, driver.HandleNone))(t)
	mem := []driver.Memory{
		must(dev[0].CreateMemory(size, driver.HandleNone))(t),
		must(dev[1].CreateMemory(size, driver.HandleNone))(t),
	}
	va := must(m.Reserve(size, 0))(t)
	ok(t, mc.AddDevice(dev[0]))
	wantErr(t, mc.Bind(dev[0], 0, mem[0], 0, size), driver.CodeIllegalState, "1 of 2 devices", "would block")
	wantErr(t, m.Map(va, size, mc, 0), driver.CodeIllegalState, "1 of 2 devices")
	wantErr(t, mc.AddDevice(dev[0]), driver.CodeInvalidValue, "added before")
	wantErr(t, mc.AddDevice(dev[2]), driver.CodeInvalidDevice, "clique")
	ok(t, mc.AddDevice(dev[1]))
	wantErr(t, mc.AddDevice(dev[2]), driver.CodeInvalidValue, "all its 2 devices")
	ok(t, m.Map(va, size, mc, 0)) // before binding
	wantErr(t, m.SetAccess(va, size, dev[2]), driver.CodeInvalidDevice, "was not added")
	ok(t, m.SetAccess(va, size, dev[0], dev[1]))
	wantErr(t, mc.Bind(dev[0], 0, mem[1], 0, size), driver.CodeInvalidDevice, "lives on device 1")
	wantErr(t, mc.Bind(dev[0], Granularity, mem[0], 0, size), driver.CodeInvalidValue, "not inside the multicast object")
	wantErr(t, mc.Bind(dev[0], 0, mem[0], Granularity, size), driver.CodeInvalidValue, "not inside the memory")
	wantErr(t, mc.Bind(dev[0], 512, mem[0], 0, Granularity), driver.CodeInvalidValue, "multiples")
	ok(t, mc.Bind(dev[0], 0, mem[0], 0, size))
	wantErr(t, mc.Bind(dev[0], 0, mem[0], 0, Granularity), driver.CodeInvalidValue, "bound at")

	// Nothing is bound on device 1: kernels fault.
	mod := m.load(0, ptxKernel("multimem.st.relaxed.sys.global.u32 [%rd1], 5;"))
	s := m.stream(0)

	// The only slot is taken.
	mc2 := must(m.CreateMulticast(1, Granularity, driver.HandleNone))(t)
	ok(t, mc2.AddDevice(dev[1]))
	wantErr(t, mc2.Bind(dev[1], 0, mem[1], 0, Granularity), driver.CodeOutOfMemory, "all 1 multicast slots")
	wantErr(t, mc.Unbind(dev[0], 0, Granularity), driver.CodeInvalidValue, "not exactly one binding")
	ok(t, mc.Unbind(dev[0], 0, size))
	ok(t, mc2.Bind(dev[1], 0, mem[1], 0, Granularity))
	ok(t, mc2.Release())
	ok(t, mc.Bind(dev[0], 0, mem[0], Granularity, Granularity))
	ok(t, mc.Bind(dev[1], 0, mem[1], 0, size))

	// Offsets differ by device; the object lives on after Release, the memory
	// after its own.
	ok(t, mc.Release())
	ok(t, mem[0].Release())
	ok(t, mem[1].Release())
	ok(t, s.Launch(m.kernel(mod, "k"), grid1(1, 1), pack(va+8)))
	ok(t, s.Synchronize())
	if free, total, _ := dev[0].MemInfo(); free != total-size {
		t.Fatalf("device 0 has %d bytes in use", total-free)
	}
	ok(t, s.Launch(m.kernel(mod, "k"), grid1(1, 1), pack(va+Granularity)))
	wantErr(t, s.Synchronize(), driver.CodeIllegalAddress, "device 0 has no memory bound at offset 0x200000")
	ok(t, m.Unmap(va, size))
	for _, d := range m.d() {
		if d.used != 0 {
			t.Fatalf("device %d leaks %d bytes", d.ordinal, d.used)
		}
	}
}

func (m machine) d() []*Device { return m.devices }

func TestNoMulticast(t *testing.T) {
	m := newMachine(t, Config{Devices: 2, NoMulticast: true})
	if v, err := m.Devices()[0].Attribute(driver.AttrMulticastSupported); err != nil || v != 0 {
		t.Fatal(v, err)
	}
	_, err := m.CreateMulticast(2, Granularity, driver.HandleNone)
	wantErr(t, err, driver.CodeNotSupported, "no multicast")
}

// ld_reduce and red in all types, against sums in replica order.
func TestMultimemTypes(t *testing.T) {
	const n = 3
	g := newGroup(t, n, Granularity, "nvls_sm90.ptx")
	set := func(vals ...uint64) {
		for r, v := range vals {
			ok(t, g.Devices()[r].Write(g.uc[r], toBytes([]uint64{v, v})))
		}
	}
	out := alloc(g.machine, 0, make([]uint64, 2))
	for _, c := range []struct {
		text string
		in   [n]uint64
		want uint64
	}{
		{"multimem.ld_reduce.global.add.u32 %r1, [%rd1]; cvt.u64.u32 %rd3, %r1;", [n]uint64{1, 0xffffffff, 5}, 5},
		{"multimem.ld_reduce.global.min.s32 %r1, [%rd1]; cvt.u64.u32 %rd3, %r1;", [n]uint64{1, 0xfffffff0, 5}, 0xfffffff0},
		{"multimem.ld_reduce.acquire.sys.global.max.u64 %rd3, [%rd1];", [n]uint64{1, 1 << 60, 5}, 1 << 60},
		{"multimem.ld_reduce.global.xor.b64 %rd3, [%rd1];", [n]uint64{3, 5, 8}, 14},
		{"multimem.ld_reduce.global.add.f32 %f1, [%rd1]; mov.b32 %r1, %f1; cvt.u64.u32 %rd3, %r1;", [n]uint64{0x3f800000, 0x40000000, 0x40400000}, 0x40c00000},
		{"multimem.ld_reduce.global.add.acc::f32.f16x2 %r1, [%rd1]; cvt.u64.u32 %rd3, %r1;", [n]uint64{0x3c003800, 0x40003800, 0xbc003800}, 0x40003e00},
		{"multimem.ld_reduce.global.add.bf16x2 %r1, [%rd1]; cvt.u64.u32 %rd3, %r1;", [n]uint64{0x3f803f00, 0x40003f00, 0xbf803f00}, 0x40003fc0},
		{"multimem.ld_reduce.global.max.bf16x2 %r1, [%rd1]; cvt.u64.u32 %rd3, %r1;", [n]uint64{0x3f803f00, 0x4000bf00, 0xbf800000}, 0x40003f00},
		// One rounding at the end: 256 + 1 + 1 is 258, where bf16 steps would lose both ones.
		{"multimem.ld_reduce.global.add.bf16x2 %r1, [%rd1]; cvt.u64.u32 %rd3, %r1;", [n]uint64{0x43804380, 0x3f803f80, 0x3f803f80}, 0x43814381},
	} {
		set(c.in[:]...)
		mod := g.load(0, ptxKernel(c.text+"\nmov.u64 %rd2, "+hex(uint64(out))+"; st.global.u64 [%rd2], %rd3;"))
		ok(t, g.ss[0].Launch(g.kernel(mod, "k"), grid1(1, 1), pack(g.mc)))
		g.sync()
		if got := read[uint64](g.machine, 0, out, 1)[0]; got != c.want {
			t.Errorf("%s of %#x: %#x, want %#x", c.text, c.in, got, c.want)
		}
	}
	for _, c := range []struct {
		text    string
		in, out uint64
	}{
		{"multimem.red.release.sys.global.add.u32 [%rd1], 7;", 3, 10},
		{"multimem.red.global.max.s32 [%rd1], -1;", 0xfffffff0, 0xffffffff},
		{"mov.b32 %r1, 0x3f803f80; multimem.red.global.add.bf16x2 [%rd1], %r1;", 0x40003f80, 0x40404000},
		{"mov.f32 %f1, 0f3F800000; multimem.red.global.add.f32 [%rd1], %f1;", 0x40000000, 0x40400000},
		{"multimem.st.relaxed.sys.global.u64 [%rd1], 99;", 1, 99},
	} {
		set(c.in, c.in, c.in)
		mod := g.load(0, ptxKernel(c.text))
		ok(t, g.ss[0].Launch(g.kernel(mod, "k"), grid1(1, 1), pack(g.mc)))
		g.sync()
		for r := range n {
			if got := read[uint64](g.machine, r, g.uc[r], 1)[0]; got != c.out {
				t.Errorf("%s on %#x: replica %d is %#x, want %#x", c.text, c.in, r, got, c.out)
			}
		}
	}
}
