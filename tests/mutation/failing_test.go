package mutation

import (
	"errors"
	"fmt"

	moert "github.com/moegen/moegen/runtime"
)

// The scenarios in this file make the group fail, or a step, in every way that
// the kernels know, so that mutants of the code for it have something to get
// wrong. The last rank is the one that misbehaves.

// absent makes the last rank come too late in a phase: the others must give up
// and say of whom, and when it comes at last it must find the group failed.
func absent(phase moert.Phase) scenario {
	return scenario{"absent in " + phase.String(), true, func(x *trial, r *rig) verdict {
		last := len(r.ranks) - 1
		enqueue := func(id int, from, to moert.Phase) error { return r.phases(x, id, from, to) }
		for id := range r.ranks {
			to := moert.PhaseCombine
			if id == last {
				to = phase - 1
			}
			if err := enqueue(id, moert.PhaseCounts, to); err != nil {
				return classify(err)
			}
		}
		check := func(id int) verdict {
			var f *moert.FailedError
			k := r.ranks[id]
			if err := k.d.Synchronize(k.stream); !errors.As(err, &f) {
				return verdict{byData, fmt.Sprintf("rank %d, with rank %d absent: %v", id, last, err)}
			}
			want := moert.FailedError{Phase: phase, Rank: f.Rank, Peer: last, Epoch: firstEpoch + 1, Reason: f.Reason}
			if *f != want || f.Rank == last {
				return verdict{byData, fmt.Sprintf("rank %d: %+v, want %+v", id, *f, want)}
			}
			return verdict{}
		}
		for id := range last {
			if v := check(id); v.kind != "" {
				return v
			}
		}
		if err := enqueue(last, phase, moert.PhaseCombine); err != nil {
			return classify(err)
		}
		return check(last)
	}}
}

// phases enqueues some phases of one layer of the first step on a rank. Where
// the group has failed by now, the calls say so and launch nothing.
func (r *rig) phases(x *trial, id int, from, to moert.Phase) error {
	k := r.ranks[id]
	in := x.data[0][0][id].tensors()
	for phase := from; phase <= to; phase++ {
		var err error
		switch phase {
		case moert.PhaseCounts:
			err = k.d.BeginStep(k.stream, moert.HostTokens(x.shape.steps[0].counts[id]))
		case moert.PhaseDispatch:
			var t [3]moert.Tensor
			for i, bytes := range []int{x.prog.RoutingRowBytes(), x.prog.ProbsRowBytes(), x.prog.HiddenRowBytes()} {
				if t[i], err = k.d.NewTensor(x.prog.MaxTokens, bytes); err != nil {
					return err
				}
				if err = k.d.Device().Write(t[i].Ptr, in[i]); err != nil {
					return err
				}
			}
			_, err = k.d.Dispatch(k.stream, moert.Rows{Routing: t[0], Probs: t[1], Hidden: t[2]})
		case moert.PhaseCombine:
			if err = r.launchExperts(k, id, k.d.Gathered(), k.d.PartialBuffer()); err == nil {
				_, err = k.d.Combine(k.stream, moert.CombineArgs{Partial: k.d.PartialBuffer()})
			}
		}
		var f *moert.FailedError
		if errors.As(err, &f) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// tooMany makes the last rank bring too many tokens, which the host cannot
// see: that step fails on all ranks, and the next one is as good as any.
var tooMany = scenario{"too many tokens", false, func(x *trial, r *rig) verdict {
	last := len(r.ranks) - 1
	told := make([]*moert.StepError, len(r.ranks))
	for id, k := range r.ranks {
		count, err := k.d.NewTensor(1, 4)
		if err != nil {
			return classify(err)
		}
		n := byte(1)
		if id == last {
			n = byte(x.prog.MaxTokens + 1)
		}
		if err := k.d.Device().Write(count.Ptr, []byte{n, 0, 0, 0}); err != nil {
			return classify(err)
		}
		if err := k.d.BeginStep(k.stream, moert.DeviceTokens(count.Ptr)); err != nil {
			return classify(err)
		}
		for phase := moert.PhaseDispatch; phase <= moert.PhaseCombine; {
			// A call may find that the step has failed by now, says so once
			// and launches nothing; the peers wait for it.
			if err := r.phases(x, id, phase, phase); err == nil {
				phase++
			} else if !errors.As(err, &told[id]) {
				return classify(err)
			}
		}
	}
	for id, err := range r.synchronize() {
		e := told[id]
		if err != nil || e == nil {
			errors.As(err, &e)
		}
		if e == nil || *e != (moert.StepError{Peer: last, Epoch: firstEpoch + 1}) {
			return verdict{byData, fmt.Sprintf("rank %d, with too many tokens on rank %d: %v", id, last, err)}
		}
	}
	return x.stepsFrom(r, 1)
}}

// grids makes the last rank launch another grid than the others.
var grids = scenario{"grids differ", false, func(x *trial, r *rig) verdict {
	last := len(r.ranks) - 1
	if err := r.ranks[last].d.SetCapacity(smallTokens); err != nil {
		return classify(err)
	}
	for id, k := range r.ranks {
		if err := k.d.BeginStep(k.stream, moert.HostTokens(1)); err != nil {
			return classify(err)
		}
		if err := r.phases(x, id, moert.PhaseDispatch, moert.PhaseCombine); err != nil {
			return classify(err)
		}
	}
	for id, err := range r.synchronize() {
		var f *moert.FailedError
		if !errors.As(err, &f) || f.Phase != moert.PhaseCounts || f.Epoch != firstEpoch+1 || f.Rank != last && f.Peer != last {
			return verdict{byData, fmt.Sprintf("rank %d, with rank %d's grid unlike the others: %v", id, last, err)}
		}
	}
	return verdict{}
}}

// countsOnly begins steps that have no layers: then nothing but the counts
// keeps ranks in step.
var countsOnly = scenario{"counts only", false, func(x *trial, r *rig) verdict {
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
			words, err := k.d.NewTensor(5+2*len(r.ranks), 4)
			if err != nil {
				return classify(err)
			}
			if err := k.stream.CopyAsync(words.Ptr, k.d.Step().Total, uint64(4*(5+2*len(r.ranks)))); err != nil {
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
			if err := r.checkStep(id, words, stepWords(counts(i), id, firstEpoch+uint32(i)+1)); err != nil {
				return verdict{byData, fmt.Sprintf("empty step %d rank %d: %v", i, id, err)}
			}
		}
	}
	return verdict{}
}}
