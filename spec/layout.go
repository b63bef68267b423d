package spec

import "slices"

// LocalExperts returns the experts that live on a rank: count of them, from id
// first on. Experts are spread over the ranks in id order and as evenly as
// possible: where EPSize does not divide NumExperts, the first ranks hold one
// more than the others. It returns 0, 0 where the number of experts is not
// known or there is no such rank.
func (s *Spec) LocalExperts(rank int) (first, count int) {
	if s.NumExperts <= 0 || rank < 0 || rank >= s.EPSize {
		return 0, 0
	}
	each, extra := s.NumExperts/s.EPSize, s.NumExperts%s.EPSize
	first, count = rank*each+min(rank, extra), each
	if rank < extra {
		count++
	}
	return first, count
}

// HiddenRowBytes returns the bytes of one token's hidden state in DType, a
// multiple of 16.
func (s *Spec) HiddenRowBytes() int { return s.HiddenDim * s.DType.Size() }

// PayloadDType is the element type in which hidden states travel and are
// gathered.
func (s *Spec) PayloadDType() DType {
	switch {
	case s.Dispatch.Input != "":
		return s.Dispatch.Input
	case s.Dispatch.Quantize == QuantizeFP8:
		return FP8
	}
	return s.DType
}

// PayloadRowBytes returns the bytes of one gathered token, a multiple of 16.
func (s *Spec) PayloadRowBytes() int { return s.HiddenDim * bits(s.PayloadDType()) / 8 }

// InputDType is the element type of the hidden states that a rank brings.
func (s *Spec) InputDType() DType { return orElse(s.Dispatch.Input, s.DType) }

// InputRowBytes returns the bytes of one token as a rank brings it.
func (s *Spec) InputRowBytes() int { return s.HiddenDim * bits(s.InputDType()) / 8 }

// GatheredScale returns the element type of the scales that are gathered with
// hidden states and how many elements share one; "" and 0 where there are none.
func (s *Spec) GatheredScale() (DType, int) {
	switch {
	case s.Dispatch.Input != "":
		return s.Dispatch.ScaleDType, s.Dispatch.ScaleBlock
	case s.Dispatch.Quantize == QuantizeFP8:
		return FP32, scaleBlock
	}
	return "", 0
}

// ScaleRowBytes returns the bytes of one gathered token's scales, a multiple of
// 2, or 0 where there are none.
func (s *Spec) ScaleRowBytes() int {
	t, block := s.GatheredScale()
	if block == 0 {
		return 0
	}
	return s.HiddenDim / block * t.Size()
}

// OutputRowBytes returns the bytes of one row that combine yields, a multiple
// of 8.
func (s *Spec) OutputRowBytes() int { return s.HiddenDim * s.Combine.Output.Size() }

// OutputScaleRowBytes returns the bytes of the scales of one such row, or 0
// where it has none.
func (s *Spec) OutputScaleRowBytes() int {
	if s.Combine.Output != FP8Block128 {
		return 0
	}
	return s.HiddenDim / scaleBlock * FP32.Size()
}

// Has reports whether an epilogue is asked for.
func (c *Combine) Has(e Epilogue) bool { return slices.Contains(c.Epilogue, e) }

// WritesSum reports whether combine yields the row before RMSNorm and before
// the cast to Output, in DType, beside its output: the new residual stream.
func (s *Spec) WritesSum() bool {
	c := &s.Combine
	return c.Has(RMSNorm) || c.Has(Residual) && c.Output != s.DType
}

// bits is the size of an element in bits.
func bits(t DType) int {
	if t == FP4 {
		return 4
	}
	return 8 * t.Size()
}

// RoutingRowBytes returns the bytes of one token's expert ids, a multiple of 2.
func (s *Spec) RoutingRowBytes() int { return s.TopK * s.RoutingDType.Size() }

// ProbsRowBytes returns the bytes of one token's routing probabilities, a
// multiple of 2.
func (s *Spec) ProbsRowBytes() int { return s.TopK * s.ProbsDType.Size() }

// WireRowBytes returns the bytes of one token's partial sum between GPUs, a
// multiple of 16.
func (s *Spec) WireRowBytes() int { return s.HiddenDim * s.Combine.Wire.Size() }
