package layer

import (
	"fmt"
	"math"

	moert "github.com/moegen/moegen/runtime"
)

// kept are the outputs of one step, [rank][layer], for Compare.
type kept struct {
	step    int // among all of the run's steps: what its inputs were made of
	outputs [][][]byte
}

// Comparison is how far two transports' results for the same inputs are apart.
// Both were verified, so their gathered tensors are equal bit by bit; their
// outputs are sums in different orders and roundings of equal partial sums.
type Comparison struct {
	A        moert.Transport `json:"a"`
	B        moert.Transport `json:"b"`
	Elements int             `json:"elements"`
	Equal    int             `json:"equal"` // elements with the same bits
	// MaxULP is the largest difference, in units in the last place that the
	// wire's type has at the magnitude of the element's partial sums.
	MaxULP number `json:"max_wire_ulp"`
	// MaxOfBound is the largest difference over what the transports' ways of
	// rounding explain; more than 1 is a fault.
	MaxOfBound number   `json:"max_of_bound"`
	Faults     []string `json:"faults,omitempty"`
}

// OK says that rounding explains all differences.
func (c *Comparison) OK() bool { return len(c.Faults) == 0 }

// Compare compares the outputs of two runs of one configuration, with Keep,
// that differ in transport.
func Compare(a, b *Result, driverName string) (*Comparison, error) {
	if len(a.kept) != len(b.kept) || len(a.kept) == 0 {
		return nil, fmt.Errorf("compare: runs of %d and %d kept steps", len(a.kept), len(b.kept))
	}
	c := a.config
	out := &Comparison{A: a.Transport, B: b.Transport}
	in, owner := newInputs(c.Spec, c.Program, c.Seed), owners(c.Spec)
	ra, rb := newRounding(c.Program, a.Transport, driverName), newRounding(c.Program, b.Transport, driverName)
	for i, k := range a.kept {
		counts := make([]int, c.Program.Ranks)
		for id, r := range a.Steps[i].Ranks {
			counts[id] = r.Tokens
		}
		for l, ref := range makeReferences(in, owner, c.Layers, k.step, counts, c.Capacity) {
			for id := range counts {
				where := fmt.Sprintf("step %d layer %d rank %d", k.step, l, id)
				out.add(ref, id, where, k.outputs[id][l], b.kept[i].outputs[id][l], ra, rb)
			}
		}
	}
	return out, nil
}

// add compares one rank's output of one layer.
func (c *Comparison) add(ref *reference, id int, where string, a, b []byte, ra, rb rounding) {
	in, p := ref.inputs[id], ref.prog
	buf := make([]share, p.Ranks)
	for t := range in.tokens {
		shares := ref.shares(id, t, buf)
		for i := t * p.HiddenDim; i < (t+1)*p.HiddenDim; i++ {
			c.Elements++
			va, vb := get(a, i, p.Hidden), get(b, i, p.Hidden)
			if va == vb {
				c.Equal++
				continue
			}
			exact, carried, total := element(get(in.hidden, i, p.Hidden), shares, ra)
			// The partial sums are the same numbers in both runs: only what
			// comes after them can differ.
			sum := math.Abs(exact) + carried
			bound := (ra.sum(sum, 0, total) + rb.sum(sum, 0, total)) * slack
			off := math.Abs(va - vb)
			if math.IsNaN(off) {
				off = math.Inf(1)
			}
			c.MaxULP = max(c.MaxULP, number(off/(2*halfULP(p.Wire, total))))
			c.MaxOfBound = max(c.MaxOfBound, number(off/bound))
			if off > bound && len(c.Faults) < maxFaults {
				c.Faults = append(c.Faults, fmt.Sprintf("%s: token %d element %d is %v over %s and %v over %s",
					where, t, i-t*p.HiddenDim, va, c.A, vb, c.B))
			}
		}
	}
}
