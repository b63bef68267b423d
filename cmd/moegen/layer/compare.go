package layer

import (
	"fmt"
	"math"

	moert "github.com/moegen/moegen/runtime"
)

// kept are the outputs of one step, [rank][layer], for Compare.
type kept struct {
	step    int // among all of the run's steps: what its inputs were made of
	outputs [][]results
}

// Comparison is how far two transports' results for the same inputs are apart.
// Both were verified, so their gathered tensors are equal bit by bit. So are their
// outputs, unless the switch adds up in one of them: those are sums in different
// orders and roundings of equal partial sums.
type Comparison struct {
	A        moert.Transport `json:"a"`
	B        moert.Transport `json:"b"`
	Elements int             `json:"elements"`
	Equal    int             `json:"equal"` // elements with the same bits
	// MaxULP is the largest difference, in units in the last place that the
	// wire's type has at the magnitude of the element.
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
	ra, rb := newRounding(c.Spec, c.Program, a.Transport, driverName), newRounding(c.Spec, c.Program, b.Transport, driverName)
	for i, k := range a.kept {
		counts := make([]int, c.Program.Ranks)
		for id, r := range a.Steps[i].Ranks {
			counts[id] = r.Tokens
		}
		for l, ref := range makeReferences(in, owner, c.Layers, k.step, counts, c.capacity(counts)) {
			for id := range counts {
				where := fmt.Sprintf("step %d layer %d rank %d", k.step, l, id)
				out.add(ref, id, where, k.outputs[id][l], b.kept[i].outputs[id][l], ra, rb)
			}
		}
	}
	return out, nil
}

// add compares one rank's results of one layer.
func (c *Comparison) add(ref *reference, id int, where string, a, b results, ra, rb rounding) {
	explained := ra.switched || rb.switched
	for t := range ref.inputs[id].tokens {
		other := ref.columns(id, t, &b, rb)
		for n, x := range ref.columns(id, t, &a, ra) {
			y := other[n]
			for i, va := range x.got {
				c.Elements++
				vb := y.got[i]
				if va == vb {
					c.Equal++
					continue
				}
				off, bound := math.Abs(va-vb), 0.0
				if explained {
					bound = (x.want[i].off + y.want[i].off) * slack
				}
				if math.IsNaN(off) {
					off = math.Inf(1)
				}
				c.MaxULP = max(c.MaxULP, number(off/(2*halfULP(ref.prog.Wire, x.want[i].magnitude()))))
				c.MaxOfBound = max(c.MaxOfBound, number(off/bound))
				if off > bound && len(c.Faults) < maxFaults {
					c.Faults = append(c.Faults, fmt.Sprintf("%s: %s: token %d element %d is %v over %s and %v over %s",
						where, x.name, t, i, va, c.A, vb, c.B))
				}
			}
		}
	}
}
