package gen

import (
	"bytes"
	_ "embed"
	"fmt"
	"go/format"
	"math"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"github.com/moegen/moegen/spec"
)

const (
	testSuffix  = "_test.go" // of a test's file
	testPackage = "_test"    // of an external test's package
)

// The test is a template, unlike the rest of the package's Go: it is there to be
// read and copied from, and reads here as it does there.
//
//go:embed testfile.go.tmpl
var testSource string

// testFile is what the template says of a spec.
type testFile struct {
	names
	spec *spec.Spec
	g    *goPackage

	Header, Package, Runtime string
	// Import is the package's path. Where it is not known, or the package cannot
	// be imported, the test is part of the package.
	Import string
	Q      string // what the package's names are qualified with
	Prefix string
}

// testTensor is one of the tensors that a rank fills.
type testTensor struct {
	Var, Field, Type string
	What             string // "" for what is not gathered as it is brought
	Shape            string
	Elements         string // of a row
	Size             int    // bytes of an element
	OneRow           bool
}

// testResult is one of the tensors that Combine yields.
type testResult struct {
	Var, Field, Elements string
	Size                 int
}

// testSourceOf returns the test of a generated package.
func testSourceOf(s *spec.Spec, pkg, importPath string, o *Options) ([]byte, error) {
	f := &testFile{
		names: names{o.Prefix}, spec: s, g: &goPackage{names: names{o.Prefix}, spec: s},
		Header: header, Package: pkg, Runtime: runtimePath, Import: importPath, Prefix: o.Prefix,
	}
	if importPath != "" {
		f.Package, f.Q = pkg+"_test", "model."
	}
	t, err := template.New("test").Funcs(template.FuncMap{
		"q":       f.q,
		"p":       f.private,
		"comment": func(text string) string { return strings.Join(comment(text), "\n") },
	}).Parse(testSource)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := t.Execute(&out, f); err != nil {
		return nil, err
	}
	return format.Source(out.Bytes())
}

// q qualifies an exported name, given without the prefix.
func (f *testFile) q(name string) string { return f.Q + f.exported(name) }

// ExampleDoc, MostDoc, ShareDoc, TestDoc and RandomDoc are comments.
func (f *testFile) ExampleDoc() string {
	return "A step of one layer, to which every rank brings one token."
}

func (f *testFile) MostDoc() string {
	return f.private("most") + " is how many tokens a rank brings to the test's step, at most."
}

func (f *testFile) ShareDoc() string {
	return f.private("share") + " is what a rank brings to the test's step, and what its experts would make of it: random numbers all."
}

func (f *testFile) TestDoc() string {
	bits := "What a rank gathers must be what the ranks brought, to the bit"
	if f.Quantizes() {
		bits = "What a rank gathers must be what the ranks brought, to the bit but for hidden states, which are quantised on the way"
	}
	end := ", and what it combines the ranks' partial sums added up in float64, within rounding."
	if f.Fused() {
		end = ", and what it combines the ranks' partial sums, added up and finished in float64, within rounding."
	}
	return fmt.Sprintf("Test%sDispatcher takes emulated GPUs through a step of one layer. %s%s Random partial sums stand for experts.",
		f.Prefix, bits, end)
}

func (f *testFile) RandomDoc() string {
	return f.private("random") + " returns n random numbers of size bytes. Those of two or four bytes, as floating point of any type, are from 0.5 to 2 in magnitude."
}

// Most is two tokens where a rank may have so many. That is not the capacity:
// protocol ll, which few tokens would get, can take minutes to emulate with more
// than two ranks.
func (f *testFile) Most() int { return min(2, f.spec.MaxTokens) }

func (f *testFile) Ranks() int { return f.spec.EPSize }

// Many says that so many ranks take long to emulate: the time grows with their
// square.
func (f *testFile) Many() bool { return f.spec.EPSize > 16 }

func (f *testFile) Padded() bool { return f.spec.Layout == spec.Padded }

// Quantizes says whether hidden states are gathered in another type than that
// in which they are brought.
func (f *testFile) Quantizes() bool { return f.spec.Dispatch.Quantize == spec.QuantizeFP8 }

