package layer

import (
	"math"
	"math/rand/v2"

	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/spec"
)

// input is what one rank brings to one layer of one step.
type input struct {
	tokens                 int
	routing, probs, hidden []byte // as in device memory

	experts []int     // [tokens][topk], as in routing
	weights []float64 // [tokens][topk], exactly the numbers in probs
}

// inputs makes inputs. Equal seeds make equal inputs on every machine.
type inputs struct {
	prog   *moert.Program
	seed   uint64
	logits []float64 // by expert: how popular it is
}

// zipf is the exponent of the experts' popularity: the most popular one gets
// several times the tokens of the median, as in trained models.
const zipf = 0.8

func newInputs(s *spec.Spec, p *moert.Program, seed uint64) *inputs {
	in := &inputs{prog: p, seed: seed, logits: make([]float64, Experts(s).NumExperts)}
	rng := rand.New(rand.NewPCG(seed, 0))
	for place, expert := range rng.Perm(len(in.logits)) {
		in.logits[expert] = -zipf * math.Log(float64(place+1))
	}
	return in
}

// make makes the input of a rank. Every step, layer and rank has its own, so
// that rows of another one are noticed.
func (in *inputs) make(step, layer, rank, tokens int) *input {
	p := in.prog
	rng := rand.New(rand.NewPCG(in.seed, uint64(step+1)<<32|uint64(layer)<<16|uint64(rank)))
	x := &input{
		tokens:  tokens,
		routing: make([]byte, tokens*p.RoutingRowBytes()),
		probs:   make([]byte, tokens*p.ProbsRowBytes()),
		hidden:  make([]byte, tokens*p.HiddenRowBytes()),
		experts: make([]int, tokens*p.TopK),
		weights: make([]float64, tokens*p.TopK),
	}
	for i := range tokens * p.HiddenDim {
		put(x.hidden, i, p.Hidden, float32(rng.NormFloat64()))
	}
	scores := make([]float64, len(in.logits))
	chosen := make([]float64, p.TopK)
	for t := range tokens {
		in.route(rng, scores, x.experts[t*p.TopK:][:p.TopK], chosen)
		softmax(chosen)
		for k, prob := range chosen {
			i := t*p.TopK + k
			putInt(x.routing, i, p.Routing, x.experts[i])
			put(x.probs, i, p.Probs, float32(prob))
			x.weights[i] = get(x.probs, i, p.Probs)
		}
	}
	return x
}

// route draws topk different experts with the Gumbel trick: the largest of
// logit + noise are a sample without replacement by popularity. It leaves
// their scores in chosen, largest first.
func (in *inputs) route(rng *rand.Rand, scores []float64, experts []int, chosen []float64) {
	for e, l := range in.logits {
		scores[e] = l - math.Log(rng.ExpFloat64())
	}
	for k := range experts {
		best := 0
		for e, s := range scores {
			if s > scores[best] {
				best = e
			}
		}
		experts[k], chosen[k] = best, scores[best]
		scores[best] = math.Inf(-1)
	}
}

func softmax(x []float64) {
	largest, sum := x[0], 0.0
	for _, v := range x {
		largest = max(largest, v)
	}
	for i, v := range x {
		x[i] = math.Exp(v - largest)
		sum += x[i]
	}
	for i := range x {
		x[i] /= sum
	}
}
