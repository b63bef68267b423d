package mutation

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	moert "github.com/moegen/moegen/runtime"
)

// likeAbsent moves hidden states and partial sums of which many words equal the
// one that means nothing has arrived. Another NaN is to travel in its place.
var likeAbsent = scenario{"words like kAbsent", wrap - 2, patient, false, func(x *trial, r *rig) verdict {
	const steps = 3 // counts early and in band
	counts, totals := [steps][]int{}, [steps]int{}
	for id := range r.ranks {
		for i, n := range []int{34 - id, 1 + 33*(id%2), 34 - 33*(id%2)} { // later, some have most to push when they have summed up
			counts[i], totals[i] = append(counts[i], n), totals[i]+n
		}
	}
	data := make([][]*rows, steps)
	recs := make([][]record, len(r.ranks))
	ones := bytes.Repeat([]byte{0xff}, slices.Max(totals[:])*r.prog.WireRowBytes())
	for i := range steps {
		data[i] = x.rows(200+i, 0, counts[i])
		total := totals[i]
		for _, in := range data[i] {
			for at := 0; at < len(in.hidden); at += 8 {
				copy(in.hidden[at+4*(at/64+i)%8:], ones[:4]) // every word of a pack has its turn
			}
		}
		for id, k := range r.ranks {
			capacity := lowOne // rounds, and blocks
			if i == 0 {
				capacity = lowTwo
			}
			if err := k.d.SetCapacity(capacity); err != nil {
				return classify(err)
			}
			var err error
			if tokens := moert.HostTokens(counts[i][id]); i == 0 {
				err = k.d.BeginStep(k.stream, tokens)
			} else {
				err = k.d.NextStep(tokens)
			}
			if err == nil {
				err = r.dispatch(id, data[i][id])
			}
			if err == nil && i == 0 {
				err = k.d.Device().Write(k.own.Ptr, ones)
			}
			if err != nil {
				return classify(err)
			}
			var rec record
			if rec.gathered[2], err = k.d.NewTensor(total, r.prog.HiddenRowBytes()); err != nil {
				return classify(err)
			}
			if err = k.stream.CopyAsync(rec.gathered[2].Ptr, k.d.Gathered().Hidden.Ptr, uint64(total*r.prog.HiddenRowBytes())); err != nil {
				return classify(err)
			}
			if rec.out, err = k.d.NewTensor(r.prog.MaxTokens, r.prog.HiddenRowBytes()); err != nil {
				return classify(err)
			}
			if _, err = k.d.Combine(k.stream, moert.CombineArgs{Partial: k.own, Out: rec.out}); err != nil {
				return classify(err)
			}
			recs[id] = append(recs[id], rec)
		}
	}
	for _, err := range r.synchronize() {
		if err != nil {
			return classify(err)
		}
	}
	for id := range r.ranks {
		for i, rec := range recs[id] {
			want := gathered(data[i])[2]
			for at := 0; at < len(want); at += 4 {
				if binary.LittleEndian.Uint32(want[at:]) == 0xffffffff {
					want[at+3] = 0x7f
				}
			}
			if got := r.read(id, rec.gathered[2], len(want)); !bytes.Equal(got, want) {
				return verdict{byData, fmt.Sprintf("step %d rank %d: gathered hidden differs at byte %d", i, id, difference(got, want))}
			}
			out := r.read(id, rec.out, counts[i][id]*r.prog.HiddenRowBytes())
			for at := 0; at < len(out); at += 2 {
				if v := binary.LittleEndian.Uint16(out[at:]); v&0x7f80 != 0x7f80 || v&0x7f == 0 {
					return verdict{byData, fmt.Sprintf("step %d rank %d: the sum of NaNs is %#x", i, id, v)}
				}
			}
		}
	}
	return verdict{}
}}
