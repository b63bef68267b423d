package gpu

import (
	"encoding/binary"
	"testing"

	"github.com/moegen/moegen/runtime/driver"
)

// helperPTX has kernels that tests put between moegen's own, and beside them.
// All waits end: after patience polls.
const helperPTX = `.version 8.6
.target sm_90
.address_size 64

// Nothing: what a node of a graph costs.
.visible .entry empty() { ret; }

// Waits until the host writes to word. Tells at word+8 whether it did (1) or
// patience ran out (2).
.visible .entry gate(.param .u64 word, .param .u32 patience)
{
	.reg .pred %p<3>;
	.reg .b32 %r<5>;
	.reg .b64 %rd<2>;
	ld.param.u64 %rd1, [word];
	ld.param.u32 %r1, [patience];
	mov.u32 %r2, 0;
	mov.u32 %r4, 2;
WAIT:
	ld.acquire.sys.global.u32 %r3, [%rd1];
	setp.ne.u32 %p1, %r3, 0;
	@%p1 bra OPEN;
	add.u32 %r2, %r2, 1;
	setp.lt.u32 %p2, %r2, %r1;
	@%p2 bra WAIT;
	bra DONE;
OPEN:
	mov.u32 %r4, 1;
DONE:
	st.release.sys.global.u32 [%rd1+8], %r4;
	ret;
}

// One side of an exchange of flags, round after round: the first side writes
// the round's number to the other and waits for the answer.
.visible .entry pingpong(.param .u64 mine, .param .u64 theirs, .param .u32 rounds, .param .u32 first, .param .u32 patience)
{
	.reg .pred %p<6>;
	.reg .b32 %r<8>;
	.reg .b64 %rd<3>;
	ld.param.u64 %rd1, [mine];
	ld.param.u64 %rd2, [theirs];
	ld.param.u32 %r1, [rounds];
	ld.param.u32 %r2, [first];
	ld.param.u32 %r3, [patience];
	setp.ne.u32 %p1, %r2, 0;
	mov.u32 %r4, 0;
ROUND:
	setp.ge.u32 %p2, %r4, %r1;
	@%p2 bra DONE;
	add.u32 %r4, %r4, 1;
	@%p1 st.release.sys.global.u32 [%rd2], %r4;
	mov.u32 %r5, 0;
WAIT:
	ld.acquire.sys.global.u32 %r6, [%rd1];
	setp.eq.u32 %p3, %r6, %r4;
	@%p3 bra CAME;
	add.u32 %r5, %r5, 1;
	setp.lt.u32 %p4, %r5, %r3;
	@%p4 bra WAIT;
	bra DONE;
CAME:
	@!%p1 st.release.sys.global.u32 [%rd2], %r4;
	bra ROUND;
DONE:
	ret;
}
`

// patience is some seconds: a poll of a peer takes about 1 us.
const patience = 1 << 22

var oneThread = driver.LaunchConfig{Grid: driver.Dim3{X: 1}, Block: driver.Dim3{X: 1}}

// helpers loads helperPTX on a device.
func helpers(t testing.TB, d driver.Device) func(name string) driver.Function {
	t.Helper()
	m, err := d.LoadModule(driver.Image{Name: "helpers", PTX: []byte(helperPTX)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Unload(); err != nil {
			t.Error(err)
		}
	})
	return func(name string) driver.Function {
		t.Helper()
		f, err := m.Function(name)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
}

// pack lays out pointers and int32s; pointers come first, so all are aligned.
func pack(pointers []driver.DevicePtr, ints ...int) []byte {
	var b []byte
	for _, p := range pointers {
		b = binary.LittleEndian.AppendUint64(b, uint64(p))
	}
	for _, i := range ints {
		b = binary.LittleEndian.AppendUint32(b, uint32(i))
	}
	return b
}

// shared makes memory on owner that all devices of the machine's ranks reach.
func (m machine) shared(t testing.TB, owner driver.Device, size uint64) driver.DevicePtr {
	t.Helper()
	unit, err := owner.Granularity(driver.HandleNone)
	if err != nil {
		t.Fatal(err)
	}
	size = (size + unit - 1) / unit * unit
	mem, err := owner.CreateMemory(size, driver.HandleNone)
	if err != nil {
		t.Fatal(err)
	}
	undo := func(f func() error) {
		t.Cleanup(func() {
			if err := f(); err != nil {
				t.Error(err)
			}
		})
	}
	undo(mem.Release)
	p, err := m.Reserve(size, unit)
	if err != nil {
		t.Fatal(err)
	}
	undo(func() error { return m.Unreserve(p, size) })
	if err := m.Map(p, size, mem, 0); err != nil {
		t.Fatal(err)
	}
	undo(func() error { return m.Unmap(p, size) })
	if err := m.SetAccess(p, size, m.Devices()...); err != nil {
		t.Fatal(err)
	}
	return p
}
