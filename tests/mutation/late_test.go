package mutation

import (
	"encoding/binary"
	"time"

	"github.com/moegen/moegen/runtime/driver"
)

// lingering takes so many nanoseconds, in which ranks that wait may look at the
// clock.
const lingering = `.version 8.0
.target sm_90a
.address_size 64
.visible .entry linger(.param .u64 nanoseconds)
{
	.reg .pred %p<2>;
	.reg .b64 %rd<4>;
	ld.param.u64 %rd1, [nanoseconds];
	mov.u64 %rd2, %globaltimer;
	add.s64 %rd1, %rd1, %rd2;
$again:
	mov.u64 %rd3, %globaltimer;
	setp.lt.u64 %p1, %rd3, %rd1;
	@%p1 bra $again;
	ret;
}
`

// lateSteps are steps in which the last rank comes to every dispatch and combine
// when all others have polled in vain often enough to look at the clock, though
// not for so long that they would give up.
var lateSteps = scenario{"ll steps, a rank late", wrap - 3, patient, false, func(x *trial, r *rig) verdict {
	last := r.ranks[len(r.ranks)-1]
	m, err := last.d.Device().LoadModule(driver.Image{Name: "linger.ptx", PTX: []byte(lingering)})
	if err != nil {
		return classify(err)
	}
	if last.linger, err = m.Function("linger"); err != nil {
		return classify(err)
	}
	return x.run(r, x.shape.low, 0)
}}

// delay makes a rank that lingers come late to what it launches next.
func (x *rank) delay() error {
	if x.linger == nil {
		return nil
	}
	return x.stream.Launch(x.linger, driver.LaunchConfig{Grid: driver.Dim3{X: 1}, Block: driver.Dim3{X: 1}}, binary.LittleEndian.AppendUint64(nil, uint64(50*time.Microsecond)))
}
