package layer

import (
	"math"

	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/spec"
)

// bounded is what a number should be, and by how much the kernels' may be off.
type bounded struct{ exact, off float64 }

func (b bounded) magnitude() float64 { return math.Abs(b.exact) + b.off }

// rounded is b after one more rounding, to t.
func (b bounded) rounded(t moert.DType) bounded {
	return bounded{b.exact, b.off + halfULP(t, b.magnitude())}
}

// plus and times are b after an operation with an exact number, in fp32.
func (b bounded) plus(x float64) bounded {
	return bounded{b.exact + x, b.off}.rounded(moert.FP32)
}

func (b bounded) times(x float64) bounded {
	return bounded{b.exact * x, b.off * math.Abs(x)}.rounded(moert.FP32)
}

// row is what combine should make of token t of a rank, in fp32: the output
// before it is rounded to its type, and the row before RMSNorm, which is the same
// where there is none.
func (ref *reference) row(rank, t int, r rounding) (out, sum []bounded) {
	in, p, c := ref.inputs[rank], ref.prog, &ref.spec.Combine
	shares := ref.shares(rank, t, make([]share, p.Ranks))
	sum = make([]bounded, p.HiddenDim)
	for e := range sum {
		i := t*p.HiddenDim + e
		exact, carried, total := element(in.value(p, i), shares, r)
		x := bounded{exact, carried + r.sum(math.Abs(exact), carried, total)}
		if p.Epilogue.Shared {
			x = x.plus(get(in.shared, i, p.Hidden))
		}
		if c.Has(spec.Scale) {
			x = x.times(float64(float32(c.Scale)))
		}
		if p.Epilogue.Residual {
			x = x.plus(get(in.residual, i, p.Hidden))
		}
		sum[e] = x
	}
	if p.Epilogue.Norm == "" {
		return sum, sum
	}
	return ref.normalise(in, sum), sum
}

// normalise is RMSNorm: x / sqrt(mean(x^2) + eps) * weight.
//
// The squares are summed with one rounding for each of a thread's elements, one
// for each of five exchanges in a warp and one for each warp: with those of the
// mean and of eps no element goes through more than k. Then come a root, a
// division and two products.
func (ref *reference) normalise(in *input, x []bounded) []bounded {
	p, n := ref.prog, float64(len(x))
	const unit = 8 // elements that a thread has at once, at most
	perThread := unit * ((p.HiddenDim + unit*p.Threads - 1) / (unit * p.Threads))
	k := perThread + 5 + p.Threads/32 + 2
	squares, off := 0.0, 0.0
	for _, b := range x {
		squares += b.exact * b.exact
		off += (2*math.Abs(b.exact)+b.off)*b.off + gamma(k)*b.magnitude()*b.magnitude()
	}
	eps := float64(float32(ref.spec.Combine.RMSNorm.Eps))
	mean := squares/n + eps
	least := mean - off/n - gamma(2)*mean
	factor := bounded{exact: 1 / math.Sqrt(mean), off: math.Inf(1)}
	if least > 0 {
		factor.off = (1+gamma(3))/math.Sqrt(least) - factor.exact
	}
	out := make([]bounded, len(x))
	for i, b := range x {
		scaled := bounded{b.exact * factor.exact, b.magnitude()*factor.off + b.off*factor.exact}
		out[i] = scaled.rounded(moert.FP32).times(get(in.weight, i, p.Epilogue.Norm))
	}
	return out
}

// column is one row of one of the tensors that Combine yields.
type column struct {
	name string
	got  []float64
	want []bounded
}

// columns are what Combine yielded of a rank's token, and what it should have.
func (ref *reference) columns(rank, token int, o *results, r rounding) []column {
	p := ref.prog
	out, sum := ref.row(rank, token, r)
	read := func(rows []byte, t moert.DType) []float64 {
		got := make([]float64, p.HiddenDim)
		for i := range got {
			got[i] = get(rows, token*p.HiddenDim+i, t)
		}
		return got
	}
	round := func(row []bounded, t moert.DType) []bounded {
		if r.stored || t == moert.FP32 {
			return row
		}
		rounded := make([]bounded, len(row))
		for i, b := range row {
			rounded[i] = b.rounded(t)
		}
		return rounded
	}
	var all []column
	switch t := p.Epilogue.Output; t {
	case moert.FP8:
		all = quantised(p, token, o, out)
	case "":
		all = []column{{"output", read(o.out, p.Hidden), round(out, p.Hidden)}}
	default:
		all = []column{{"output", read(o.out, t), round(out, t)}}
	}
	if p.Epilogue.Sum {
		all = append(all, column{"sum", read(o.sum, p.Hidden), round(sum, p.Hidden)})
	}
	return all
}

// quantised are the columns of an fp8 output. The scale of a block follows from
// the largest magnitude that its elements may have, and the elements are as near
// as that scale lets them be.
func quantised(p *moert.Program, token int, o *results, row []bounded) []column {
	blocks := len(row) / quantBlock
	scales := column{"scales of the output", make([]float64, blocks), make([]bounded, blocks)}
	out := column{"output", make([]float64, len(row)), make([]bounded, len(row))}
	for b := range blocks {
		least, most := 1e-4, 1e-4
		for _, w := range row[b*quantBlock:][:quantBlock] {
			least, most = max(least, math.Abs(w.exact)-w.off), max(most, w.magnitude())
		}
		scale := get(o.scales, token*blocks+b, moert.FP32)
		scales.got[b] = scale
		scales.want[b] = bounded{(least + most) / 2 / 448, (most-least)/2/448 + most/448*gamma(2)}
		for i := b * quantBlock; i < (b+1)*quantBlock; i++ {
			w := row[i]
			// The product with the factor, the factor and the scale are rounded too.
			w.off += scale*halfULP(moert.FP8, w.magnitude()/scale*(1+gamma(4))) + w.magnitude()*gamma(4)
			out.got[i], out.want[i] = fromE4M3(o.out[token*len(row)+i])*scale, w
		}
	}
	return []column{scales, out}
}

// verifyCombined compares what Combine yielded with what it should have.
func (ref *reference) verifyCombined(rank int, o *observed, r rounding, v *verdict) {
	in := ref.inputs[rank]
	for token := range in.tokens {
		for _, c := range ref.columns(rank, token, &o.results, r) {
			for i, got := range c.got {
				v.element(c.name, token, i, got, c.want[i])
			}
		}
	}
	for _, t := range outputs(ref.prog) {
		rows := *t.bytes(&o.results)
		if at := notFilled(rows[in.tokens*t.rowBytes:], poison); o.outPoisoned && at >= 0 {
			v.fault("%s: row %d, past the last token, was written", t.name, in.tokens+at/t.rowBytes)
		}
	}
}

func (v *verdict) element(name string, token, i int, got float64, want bounded) {
	off, bound := math.Abs(got-want.exact), want.off*slack
	if !(off <= bound) { // a NaN is neither more nor less
		v.fault("%s: token %d element %d is %v, not %v: off by %.3g, rounding explains %.3g", name, token, i, got, want.exact, off, bound)
	}
	if math.IsNaN(off) {
		off = math.Inf(1)
	}
	v.units, v.absolute = max(v.units, off/bound), max(v.absolute, off)
}
