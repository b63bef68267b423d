package layer

import (
	"math"

	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/spec"
)

// scale is what the demonstration kernel's expert multiplies by.
func scale(expert int) float64 { return float64(expert*7%25-12) * 0.125 }

// reference is what one layer of one step should give.
type reference struct {
	spec   *spec.Spec
	prog   *moert.Program
	owner  []int    // rank of each expert
	inputs []*input // by rank

	capacity int  // most tokens that a rank may have in an exchange
	prefill  bool // of a step outside graphs
}

// exchange is the part of the layer that travels in exchange i of n, as far as
// what is gathered goes.
func (ref *reference) exchange(i, n int) *reference {
	if n == 1 {
		return ref
	}
	part := *ref
	part.inputs = make([]*input, len(ref.inputs))
	for r, in := range ref.inputs {
		part.inputs[r] = in.rows(ref.prog, i*ref.capacity, (i+1)*ref.capacity)
	}
	return &part
}

// owners returns the rank of each expert.
func owners(s *spec.Spec) []int {
	s = Experts(s)
	owner := make([]int, s.NumExperts)
	for rank := range s.EPSize {
		first, count := s.LocalExperts(rank)
		for e := range count {
			owner[first+e] = rank
		}
	}
	return owner
}

// share is what one rank's experts do to a token.
type share struct {
	weight    float64 // sum of probability times scale
	magnitude float64 // sum of the same terms' magnitudes
	experts   int
}

// shares returns the shares in token t of rank's input, only of ranks that
// have any. buf is reused, and needs one share for each rank of the group.
func (ref *reference) shares(rank, t int, buf []share) []share {
	clear(buf)
	in, k := ref.inputs[rank], ref.prog.TopK
	for i := t * k; i < (t+1)*k; i++ {
		s := &buf[ref.owner[in.experts[i]]]
		term := in.weights[i] * scale(in.experts[i])
		s.weight += term
		s.magnitude += math.Abs(term)
		s.experts++
	}
	n := 0
	for _, s := range buf {
		if s.experts > 0 {
			buf[n] = s
			n++
		}
	}
	return buf[:n]
}

// element returns an element's exact sum, the error that its partial sums may
// have together, and their magnitudes with errors.
func element(h float64, shares []share, r rounding) (exact, carried, total float64) {
	for _, s := range shares {
		e := r.partial(h, s.weight, s.magnitude, s.experts)
		exact += h * s.weight
		carried += e
		total += math.Abs(h*s.weight) + e
	}
	return exact, carried, total
}
