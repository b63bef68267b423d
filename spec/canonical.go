package spec

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// hashDomain starts what is hashed. Change it when the meaning of a field
// changes, so that output made under the old meaning counts as stale.
const hashDomain = "moegen spec v1\n"

// Hash identifies what the spec says: 64 hex digits, the same for any two files
// that say the same, whatever their layout and comments and whether they write
// defaults out. Every field but From changes it, because every field changes the
// output.
func (s *Spec) Hash() string {
	sum := sha256.Sum256(append([]byte(hashDomain), s.Canonical()...))
	return hex.EncodeToString(sum[:])
}

// Canonical returns the spec as YAML with every field written out. Equal specs
// have equal canonical forms, and parsing one gives an equal spec.
//
// [Spec.Hash] covers these bytes: changing the layout makes all checked-in
// output stale.
func (s *Spec) Canonical() []byte {
	var b bytes.Buffer
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("version: %d", s.Version)
	p("model: %q", s.Model) // quoted: a name such as 4.5 would not be text
	p("hidden_dim: %d", s.HiddenDim)
	p("topk: %d", s.TopK)
	p("num_experts: %d", s.NumExperts)
	p("ep_size: %d", s.EPSize)
	p("dtype: %s", s.DType)
	p("max_tokens: %d", s.MaxTokens)
	p("max_prefill_tokens: %d", s.MaxPrefillTokens)
	p("routing_dtype: %s", s.RoutingDType)
	p("probs_dtype: %s", s.ProbsDType)
	p("layout: %s", s.Layout)
	p("routing_fill: %s", s.RoutingFill)
	p("dispatch:")
	p("  quantize: %s", s.Dispatch.Quantize)
	if s.Dispatch.Input != "" {
		p("  input: %s", s.Dispatch.Input)
		p("  scale_dtype: %s", s.Dispatch.ScaleDType)
		p("  scale_block: %d", s.Dispatch.ScaleBlock)
	}
	p("combine:")
	p("  wire: %s", s.Combine.Wire)
	p("  order: %s", s.Combine.Order)
	p("  epilogue: %s", flow(s.Combine.Epilogue))
	if s.Combine.Has(Scale) {
		p("  scale: %s", number(s.Combine.Scale))
	}
	if s.Combine.Has(RMSNorm) {
		p("  rmsnorm: {weight: %s, eps: %s}", s.Combine.RMSNorm.Weight, number(s.Combine.RMSNorm.Eps))
	}
	p("  output: %s", s.Combine.Output)
	p("arch: %s", flow(s.Arch))
	p("transports: %s", flow(s.Transports))
	p("sm_limit: %d", s.SMLimit)
	p("timeout: %s", s.Timeout)
	return b.Bytes()
}

// number writes a float so that YAML reads the same one.
func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

func flow[T ~string](l []T) string {
	return "[" + strings.Join(texts(l), ", ") + "]"
}
