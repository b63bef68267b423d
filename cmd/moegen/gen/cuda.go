package gen

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"text/template"

	"github.com/moegen/moegen/spec"
	"github.com/moegen/moegen/templates"
)

// kernelData is what the CUDA templates see.
type kernelData struct {
	Model                                        string
	Ranks, HiddenDim, TopK, MaxTokens            int
	MaxBlocks, Threads, CountThreads             int
	Unroll                                       int
	DType, Payload, Wire, Routing, ProbsName     string // dtype names of the spec; Payload is what travels
	Out                                          string
	HiddenType, WireType, RoutingType, ProbsType string // for comments
	InputType, MinusOne                          string
	Padded, Fills, Quantizes, GivenScales        bool
	Scales                                       *scales // nil if hidden states have none
	ScaleBlock                                   int
	RoutingPack, ProbsPack, IndexType            string
	RoutingPacks, ProbsPacks, HiddenPacks        int
	WirePacks                                    int
	HasPack8, HasPack4, HasPack2                 bool
	Unicast, NVLS, P2P, NCCL                     bool     // any of nvls and p2p; each
	Transports                                   []string // those with dispatch and combine kernels of their own
	TransportNames                               []string // all, as in the spec
	Layout                                       Layout
	LowTokens, LowThreads                        int  // of protocol ll; 0 tokens where it is not generated
	Mixed                                        bool // there are kernels with both protocols
	RoutingWord, ProbsWord, ScaleWord            string
	RoutingWords, ProbsWords, ScaleWords         int // a row as lines of protocol ll
	combineData
}

// scales describes the gathered scales of hidden states.
type scales struct {
	Type, Pack   string
	Width, Packs int // scales and packs per row
}

var packTypes = map[int]string{16: "uint4", 8: "uint2", 4: "uint32_t", 2: "uint16_t"}

// minusOne has every bit set: -1 in each id of a pack, whatever their size.
var minusOne = map[int]string{16: "make_uint4(~0u, ~0u, ~0u, ~0u)", 8: "make_uint2(~0u, ~0u)", 4: "~0u", 2: "0xffff"}

func newKernelData(s *spec.Spec) kernelData {
	routingPack, probsPack := packBytes(s.RoutingRowBytes()), packBytes(s.ProbsRowBytes())
	launch := LaunchOf(s)
	d := kernelData{
		Model: s.Model,
		Ranks: s.EPSize, HiddenDim: s.HiddenDim, TopK: s.TopK, MaxTokens: s.MaxTokens,
		MaxBlocks: launch.MaxBlocks, Threads: launch.Threads, CountThreads: launch.CountThreads,
		Unroll: 4,
		DType:  string(s.DType), Payload: string(s.PayloadDType()), InputType: string(s.InputDType()),
		MinusOne: minusOne[routingPack],
		Padded:   s.Layout == spec.Padded, Fills: s.RoutingFill == spec.FillMinusOne,
		Quantizes: quantizes(s), GivenScales: s.Dispatch.Input != "",
		Out: string(s.DType), Wire: string(s.Combine.Wire),
		Routing: string(s.RoutingDType), ProbsName: string(s.ProbsDType),
		HiddenType: string(s.DType), WireType: string(s.Combine.Wire),
		RoutingType: string(s.RoutingDType), ProbsType: string(s.ProbsDType),
		RoutingPack: packTypes[routingPack], ProbsPack: packTypes[probsPack],
		RoutingPacks: s.RoutingRowBytes() / routingPack, ProbsPacks: s.ProbsRowBytes() / probsPack,
		HiddenPacks: s.PayloadRowBytes() / 16, WirePacks: s.WireRowBytes() / 16,
		IndexType: "int32_t",
		Layout:    launch.Layout,
	}
	packs := map[int]bool{routingPack: true, probsPack: true}
	if t, block := s.GatheredScale(); block > 0 {
		pack := packBytes(s.ScaleRowBytes())
		if d.Quantizes {
			pack, packs[8] = 4, true // lanes store what they have quantised
		}
		packs[pack] = true
		d.ScaleBlock = block
		d.Scales = &scales{Type: string(t), Pack: packTypes[pack], Width: s.HiddenDim / block, Packs: s.ScaleRowBytes() / pack}
	}
	d.HasPack8, d.HasPack4, d.HasPack2 = packs[8], packs[4], packs[2]
	// Loop bounds go past the last pack by up to a whole unrolled grid.
	most := int64(s.MaxTokens) * int64(max(d.WirePacks, 2*d.HiddenPacks))
	if d.Fills {
		most = max(most, int64(s.MaxTokens)*int64(s.EPSize)*int64(d.RoutingPacks))
	}
	if most+int64(s.SMLimit)*threads*int64(d.Unroll)*2 >= 1<<31 {
		d.IndexType = "int64_t"
	}
	transports := s.Transports
	if s.EPSize == 1 {
		// Nothing is exchanged; what is left, counts and casts, needs no peer.
		transports = []spec.Transport{spec.P2P}
	}
	for _, t := range transports {
		d.TransportNames = append(d.TransportNames, string(t))
		if t != spec.NCCL {
			d.Transports = append(d.Transports, string(t))
		}
	}
	d.Unicast = len(d.Transports) > 0
	d.NVLS = slices.Contains(d.Transports, string(spec.NVLS))
	d.P2P = slices.Contains(d.Transports, string(spec.P2P))
	d.NCCL = slices.Contains(s.Transports, spec.NCCL)
	d.LowTokens, d.LowThreads = lowTokens(s), lowThreads(s)
	d.Mixed = hasMixed(s)
	for _, t := range []struct {
		bytes int
		words *int
		word  *string
	}{{s.RoutingRowBytes(), &d.RoutingWords, &d.RoutingWord}, {s.ProbsRowBytes(), &d.ProbsWords, &d.ProbsWord}, {s.ScaleRowBytes(), &d.ScaleWords, &d.ScaleWord}} {
		*t.words, *t.word = rowWords(t.bytes), packTypes[4]
		if t.bytes%4 != 0 {
			*t.word = packTypes[2]
		}
	}
	d.combineData = newCombineData(s, d.Transports, d.NCCL)
	return d
}