// brought lists what Dispatch takes.
func (f *testFile) brought() []testTensor {
	s, dim, topk := f.spec, f.q("HiddenDim"), f.q("TopK")
	hidden := testTensor{"hidden", "Hidden", f.g.brings(), "hidden states", f.rows(s.HiddenDim, s.InputDType()), dim, s.InputDType().Size(), false}
	if s.InputDType() == spec.FP4 {
		hidden.Elements, hidden.Size = dim+"/2", 1
	}
	if f.Quantizes() {
		hidden.What = ""
	}
	list := []testTensor{hidden}
	if t, block := s.GatheredScale(); s.Dispatch.Input != "" {
		list = append(list, testTensor{"scales", "Scales", "Scales", "scales", f.rows(s.HiddenDim/block, t), fmt.Sprintf("%s/%d", dim, block), t.Size(), false})
	}
	return append(list,
		testTensor{"probs", "Probs", "Probs", "probabilities", f.rows(s.TopK, s.ProbsDType), topk, s.ProbsDType.Size(), false},
		testTensor{"routing", "Routing", "Routing", "routing", f.rows(s.TopK, s.RoutingDType), topk, s.RoutingDType.Size(), false})
}

// operands lists what Combine takes beside the partial sums.
func (f *testFile) operands() []testTensor {
	var list []testTensor
	for _, o := range f.g.operandFields() {
		t := testTensor{strings.ToLower(o.name), o.name, o.typ, "", f.rows(f.spec.HiddenDim, f.spec.DType), f.q("HiddenDim"), f.spec.DType.Size(), false}
		if o.typ == "NormWeight" {
			t.Shape, t.Size, t.OneRow = plain(f.g.weight()), f.spec.Combine.RMSNorm.Weight.Size(), true
		}
		list = append(list, t)
	}
	return list
}

// Tensors lists all that a rank fills.
func (f *testFile) Tensors() []testTensor { return append(f.brought(), f.operands()...) }

// Gathered lists what is gathered as it is brought.
func (f *testFile) Gathered() []testTensor {
	return slices.DeleteFunc(f.brought(), func(t testTensor) bool { return t.What == "" })
}

func (f *testFile) rows(width int, t spec.DType) string {
	return plain(shapeOf(f.private("most"), width, t))
}

func plain(shape string) string { return strings.ReplaceAll(shape, glue, " ") }

func (f *testFile) PartialShape() string {
	return plain(f.g.partial(f.exported("EPSize") + "*" + f.private("most")))
}

func (f *testFile) PartialSize() int { return f.spec.Combine.Wire.Size() }

func (f *testFile) PartialRow() string { return f.q("HiddenDim") + times(f.PartialSize()) }

func times(n int) string {
	if n == 1 {
		return ""
	}
	return fmt.Sprintf("*%d", n)
}

// Local is the argument of Dispatch.
func (f *testFile) Local() string {
	var fields []string
	for _, t := range f.brought() {
		fields = append(fields, t.Field+": "+t.Var)
	}
	return f.q("Local") + "{" + strings.Join(fields, ", ") + "}"
}

// Epilogue is the second argument of Combine.
func (f *testFile) Epilogue() string {
	var fields []string
	for _, t := range f.operands() {
		fields = append(fields, t.Field+": "+t.Var)
	}
	if fields == nil {
		return ""
	}
	return ", " + f.q("Epilogue") + "{" + strings.Join(fields, ", ") + "}"
}

// Fused says whether combine does more than to add up.
func (f *testFile) Fused() bool { return f.g.fused() }

// Out selects the tensor with the sums in what Combine returns.
func (f *testFile) Out() string {
	if f.Fused() {
		return ".Out"
	}
	return ""
}

// Results lists what Combine yields.
func (f *testFile) Results() []testResult {
	dim := f.q("HiddenDim")
	list := []testResult{{"sums", "Out", dim, f.spec.Combine.Output.Size()}}
	if f.OutputScales() {
		list = append(list, testResult{"outScales", "Scales", dim + "/128", 4})
	}
	if f.Sum() {
		list = append(list, testResult{"residuals", "Sum", dim, f.spec.DType.Size()})
	}
	return list
}

func (f *testFile) OutputRow() string {
	return f.q("HiddenDim") + times(f.spec.Combine.Output.Size())
}

func (f *testFile) OutputShape() string { return plain(f.g.output("tokens")) }

// The parts of the epilogue.
func (f *testFile) Shared() bool       { return f.spec.Combine.Has(spec.AddShared) }
func (f *testFile) Residual() bool     { return f.spec.Combine.Has(spec.Residual) }
func (f *testFile) Sum() bool          { return f.spec.WritesSum() }
func (f *testFile) OutputScales() bool { return f.spec.OutputScaleRowBytes() > 0 }

