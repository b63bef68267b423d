package mutation

import (
	"errors"
	"fmt"
	"slices"
	"time"

	moert "github.com/moegen/moegen/runtime"
)

// The scenarios in this file make the group fail, or a step, in every way that
// the kernels know, so that mutants of the code for it have something to get
// wrong. The last rank is the one that misbehaves. A kernel that notices is
// looked at before any other runs, which could make good what it left undone.

// absent makes the last rank come too late in a phase. Rank 0 has the least
// patience: it alone gives up, at its deadline; the others wait when they are
// told, and end then; the last rank is told before it comes, and sends nothing.
func absent(phase moert.Phase) scenario {
	return scenario{"absent in " + phase.String(), patient, true, func(x *trial, r *rig) verdict {
		last := len(r.ranks) - 1
		want := failure(timedOut, phase, 0, last, firstEpoch+1)
		if err := r.oneBlock(); err != nil {
			return classify(err)
		}
		took, v := x.without(r, phase, last)
		if v.kind != "" {
			return v
		}
		waiting := func(id int) bool { return id != last }
		if err := r.failed(waiting, want); err != nil {
			return verdict{byData, err.Error()}
		}
		for id := range last {
			if err := errors.Join(waited(id, took[id], r.patience(0)), x.afterwards(r, id, phase, want)); err != nil {
				return verdict{byData, err.Error()}
			}
		}
		return x.late(r, phase, want)
	}}
}

// late makes the last rank come after the group has failed.
func (x *trial) late(r *rig, phase moert.Phase, want word) verdict {
	last := len(r.ranks) - 1
	before, err := r.sent(last)
	if err != nil {
		return classify(err)
	}
	took, err := r.timed([]int{last}, func(id int) error { return r.phase(x, id, phase) })
	if err != nil {
		return classify(err)
	}
	after, err := r.sent(last)
	if err != nil {
		return classify(err)
	}
	err = errors.Join(waited(last, took[last], 0), same(before, after), r.failed(func(int) bool { return true }, want), x.afterwards(r, last, phase, want))
	if err != nil {
		return verdict{byData, err.Error()}
	}
	return verdict{}
}

// afterwards checks what a rank's host has, and the step.
func (x *trial) afterwards(r *rig, id int, phase moert.Phase, want word) error {
	err := r.told(id, want)
	if phase == moert.PhaseCounts {
		err = errors.Join(err, r.emptyStep(id, firstEpoch+1))
	}
	return err
}

// without runs a phase on all ranks but some, having run what comes before it
// on all, and says how long it took each.
func (x *trial) without(r *rig, phase moert.Phase, missing ...int) (map[int]time.Duration, verdict) {
	var all, present []int
	for id := range r.ranks {
		all = append(all, id)
		if !slices.Contains(missing, id) {
			present = append(present, id)
		}
	}
	for p := moert.PhaseCounts; p < phase; p++ {
		if _, err := r.timed(all, func(id int) error { return r.phase(x, id, p) }); err != nil {
			return nil, classify(err)
		}
	}
	if err := r.noFailure(); err != nil {
		return nil, verdict{byData, err.Error()}
	}
	took, err := r.timed(present, func(id int) error { return r.phase(x, id, phase) })
	if err != nil {
		return nil, classify(err)
	}
	return took, verdict{}
}

// alone leaves rank 0 without any peer, so that its threads give up at once
// and of different ones: one of the failures is told, everywhere the same.
func alone(phase moert.Phase) scenario {
	return scenario{"alone in " + phase.String(), patient, true, func(x *trial, r *rig) verdict {
		var missing []int
		var true_ []word
		for peer := 1; peer < len(r.ranks); peer++ {
			missing = append(missing, peer)
			true_ = append(true_, failure(timedOut, phase, 0, peer, firstEpoch+1))
		}
		if err := r.oneBlock(); err != nil {
			return classify(err)
		}
		return x.gaveUp(r, phase, missing, true_)
	}}
}

// oneBlock makes all grids those of one block: no other block then makes good
// what one leaves undone.
func (r *rig) oneBlock() error {
	for _, k := range r.ranks {
		if err := k.d.SetCapacity(smallTokens); err != nil {
			return err
		}
	}
	return nil
}

// together makes all ranks but the last give up at the same moment, with all
// their blocks.
func together(phase moert.Phase) scenario {
	return scenario{"together in " + phase.String(), equallyPatient, true, func(x *trial, r *rig) verdict {
		last := len(r.ranks) - 1
		var true_ []word
		for id := range last {
			true_ = append(true_, failure(timedOut, phase, id, last, firstEpoch+1))
		}
		return x.gaveUp(r, phase, []int{last}, true_)
	}}
}

func (x *trial) gaveUp(r *rig, phase moert.Phase, missing []int, true_ []word) verdict {
	took, v := x.without(r, phase, missing...)
	if v.kind != "" {
		return v
	}
	waiting := func(id int) bool { return !slices.Contains(missing, id) }
	if err := r.failed(waiting, true_...); err != nil {
		return verdict{byData, err.Error()}
	}
	for id, d := range took {
		if err := waited(id, d, r.patience(id)); err != nil {
			return verdict{byData, err.Error()}
		}
	}
	return verdict{}
}

// phase enqueues a phase of the first layer of the first step on a rank, with
// the experts where they belong.
func (r *rig) phase(x *trial, id int, phase moert.Phase) error {
	k := r.ranks[id]
	switch phase {
	case moert.PhaseCounts:
		return k.d.BeginStep(k.stream, moert.HostTokens(min(1, x.shape.steps[0].counts[id])))
	case moert.PhaseDispatch:
		return r.dispatch(x, id, x.data[0][0][id])
	}
	if err := r.launchExperts(k, id, k.d.Gathered(), k.d.PartialBuffer()); err != nil {
		return err
	}
	_, err := k.d.Combine(k.stream, moert.CombineArgs{Partial: k.d.PartialBuffer()})
	return err
}

