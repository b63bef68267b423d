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
	data      [][][]*rows // step, layer, rank
	transport moert.Transport
}

func newTrial(t testing.TB, s *shape, transport moert.Transport) *trial {
	x := &trial{shape: s, spec: s.spec(t), prog: s.program(t), transport: transport}
	for i, st := range s.steps {
		x.data = append(x.data, make([][]*rows, layers))
		for l := range layers {
			for rank, n := range st.counts {
				x.data[i][l] = append(x.data[i][l], makeRows(x.spec, x.prog, i, l, rank, n))
			}
		}
	}
	return x
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
	r, err := newRig(x.spec, x.prog, c, x.transport, s.patience)
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

// allSteps is the scenario that all mutants go through.
var allSteps = scenario{"steps", patient, false, func(x *trial, r *rig) verdict { return x.stepsFrom(r, 0) }}

// stepsFrom runs all steps back to back, after some others: the host waits
// once, at the end, so that nothing but the kernels keeps ranks in step.
func (x *trial) stepsFrom(r *rig, before int) verdict {
	recs := make([][]*record, len(r.ranks))
	for i, st := range x.shape.steps {
		for id := range r.ranks {
			rec, err := r.enqueueStep(id, i, st, x.data[i])
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
	for id, list := range recs {
		for _, rec := range list {
			if err := r.check(id, rec, firstEpoch+uint32(before+rec.step)+1, x.shape.steps[rec.step], x.data[rec.step][rec.layer]); err != nil {
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
