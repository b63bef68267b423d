package mutation

import (
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/moegen/moegen/cmd/moegen/gen"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
)

// The scenarios in this file and the next make the group fail, or a step, in
// every way that the kernels know, so that mutants of the code for it have
// something to get wrong. The last rank is the one that misbehaves. A kernel
// that notices is looked at before any other runs, which could make good what
// it left undone.

// way is how a step is launched.
type way struct {
	low    bool // with protocol ll
	inBand bool // its counts travel with its first dispatch
}

func (w way) String() string {
	s := "bulk"
	if w.low {
		s = "ll"
	}
	if w.inBand {
		s += ", in band"
	}
	return s
}

// capacity is one that is launched with one or two blocks.
func (w way) capacity(blocks int) int {
	switch {
	case w.low && blocks == 1:
		return lowOne
	case w.low:
		return lowTwo
	case blocks == 1:
		return bulkOne
	}
	return bulkTwo
}

// try is a step that may fail, of one layer.
type try struct {
	x *trial
	r *rig
	way
	counts []int
	data   []*rows
	before int // steps that went well
}

// begin makes a step with some tokens of each rank but the last, and some of
// that.
func (x *trial) begin(r *rig, w way, others, last int) *try {
	counts := slices.Repeat([]int{others}, len(r.ranks))
	counts[len(counts)-1] = last
	return &try{x: x, r: r, way: w, counts: counts, data: x.rows(100, 0, counts)}
}

func (y *try) last() int     { return len(y.r.ranks) - 1 }
func (y *try) epoch() uint32 { return y.r.first + uint32(y.before) + 1 }

func (y *try) all() []int {
	var all []int
	for id := range y.r.ranks {
		all = append(all, id)
	}
	return all
}

// setBlocks sets all grids. If there is one block only, no other makes good
// what one leaves undone.
func (y *try) setBlocks(blocks int) error {
	for _, k := range y.r.ranks {
		if err := k.d.SetCapacity(y.capacity(blocks)); err != nil {
			return err
		}
	}
	return nil
}

// phases are those with launches of their own, which are called by the first
// thing that they wait for.
func (y *try) phases() []moert.Phase {
	if y.inBand {
		return []moert.Phase{moert.PhaseCounts, moert.PhaseCombine}
	}
	return []moert.Phase{moert.PhaseCounts, moert.PhaseDispatch, moert.PhaseCombine}
}

// enqueue enqueues a phase on a rank, with the experts where they belong.
func (y *try) enqueue(id int, phase moert.Phase) error {
	k := y.r.ranks[id]
	switch {
	case phase == moert.PhaseCounts && y.inBand:
		if err := k.d.NextStep(moert.HostTokens(y.counts[id])); err != nil {
			return err
		}
		return y.r.dispatch(id, y.data[id])
	case phase == moert.PhaseCounts:
		return k.d.BeginStep(k.stream, moert.HostTokens(y.counts[id]))
	case phase == moert.PhaseDispatch:
		return y.r.dispatch(id, y.data[id])
	}
	if err := y.r.launchExperts(k, id, k.d.Gathered(), k.d.PartialBuffer()); err != nil {
		return err
	}
	_, err := k.d.Combine(k.stream, moert.CombineArgs{Partial: k.d.PartialBuffer()})
	return err
}

// goWell runs the whole step once, on all ranks.
func (y *try) goWell() verdict {
	for _, p := range y.phases() {
		if _, err := y.r.timed(y.all(), func(id int) error { return y.enqueue(id, p) }); err != nil {
			return classify(err)
		}
	}
	y.before++
	return verdict{}
}

// without runs the step up to where it waits in a phase, on all ranks but that
// some do not come in that phase, and says how long it took each.
func (y *try) without(phase moert.Phase, missing ...int) (map[int]time.Duration, verdict) {
	var present []int
	for id := range y.r.ranks {
		if !slices.Contains(missing, id) {
			present = append(present, id)
		}
	}
	at := phase
	if y.inBand && phase == moert.PhaseDispatch {
		at = moert.PhaseCounts
		if err := y.fakeCounts(missing); err != nil {
			return nil, classify(err)
		}
	}
	for _, p := range y.phases() {
		if p >= at {
			break
		}
		if _, err := y.r.timed(y.all(), func(id int) error { return y.enqueue(id, p) }); err != nil {
			return nil, classify(err)
		}
	}
	if err := y.r.noFailure(); err != nil {
		return nil, verdict{byData, err.Error()}
	}
	took, err := y.r.timed(present, func(id int) error { return y.enqueue(id, at) })
	if err != nil {
		return nil, classify(err)
	}
	return took, verdict{}
}

