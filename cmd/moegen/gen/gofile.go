package gen

import (
	"bytes"
	"fmt"
	"go/format"
	"strings"

	"github.com/dave/jennifer/jen"

	"github.com/moegen/moegen/spec"
)

const (
	runtimePath  = "github.com/moegen/moegen/runtime"
	runtimeAlias = "moert"
)

// goPackage emits a generated package's Go file.
type goPackage struct {
	*jen.File
	names
	spec *spec.Spec
	name string // what the outputs' names start with
	ptx  bool
}

// goFile returns the Go file of a generated package.
func goFile(s *spec.Spec, pkg, name string, o *Options) ([]byte, error) {
	g := &goPackage{File: jen.NewFile(pkg), names: names{o.Prefix}, spec: s, name: name, ptx: !o.NoPTX}
	g.HeaderComment("// " + header)
	if o.Prefix == "" { // else the package is about more than this
		for _, line := range comment(g.packageDoc(pkg)) {
			g.PackageComment(line)
		}
	}
	g.ImportAlias(runtimePath, runtimeAlias)
	g.ImportName("context", "context")
	g.ImportName("time", "time")
	g.Anon("embed")

	g.shape()
	g.tensors()
	g.exchangeTypes()
	g.combineTypes()
	g.dispatcher()
	g.steps()
	g.buffers()
	g.housekeeping()
	g.program()

	var out bytes.Buffer
	if err := g.Render(&out); err != nil {
		return nil, fmt.Errorf("generate %s.go: %w", name, err)
	}
	return format.Source(groupImports(out.Bytes()))
}

// groupImports sets the one import that is not from the standard library apart.
func groupImports(src []byte) []byte {
	line := []byte("\t" + runtimeAlias + " \"" + runtimePath + "\"\n")
	src = bytes.Replace(src, line, nil, 1)
	return bytes.Replace(src, []byte("\n)\n"), append(append([]byte("\n\n"), line...), ")\n"...), 1)
}

// rt names something of package runtime.
func rt(name string) *jen.Statement { return jen.Qual(runtimePath, name) }

// shapeOf describes a tensor: "[T, 7168] bf16".
func shapeOf(rows string, width int, t spec.DType) string {
	return fmt.Sprintf("[%s,%s%d]%s%s", rows, glue, width, glue, t)
}

func (g *goPackage) hidden(rows string) string {
	return shapeOf(rows, g.spec.HiddenDim, g.spec.DType)
}

func (g *goPackage) payload(rows string) string {
	return shapeOf(rows, g.spec.HiddenDim, g.spec.PayloadDType())
}

func (g *goPackage) scales(rows string) string {
	t, block := g.spec.GatheredScale()
	return shapeOf(rows, g.spec.HiddenDim/block, t)
}

func (g *goPackage) routing(rows string) string {
	return shapeOf(rows, g.spec.TopK, g.spec.RoutingDType)
}

func (g *goPackage) probs(rows string) string {
	return shapeOf(rows, g.spec.TopK, g.spec.ProbsDType)
}

func (g *goPackage) partial(rows string) string {
	return shapeOf(rows, g.spec.HiddenDim, g.spec.Combine.Wire)
}

func (g *goPackage) gpus() string {
	if g.spec.EPSize == 1 {
		return "on one GPU, where nothing has to move"
	}
	return fmt.Sprintf("between the %d GPUs of an expert-parallel group", g.spec.EPSize)
}

func (g *goPackage) packageDoc(pkg string) string {
	s := g.spec
	all := "G is the sum of T over the ranks"
	if s.Layout == spec.Padded {
		all = "G is EPSize times the capacity, since each rank's rows come with padding behind them"
	}
	quantized := ""
	if _, block := s.GatheredScale(); block > 0 {
		quantized = ", their scales " + g.scales("G")
	}
	var fields []string
	for _, f := range g.broughtFields() {
		fields = append(fields, f+": "+strings.ToLower(f))
	}
	return fmt.Sprintf(`
Package %[1]s exchanges the tokens of %[2]s's mixture-of-experts layers %[3]s.

A rank brings T tokens to a step, 0 to %[4]d and not the same number on every rank; %[5]s.
Dispatch gives every rank the hidden states %[6]s%[7]s, routing %[8]s and probabilities %[9]s of all tokens.
It does not look at the routing: which experts are a rank's is for the caller to say.
Its experts turn the tokens into partial sums %[10]s, zeros where a token chose none of them,
and Combine gives every rank the sums over all ranks of its own T rows%[11]s.

Transports, in order of preference: %[12]s.

	drv, err := moert.Open(moert.Backend{Devices: %[1]s.EPSize})       // GPUs if there are enough, else emulated ones
	group, err := moert.NewLocalGroup(drv.Devices()[:%[1]s.EPSize]...) // rank i on GPU i; moert.Join for a process each
	err = group.Each(ctx, func(ctx context.Context, rank int) error {
		d, err := %[1]s.NewDispatcher(ctx, group, rank)
		if err != nil {
			return err
		}
		defer d.Close()
		stream, err := d.Core().NewStream()
		hidden, err := d.New%[13]s(%[1]s.MaxTokens) // or %[13]sAt, for memory of your own; the others likewise
		// For every step:
		err = d.NextStep(moert.HostTokens(t))
		// For every layer:
		g, err := d.Dispatch(stream, %[1]s.Local{%[14]s})
		experts(stream, g, d.PartialBuffer()) // yours
		out, err := d.Combine(stream, d.PartialBuffer()%[15]s)
		// At the end:
		return d.Synchronize(stream)
	})
`, pkg, s.Model, g.gpus(), s.MaxTokens, all, g.payload("G"), quantized, g.routing("G"), g.probs("G"), g.partial("G"), g.finished(),
		strings.Join(names2strings(s.Transports), ", "), g.brings(), strings.Join(fields, ", "), g.epilogueArgument(pkg))
}

// broughtFields names what a rank brings to Dispatch.
func (g *goPackage) broughtFields() []string {
	if g.brings() == "Quantized" {
		return []string{"Hidden", "Scales", "Probs", "Routing"}
	}
	return []string{"Hidden", "Probs", "Routing"}
}
