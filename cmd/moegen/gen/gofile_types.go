package gen

import (
	"fmt"
	"strings"

	"github.com/dave/jennifer/jen"
)

// shape emits the model's constants.
func (g *goPackage) shape() {
	s := g.spec
	title := "The shape of " + s.Model + "'s exchange."
	doc(g, title)
	g.Const().DefsFunc(func(d *jen.Group) {
		add := func(name string, value int, what string) {
			d.Id(g.exported(name)).Op("=").Lit(value).Comment(what)
		}
		add("HiddenDim", s.HiddenDim, "elements of a token's hidden state")
		add("TopK", s.TopK, "experts that a token is routed to")
		if s.NumExperts > 0 {
			add("NumExperts", s.NumExperts, "routed experts, over all ranks")
		}
		add("EPSize", s.EPSize, "ranks of the expert-parallel group, one GPU each")
		add("MaxTokens", s.MaxTokens, "tokens that a rank brings to a step, at most")
		add("MaxGathered", s.EPSize*s.MaxTokens, "rows of a gathered tensor, at most")
	})
}

// tensor describes one of the tensor types.
type tensor struct {
	name, recv string
	shape      string
	what       string
}

func (g *goPackage) tensorTypes() []tensor {
	return append([]tensor{
		{"Hidden", "h", g.hidden("rows"), "the tokens' hidden states"},
		{"Probs", "p", g.probs("rows"), "the tokens' routing probabilities"},
		{"Routing", "r", g.routing("rows"), "the ids of the experts that the tokens are routed to"},
		{"Partial", "p", g.partial("rows"), "one rank's sums over its own experts"},
	}, g.combineTensors()...)
}

// tensors emits a type for each tensor. They are structs with an unexported
// field, so that those of two models neither assign nor convert to each other.
func (g *goPackage) tensors() {
	for _, t := range g.tensorTypes() {
		name := g.exported(t.name)
		doc(g, fmt.Sprintf("%s is %s in device memory: %s, rows without gaps, 16-byte aligned. It does not own the memory.", name, t.what, t.shape))
		g.Type().Id(name).Struct(jen.Id("t").Add(rt("Tensor")))
		g.Line()
		doc(g, fmt.Sprintf("%sAt is the %s that the caller keeps at ptr, on the rank's own GPU.", name, name))
		g.Func().Id(name+"At").Params(jen.Id("ptr").Add(rt("DevicePtr")), jen.Id("rows").Int()).Id(name).Block(
			jen.Return(jen.Id(name).Values(rt("Tensor").Values(jen.Id("Ptr").Op(":").Id("ptr"), jen.Id("Rows").Op(":").Id("rows")))))
		g.Line()
		recv := func() *jen.Statement { return jen.Id(t.recv).Id(name) }
		doc(g, "Ptr returns the address of the first row.")
		g.Func().Params(recv()).Id("Ptr").Params().Add(rt("DevicePtr")).Block(jen.Return(jen.Id(t.recv).Dot("t").Dot("Ptr")))
		g.Line()
		doc(g, "Rows returns how many rows there is room for.")
		g.Func().Params(recv()).Id("Rows").Params().Int().Block(jen.Return(jen.Id(t.recv).Dot("t").Dot("Rows")))
		g.Line()
	}
}

// exchangeTypes emits what goes into Dispatch and what comes out.
func (g *goPackage) exchangeTypes() {
	local, gathered := g.exported("Local"), g.exported("Gathered")
	field := func(name, comment string) jen.Code {
		return jen.Id(name).Id(g.exported(name)).Comment(strings.ReplaceAll(comment, glue, " "))
	}
	doc(g, fmt.Sprintf(`%s is what a rank brings to %s's Dispatch: its own T tokens, T as given to BeginStep.
Each tensor has at least T rows; where the host does not know T, at least the capacity.`, local, g.exported("Dispatcher")))
	g.Type().Id(local).Struct(
		field("Hidden", g.hidden("T")),
		field("Probs", g.probs("T")),
		field("Routing", g.routing("T")),
	)
	g.Line()
	doc(g, fmt.Sprintf(`%s is what Dispatch yields: the G tokens of all ranks, those of rank 0 first. The tensors are views of the dispatcher's buffers
with room for %s rows, of which the first G hold tokens, and are valid until the next Dispatch. G itself is in device memory, at Step.Total.`,
		gathered, g.exported("MaxGathered")))
	g.Type().Id(gathered).Struct(
		field("Hidden", g.hidden("G")),
		field("Probs", g.probs("G")),
		field("Routing", g.routing("G")),
		jen.Id("Step").Add(rt("Step")).Comment("where kernels find the step's token counts"),
	)
	g.Line()
}
