package mutation

import (
	"errors"
	"fmt"

	moert "github.com/moegen/moegen/runtime"
)

// tooMany makes the last rank bring too many tokens, which the host cannot
// see: that step fails on all ranks, and the next ones are as good as any.
func tooMany(w way) scenario {
	return scenario{"too many tokens: " + w.String(), wrap - 1, patient, false, func(x *trial, r *rig) verdict {
		y := x.begin(r, w, 1, 1)
		if err := y.setBlocks(2); err != nil {
			return classify(err)
		}
		last := y.last()
		if _, err := r.timed(y.all(), func(id int) error {
			k := r.ranks[id]
			count, err := k.d.NewTensor(1, 4)
			if err != nil {
				return err
			}
			n := byte(1)
			if id == last {
				n = byte(k.d.Capacity() + 1)
			}
			if err := k.d.Device().Write(count.Ptr, []byte{n, 0, 0, 0}); err != nil {
				return err
			}
			if !w.inBand {
				return k.d.BeginStep(k.stream, moert.DeviceTokens(count.Ptr))
			}
			return errors.Join(k.d.NextStep(moert.DeviceTokens(count.Ptr)), r.dispatch(id, y.data[id]))
		}); err != nil {
			return classify(err)
		}
		for id := range r.ranks {
			want := failure(tooManyTokens, moert.PhaseCounts, id, last, y.epoch())
			own, status, err := r.words(id)
			if err == nil && (own != 0 || status != want) {
				err = fmt.Errorf("rank %d: failure word %v, host's word %v, want none and %v", id, own, status, want)
			}
			if err = errors.Join(err, r.emptyStep(id, y.epoch())); err != nil {
				return verdict{byData, err.Error()}
			}
			var e *moert.StepError
			if err := r.ranks[id].d.Err(); !errors.As(err, &e) || *e != (moert.StepError{Peer: last, Epoch: y.epoch()}) {
				return verdict{byData, fmt.Sprintf("rank %d, with too many tokens on rank %d: %v", id, last, err)}
			}
		}
		for _, phase := range y.phases()[1:] {
			if _, err := r.timed(y.all(), func(id int) error { return y.enqueue(id, phase) }); err != nil {
				return classify(err)
			}
		}
		steps := x.shape.bulk
		if w.low {
			steps = x.shape.low
		}
		return x.run(r, steps, 1)
	}}
}

// grids makes the last rank launch another grid than the others. Every rank
// finds that out, and of more than one peer.
func grids(w way) scenario {
	return scenario{"grids differ: " + w.String(), 0, patient, false, func(x *trial, r *rig) verdict {
		y := x.begin(r, w, 1, 1)
		if err := errors.Join(y.setBlocks(2), r.ranks[y.last()].d.SetCapacity(w.capacity(1))); err != nil {
			return classify(err)
		}
		var true_ []word
		for id := range y.last() {
			true_ = append(true_, failure(gridsDiffer, moert.PhaseCounts, id, y.last(), y.epoch()),
				failure(gridsDiffer, moert.PhaseCounts, y.last(), id, y.epoch()))
		}
		took, err := r.timed(y.all(), func(id int) error { return y.enqueue(id, moert.PhaseCounts) })
		if err != nil {
			return classify(err)
		}
		if err := r.failed(func(int) bool { return true }, true_...); err != nil {
			return verdict{byData, err.Error()}
		}
		for id := range r.ranks {
			if err := errors.Join(waited(id, took[id], 0), r.emptyStep(id, y.epoch())); err != nil {
				return verdict{byData, err.Error()}
			}
		}
		return verdict{}
	}}
}

// countsOnly begins steps that have no layers: then nothing but the counts
// keeps ranks in step.
var countsOnly = scenario{"counts only", signedWrap - 3, patient, false, func(x *trial, r *rig) verdict {
	const steps = 6
	counts := func(i int) []int {
		n := make([]int, len(r.ranks))
		for id := range n {
			n[id] = (7*i + 3*id) % 6
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
			if err := r.checkStep(id, words, stepWords(counts(i), id, r.first+uint32(i)+1, r.ranks[id].d.Capacity())); err != nil {
				return verdict{byData, fmt.Sprintf("empty step %d rank %d: %v", i, id, err)}
			}
		}
	}
	return verdict{}
}}
