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
	routing, probs, hidden []byte // what the rank brings, as in device memory
	payload, scales        []byte // what Dispatch makes of hidden, if not the same, and its scales

	shared, residual, weight []byte // what combine's epilogue reads

	experts []int     // [tokens][topk], as in routing
	weights []float64 // [tokens][topk], exactly the numbers in probs
}

// inputs makes inputs. Equal seeds make equal inputs on every machine.
type inputs struct {
	spec   *spec.Spec
	prog   *moert.Program
	seed   uint64
	logits []float64 // by expert: how popular it is
}

// zipf is the exponent of the experts' popularity: the most popular one gets
// several times the tokens of the median, as in trained models.
const zipf = 0.8

func newInputs(s *spec.Spec, p *moert.Program, seed uint64) *inputs {
	in := &inputs{spec: s, prog: p, seed: seed, logits: make([]float64, Experts(s).NumExperts)}
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
		hidden:  make([]byte, tokens*p.InputRowBytes()),
		scales:  make([]byte, tokens*p.ScaleRowBytes()),
		experts: make([]int, tokens*p.TopK),
		weights: make([]float64, tokens*p.TopK),
	}
	x.fillHidden(p, rng)
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
	x.fillOperands(p, rng)
	return x
}

// fillHidden draws the hidden states, and computes what travels.
func (x *input) fillHidden(p *moert.Program, rng *rand.Rand) {
	n := x.tokens * p.HiddenDim
	x.payload = x.hidden
	switch {
	case p.GivenScales():
		for i := range x.hidden {
			x.hidden[i] = byte(rng.Uint32())
			if p.Input == moert.FP8 && x.hidden[i]&0x7f == 0x7f {
				x.hidden[i] = 0 // no NaN: experts have to make numbers of it
			}
		}
		for i := range n / p.ScaleBlock {
			putScale(x.scales, i, p.Scale, rng)
		}
		return
	case !p.Quantizes():
		for i := range n {
			put(x.hidden, i, p.Input, float32(rng.NormFloat64()))
		}
		return
	}
	x.payload = make([]byte, x.tokens*p.PayloadRowBytes())
	block := make([]float32, p.ScaleBlock)
	for b := range n / p.ScaleBlock {
		// Blocks of very different magnitude, so that a scale in the wrong place
		// shows; one in eight of zeros.
		magnitude := math.Exp2(float64(b%8*4 - 16))
		if b%8 == 7 {
			magnitude = 0
		}
		for e := range block {
			i := b*p.ScaleBlock + e
			put(x.hidden, i, p.Input, float32(rng.NormFloat64()*magnitude))
			block[e] = float32(get(x.hidden, i, p.Input))
		}
		scale := quantize(x.payload[b*p.ScaleBlock:][:p.ScaleBlock], block)
		put(x.scales, b, moert.FP32, scale)
	}
}

// rows returns what travels of rows from to to-1, as far as there are any.
func (x *input) rows(p *moert.Program, from, to int) *input {
	from, to = min(from, x.tokens), min(to, x.tokens)
	part := &input{tokens: to - from}
	for _, t := range []struct {
		to       *[]byte
		of       []byte
		rowBytes int
	}{
		{&part.routing, x.routing, p.RoutingRowBytes()}, {&part.probs, x.probs, p.ProbsRowBytes()},
		{&part.payload, x.payload, p.PayloadRowBytes()}, {&part.scales, x.scales, p.ScaleRowBytes()},
	} {
		*t.to = t.of[from*t.rowBytes : to*t.rowBytes]
	}
	return part
}

// value returns element i of what experts get, exactly.
func (x *input) value(p *moert.Program, i int) float64 {
	if p.ScaleBlock == 0 {
		return get(x.payload, i, p.Payload)
	}
	v := 0.0
	if p.Payload == moert.FP4 {
		v = fromE2M1(x.payload[i/2] >> (i % 2 * 4))
	} else {
		v = fromE4M3(x.payload[i])
	}
	return v * getScale(x.scales, i/p.ScaleBlock, p.Scale)
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
