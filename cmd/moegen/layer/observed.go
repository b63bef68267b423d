package layer

import (
	"encoding/binary"

	moert "github.com/moegen/moegen/runtime"
)

// What memory holds before a step. All bytes set make a NaN of every floating
// point format and an expert that does not exist, so that a sum over memory
// that nobody wrote shows.
const (
	poison      = 0xff
	inputPoison = 0xcd // rows past the tokens of an input: nobody may send them
)

// observed is what one rank had after one layer, as read back from its device.
type observed struct {
	gathered []gathered // by exchange: several only in a prefill
	results
	outPoisoned bool // the results were filled with poison before the step
}

// gathered is what a rank had after one Dispatch.
type gathered struct {
	step                   []byte // the Step's words: see stepWords
	routing, probs, hidden []byte // the first rows of the gathered tensors
	scales                 []byte // likewise, where hidden states have scales
}

// stepWords are the words of a Step: total, max, local, epoch, tokens, capacity,
// the counts and the offsets.
func stepWords(ranks int) int { return 6 + ranks + ranks + 1 }

func word(p []byte, i int) int { return int(binary.LittleEndian.Uint32(p[4*i:])) }

// tensor is one of the gathered tensors.
type tensor struct {
	name     string
	rowBytes int
	input    func(*input) []byte // what of a rank's input should be gathered
	observed func(*gathered) *[]byte
	rows     func(*moert.Rows) *moert.Tensor
}

func tensors(p *moert.Program) []tensor {
	all := []tensor{
		{"routing", p.RoutingRowBytes(), func(x *input) []byte { return x.routing },
			func(g *gathered) *[]byte { return &g.routing }, func(r *moert.Rows) *moert.Tensor { return &r.Routing }},
		{"probs", p.ProbsRowBytes(), func(x *input) []byte { return x.probs },
			func(g *gathered) *[]byte { return &g.probs }, func(r *moert.Rows) *moert.Tensor { return &r.Probs }},
		{"hidden", p.PayloadRowBytes(), func(x *input) []byte { return x.payload },
			func(g *gathered) *[]byte { return &g.hidden }, func(r *moert.Rows) *moert.Tensor { return &r.Hidden }},
	}
	if p.ScaleBlock > 0 {
		all = append(all, tensor{"scales", p.ScaleRowBytes(), func(x *input) []byte { return x.scales },
			func(g *gathered) *[]byte { return &g.scales }, func(r *moert.Rows) *moert.Tensor { return &r.Scales }})
	}
	return all
}

// brought is one of the tensors that a rank brings to Dispatch.
type brought struct {
	rowBytes int
	input    func(*input) []byte
	rows     func(*moert.Rows) *moert.Tensor
}

func broughtTensors(p *moert.Program) []brought {
	var all []brought
	for _, t := range tensors(p) {
		switch {
		case t.name == "hidden":
			all = append(all, brought{p.InputRowBytes(), func(x *input) []byte { return x.hidden }, t.rows})
		case t.name != "scales" || p.GivenScales():
			all = append(all, brought{t.rowBytes, t.input, t.rows})
		}
	}
	return all
}
