package gen

import (
	"fmt"
	"time"

	"github.com/dave/jennifer/jen"

	"github.com/moegen/moegen/spec"
)

// runtimeNames are package runtime's constants for what specs name.
var runtimeNames = map[string]string{
	"fp8_e4m3": "FP8", "fp4_e2m1": "FP4", "ue8m0": "UE8M0",
	"bf16": "BF16", "fp16": "FP16", "fp32": "FP32", "int16": "Int16", "int32": "Int32", "int64": "Int64",
	"nvls": "NVLS", "p2p": "P2P", "nccl": "NCCL",
}

func constant[T ~string](name T) *jen.Statement { return rt(runtimeNames[string(name)]) }

// program emits what package runtime has to know about the model.
func (g *goPackage) program() {
	s, launch := g.spec, LaunchOf(g.spec)
	doc(g, `This does not compile beside a package runtime with another interface than the generated code was made for: run moegen generate again.`)
	g.Const().Id("_").Op("=").Add(rt("EnforceVersion1"))
	g.Line()

	source, ptx := g.private("programSource"), g.private("programPTX")
	g.Comment("//go:embed " + g.name + ".cu")
	g.Var().Id(source).Index().Byte()
	g.Line()
	if g.ptx {
		g.Comment("//go:embed " + g.name + ".ptx")
		g.Var().Id(ptx).Index().Byte()
		g.Line()
	}

	field := func(name string, value jen.Code) jen.Code { return jen.Id(name).Op(":").Add(value) }
	lit := func(name string, value any) jen.Code { return field(name, jen.Lit(value)) }
	offset := func(v uint64) jen.Code { return jen.Lit(int(v)) }
	var transports, plan []jen.Code
	for _, t := range s.Transports {
		transports = append(transports, constant(t))
	}
	for _, row := range launch.Plan {
		fields := []jen.Code{lit("Tokens", row.Tokens)}
		if row.Low {
			fields = append(fields, field("Low", jen.True()))
		}
		if row.Mixed {
			fields = append(fields, field("Mixed", jen.True()))
		}
		plan = append(plan, jen.Values(append(fields, lit("Blocks", row.Blocks), lit("Threads", row.Threads))...))
	}
	l := launch.Layout
	fields := []jen.Code{
		lit("Name", s.Model), lit("SpecHash", s.Hash()),
		field("Ranks", jen.Id(g.exported("EPSize"))), field("HiddenDim", jen.Id(g.exported("HiddenDim"))),
		field("TopK", jen.Id(g.exported("TopK"))), field("MaxTokens", jen.Id(g.exported("MaxTokens"))),
		field("Input", constant(s.InputDType())), field("Payload", constant(s.PayloadDType())), field("Hidden", constant(s.DType)),
		field("Routing", constant(s.RoutingDType)),
		field("Probs", constant(s.ProbsDType)), field("Wire", constant(s.Combine.Wire)),
		field("Transports", jen.Index().Add(rt("Transport")).Values(transports...)),
		field("Timeout", duration(s.Timeout)),
		lit("Threads", launch.Threads), lit("CountThreads", launch.CountThreads), lit("MaxBlocks", launch.MaxBlocks),
		field("Plan", literal(jen.Index().Add(rt("PlanRow")), plan...)),
		field("Layout", literal(rt("Layout"),
			field("Signals", offset(l.CountSlots)), field("Routing", offset(l.Routing)), field("Probs", offset(l.Probs)),
			field("Scales", offset(l.Scales)), field("Hidden", offset(l.Hidden)), field("Partial", offset(l.Partial)), field("Staging", offset(l.LowDispatch)), field("Bytes", offset(l.Bytes)),
			field("Control", offset(l.ControlBytes)), field("Step", offset(l.StepOffset)), field("Epochs", offset(l.EpochOffset)))),
		field("WaitsForStream", jen.True()),
		field("Source", jen.Id(source)),
	}
	if e := g.epilogueProgram(); e != nil {
		fields = append(fields, field("Epilogue", e))
	}
	if t, block := s.GatheredScale(); block > 0 {
		fields = append(fields, field("Scale", constant(t)), lit("ScaleBlock", block))
	}
	if s.MaxPrefillTokens > 0 {
		fields = append(fields, lit("MaxPrefillTokens", s.MaxPrefillTokens))
	}
	if s.Layout == spec.Padded {
		fields = append(fields, field("Padded", jen.True()))
	}
	if s.RoutingFill == spec.FillMinusOne {
		fields = append(fields, field("Fills", jen.True()))
	}
	without := ""
	if g.ptx {
		fields = append(fields, field("PTX", jen.Id(ptx)), lit("PTXArch", s.Arch[0]))
	} else {
		without = " It was generated without PTX: wherever it runs there must be nvcc, or a cache of compiled kernels."
	}
	if rows := measured(s); rows != nil {
		without += fmt.Sprintf(" Its plan for up to %d tokens a rank was measured: %s.", rows[len(rows)-1].Tokens, s.Plan.Measured)
	}
	doc(g, fmt.Sprintf("%s is what package runtime has to know about %s; the kernels have the same numbers as constants.%s",
		g.private("program"), s.Model, without))
	g.Var().Id(g.private("program")).Op("=").Op("&").Add(literal(rt("Program"), fields...))
}

// duration writes a duration as people do.
func duration(d time.Duration) jen.Code {
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{time.Minute, "Minute"}, {time.Second, "Second"}, {time.Millisecond, "Millisecond"}, {time.Microsecond, "Microsecond"}} {
		if d >= u.unit && d%u.unit == 0 {
			return jen.Lit(int(d/u.unit)).Op("*").Qual("time", u.name)
		}
	}
	return jen.Lit(int(d)) // nanoseconds
}
