package gen

import (
	"fmt"
	"strings"

	"github.com/dave/jennifer/jen"

	"github.com/moegen/moegen/spec"
)

// fused says whether combine does more than to add up.
func (g *goPackage) fused() bool {
	return len(g.spec.Combine.Epilogue) > 0 || g.spec.Combine.Output != g.spec.DType
}

// outputType is the Go type of combine's output, without the prefix.
func (g *goPackage) outputType() string {
	if g.spec.Combine.Output == g.spec.DType {
		return "Hidden"
	}
	return "Output"
}

func (g *goPackage) output(rows string) string {
	t := g.spec.Combine.Output
	if t == spec.FP8Block128 {
		t = spec.FP8
	}
	return shapeOf(rows, g.spec.HiddenDim, t)
}

func (g *goPackage) outputScales(rows string) string {
	return shapeOf(rows, g.spec.OutputScaleRowBytes()/4, spec.FP32)
}

func (g *goPackage) weight() string {
	return shapeOf("1", g.spec.HiddenDim, g.spec.Combine.RMSNorm.Weight)
}

// combineField is a field of one of the structs of combine.
type combineField struct {
	name, typ string // typ without the prefix
	comment   string
}

// operandFields are what combine reads beside partial sums.
func (g *goPackage) operandFields() []combineField {
	var list []combineField
	c := &g.spec.Combine
	if c.Has(spec.AddShared) {
		list = append(list, combineField{"Shared", "Hidden", g.hidden("T") + ": the shared expert's output"})
	}
	if c.Has(spec.Residual) {
		list = append(list, combineField{"Residual", "Hidden", g.hidden("T") + ": the residual stream"})
	}
	if c.Has(spec.RMSNorm) {
		list = append(list, combineField{"Weight", "NormWeight", g.weight() + ": of RMSNorm"})
	}
	return list
}

// resultFields are what combine writes.
func (g *goPackage) resultFields() []combineField {
	list := []combineField{{"Out", g.outputType(), g.output("T")}}
	if g.spec.OutputScaleRowBytes() > 0 {
		list = append(list, combineField{"Scales", "OutputScales", g.outputScales("T") + ": of Out"})
	}
	if g.spec.WritesSum() {
		list = append(list, combineField{"Sum", "Hidden", g.hidden("T") + ": the row before " + g.sumBefore()})
	}
	return list
}

func (g *goPackage) sumBefore() string {
	if g.spec.Combine.Has(spec.RMSNorm) {
		return "RMSNorm, the new residual stream"
	}
	return "the last rounding, the new residual stream"
}

// combineTensors are the tensor types that only combine has.
func (g *goPackage) combineTensors() []tensor {
	var list []tensor
	bytes := func(t spec.DType) jen.Code { return jen.Id(g.exported("HiddenDim")).Op("*").Lit(t.Size()) }
	if g.outputType() == "Output" {
		list = append(list, tensor{"Output", "o", g.output("rows"), "what combine yields of the tokens", bytes(g.spec.Combine.Output), g.spec.OutputRowBytes()})
	}
	if g.spec.OutputScaleRowBytes() > 0 {
		list = append(list, tensor{"OutputScales", "s", g.outputScales("rows"), "what Output has to be multiplied by, one factor for every 128 elements of a row",
			jen.Id(g.exported("HiddenDim")).Op("/").Lit(128).Op("*").Lit(4), g.spec.OutputScaleRowBytes()})
	}
	if g.spec.Combine.Has(spec.RMSNorm) {
		list = append(list, tensor{"NormWeight", "w", g.weight(), "RMSNorm's weight, one row", bytes(g.spec.Combine.RMSNorm.Weight), g.spec.HiddenDim * g.spec.Combine.RMSNorm.Weight.Size()})
	}
	return list
}

// combineTypes emits what goes into combine and what comes out, where it is more
// than one tensor.
func (g *goPackage) combineTypes() {
	if !g.fused() {
		return
	}
	structOf := func(name, text string, fields []combineField) {
		doc(g, text)
		var list []jen.Code
		for _, f := range fields {
			list = append(list, jen.Id(f.name).Id(g.exported(f.typ)).Comment(strings.ReplaceAll(f.comment, glue, " ")))
		}
		g.Type().Id(name).Struct(list...)
		g.Line()
	}
	if fields := g.operandFields(); len(fields) > 0 {
		name := g.exported("Epilogue")
		structOf(name, fmt.Sprintf(`%s is what Combine works on the sums with, all of it required. Rows are of the rank's own T tokens,
in tensors with at least as many rows as the capacity; after Prefill T rows are enough.`, name), fields)
	}
	name := g.exported("Combined")
	structOf(name, fmt.Sprintf("%s is what Combine yields of the rank's own T tokens.", name), g.resultFields())
}

// epilogueText says what becomes of a sum.
func (g *goPackage) epilogueText() string {
	c := &g.spec.Combine
	var steps []string
	for _, e := range c.Epilogue {
		switch e {
		case spec.AddShared:
			steps = append(steps, "adds Shared")
		case spec.Scale:
			steps = append(steps, "multiplies by "+strings.TrimSuffix(floatLiteral(c.Scale), "f"))
		case spec.Residual:
			steps = append(steps, "adds Residual")
		case spec.RMSNorm:
			steps = append(steps, fmt.Sprintf("takes x / sqrt(mean(x²) + %s) * Weight over the row", strings.TrimSuffix(floatLiteral(c.RMSNorm.Eps), "f")))
		}
	}
	last := "rounds to " + string(c.Output)
	if c.Output == spec.FP8Block128 {
		last = "quantises to fp8 e4m3 with one fp32 scale for every 128 elements"
	}
	if len(steps) > 0 {
		last = "and " + last
	}
	return "To each sum it does this, in fp32 and in this order: it " + strings.Join(append(steps, last), ", ") + "."
}