// parts lists the template files in the order of the generated source.
func (d *kernelData) parts() []string {
	parts := []string{"header.cu.tmpl", "layout.cu.tmpl", "memory.cuh", "signal.cuh", "numbers.cuh.tmpl"}
	if d.HasRanks {
		parts = append(parts, "rankorder.cuh.tmpl")
	}
	if d.LowTokens > 0 {
		parts = append(parts, "ll.cuh.tmpl")
	}
	if d.NVLS {
		parts = append(parts, "nvls.cuh.tmpl")
	}
	if d.P2P {
		parts = append(parts, "p2p.cuh.tmpl")
	}
	if d.Quantizes || d.QuantizesOutput {
		parts = append(parts, "quantize.cuh")
	}
	parts = append(parts, "counts.cu.tmpl", "rows.cu.tmpl")
	if d.Unicast {
		parts = append(parts, "dispatch.cu.tmpl")
	}
	if d.LowTokens > 0 {
		parts = append(parts, "dispatch_ll.cu.tmpl")
	}
	if d.Fused {
		parts = append(parts, "epilogue.cuh.tmpl")
	}
	parts = append(parts, "sums.cuh.tmpl")
	if d.Unicast {
		parts = append(parts, "combine.cu.tmpl")
	}
	if d.LowTokens > 0 {
		parts = append(parts, "combine_ll.cu.tmpl")
	}
	if d.Mixed {
		parts = append(parts, "mixed.cu.tmpl")
	}
	if d.NCCL {
		parts = append(parts, "nccl.cu.tmpl")
	}
	return parts
}

// CUDA returns the CUDA source of a spec: self-contained, with only what the
// spec asks for, the same bytes for the same spec.
func CUDA(s *spec.Spec) ([]byte, error) {
	d := newKernelData(s)
	t, err := parseTemplates()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for i, part := range d.parts() {
		if i > 0 {
			out.WriteByte('\n')
		}
		if err := t.ExecuteTemplate(&out, part, &d); err != nil {
			return nil, fmt.Errorf("generate %s: %w", part, err)
		}
	}
	return tidy(out.Bytes()), nil
}

func parseTemplates() (*template.Template, error) {
	t, err := template.New("").Funcs(template.FuncMap{
		"join":      strings.Join,
		"spaces":    func(s ...string) string { return strings.Repeat(" ", len(strings.Join(s, ""))) },
		"transport": func(name string) string { return map[string]string{"nvls": "NVLS", "p2p": "P2P"}[name] },
		"ctype":     cType,
		"bits":      cBits,
	}).Option("missingkey=error").ParseFS(templates.CUDA(), "*")
	if err != nil {
		return nil, fmt.Errorf("parse CUDA templates: %w", err)
	}
	return t, nil
}
