package gen

import (
	"slices"
	"strconv"
	"strings"

	"github.com/moegen/moegen/spec"
)

// combineData is what the templates of combine see beside the rest.
type combineData struct {
	CombineUnroll        int
	Unit, Units          int // elements in a unit, and units in a row
	UnitTypes            []unitType
	WireUnit, HiddenUnit string // names of unit types
	OutUnit, WeightUnit  string
	UsesHiddenUnit       bool
	UsesUnit             bool // computes with units, not only moves them
	LdReduceType         string
	RankOrder, HasRanks  bool // the order that the spec asks for; any transport makes sums in rank order
	Batch                int  // ranks that a thread adds up at a time, 0 for all
	LowBatch             int  // the same with protocol ll, 0 for as Batch says
	PeerTerms            bool // of p2p, or of nvls in rank order
	CastsOutput          bool // the partial sums' type is not the output's
	Fused                bool // anything comes after the sum but a cast to the spec's dtype
	Steps                []string
	Shared, Residual     bool
	HasScale, RMSNorm    bool
	Operands, WritesSum  bool // reads other tensors; writes the sum beside the output
	QuantizesOutput      bool
	HoldsRow             bool // a row that RMSNorm works on fits into the block's registers
	Scale, Eps           string
	OutType, WeightType  string // for comments
	OutScales            int    // scales in a row of the output
	OutParam, OutArg     string // parameter and argument of what is written
	OutKernelParam       string
}

// unitType is how one type's units lie in memory.
type unitType struct {
	Name           string
	DType          string
	Words, Align   int  // 32-bit words, and bytes
	Unpacks, Packs bool // to and from fp32
}

// maxHeld is how many numbers of a row a thread keeps in registers.
const maxHeld = 16

// unitElements is how many consecutive elements a thread adds up at a time.
func unitElements(s *spec.Spec) int {
	if s.DType == spec.FP32 && s.Combine.Output != spec.FP8Block128 {
		return 4 // so that any row of 16-byte packs is whole units
	}
	return 8
}

// holdsRow reports whether a row that RMSNorm works on fits into the block's
// registers.
func holdsRow(s *spec.Spec) bool {
	unit := unitElements(s)
	return (s.HiddenDim/unit+threads-1)/threads*unit <= maxHeld
}

func newCombineData(s *spec.Spec, transports []string, nccl bool) combineData {
	c := &s.Combine
	d := combineData{
		Unit: unitElements(s), RankOrder: c.Order == spec.OrderRank,
		Shared: c.Has(spec.AddShared), HasScale: c.Has(spec.Scale), Residual: c.Has(spec.Residual), RMSNorm: c.Has(spec.RMSNorm),
		WritesSum: s.WritesSum(), QuantizesOutput: c.Output == spec.FP8Block128, CastsOutput: c.Wire != s.DType,
		OutType: string(c.Output), WeightType: string(c.RMSNorm.Weight), OutScales: s.OutputScaleRowBytes() / 4,
		Scale: floatLiteral(c.Scale), Eps: floatLiteral(c.RMSNorm.Eps),
	}
	d.Units = s.HiddenDim / d.Unit
	d.Fused = len(c.Epilogue) > 0 || c.Output != s.DType
	d.Operands = d.Shared || d.Residual
	p2p, nvls := slices.Contains(transports, string(spec.P2P)), slices.Contains(transports, string(spec.NVLS))
	d.PeerTerms = p2p || nvls && d.RankOrder
	d.HasRanks = d.PeerTerms || nccl || lowTokens(s) > 0
	// A thread has registers for eight packs of 16 bytes, or for twice that where
	// it does nothing but add.
	if packs := d.Unit * c.Wire.Size() / 16; d.Fused && s.EPSize*packs > 8 {
		d.Batch = 8 / packs
		if d.RMSNorm { // whose row has its registers too
			d.Batch = 4 / packs
		}
	} else if s.EPSize > 8 {
		d.Batch = 8
	}
	// Blocks of protocol ll have more threads, so fewer registers each.
	if packs := max(1, d.Unit*c.Wire.Size()/16); s.EPSize*packs > 4 && lowTokens(s) > 0 {
		d.LowBatch = max(1, 4/packs)
	}
	d.LdReduceType = map[spec.DType]string{spec.FP32: ".v4.f32", spec.FP16: ".acc::f32.v4.f16x2", spec.BF16: ".acc::f32.v4.bf16x2"}[c.Wire]
	d.unitTypes(s)

	// About eight loads of 16 bytes in flight a thread.
	ranks, wire := max(s.EPSize, 2), s.WireRowBytes()/s.HiddenRowBytes()
	if d.Operands {
		ranks++
		wire = d.Unit * c.Wire.Size() / 16
	}
	if d.Shared && d.Residual {
		ranks++
	}
	d.CombineUnroll = max(1, 8/ranks/wire)
	perThread := (d.Units + threads - 1) / threads
	d.HoldsRow = holdsRow(s)
	if d.RMSNorm {
		d.CombineUnroll = min(d.CombineUnroll, perThread)
	}
	d.Steps = d.steps(s)
	d.OutParam, d.OutArg, d.OutKernelParam = "OutUnit* out", "out", "OutUnit* out"
	if d.Fused {
		d.OutParam, d.OutArg, d.OutKernelParam = "const Epilogue& e", "e", "const __grid_constant__ Epilogue e"
	}
	return d
}

