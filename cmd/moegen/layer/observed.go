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
	step                   []byte // the Step's words: see stepWords
	routing, probs, hidden []byte // the first rows of the gathered tensors
	out                    []byte // the first rows of the combined output
	outPoisoned            bool   // out was filled with poison before the step
}

// stepWords are the words of a Step: total, max, local, epoch, the counts and
// the offsets.
func stepWords(ranks int) int { return 4 + ranks + ranks + 1 }

func word(p []byte, i int) int { return int(binary.LittleEndian.Uint32(p[4*i:])) }

// tensor is one of the three gathered tensors.
type tensor struct {
	name     string
	rowBytes int
	input    func(*input) []byte
	observed func(*observed) []byte
}

func tensors(p *moert.Program) [3]tensor {
	return [3]tensor{
		{"routing", p.RoutingRowBytes(), func(x *input) []byte { return x.routing }, func(o *observed) []byte { return o.routing }},
		{"probs", p.ProbsRowBytes(), func(x *input) []byte { return x.probs }, func(o *observed) []byte { return o.probs }},
		{"hidden", p.HiddenRowBytes(), func(x *input) []byte { return x.hidden }, func(o *observed) []byte { return o.hidden }},
	}
}
