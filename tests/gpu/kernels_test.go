package gpu

import (
	"encoding/binary"
	"testing"

	"github.com/moegen/moegen/runtime/driver"
)

// helperPTX has a kernel that tests put before moegen's own. Its wait ends: after
// patience polls.
const helperPTX = `.version 8.6
.target sm_90
.address_size 64

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
