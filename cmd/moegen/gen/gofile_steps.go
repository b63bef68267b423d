package gen

import (
	"fmt"

	"github.com/dave/jennifer/jen"
)

// steps emits the operations of a step.
func (g *goPackage) steps() {
	local, gathered := g.exported("Local"), g.exported("Gathered")

	g.method("BeginStep", `BeginStep tells every rank, on the GPU, how many tokens each rank brings to the step: [moert.HostTokens] or [moert.DeviceTokens], which kernels read when they run, at each replay of a graph too. It comes before the step's first Dispatch, and is a launch that NextStep saves.`).
		Params(stream(), jen.Id("tokens").Add(rt("Tokens"))).Error().Block(
		jen.Return(core("BeginStep", jen.Id("stream"), jen.Id("tokens"))))
	g.Line()

	g.method("NextStep", `NextStep says how many tokens the rank brings to the next step, and launches nothing: the counts travel with the step's first Dispatch. Call it instead of BeginStep, unless kernels of yours need the counts before that.`).
		Params(jen.Id("tokens").Add(rt("Tokens"))).Error().Block(
		jen.Return(core("NextStep", jen.Id("tokens"))))
	g.Line()

	wrap := func(field, typ string) jen.Code {
		return jen.Id(field).Op(":").Id(g.exported(typ)).Values(jen.Id("g").Dot(field))
	}
	pass := func(field string) jen.Code { return jen.Id(field).Op(":").Add(raw("local", field)) }
	rows := []jen.Code{pass("Routing"), pass("Probs"), pass("Hidden")}
	results := []jen.Code{wrap("Hidden", g.gathers()), wrap("Probs", "Probs"), wrap("Routing", "Routing")}
	if g.brings() == "Quantized" {
		rows = append(rows, pass("Scales"))
	}
	if g.gathers() == "Quantized" {
		results = append(results, wrap("Scales", "Scales"))
	}
	g.method("Dispatch", `Dispatch gathers the tokens of all ranks on every rank. Its result holds them once the stream has come there; local's tensors must stay as they are until then.`).
		Params(stream(), jen.Id("local").Id(local)).Params(jen.Id(gathered), jen.Error()).Block(
		jen.List(jen.Id("g"), jen.Err()).Op(":=").Add(core("Dispatch", jen.Id("stream"), literal(rt("Rows"), rows...))),
		returnIfErr(jen.Id(gathered).Values()),
		jen.Return(literal(jen.Id(gathered), append(results, jen.Id("Step").Op(":").Id("g").Dot("Step"))...), jen.Nil()),
	)
	g.Line()

	g.combineMethods()
}

// raw is the tensor of package runtime within a typed one.
func raw(path ...string) jen.Code {
	s := jen.Id(path[0])
	for _, p := range path[1:] {
		s.Dot(p)
	}
	return s.Dot("t")
}

// literal is a composite literal with each field in a line.
func literal(of *jen.Statement, fields ...jen.Code) *jen.Statement {
	return of.Custom(jen.Options{Open: "{", Close: "}", Separator: ",", Multi: true}, fields...)
}

// buffers emits what allocates tensors.
func (g *goPackage) buffers() {
	partial := g.exported("Partial")
	g.method("PartialBuffer", fmt.Sprintf(`PartialBuffer is where experts should write their partial sums, %s: Combine reads them there without a copy.
Each token's row has to be written, with zeros where it chose none of the rank's experts, between Dispatch and Combine; the other ranks read it until Combine has ended.`, g.partial("G"))).
		Params().Id(partial).Block(jen.Return(jen.Id(partial).Values(core("PartialBuffer"))))
	g.Line()

	for _, t := range g.tensorTypes() {
		name, only := g.exported(t.name), ""
		if t.name == "NormWeight" {
			only = "; rows is 1"
		}
		g.method("New"+t.name, fmt.Sprintf(`New%s allocates %s on the rank's GPU, not cleared%s. The dispatcher frees it when it is closed.`, t.name, t.shape, only)).
			Params(jen.Id("rows").Int()).Params(jen.Id(name), jen.Error()).Block(
			jen.List(jen.Id("t"), jen.Err()).Op(":=").Add(core("NewTensor", jen.Id("rows"), t.row)),
			returnIfErr(jen.Id(name).Values()),
			jen.Return(jen.Id(name).Values(jen.Id("t")), jen.Nil()),
		)
		g.Line()
	}
}

// maxPrefill names the most tokens of a step outside graphs.
func (g *goPackage) maxPrefill() string {
	if g.spec.MaxPrefillTokens > 0 {
		return g.exported("MaxPrefillTokens")
	}
	return g.exported("MaxTokens")
}

// housekeeping emits the rest of the Dispatcher's methods.
func (g *goPackage) housekeeping() {
	g.method("SetCapacity", fmt.Sprintf(`SetCapacity says that until further notice no rank brings more than tokens tokens to a step, the same number on all ranks, 1 to %[1]s.
Kernels then run on as many blocks as that needs. A captured graph keeps the capacity it was captured with: capture one for each size of batch.
The default is %[1]s. A step is begun anew after it.`, g.exported("MaxTokens"))).
		Params(jen.Id("tokens").Int()).Error().Block(jen.Return(core("SetCapacity", jen.Id("tokens"))))
	g.Line()

	g.method("SetGraphed", fmt.Sprintf(`SetGraphed says how steps run from now on, the same on all ranks. In graphed mode, the default, a step begins with BeginStep or NextStep and may be captured.
Outside it a step begins with Prefill, brings up to %s tokens, which the host knows, and must not be captured; the capacity is %s then. A token's result has the same bits either way, but for the order of sums.`, g.maxPrefill(), g.exported("MaxTokens"))).
		Params(jen.Id("graphed").Bool()).Error().Block(jen.Return(core("SetGraphed", jen.Id("graphed"))))
	g.Line()

	g.method("Prefill", fmt.Sprintf(`Prefill begins a step outside graphs to which the rank brings so many tokens, and returns in how many exchanges they travel, the same number on all ranks.
For each layer do Dispatch, experts and Combine that often, always with the whole tensors: exchange i moves rows i*%[1]s to (i+1)*%[1]s-1 of each rank. It waits until all ranks have called it.`, g.exported("MaxTokens"))).
		Params(jen.Id("ctx").Qual("context", "Context"), jen.Id("tokens").Int()).Params(jen.Id("exchanges").Int(), jen.Err().Error()).Block(
		jen.Return(core("Prefill", jen.Id("ctx"), jen.Id("tokens"))))
	g.Line()

	g.method("Synchronize", `Synchronize waits for the stream and returns what went wrong in the steps on it: a [*moert.StepError] where a rank brought too many tokens and the step was not done, a [*moert.FailedError] or [*moert.RankError] where a rank was missing, after which all ranks need new dispatchers.`).
		Params(stream()).Error().Block(jen.Return(core("Synchronize", jen.Id("stream"))))
	g.Line()

	g.method("Close", `Close ends the rank's use of the dispatcher, when its steps have ended. The memory goes back when all ranks have closed theirs, since until then peers may use it.`).
		Params().Error().Block(jen.Return(core("Close")))
	g.Line()

	g.method("Core", `Core is the dispatcher without types, for what is the same for every model: new streams, the rank's device, with which the host reads and writes memory, its transport, and why others were refused.`).
		Params().Op("*").Add(rt("Dispatcher")).Block(jen.Return(jen.Id("d").Dot("core")))
	g.Line()
}
