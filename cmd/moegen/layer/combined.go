package layer

import (
	"math/rand/v2"

	moert "github.com/moegen/moegen/runtime"
)

// results are the first rows of what one Combine yielded.
type results struct {
	out, scales, sum []byte // scales and sum where the program has them
}

// output is one of the tensors that Combine yields.
type output struct {
	name     string
	rowBytes int
	bytes    func(*results) *[]byte
	into     func(*moert.CombineArgs) *moert.Tensor
	of       func(*moert.Combined) *moert.Tensor
}

func outputs(p *moert.Program) []output {
	all := []output{{"output", p.OutputRowBytes(), func(r *results) *[]byte { return &r.out },
		func(a *moert.CombineArgs) *moert.Tensor { return &a.Out }, func(c *moert.Combined) *moert.Tensor { return &c.Out }}}
	if bytes := p.OutputScaleRowBytes(); bytes > 0 {
		all = append(all, output{"scales of the output", bytes, func(r *results) *[]byte { return &r.scales },
			func(a *moert.CombineArgs) *moert.Tensor { return &a.Scales }, func(c *moert.Combined) *moert.Tensor { return &c.Scales }})
	}
	if p.Epilogue.Sum {
		all = append(all, output{"sum", p.HiddenRowBytes(), func(r *results) *[]byte { return &r.sum },
			func(a *moert.CombineArgs) *moert.Tensor { return &a.Sum }, func(c *moert.Combined) *moert.Tensor { return &c.Sum }})
	}
	return all
}

// operand is one of the tensors that combine's epilogue reads.
type operand struct {
	rowBytes int
	oneRow   bool // whatever the number of tokens
	input    func(*input) []byte
	in       func(*moert.CombineArgs) *moert.Tensor
}

func operands(p *moert.Program) []operand {
	var all []operand
	e := p.Epilogue
	if e.Shared {
		all = append(all, operand{p.HiddenRowBytes(), false, func(x *input) []byte { return x.shared }, func(a *moert.CombineArgs) *moert.Tensor { return &a.Shared }})
	}
	if e.Residual {
		all = append(all, operand{p.HiddenRowBytes(), false, func(x *input) []byte { return x.residual }, func(a *moert.CombineArgs) *moert.Tensor { return &a.Residual }})
	}
	if e.Norm != "" {
		all = append(all, operand{p.HiddenDim * e.Norm.Size(), true, func(x *input) []byte { return x.weight }, func(a *moert.CombineArgs) *moert.Tensor { return &a.Weight }})
	}
	return all
}

// fillOperands draws what the epilogue reads. Every rank has a weight of its own,
// so that another rank's is noticed.
func (x *input) fillOperands(p *moert.Program, rng *rand.Rand) {
	draw := func(n int, t moert.DType, f func() float64) []byte {
		b := make([]byte, n*t.Size())
		for i := range n {
			put(b, i, t, float32(f()))
		}
		return b
	}
	e := p.Epilogue
	if e.Shared {
		x.shared = draw(x.tokens*p.HiddenDim, p.Hidden, rng.NormFloat64)
	}
	if e.Residual {
		x.residual = draw(x.tokens*p.HiddenDim, p.Hidden, func() float64 { return 2 * rng.NormFloat64() })
	}
	if e.Norm != "" {
		x.weight = draw(p.HiddenDim, e.Norm, func() float64 { return 1 + rng.NormFloat64()/4 })
	}
}
