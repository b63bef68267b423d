package gen

import (
	"fmt"
	"strings"

	"github.com/dave/jennifer/jen"

	"github.com/moegen/moegen/spec"
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
		if s.MaxPrefillTokens > 0 {
			add("MaxPrefillTokens", s.MaxPrefillTokens, "tokens that a rank brings to a step outside graphs, at most")
		}
		add("MaxGathered", s.EPSize*s.MaxTokens, "rows of a gathered tensor, at most")
	})
}

// tensor describes one of the tensor types.
type tensor struct {
	name, recv string
	shape      string
	what       string
	row        jen.Code // bytes of a row
	bytes      int      // the same
}

// tensorTypes are the types of the tensors, each once.
func (g *goPackage) tensorTypes() []tensor {
	s := g.spec
	bytes := func(width string, t spec.DType) jen.Code { return jen.Id(g.exported(width)).Op("*").Lit(t.Size()) }
	all := []tensor{
		{"Hidden", "h", g.hidden("rows"), "the tokens' hidden states", bytes("HiddenDim", s.DType), s.HiddenRowBytes()},
		{"Probs", "p", g.probs("rows"), "the tokens' routing probabilities, in the order of Routing", bytes("TopK", s.ProbsDType), s.ProbsRowBytes()},
		{"Routing", "r", g.routing("rows"), "the ids of the experts that the tokens are routed to", bytes("TopK", s.RoutingDType), s.RoutingRowBytes()},
		{"Partial", "p", g.partial("rows"), "one rank's sums over its own experts", bytes("HiddenDim", s.Combine.Wire), s.WireRowBytes()},
	}
	if t, block := s.GatheredScale(); block > 0 {
		payload := bytes("HiddenDim", s.PayloadDType())
		if s.PayloadDType() == spec.FP4 {
			payload = jen.Id(g.exported("HiddenDim")).Op("/").Lit(2)
		}
		all = append(all,
			tensor{"Quantized", "q", g.payload("rows"), "the tokens' quantised hidden states", payload, s.PayloadRowBytes()},
			tensor{"Scales", "s", g.scales("rows"), fmt.Sprintf("what Quantized has to be multiplied by, one factor for every %d elements of a row", block),
				jen.Id(g.exported("HiddenDim")).Op("/").Lit(block).Op("*").Lit(t.Size()), s.ScaleRowBytes()})
	}
	return append(all, g.combineTensors()...)
}

// tensors emits a type for each tensor. They are structs with an unexported
// field, so that those of two models neither assign nor convert to each other.
func (g *goPackage) tensors() {
	for _, t := range g.tensorTypes() {
		name := g.exported(t.name)
		doc(g, fmt.Sprintf("%s is %s, in device memory: %s, %d bytes a row without gaps, the first 16-byte aligned. It does not own the memory.", name, t.what, t.shape, t.bytes))
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

// exchangeTypes emits what goes into and comes out of Dispatch.
func (g *goPackage) exchangeTypes() {
	local, gathered := g.exported("Local"), g.exported("Gathered")
	fields := func(in, rows string) []jen.Code {
		field := func(name, typ, comment string) jen.Code {
			return jen.Id(name).Id(g.exported(typ)).Comment(strings.ReplaceAll(comment, glue, " "))
		}
		var fields []jen.Code
		if in == "Quantized" {
			fields = append(fields, field("Hidden", in, g.payload(rows)), field("Scales", "Scales", g.scales(rows)))
		} else {
			fields = append(fields, field("Hidden", in, g.hidden(rows)))
		}
		return append(fields, field("Probs", "Probs", g.probs(rows)), field("Routing", "Routing", g.routing(rows)))
	}
	doc(g, fmt.Sprintf(`%s is what a rank brings to %s's Dispatch: its own T tokens, T as given to NextStep or BeginStep, in the first rows of tensors
that have at least as many rows as the capacity: %s, unless SetCapacity has said less. After Prefill T rows are enough.`,
		local, g.exported("Dispatcher"), g.exported("MaxTokens")))
	g.Type().Id(local).Struct(fields(g.brings(), "T")...)
	g.Line()
	order := "those of rank 0 first"
	if g.spec.Layout == spec.Padded {
		order = "rank r's from row r times the capacity on, with padding behind them"
	}
	if g.spec.RoutingFill == spec.FillMinusOne {
		order += "; the routing of rows without a token is -1"
	}
	doc(g, fmt.Sprintf(`%s is what Dispatch yields: the G tokens of all ranks, %s. The tensors are views of the dispatcher's buffers
with room for %s rows and are valid until the next Dispatch. How many rows to look at is in device memory, a uint32 at Step.Total.`,
		gathered, order, g.exported("MaxGathered")))
	g.Type().Id(gathered).Struct(append(fields(g.gathers(), "G"),
		jen.Id("Step").Add(rt("Step")).Comment("where kernels find the step's token counts"))...)
	g.Line()
}

// brings and gathers name the type of hidden states that a rank brings to
// Dispatch and that it gets.
func (g *goPackage) brings() string {
	if g.spec.Dispatch.Input != "" {
		return "Quantized"
	}
	return "Hidden"
}

func (g *goPackage) gathers() string {
	if _, block := g.spec.GatheredScale(); block > 0 {
		return "Quantized"
	}
	return "Hidden"
}
