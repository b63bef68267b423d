package mutation

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"time"

	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/emu"
	"github.com/moegen/moegen/spec"
	"github.com/moegen/moegen/templates"
)

// Where epochs wrap: as signed numbers, by whose difference those of flags and
// headers are compared, and altogether.
const (
	signedWrap = 1 << 31
	wrap       = 1 << 32
)

const layers = 3

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// rig is a group of dispatchers of one program on a machine of its own.
type rig struct {
	spec  *spec.Spec
	prog  *moert.Program
	drv   *emu.Driver
	group *moert.LocalGroup
	ranks []*rank
	// patience is how long a rank's kernels wait for peers: virtual time, which
	// passes only while nothing else happens.
	patience patience
	first    uint32 // epoch: what all of them were before the first step
}

type rank struct {
	d       *moert.Dispatcher
	stream  driver.Stream
	module  driver.Module
	experts driver.Function
	linger  driver.Function // if set, see lateSteps
	own     moert.Tensor    // partial sums outside symmetric memory

	symm, control, status driver.DevicePtr // see locate
}

// newRig builds the dispatchers. Whoever gets an error need not close it.
func newRig(s *spec.Spec, p *moert.Program, c emu.Config, transport moert.Transport, patience patience, first uint32) (*rig, error) {
	c.Devices = p.Ranks
	c.Workers = 1
	drv, err := emu.New(c)
	if err != nil {
		return nil, err
	}
	r := &rig{spec: s, prog: p, drv: drv, patience: patience, first: first}
	if err := r.open(transport); err != nil {
		drv.Close()
		return nil, err
	}
	return r, nil
}

func (r *rig) open(transport moert.Transport) error {
	var err error
	if r.group, err = moert.NewLocalGroup(r.drv.Devices()...); err != nil {
		return err
	}
	r.ranks = make([]*rank, r.group.Size())
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return r.group.Each(ctx, func(ctx context.Context, id int) error {
		x := &rank{}
		r.ranks[id] = x
		var err error
		if x.d, err = moert.NewDispatcher(ctx, r.group, id, r.prog, moert.WithLogger(quiet), moert.WithTransport(transport),
			moert.WithFirstEpoch(r.first), moert.WithTimeout(r.patience(id))); err != nil {
			return err
		}
		if err := x.locate(r.prog.Layout); err != nil {
			return err
		}
		if x.stream, err = x.d.NewStream(); err != nil {
			return err
		}
		if x.own, err = x.d.NewTensor(r.prog.Ranks*r.prog.MaxTokens, r.prog.WireRowBytes()); err != nil {
			return err
		}
		if x.module, err = x.d.Device().LoadModule(driver.Image{Name: "experts.ptx", PTX: templates.ExpertsPTX}); err != nil {
			return err
		}
		x.experts, err = x.module.Function("moegen_experts_bf16_bf16")
		return err
	})
}

// close gives everything back. What a mutant broke may make that fail.
func (r *rig) close() { r.drv.Close() }

// patience is a rank's timeout.
type patience func(id int) time.Duration

// patient ranks give up one after another, the first one first.
func patient(id int) time.Duration { return time.Duration(id+1) * 20 * time.Millisecond }

// hasty ranks give up before a wait is a slow one.
func hasty(id int) time.Duration { return time.Duration(id+1) * 30 * time.Microsecond }

// equallyPatient ranks give up at the same moment.
func equallyPatient(int) time.Duration { return 20 * time.Millisecond }

// record is what a rank's step left, to be looked at when all have run.
type record struct {
	step, layer int
	rows        int
	stepWords   moert.Tensor    // of layer 0
	gathered    [3]moert.Tensor // copies
	out         moert.Tensor
}

// enqueueStep puts a step of all layers on a rank's stream.
func (r *rig) enqueueStep(id, number int, st *step, data [][]*rows) ([]*record, error) {
	x := r.ranks[id]
	total := 0
	for _, n := range st.counts {
		total += n
	}
	if err := x.d.SetCapacity(st.capacity); err != nil {
		return nil, err
	}
	// In every second step the counts travel with the first dispatch.
	tokens := moert.HostTokens(st.counts[id])
	var err error
	if number%2 == 0 {
		err = x.d.BeginStep(x.stream, tokens)
	} else {
		err = x.d.NextStep(tokens)
	}
	if err != nil {
		return nil, err
	}
	var recs []*record
	for l := range layers {
		rec := &record{step: number, layer: l, rows: total}
		recs = append(recs, rec)
		if err := r.enqueueLayer(x, id, rec, data[l][id]); err != nil {
			return nil, err
		}
	}
	return recs, nil
}

