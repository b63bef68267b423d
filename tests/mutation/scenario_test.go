package mutation

import (
	"errors"
	"fmt"
	"testing"

	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/emu"
	"github.com/moegen/moegen/spec"
)

// verdict says how a run ended.
type verdict struct {
	kind string // "" if nothing was wrong
	text string
}

// Ways to be killed.
const (
	byRace  = "race"  // the judge's report
	byData  = "data"  // wrong bytes
	byStall = "stall" // a wait that did not end, or a failure of the group that nobody caused
	byFault = "fault" // of the machine: an illegal address, a divergent barrier
	byLoad  = "load"  // the module was refused
)

// trial is a program to run.
type trial struct {
	shape     *shape
	spec      *spec.Spec
	prog      *moert.Program
	data      map[*step][][]*rows // layer, rank
	transport moert.Transport
}

func newTrial(t testing.TB, s *shape, transport moert.Transport) *trial {
	x := &trial{shape: s, spec: s.spec(t), prog: s.program(t), data: map[*step][][]*rows{}, transport: transport}
	for _, steps := range [][]step{s.bulk, s.low, s.both, s.many} {
		for i := range steps {
			data := make([][]*rows, layers)
			for l := range data {
				data[l] = x.rows(i, l, steps[i].counts)
			}
			x.data[&steps[i]] = data
		}
	}
	return x
}

// rows makes rows for all ranks.
func (x *trial) rows(step, layer int, counts []int) []*rows {
	var all []*rows
	for rank, n := range counts {
		all = append(all, makeRows(x.spec, x.prog, step, layer, rank, n))
	}
	return all
}

// with is the trial of the same program with other PTX.
func (x *trial) with(ptx []byte) *trial {
	y, p := *x, *x.prog
	p.PTX, y.prog = ptx, &p
	return &y
}

// scenario is something to do with a group, and what should come of it.
type scenario struct {
	name     string
	first    uint32 // epoch
	patience patience
	waits    bool // until a deadline has passed
	do       func(x *trial, r *rig) verdict
}

// stepLimit is how many warp instructions a run may take: many times what it
// should.
const stepLimit = 4 << 20

// run runs the scenario on a machine of its own, which the caller closes, if
// there is one. opened, if set, is called before the first launch.
func (s scenario) run(x *trial, c emu.Config, opened func(r *rig)) (verdict, *rig) {
	c.Judge.StepLimit = stepLimit
	if s.waits {
		c.Judge.AllowStalls = true
	}
	r, err := newRig(x.spec, x.prog, c, x.transport, s.patience, s.first)
	if err != nil {
		return verdict{byLoad, err.Error()}, nil
	}
	if opened != nil {
		opened(r)
	}
	v := s.do(x, r)
	if j := r.judge(); j.kind != "" {
		v = j // says more than what came of it
	}
	return v, r
}

// Every mutant goes through those of these whose kernels it is of.
var (
	bulkSteps = scenario{"steps", signedWrap - 3, patient, false, func(x *trial, r *rig) verdict { return x.run(r, x.shape.bulk, 0) }}
	lowSteps  = scenario{"ll steps", wrap - 3, patient, false, func(x *trial, r *rig) verdict { return x.run(r, x.shape.low, 0) }}
	bothSteps = scenario{"steps of both", wrap - 3, patient, false, func(x *trial, r *rig) verdict { return x.run(r, x.shape.both, 0) }}
	// The host waits after each: the next ones could take away what it left.
	manySteps = scenario{"ll steps of many rounds", signedWrap - 3, patient, false, func(x *trial, r *rig) verdict {
		for i := range x.shape.many {
			if v := x.run(r, x.shape.many[i:i+1], i); v.kind != "" {
				return v
			}
		}
		return verdict{}
	}}
)

// run runs steps back to back, after some others: the host waits once, at the
// end, so that nothing but the kernels keeps ranks in step.
func (x *trial) run(r *rig, steps []step, before int) verdict {
	recs := make([][]*record, len(r.ranks))
	for i := range steps {
		for id := range r.ranks {
			rec, err := r.enqueueStep(id, i, &steps[i], x.data[&steps[i]])
			if err != nil {
				return classify(err)
			}
			recs[id] = append(recs[id], rec...)
		}
	}
	if err := r.watch(); err != nil {
		return classify(err)
	}
	errs := r.synchronize()
	for id, err := range errs {
		if err != nil {
			v := classify(err)
			v.text = fmt.Sprintf("rank %d: %s", id, v.text)
			return v
		}
	}
	if err := r.noFailure(); err != nil {
		return verdict{byData, err.Error()}
	}
	low := 0
	for i := range steps {
		if steps[i].isLow() {
			low += layers
		}
	}
	for id, list := range recs {
		if err := r.lowEpochs(id, r.first+uint32(low)); err != nil && before == 0 {
			return verdict{byData, err.Error()}
		}
		if err := errors.Join(x.ownLines(r, id), x.nothingLeft(r, id)); err != nil {
			return verdict{byData, err.Error()}
		}
		for _, rec := range list {
			st := &steps[rec.step]
			if err := r.check(id, rec, r.first+uint32(before+rec.step)+1, st, x.data[st][rec.layer]); err != nil {
				return verdict{byData, err.Error()}
			}
		}
	}
	return verdict{}
}

// classify tells a failure of the group from one of the machine.
func classify(err error) verdict {
	var failed *moert.FailedError
	var stepErr *moert.StepError
	switch {
	case errors.As(err, &failed), errors.As(err, &stepErr):
		return verdict{byStall, err.Error()}
	case isStall(err):
		return verdict{byStall, err.Error()}
	}
	return verdict{byFault, err.Error()}
}