// finished adds to what a package says of its sums.
func (g *goPackage) finished() string {
	if !g.fused() {
		return ""
	}
	return ", finished as [Dispatcher.Combine] says"
}

// epilogueArgument is what a call of Combine has beside the partial sums.
func (g *goPackage) epilogueArgument(pkg string) string {
	fields := g.operandFields()
	if len(fields) == 0 {
		return ""
	}
	var args []string
	for _, f := range fields {
		args = append(args, f.name+": "+strings.ToLower(f.name))
	}
	return fmt.Sprintf(", %s.Epilogue{%s}", pkg, strings.Join(args, ", "))
}

// combineMethods emits Combine and CombineInto.
func (g *goPackage) combineMethods() {
	partial := g.exported("Partial")
	about := fmt.Sprintf(`Combine adds up all ranks' partial sums, %s, and yields the rows of the rank's own tokens, %s.
Row i of partial belongs to row i of what Dispatch gathered; partial may be PartialBuffer, which saves a copy.`, g.partial("G"), g.output("T"))
	const own = "The result lies in a buffer of the dispatcher and is valid until its next Combine."
	args := func(fields ...jen.Code) jen.Code {
		return literal(rt("CombineArgs"), append([]jen.Code{jen.Id("Partial").Op(":").Add(raw("partial"))}, fields...)...)
	}
	if !g.fused() {
		hidden := g.exported("Hidden")
		g.method("Combine", about+"\n"+own).Params(stream(), jen.Id("partial").Id(partial)).Params(jen.Id(hidden), jen.Error()).Block(
			jen.List(jen.Id("c"), jen.Err()).Op(":=").Add(core("Combine", jen.Id("stream"), rt("CombineArgs").Values(jen.Id("Partial").Op(":").Add(raw("partial"))))),
			returnIfErr(jen.Id(hidden).Values()),
			jen.Return(jen.Id(hidden).Values(jen.Id("c").Dot("Out")), jen.Nil()),
		)
		g.Line()
		g.method("CombineInto", `CombineInto is Combine into the caller's tensor, which has at least as many rows as the capacity.`).
			Params(stream(), jen.Id("partial").Id(partial), jen.Id("out").Id(hidden)).Error().Block(
			jen.List(jen.Id("_"), jen.Err()).Op(":=").Add(core("Combine", jen.Id("stream"), args(jen.Id("Out").Op(":").Add(raw("out"))))),
			jen.Return(jen.Err()))
		g.Line()
		return
	}

	combined := g.exported("Combined")
	params := []jen.Code{stream(), jen.Id("partial").Id(partial)}
	pass := []jen.Code{jen.Id("stream"), jen.Id("partial")}
	var fields, results []jen.Code
	if list := g.operandFields(); len(list) > 0 {
		params, pass = append(params, jen.Id("e").Id(g.exported("Epilogue"))), append(pass, jen.Id("e"))
		for _, f := range list {
			fields = append(fields, jen.Id(f.name).Op(":").Add(raw("e", f.name)))
		}
	}
	for _, f := range g.resultFields() {
		fields = append(fields, jen.Id(f.name).Op(":").Add(raw("into", f.name)))
		results = append(results, jen.Id(f.name).Op(":").Id(g.exported(f.typ)).Values(jen.Id("c").Dot(f.name)))
	}
	g.method("Combine", about+"\n"+g.epilogueText()+"\n"+own).Params(params...).Params(jen.Id(combined), jen.Error()).Block(
		jen.Return(jen.Id("d").Dot("CombineInto").Call(append(pass, jen.Id(combined).Values())...)))
	g.Line()
	g.method("CombineInto", `CombineInto is Combine into the caller's tensors, which have at least as many rows as the capacity. A tensor left zero stands for the dispatcher's buffer. `+g.inPlaceText()).
		Params(append(params, jen.Id("into").Id(combined))...).Params(jen.Id(combined), jen.Error()).Block(
		jen.List(jen.Id("c"), jen.Err()).Op(":=").Add(core("Combine", jen.Id("stream"), args(fields...))),
		returnIfErr(jen.Id(combined).Values()),
		jen.Return(literal(jen.Id(combined), results...), jen.Nil()),
	)
	g.Line()
}

// inPlaceText says which results may overwrite what they are made of.
func (g *goPackage) inPlaceText() string {
	var in, out []string
	for _, f := range g.operandFields() {
		if f.typ == "Hidden" {
			in = append(in, f.name)
		}
	}
	if len(in) == 0 {
		return "No two of them may overlap."
	}
	if g.spec.OutputRowBytes() == g.spec.HiddenRowBytes() {
		out = append(out, "Out")
	}
	if g.spec.WritesSum() {
		out = append(out, "Sum")
	}
	if len(out) == 0 {
		return "No two tensors may overlap."
	}
	return fmt.Sprintf("%s may be the very tensor that is given as %s; no other two may overlap.", strings.Join(out, " or "), strings.Join(in, " or "))
}

// epilogueProgram is the value of the program's field Epilogue, nil if it is the
// zero one.
func (g *goPackage) epilogueProgram() jen.Code {
	e := EpilogueOf(g.spec)
	var fields []jen.Code
	add := func(name string, on bool, value jen.Code) {
		if on {
			fields = append(fields, jen.Id(name).Op(":").Add(value))
		}
	}
	add("Shared", e.Shared, jen.True())
	add("Residual", e.Residual, jen.True())
	add("Norm", e.Norm != "", constant(e.Norm))
	add("Sum", e.Sum, jen.True())
	add("Output", e.Output != "", constant(e.Output))
	if fields == nil {
		return nil
	}
	return rt("Epilogue").Values(fields...)
}
