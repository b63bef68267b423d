package layer

import (
	"bytes"
	"fmt"
	"slices"
)

// verdict is what verifying one rank's layer found.
type verdict struct {
	gathered int     // rows
	units    float64 // largest error of the output over its bound; above 1 is a fault
	absolute float64 // largest error of the output
	faults   []string
	more     int // faults not told

	where string // what faults start with
}

// maxFaults is how many faults are told of one rank and layer: a lost row
// would be thousands of wrong elements.
const maxFaults = 4

func (v *verdict) fault(format string, args ...any) {
	if len(v.faults) == maxFaults {
		v.more++
		return
	}
	v.faults = append(v.faults, v.where+fmt.Sprintf(format, args...))
}

// verify compares what a rank had with what it should have had.
func (ref *reference) verify(rank int, o *observed, r rounding) verdict {
	v := verdict{}
	for e := range o.gathered {
		if len(o.gathered) > 1 {
			v.where = fmt.Sprintf("exchange %d: ", e)
		}
		ref.exchange(e, len(o.gathered)).verifyDispatch(rank, &o.gathered[e], &v)
	}
	v.where = ""
	ref.verifyCombined(rank, o, r, &v)
	return v
}

// verifyDispatch compares what a rank gathered.
func (ref *reference) verifyDispatch(rank int, g *gathered, v *verdict) {
	tokens, offsets := 0, make([]int, 1, len(ref.inputs)+1)
	for _, in := range ref.inputs {
		tokens += in.tokens
		next := tokens
		if ref.prog.Padded {
			next = offsets[len(offsets)-1] + ref.capacity
		}
		offsets = append(offsets, next)
	}
	ref.verifyStep(rank, g.step, tokens, offsets, v)
	for _, t := range tensors(ref.prog) {
		ref.verifyGather(t, *t.observed(g), offsets, v)
	}
	v.gathered += tokens
}

func (ref *reference) verifyStep(rank int, step []byte, tokens int, offsets []int, v *verdict) {
	most := 0
	for _, in := range ref.inputs {
		most = max(most, in.tokens)
	}
	ranks := len(ref.inputs)
	check := func(what string, i, want int) {
		if got := word(step, i); got != want {
			v.fault("step: %s is %d, not %d", what, got, want)
		}
	}
	check("total", 0, offsets[ranks])
	check("max", 1, most)
	check("local", 2, ref.inputs[rank].tokens)
	check("tokens", 4, tokens)
	check("capacity", 5, ref.capacity)
	for r, in := range ref.inputs {
		check(fmt.Sprintf("count of rank %d", r), 6+r, in.tokens)
	}
	for r, offset := range offsets {
		check(fmt.Sprintf("offset %d", r), 6+ranks+r, offset)
	}
}

// verifyGather wants every rank's rows in their place, bit by bit, and nothing
// in rows without a token, or -1 where the program fills them.
func (ref *reference) verifyGather(t tensor, got []byte, offsets []int, v *verdict) {
	for r, in := range ref.inputs {
		want := t.input(in)
		have := got[offsets[r]*t.rowBytes:][:len(want)]
		if bytes.Equal(have, want) {
			continue
		}
		wrong, first := 0, -1
		for row := range in.tokens {
			if !bytes.Equal(have[row*t.rowBytes:][:t.rowBytes], want[row*t.rowBytes:][:t.rowBytes]) {
				if wrong++; first < 0 {
					first = row
				}
			}
		}
		at := firstDifference(have, want)
		v.fault("gathered %s: %d of rank %d's %d rows differ, first row %d at byte %d: %#02x, not %#02x%s",
			t.name, wrong, r, in.tokens, first, at-first*t.rowBytes, have[at], want[at], ref.explain(t, have[first*t.rowBytes:][:t.rowBytes]))
	}
	// Where one rank has nothing to do the gathered tensors are the inputs.
	pattern := byte(poison)
	if passesThrough(ref.prog, ref.prefill) {
		pattern = inputPoison
	}
	// Poison is -1 too: where it is filled in, the rows were zeroed before.
	for r := range offsets {
		from, to := offsets[r]*t.rowBytes, len(got)
		if r < len(ref.inputs) {
			from, to = from+len(t.input(ref.inputs[r])), offsets[r+1]*t.rowBytes
		}
		// Of an exchange that was passed through, no row past the last is looked at.
		from, to = min(from, len(got)), min(to, len(got))
		if fills := ref.prog.Fills && t.name == "routing"; fills {
			filled := min(to, len(ref.inputs)*ref.capacity*t.rowBytes)
			if at := notFilled(got[from:max(filled, from)], 0xff); at >= 0 {
				v.fault("gathered routing: row %d, without a token, is not filled with -1", (from+at)/t.rowBytes)
			}
			if from = max(filled, from); from < to && notFilled(got[from:to], 0) >= 0 {
				v.fault("gathered routing: a row past the capacity was written")
			}
			continue
		}
		if at := notFilled(got[from:to], pattern); at >= 0 {
			v.fault("gathered %s: row %d, past the last token, was written", t.name, (from+at)/t.rowBytes)
		}
	}
}

// explain guesses how a row came to hold what it holds.
func (ref *reference) explain(t tensor, row []byte) string {
	switch {
	case notFilled(row, poison) < 0:
		return " (never written)"
	case notFilled(row, inputPoison) < 0:
		return " (a row past a rank's tokens)"
	}
	for r, in := range ref.inputs {
		rows := t.input(in)
		for i := range in.tokens {
			if bytes.Equal(row, rows[i*t.rowBytes:][:t.rowBytes]) {
				return fmt.Sprintf(" (it is rank %d's row %d)", r, i)
			}
		}
	}
	return ""
}

func firstDifference(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}

// notFilled returns where p stops to consist of b, -1 if it does not.
func notFilled(p []byte, b byte) int {
	return slices.IndexFunc(p, func(x byte) bool { return x != b })
}