// Scale is the factor, "" for none, and ScaleSize its magnitude.
func (f *testFile) Scale() string     { return f.factor(f.spec.Combine.Scale) }
func (f *testFile) ScaleSize() string { return f.factor(math.Abs(f.spec.Combine.Scale)) }

func (f *testFile) factor(x float64) string {
	if !f.spec.Combine.Has(spec.Scale) {
		return ""
	}
	return strings.TrimSuffix(floatLiteral(x), "f")
}

// Norm is the type of RMSNorm's weight, "" without RMSNorm.
func (f *testFile) Norm() string {
	if !f.spec.Combine.Has(spec.RMSNorm) {
		return ""
	}
	return string(f.spec.Combine.RMSNorm.Weight)
}

func (f *testFile) Eps() string {
	return strings.TrimSuffix(floatLiteral(f.spec.Combine.RMSNorm.Eps), "f")
}

// The types of the numbers that are compared.
func (f *testFile) DType() string  { return string(f.spec.DType) }
func (f *testFile) Wire() string   { return string(f.spec.Combine.Wire) }
func (f *testFile) Output() string { return string(f.spec.Combine.Output) }

// ExactSum says whether a sum is rounded only once: random's numbers of 16 bits
// add up in fp32 without an error.
func (f *testFile) ExactSum() bool { return f.spec.Combine.Wire != spec.FP32 }

// WireUnit is the relative error that partial sums add up with: of one rounding
// to the wire's type, or of all those to fp32, the epilogue's too.
func (f *testFile) WireUnit() string {
	if f.spec.Combine.Wire == spec.FP32 {
		return fmt.Sprintf("*(%s+4)/(1<<24)", f.q("EPSize"))
	}
	return unit(f.spec.Combine.Wire)
}

func (f *testFile) DTypeUnit() string { return unit(f.spec.DType) }

func (f *testFile) OutputUnit() string {
	switch t := f.spec.Combine.Output; {
	case t == spec.FP8Block128:
		return "/(1<<4)+scale/(1<<10)"
	case t == spec.FP16 && f.Fused():
		return unit(t) + "+1.0/(1<<25)" // where a scale makes it subnormal
	default:
		return unit(t)
	}
}

// unit divides by the reciprocal of a type's largest relative rounding error.
func unit(t spec.DType) string {
	return map[spec.DType]string{spec.BF16: "/(1<<8)", spec.FP16: "/(1<<11)", spec.FP32: "/(1<<24)"}[t]
}

// RoundingOf names the types that are rounded to.
func (f *testFile) RoundingOf() string {
	output := f.spec.Combine.Output
	if output == spec.FP8Block128 {
		output = "fp8 e4m3"
	}
	if output == f.spec.Combine.Wire {
		return "sums and result to " + string(output)
	}
	return "sums to " + f.Wire() + " and of the result to " + string(output)
}

// Decoded lists the types that the test reads.
func (f *testFile) Decoded() []string {
	used := map[string]bool{f.Wire(): true, f.Output(): !f.OutputScales(), f.Norm(): true}
	used[f.DType()] = used[f.DType()] || f.Quantizes() || f.Shared() || f.Residual() || f.Sum()
	if f.Quantizes() || f.OutputScales() {
		used["fp32"], used["fp8"] = true, true
	}
	return slices.DeleteFunc([]string{"bf16", "fp16", "fp32", "fp8"}, func(t string) bool { return !used[t] })
}

var (
	moduleLine = regexp.MustCompile(`(?m)^module[ \t]+["` + "`" + `]?([^"` + "`" + `\s]+)`)
	// importable is what the go command allows in an import path.
	importable = regexp.MustCompile(`^[A-Za-z0-9_~+-][A-Za-z0-9_.~+-]*(/[A-Za-z0-9_~+-][A-Za-z0-9_.~+-]*)*$`)
)

// importPath returns the path by which a test outside the package imports it, ""
// where none can.
func importPath(dir, pkg string) string {
	abs, err := filepath.Abs(dir)
	if err != nil || pkg == "main" {
		return ""
	}
	root := moduleRoot(abs)
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return ""
	}
	module := moduleLine.FindSubmatch(mod)
	rel, err := filepath.Rel(root, abs)
	if module == nil || err != nil {
		return ""
	}
	p := path.Join(string(module[1]), filepath.ToSlash(rel))
	if !importable.MatchString(p) {
		return ""
	}
	return p
}
