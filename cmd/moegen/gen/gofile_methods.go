package gen

import (
	"fmt"

	"github.com/dave/jennifer/jen"
)

// dispatcher emits the Dispatcher and its constructor.
func (g *goPackage) dispatcher() {
	name := g.exported("Dispatcher")
	about := ""
	if g.prefix != "" { // there is no package comment that says it
		about = fmt.Sprintf("It moves the tokens of %s's layers %s.\n\n", g.spec.Model, g.gpus())
	}
	doc(g, fmt.Sprintf(`%s is one rank's end of the exchange. %sA step is NextStep or BeginStep, then Dispatch and Combine in turn, once a layer.
These only enqueue kernels on the stream: they neither wait nor allocate, and may be captured into a graph (stream.BeginCapture) and replayed with other token counts.
All ranks enqueue the same operations in the same order, each on one stream.
A call out of turn, or with a tensor that does not do, is an error before anything is launched; what goes wrong on the GPU is what Synchronize returns. A %s may be used by one goroutine at a time.`, name, about, name))
	g.Type().Id(name).Struct(jen.Id("core").Op("*").Add(rt("Dispatcher")))
	g.Line()

	constructor := g.constructor("Dispatcher")
	doc(g, fmt.Sprintf(`%s builds a rank's dispatcher. All ranks of the group, which has %s, call it, each in a goroutine or process of its own;
it succeeds on all of them or on none. It allocates everything that steps need and must not be called inside a capture. Options are [moert.WithTransport], [moert.WithTimeout] and others. Close it when it is no longer needed.`,
		constructor, g.exported("EPSize")))
	g.Func().Id(constructor).Params(
		jen.Id("ctx").Qual("context", "Context"), jen.Id("group").Add(rt("Group")), jen.Id("rank").Int(), jen.Id("opts").Op("...").Add(rt("Option")),
	).Params(jen.Op("*").Id(name), jen.Error()).Block(
		jen.List(jen.Id("core"), jen.Err()).Op(":=").Add(rt("NewDispatcher")).Call(
			jen.Id("ctx"), jen.Id("group"), jen.Id("rank"), jen.Id(g.private("program")), jen.Id("opts").Op("...")),
		returnIfErr(jen.Nil()),
		jen.Return(jen.Op("&").Id(name).Values(jen.Id("core").Op(":").Id("core")), jen.Nil()),
	)
	g.Line()
}

func returnIfErr(value jen.Code) jen.Code {
	return jen.If(jen.Err().Op("!=").Nil()).Block(jen.Return(value, jen.Err()))
}

// method starts a method of the Dispatcher, behind its doc comment.
func (g *goPackage) method(name, text string) *jen.Statement {
	doc(g, text)
	return g.Func().Params(jen.Id("d").Op("*").Id(g.exported("Dispatcher"))).Id(name)
}

func core(method string, args ...jen.Code) *jen.Statement {
	return jen.Id("d").Dot("core").Dot(method).Call(args...)
}

func stream() jen.Code { return jen.Id("stream").Add(rt("Stream")) }
