package mutation

import (
	"encoding/binary"
	"testing"

	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/emu"
)

// tell stores a failure word, as a peer's kernel does.
const tell = `.version 8.0
.target sm_90a
.address_size 64
.visible .entry tell(.param .u64 to, .param .u64 word)
{
	.reg .b64 %rd<3>;
	ld.param.u64 %rd1, [to];
	ld.param.u64 %rd2, [word];
	st.relaxed.sys.global.u64 [%rd1], %rd2;
	ret;
}
`

// TestToldMeanwhile: a rank that is told of a failure while its dispatch runs,
// by its host and nobody else, may send its rows or not, but a block that has
// not sent all of its own does not signal: whoever's dispatch ends without a
// failure has all rows. The other rank runs at the same time, or comes later.
func TestToldMeanwhile(t *testing.T) {
	const seeds = 30
	for _, transport := range []moert.Transport{moert.NVLS, moert.P2P} {
		x := newTrial(t, shapes[0], transport)
		for _, w := range []way{{}, {inBand: true}, {low: true}, {low: true, inBand: true}} {
			if w.low && transport == moert.NVLS {
				continue // the same kernels
			}
			for _, late := range []bool{false, true} {
				whole, failed := 0, 0
				for seed := range uint64(seeds) {
					// Data that did not come are no concern here: the words decide.
					r, err := newRig(x.spec, x.prog, emu.Config{Mode: emu.Explore, Seed: seed, Judge: emu.Judge{AllowStalls: true}}, transport, equallyPatient, 0)
					if err != nil {
						t.Fatal(err)
					}
					ended, right := r.tellMeanwhile(t, x, w, late)
					r.close()
					switch {
					case !ended:
						failed++
					case right:
						whole++
					default:
						t.Errorf("%s, %s, late %t, seed %d: rank 0's dispatch ends without a failure and without all rows of rank 1", transport, w, late, seed)
					}
				}
				if !late && (whole == 0 || failed == 0) {
					t.Errorf("%s, %s: of %d schedules, in %d all was sent and in %d nothing: neither may be rare", transport, w, seeds, whole, failed)
				}
				t.Logf("%s, %s, late %t: of %d schedules, all was sent in %d", transport, w, late, seeds, whole)
			}
		}
	}
}

// tellMeanwhile runs one dispatch, in which rank 1 sends rows and is told of a
// failure at some moment. It says whether rank 0's ended without one, and whether
// its rows are right.
func (r *rig) tellMeanwhile(t *testing.T, x *trial, w way, late bool) (ended, right bool) {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	st := &x.shape.bulk[1] // rank 0 has no rows in it
	if w.low {
		st = &x.shape.low[1]
	}
	for id, k := range r.ranks {
		must(k.d.SetCapacity(st.capacity))
		if tokens := moert.HostTokens(st.counts[id]); w.inBand {
			must(k.d.NextStep(tokens))
		} else {
			must(k.d.BeginStep(k.stream, tokens))
		}
	}
	for _, err := range r.synchronize() {
		must(err)
	}
	k := r.ranks[1]
	must(r.dispatch(1, x.data[st][0][1]))
	mod, err := k.d.Device().LoadModule(driver.Image{Name: "tell.ptx", PTX: []byte(tell)})
	must(err)
	f, err := mod.Function("tell")
	must(err)
	s, err := k.d.NewStream()
	must(err)
	args := binary.LittleEndian.AppendUint64(nil, uint64(k.symm))
	args = binary.LittleEndian.AppendUint64(args, uint64(failure(timedOut, moert.PhaseDispatch, 0, 1, r.first+1)))
	must(s.Launch(f, driver.LaunchConfig{Grid: driver.Dim3{X: 1}, Block: driver.Dim3{X: 1}}, args))
	if late {
		_ = k.stream.Synchronize()
	}
	must(r.dispatch(0, x.data[st][0][0]))
	for _, k := range r.ranks {
		_ = k.stream.Synchronize() // an error is the judge's
	}
	own, status, err := r.words(0)
	must(err)
	want, g := gathered(x.data[st][0]), r.ranks[0].d.Gathered()
	right = true
	for i, got := range []moert.Tensor{g.Routing, g.Probs, g.Hidden} {
		right = right && string(r.read(0, got, len(want[i]))) == string(want[i])
	}
	return own == 0 && status == 0, right
}