// unitTypes lists the types of units that the source has, with what is done to
// them.
func (d *combineData) unitTypes(s *spec.Spec) {
	use := func(t spec.DType, unpacks, packs bool) string {
		for i := range d.UnitTypes {
			if u := &d.UnitTypes[i]; u.DType == string(t) {
				u.Unpacks, u.Packs = u.Unpacks || unpacks, u.Packs || packs
				return u.Name
			}
		}
		bytes := d.Unit * t.Size()
		u := unitType{Name: strings.ToUpper(string(t)) + "Unit", DType: string(t), Words: bytes / 4, Align: min(bytes, 16), Unpacks: unpacks, Packs: packs}
		d.UnitTypes = append(d.UnitTypes, u)
		return u.Name
	}
	sums := d.HasRanks || d.Fused || d.CastsOutput // made by the source, not by the switch
	d.WireUnit = use(s.Combine.Wire, sums, false)
	if d.UsesHiddenUnit = d.Operands || d.WritesSum; d.UsesHiddenUnit {
		d.HiddenUnit = use(s.DType, d.Operands, d.WritesSum)
	}
	if d.RMSNorm {
		d.WeightUnit = use(s.Combine.RMSNorm.Weight, true, false)
	}
	d.UsesUnit = sums
	d.OutUnit = "uint2"
	if !d.QuantizesOutput {
		d.OutUnit = use(s.Combine.Output, false, sums)
	}
}

// steps says in words what becomes of a sum.
func (d *combineData) steps(s *spec.Spec) []string {
	var list []string
	add := func(on bool, text string) {
		if on {
			list = append(list, text)
		}
	}
	add(d.Shared, "add the shared expert's output")
	add(d.HasScale, "scale")
	add(d.Residual, "add the residual")
	add(d.RMSNorm, "RMSNorm")
	add(true, map[bool]string{false: "round to " + d.OutType, true: "quantise to fp8"}[d.QuantizesOutput])
	return list
}

// floatLiteral writes a number as CUDA's float: the shortest text that means the
// nearest one.
func floatLiteral(f float64) string {
	text := strconv.FormatFloat(f, 'g', -1, 32)
	if !strings.ContainsAny(text, ".e") {
		text += ".0"
	}
	return text + "f"
}

// Epilogue says what package runtime has to know about a spec's epilogue: its
// Epilogue has the same fields.
type Epilogue struct {
	Shared, Residual, Sum bool
	Norm, Output          spec.DType
}

// EpilogueOf returns a spec's epilogue.
func EpilogueOf(s *spec.Spec) Epilogue {
	c := &s.Combine
	e := Epilogue{Shared: c.Has(spec.AddShared), Residual: c.Has(spec.Residual), Norm: c.RMSNorm.Weight, Sum: s.WritesSum()}
	switch c.Output {
	case s.DType:
	case spec.FP8Block128:
		e.Output = spec.FP8
	default:
		e.Output = c.Output
	}
	return e
}
