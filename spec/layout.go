package spec

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

// HiddenRowBytes returns the bytes of one token's hidden state, a multiple of 16.
func (s *Spec) HiddenRowBytes() int { return s.HiddenDim * s.DType.Size() }

// RoutingRowBytes returns the bytes of one token's expert ids, a multiple of 4.
func (s *Spec) RoutingRowBytes() int { return s.TopK * s.RoutingDType.Size() }

// ProbsRowBytes returns the bytes of one token's routing probabilities, a
// multiple of 4.
func (s *Spec) ProbsRowBytes() int { return s.TopK * s.ProbsDType.Size() }

// WireRowBytes returns the bytes of one token's partial sum between GPUs, a
// multiple of 16.
func (s *Spec) WireRowBytes() int { return s.HiddenDim * s.Combine.Wire.Size() }