// dispatch enqueues a dispatch of some rows.
func (r *rig) dispatch(x *trial, id int, in *rows) error {
	k := r.ranks[id]
	var t [3]moert.Tensor
	for i, data := range in.tensors() {
		var err error
		if t[i], err = k.d.NewTensor(x.prog.MaxTokens, [3]int{x.prog.RoutingRowBytes(), x.prog.ProbsRowBytes(), x.prog.HiddenRowBytes()}[i]); err != nil {
			return err
		}
		if err = k.d.Device().Write(t[i].Ptr, data); err != nil {
			return err
		}
	}
	_, err := k.d.Dispatch(k.stream, moert.Rows{Routing: t[0], Probs: t[1], Hidden: t[2]})
	return err
}

// tooMany makes the last rank bring too many tokens, which the host cannot
// see: that step fails on all ranks, and the next one is as good as any.
var tooMany = scenario{"too many tokens", patient, false, func(x *trial, r *rig) verdict {
	last := len(r.ranks) - 1
	all := make([]int, len(r.ranks))
	for id := range all {
		all[id] = id
	}
	if _, err := r.timed(all, func(id int) error {
		k := r.ranks[id]
		count, err := k.d.NewTensor(1, 4)
		if err != nil {
			return err
		}
		n := byte(1)
		if id == last {
			n = byte(x.prog.MaxTokens + 1)
		}
		if err := k.d.Device().Write(count.Ptr, []byte{n, 0, 0, 0}); err != nil {
			return err
		}
		return k.d.BeginStep(k.stream, moert.DeviceTokens(count.Ptr))
	}); err != nil {
		return classify(err)
	}
	for id := range r.ranks {
		want := failure(tooManyTokens, moert.PhaseCounts, id, last, firstEpoch+1)
		own, status, err := r.words(id)
		if err == nil && (own != 0 || status != want) {
			err = fmt.Errorf("rank %d: failure word %v, host's word %v, want none and %v", id, own, status, want)
		}
		if err = errors.Join(err, r.emptyStep(id, firstEpoch+1)); err != nil {
			return verdict{byData, err.Error()}
		}
		var e *moert.StepError
		if err := r.ranks[id].d.Err(); !errors.As(err, &e) || *e != (moert.StepError{Peer: last, Epoch: firstEpoch + 1}) {
			return verdict{byData, fmt.Sprintf("rank %d, with too many tokens on rank %d: %v", id, last, err)}
		}
	}
	for phase := moert.PhaseDispatch; phase <= moert.PhaseCombine; phase++ {
		if _, err := r.timed(all, func(id int) error { return r.phase(x, id, phase) }); err != nil {
			return classify(err)
		}
	}
	return x.stepsFrom(r, 1)
}}

// grids makes the last rank launch another grid than the others. Every rank
// finds that out, and of more than one peer.
var grids = scenario{"grids differ", patient, false, func(x *trial, r *rig) verdict {
	last := len(r.ranks) - 1
	if err := r.ranks[last].d.SetCapacity(smallTokens); err != nil {
		return classify(err)
	}
	var all []int
	var true_ []word
	for id := range r.ranks {
		all = append(all, id)
		if id != last {
			true_ = append(true_, failure(gridsDiffer, moert.PhaseCounts, id, last, firstEpoch+1),
				failure(gridsDiffer, moert.PhaseCounts, last, id, firstEpoch+1))
		}
	}
	took, err := r.timed(all, func(id int) error { return r.phase(x, id, moert.PhaseCounts) })
	if err != nil {
		return classify(err)
	}
	if err := r.failed(func(int) bool { return true }, true_...); err != nil {
		return verdict{byData, err.Error()}
	}
	for id := range r.ranks {
		if err := errors.Join(waited(id, took[id], 0), r.emptyStep(id, firstEpoch+1)); err != nil {
			return verdict{byData, err.Error()}
		}
	}
	return verdict{}
}}

// countsOnly begins steps that have no layers: then nothing but the counts
// keeps ranks in step.
var countsOnly = scenario{"counts only", patient, false, func(x *trial, r *rig) verdict {
	const steps = 6
	counts := func(i int) []int {
		n := make([]int, len(r.ranks))
		for id := range n {
			n[id] = (7*i + 3*id) % (smallTokens + 5)
		}
		return n
	}
	kept := make([][]moert.Tensor, len(r.ranks))
	for id, k := range r.ranks {
		for i := range steps {
			if err := k.d.BeginStep(k.stream, moert.HostTokens(counts(i)[id])); err != nil {
				return classify(err)
			}
			words, err := k.d.NewTensor(7+2*len(r.ranks), 4)
			if err != nil {
				return classify(err)
			}
			if err := k.stream.CopyAsync(words.Ptr, k.d.Step().Total, uint64(4*(7+2*len(r.ranks)))); err != nil {
				return classify(err)
			}
			kept[id] = append(kept[id], words)
		}
	}
	for id, err := range r.synchronize() {
		if err != nil {
			v := classify(err)
			v.text = fmt.Sprintf("rank %d: %s", id, v.text)
			return v
		}
	}
	for id := range kept {
		for i, words := range kept[id] {
			if err := r.checkStep(id, words, stepWords(counts(i), id, firstEpoch+uint32(i)+1, r.ranks[id].d.Capacity())); err != nil {
				return verdict{byData, fmt.Sprintf("empty step %d rank %d: %v", i, id, err)}
			}
		}
	}
	return verdict{}
}}