// fakeCounts writes what missing ranks would have sent of their counts, as if
// they had died just after it.
func (y *try) fakeCounts(missing []int) error {
	ranks, blocks := len(y.r.ranks), y.r.prog.MaxBlocks
	slots := gen.LaunchOf(y.r.spec).Layout.CountSlots
	for _, k := range y.r.ranks {
		for _, from := range missing {
			for b := range blocks {
				slot := slots + uint64(((int(y.epoch()&1)*blocks+b)*ranks+from)*8)
				word := uint64(y.epoch())<<32 | uint64(y.blocks())<<24 | uint64(y.counts[from])
				if err := k.d.Device().Write(k.symm+driver.DevicePtr(slot), binary.LittleEndian.AppendUint64(nil, word)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// sent is what has arrived of a row that a rank pushes in a dispatch with protocol
// ll, or, the header alone, of its sums in a combine.
type sent struct{ header, hidden, routing, probs bool }

// lacking makes scenarios in which one thing alone has not arrived of the last
// rank's, so that nothing but the wait for it notices. Where a header alone
// lacks, a rank has no rows: absent.
func lacking(scene func(phase moert.Phase, w way, what string, there sent) scenario) []scenario {
	out := []scenario{scene(moert.PhaseCombine, way{low: true}, "sums", sent{header: true})}
	for _, w := range []way{{low: true}, {low: true, inBand: true}} {
		out = append(out, scene(moert.PhaseDispatch, w, "hidden states", sent{header: true, routing: true, probs: true}),
			scene(moert.PhaseDispatch, w, "routing", sent{header: true, hidden: true, probs: true}),
			scene(moert.PhaseDispatch, w, "probabilities", sent{header: true, hidden: true, routing: true}))
	}
	return out
}

// fakeRows writes what a missing rank would have sent.
func (y *try) fakeRows(phase moert.Phase, there sent, from int) error {
	if there == (sent{}) {
		return nil
	}
	p, l, data := y.r.prog, gen.LaunchOf(y.r.spec).Layout, y.data[from]
	slot, tokens := uint64(y.epoch()&1)*uint64(p.Ranks)+uint64(from), uint64(y.x.lowTokens())
	lines := func(words []byte) (b []byte) {
		for at := 0; at < len(words); at += 4 {
			b = append(b, words[at:at+4]...)
			b = binary.LittleEndian.AppendUint32(b, y.epoch())
		}
		return b
	}
	headers := l.LowDispatchHeaders
	if phase == moert.PhaseCombine {
		headers = l.LowCombineHeaders
	}
	routingLines := l.LowLines + slot*y.x.lowLineBytes()
	for _, k := range y.r.ranks {
		for _, part := range []struct {
			sent bool
			at   uint64
			b    []byte
		}{
			{there.header, headers + 4*uint64(from), binary.LittleEndian.AppendUint32(nil, y.epoch())},
			{there.hidden, l.LowDispatch + slot*tokens*uint64(p.HiddenRowBytes()), data.hidden},
			{there.routing, routingLines, lines(data.routing)},
			{there.probs, routingLines + tokens*uint64(p.RoutingRowBytes())*2, lines(data.probs)},
		} {
			if !part.sent {
				continue
			}
			if err := k.d.Device().Write(k.symm+driver.DevicePtr(part.at), part.b); err != nil {
				return err
			}
		}
	}
	return nil
}

// lowLineBytes is what one rank's lines take: a word of routing or of
// probabilities, and the epoch.
func (x *trial) lowLineBytes() uint64 {
	return 2 * uint64(x.lowTokens()) * uint64(x.prog.RoutingRowBytes()+x.prog.ProbsRowBytes())
}

// lowTokens is for how many tokens a rank staging buffers have room.
func (x *trial) lowTokens() int {
	n, err := strconv.Atoi(string(lowTokens.FindSubmatch(x.prog.Source)[1]))
	if err != nil {
		panic(err)
	}
	return n
}

var lowTokens = regexp.MustCompile(`(?m)^constexpr int kLowTokens = (\d+);`)

// blocks is how many a launch has.
func (y *try) blocks() int {
	if y.r.ranks[0].d.Capacity() == y.capacity(1) {
		return 1
	}
	return 2
}

// dispatch enqueues a dispatch of some rows.
func (r *rig) dispatch(id int, in *rows) error {
	k, p := r.ranks[id], r.prog
	var t [3]moert.Tensor
	for i, data := range in.tensors() {
		var err error
		if t[i], err = k.input(data, p.MaxTokens, [3]int{p.RoutingRowBytes(), p.ProbsRowBytes(), p.HiddenRowBytes()}[i]); err != nil {
			return err
		}
	}
	_, err := k.d.Dispatch(k.stream, moert.Rows{Routing: t[0], Probs: t[1], Hidden: t[2]})
	return err
}

// absent makes the last rank come too late in a phase. Rank 0 has the least
// patience: it alone gives up, at its deadline; the others wait when they are
// told, and end then; the last rank is told before it comes, and sends nothing.
//
// With protocol ll two steps go well before, so that there is something old to
// take for an answer, and the others need no rows of the last rank: only its
// headers are missing.
func absent(phase moert.Phase, w way) scenario {
	if w.low {
		return absentAt(wrap, phase, w)
	}
	return absentAt(signedWrap, phase, w)
}

// absentAt is absent when epochs reach a number.
func absentAt(epoch uint64, phase moert.Phase, w way) scenario {
	return absentFrom(fmt.Sprintf("absent in %s at %#x: %s", phase, epoch, w), epoch, phase, w, sent{})
}

// absentBut is absent with protocol ll, with some of what the last rank should
// have sent.
func absentBut(phase moert.Phase, w way, what string, there sent) scenario {
	return absentFrom("lacking "+what+": "+w.String(), wrap, phase, w, there)
}

func absentFrom(name string, epoch uint64, phase moert.Phase, w way, there sent) scenario {
	first := uint32(epoch - 1)
	if w.low {
		first -= 2
	}
	return scenario{name, first, patient, true, func(x *trial, r *rig) verdict {
		others, last := 1, 1
		switch {
		case there != (sent{}): // of its row
		case w.low && phase == moert.PhaseDispatch:
			last = 0
		case w.low && phase == moert.PhaseCombine:
			others = 0
		}
		y := x.begin(r, w, others, last)
		if err := y.setBlocks(1); err != nil {
			return classify(err)
		}
		if w.low {
			for range 2 {
				if v := y.goWell(); v.kind != "" {
					return v
				}
			}
		}
		if err := y.fakeRows(phase, there, y.last()); err != nil {
			return classify(err)
		}
		want := failure(timedOut, phase, 0, y.last(), y.epoch())
		took, v := y.without(phase, y.last())
		if v.kind != "" {
			return v
		}
		waiting := func(id int) bool { return id != y.last() }
		if err := r.failed(waiting, want); err != nil {
			return verdict{byData, err.Error()}
		}
		for id := range y.last() {
			if err := errors.Join(waited(id, took[id], w.waits(phase, there, r.patience(0))), y.afterwards(id, phase, want)); err != nil {
				return verdict{byData, err.Error()}
			}
		}
		return y.late(phase, want)
	}}
}

// late makes the last rank come after the group has failed.
func (y *try) late(phase moert.Phase, want word) verdict {
	r, last := y.r, y.last()
	before, err := r.sent(last, y.low)
	if err != nil {
		return classify(err)
	}
	at := phase
	if y.inBand && phase == moert.PhaseDispatch {
		at = moert.PhaseCounts
	}
	took, err := r.timed([]int{last}, func(id int) error { return y.enqueue(id, at) })
	if err != nil {
		return classify(err)
	}
	after, err := r.sent(last, y.low)
	if err != nil {
		return classify(err)
	}
	err = errors.Join(waited(last, took[last], 0), same(before, after), r.failed(func(int) bool { return true }, want), y.afterwards(last, at, want))
	if err != nil {
		return verdict{byData, err.Error()}
	}
	return verdict{}
}

// afterwards checks what a rank's host has, and the step.
func (y *try) afterwards(id int, phase moert.Phase, want word) error {
	err := y.r.told(id, want)
	if phase == moert.PhaseCounts {
		err = errors.Join(err, y.r.emptyStep(id, y.epoch()))
	}
	return err
}

// waits is how long a rank waits in a phase for one that has sent so much: with
// protocol ll an eighth longer for one that has not begun the operation.
func (w way) waits(phase moert.Phase, there sent, patience time.Duration) time.Duration {
	if w.low && phase != moert.PhaseCounts && !there.header {
		return patience + patience/8
	}
	return patience
}

// hastily is absent where ranks give up before a wait counts as a slow one.
func hastily(phase moert.Phase, w way) scenario {
	s := absent(phase, w)
	s.name, s.patience = s.name+", hastily", hasty
	return s
}

// alone leaves rank 0 without any peer, so that its threads give up at once
// and of different ones: one of the failures is told, everywhere the same.
func alone(phase moert.Phase, w way) scenario {
	first := uint32(wrap - 1)
	if w.low {
		first = signedWrap - 1
	}
	return scenario{"alone in " + phase.String() + ": " + w.String(), first, patient, true, func(x *trial, r *rig) verdict {
		y := x.begin(r, w, 1, 1)
		var missing []int
		var true_ []word
		for peer := 1; peer < len(r.ranks); peer++ {
			missing = append(missing, peer)
			true_ = append(true_, failure(timedOut, phase, 0, peer, y.epoch()))
		}
		if err := y.setBlocks(1); err != nil {
			return classify(err)
		}
		return y.gaveUp(phase, missing, sent{}, true_)
	}}
}

// together makes all ranks but the last give up at the same moment, with all
// their blocks.
func together(phase moert.Phase, w way) scenario {
	return togetherFrom("together in "+phase.String()+": "+w.String(), phase, w, sent{})
}

// togetherBut is together with protocol ll, with some of what the last rank
// should have sent.
func togetherBut(phase moert.Phase, w way, what string, there sent) scenario {
	return togetherFrom("together lacking "+what+": "+w.String(), phase, w, there)
}

func togetherFrom(name string, phase moert.Phase, w way, there sent) scenario {
	return scenario{name, 0, equallyPatient, true, func(x *trial, r *rig) verdict {
		y := x.begin(r, w, 1, 1)
		var true_ []word
		for id := range y.last() {
			true_ = append(true_, failure(timedOut, phase, id, y.last(), y.epoch()))
		}
		if err := errors.Join(y.setBlocks(2), y.fakeRows(phase, there, y.last())); err != nil {
			return classify(err)
		}
		return y.gaveUp(phase, []int{y.last()}, there, true_)
	}}
}

func (y *try) gaveUp(phase moert.Phase, missing []int, there sent, true_ []word) verdict {
	took, v := y.without(phase, missing...)
	if v.kind != "" {
		return v
	}
	waiting := func(id int) bool { return !slices.Contains(missing, id) }
	if err := y.r.failed(waiting, true_...); err != nil {
		return verdict{byData, err.Error()}
	}
	for id, d := range took {
		if err := waited(id, d, y.waits(phase, there, y.r.patience(id))); err != nil {
			return verdict{byData, err.Error()}
		}
	}
	return verdict{}
}

// all ways and phases in which a rank can be absent.
func absences(scene func(moert.Phase, way) scenario) []scenario {
	var out []scenario
	for _, w := range []way{{}, {inBand: true}, {low: true}, {low: true, inBand: true}} {
		for p := moert.PhaseCounts; p <= moert.PhaseCombine; p++ {
			if p == moert.PhaseCounts && w == (way{low: true}) || p == moert.PhaseCombine && w.inBand {
				continue // the kernel is the same as another way's
			}
			out = append(out, scene(p, w))
		}
	}
	return out
}