func (r *rig) enqueueLayer(x *rank, id int, rec *record, in *rows) error {
	p, s := r.prog, x.stream
	keep := func(t *moert.Tensor, from driver.DevicePtr, rows, rowBytes int) (err error) {
		if *t, err = x.d.NewTensor(max(rows, 1), rowBytes); err == nil && rows > 0 {
			err = s.CopyAsync(t.Ptr, from, uint64(rows*rowBytes))
		}
		return err
	}
	var tensors [3]moert.Tensor
	rowBytes := [3]int{p.RoutingRowBytes(), p.ProbsRowBytes(), p.HiddenRowBytes()}
	for i, data := range in.tensors() {
		var err error
		if tensors[i], err = x.input(data, p.MaxTokens, rowBytes[i]); err != nil {
			return err
		}
	}
	if err := x.delay(); err != nil {
		return err
	}
	g, err := x.d.Dispatch(s, moert.Rows{Routing: tensors[0], Probs: tensors[1], Hidden: tensors[2]})
	if err != nil {
		return err
	}
	if rec.layer == 0 {
		if err := keep(&rec.stepWords, x.d.Step().Total, 7+2*p.Ranks, 4); err != nil {
			return err
		}
	}
	for i, from := range []moert.Tensor{g.Routing, g.Probs, g.Hidden} {
		if err := keep(&rec.gathered[i], from.Ptr, rec.rows, rowBytes[i]); err != nil {
			return err
		}
	}
	// The layers differ in where experts write: Combine copies foreign sums.
	partial := x.d.PartialBuffer()
	if rec.layer%2 == 1 {
		partial = x.own
	}
	if err := r.launchExperts(x, id, g, partial); err != nil {
		return err
	}
	if rec.out, err = x.d.NewTensor(p.MaxTokens, p.HiddenRowBytes()); err != nil {
		return err
	}
	if err := x.delay(); err != nil {
		return err
	}
	_, err = x.d.Combine(s, moert.CombineArgs{Partial: partial, Out: rec.out})
	return err
}

// behind is what inputs have behind the rows, which is not to be sent.
const behind = 0xa5

// input makes a tensor of more rows than there is data: kernels may load the
// others, and must not send them.
func (x *rank) input(data []byte, rows, rowBytes int) (moert.Tensor, error) {
	t, err := x.d.NewTensor(rows, rowBytes)
	if err != nil {
		return t, err
	}
	all := bytes.Repeat([]byte{behind}, rows*rowBytes)
	copy(all, data)
	return t, x.d.Device().Write(t.Ptr, all)
}

func (r *rig) launchExperts(x *rank, id int, g moert.Gathered, partial moert.Tensor) error {
	first, n := r.spec.LocalExperts(id)
	var b []byte
	for _, p := range []driver.DevicePtr{g.Step.Total, g.Hidden.Ptr, 0, g.Routing.Ptr, g.Probs.Ptr, partial.Ptr} {
		b = binary.LittleEndian.AppendUint64(b, uint64(p))
	}
	for _, v := range []int{r.prog.HiddenDim, r.prog.TopK, 32, 32, 0, 0, first, n} {
		b = binary.LittleEndian.AppendUint32(b, uint32(v))
	}
	// A row has 8 groups of four elements; two blocks share the rows.
	return x.stream.Launch(x.experts, driver.LaunchConfig{Grid: driver.Dim3{X: 2}, Block: driver.Dim3{X: 32}}, b)
}

// synchronize waits for all ranks and returns what they say, by rank.
func (r *rig) synchronize() []error {
	errs := make([]error, len(r.ranks))
	for id, x := range r.ranks {
		errs[id] = x.d.Synchronize(x.stream)
	}
	return errs
}

// check compares what a rank's layer left with what it should have.
func (r *rig) check(id int, rec *record, epoch uint32, st *step, data []*rows) error {
	read := func(t moert.Tensor, n int) []byte { return r.read(id, t, n) }
	where := fmt.Sprintf("step %d layer %d rank %d", rec.step, rec.layer, id)
	if rec.layer == 0 {
		if err := r.checkStep(id, rec.stepWords, stepWords(st.counts, id, epoch, st.capacity)); err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
	}
	for i, want := range gathered(data) {
		if got := read(rec.gathered[i], len(want)); string(got) != string(want) {
			return fmt.Errorf("%s: gathered %s differs at byte %d", where, [3]string{"routing", "probs", "hidden"}[i], difference(got, want))
		}
	}
	want := data[id].out
	if got := read(rec.out, len(want)); string(got) != string(want) {
		return fmt.Errorf("%s: output differs at byte %d", where, difference(got, want))
	}
	return nil
}

// read reads device memory, nil where that fails: it then differs from
// whatever is wanted.
func (r *rig) read(id int, t moert.Tensor, n int) []byte {
	b := make([]byte, n)
	if err := r.ranks[id].d.Device().Read(b, t.Ptr); err != nil {
		return nil
	}
	return b
}

func (r *rig) checkStep(id int, words moert.Tensor, want []uint32) error {
	got := r.read(id, words, 4*len(want))
	for i, w := range want {
		if got == nil || binary.LittleEndian.Uint32(got[4*i:]) != w {
			return fmt.Errorf("word %d of the step is wrong", i)
		}
	}
	return nil
}

func difference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}
