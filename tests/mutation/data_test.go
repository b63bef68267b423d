package mutation

import (
	"encoding/binary"
	"math"
	"math/rand/v2"

	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/spec"
)

// The numbers are such that no sum or product needs rounding, in whatever order
// and precision it is made: hidden states are powers of two, probabilities are
// 1 to 3 of either sign, and the experts' factors are at most 12 eighths. A
// token's weight is then at most 180 eighths, which bf16 holds exactly, and so
// what a layer computes is known to the bit.

// rows are what one rank brings to one layer of one step, as in memory, and
// what it should get back.
type rows struct {
	routing, probs, hidden []byte
	out                    []byte
}

// makeRows makes the rows of a rank. Each step, layer and rank has its own, so
// that rows of another one are noticed.
func makeRows(s *spec.Spec, p *moert.Program, step, layer, rank, tokens int) *rows {
	rng := rand.New(rand.NewPCG(uint64(step)<<16|uint64(layer)<<8|uint64(rank), 7))
	r := &rows{}
	owner := make([]int, s.NumExperts)
	for rank := range p.Ranks {
		first, n := s.LocalExperts(rank)
		for e := range n {
			owner[first+e] = rank
		}
	}
	for range tokens {
		weight := make([]float32, p.Ranks) // of each rank's experts
		for _, e := range rng.Perm(s.NumExperts)[:p.TopK] {
			prob := float32(1 + rng.IntN(3))
			if rng.IntN(2) == 0 {
				prob = -prob
			}
			r.routing = binary.LittleEndian.AppendUint32(r.routing, uint32(e))
			r.probs = binary.LittleEndian.AppendUint32(r.probs, math.Float32bits(prob))
			weight[owner[e]] += prob * float32(e*7%25-12) / 8
		}
		for range p.HiddenDim {
			h := math.Float32frombits(uint32(rng.IntN(2))<<31 | uint32(120+rng.IntN(16))<<23)
			r.hidden = appendBF16(r.hidden, h)
			sum := float32(0)
			for _, w := range weight {
				sum += w * h
			}
			r.out = appendBF16(r.out, sum)
		}
	}
	return r
}

// appendBF16 appends a number that bf16 holds exactly.
func appendBF16(b []byte, f float32) []byte {
	return binary.LittleEndian.AppendUint16(b, uint16(math.Float32bits(f)>>16))
}

// gathered is what every rank should have after a dispatch, tensor by tensor.
func gathered(all []*rows) [3][]byte {
	var g [3][]byte
	for _, r := range all {
		for i, t := range r.tensors() {
			g[i] = append(g[i], t...)
		}
	}
	return g
}

func (r *rows) tensors() [3][]byte { return [3][]byte{r.routing, r.probs, r.hidden} }

// stepWords is the Step that every rank should have.
func stepWords(counts []int, rank int, epoch uint32, capacity int) []uint32 {
	total, most := 0, 0
	var offsets []uint32
	for _, n := range counts {
		offsets = append(offsets, uint32(total))
		total, most = total+n, max(most, n)
	}
	w := []uint32{uint32(total), uint32(most), uint32(counts[rank]), epoch, uint32(total), uint32(capacity)}
	for _, n := range counts {
		w = append(w, uint32(n))
	}
	return append(append(w, offsets...), uint32(total))
}
