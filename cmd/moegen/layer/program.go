package layer

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"github.com/moegen/moegen/cmd/moegen/gen"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/spec"
)

// Program generates the program of a spec, as a generated package would hold
// it but without PTX: loading it takes nvcc or a filled cache. See UsePTX.
func Program(s *spec.Spec) (*moert.Program, error) {
	source, err := gen.CUDA(s)
	if err != nil {
		return nil, err
	}
	launch, e := gen.LaunchOf(s), gen.EpilogueOf(s)
	l := launch.Layout
	p := &moert.Program{
		Name: s.Model, SpecHash: s.Hash(),
		Ranks: s.EPSize, HiddenDim: s.HiddenDim, TopK: s.TopK, MaxTokens: s.MaxTokens, MaxPrefillTokens: s.MaxPrefillTokens,
		Input: moert.DType(s.InputDType()), Payload: moert.DType(s.PayloadDType()), Hidden: moert.DType(s.DType), Routing: moert.DType(s.RoutingDType),
		Probs: moert.DType(s.ProbsDType), Wire: moert.DType(s.Combine.Wire),
		Epilogue: moert.Epilogue{Shared: e.Shared, Residual: e.Residual, Norm: moert.DType(e.Norm), Sum: e.Sum, Output: moert.DType(e.Output)},
		Padded:   s.Layout == spec.Padded, Fills: s.RoutingFill == spec.FillMinusOne,
		Timeout: s.Timeout,
		Threads: launch.Threads, CountThreads: launch.CountThreads, MaxBlocks: launch.MaxBlocks,
		Layout: moert.Layout{
			Signals: l.CountSlots, Routing: l.Routing, Probs: l.Probs, Scales: l.Scales, Hidden: l.Hidden, Partial: l.Partial, Staging: l.LowDispatch, Bytes: l.Bytes,
			Control: l.ControlBytes, Step: l.StepOffset, Epochs: l.EpochOffset,
		},
		WaitsForStream: true,
		Source:         source,
	}
	if t, block := s.GatheredScale(); block > 0 {
		p.Scale, p.ScaleBlock = moert.DType(t), block
	}
	for _, t := range s.Transports {
		p.Transports = append(p.Transports, moert.Transport(t))
	}
	SetProtocol(p, s, gen.Auto)
	return p, nil
}

// SetProtocol plans the program's launches, for one protocol or for both.
func SetProtocol(p *moert.Program, s *spec.Spec, protocol gen.Protocol) {
	p.Plan = nil
	for _, row := range gen.Plan(s, protocol) {
		p.Plan = append(p.Plan, moert.PlanRow(row))
	}
}

// UsePTX gives the program the PTX that `moegen generate` left beside the spec
// at path, if that was compiled from the very source of the program and is as
// it was written. It reports whether it was.
func UsePTX(p *moert.Program, path string) bool {
	stem := strings.TrimSuffix(path, filepath.Ext(path)) + "_moegen"
	text, err := os.ReadFile(stem + ".json")
	if err != nil {
		return false
	}
	var m gen.Manifest
	if json.Unmarshal(text, &m) != nil || m.PTX == nil || m.PTX.Source != digest(p.Source) {
		return false // made of another spec, or by another moegen: nvcc will do
	}
	ptx, err := os.ReadFile(stem + ".ptx")
	if err != nil || m.Outputs[filepath.Base(stem)+".ptx"] != digest(ptx) {
		return false
	}
	p.PTX, p.PTXArch = ptx, m.PTX.Arch
	return true
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// Experts returns the spec with a number of experts: its own, or where it does
// not say one, 8 for each rank and at least topk.
func Experts(s *spec.Spec) *spec.Spec {
	if s.NumExperts > 0 {
		return s
	}
	c := *s
	c.NumExperts = max(8*s.EPSize, s.TopK)
	return &c
}
