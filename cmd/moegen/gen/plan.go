package gen

import "github.com/moegen/moegen/spec"

// Launch is what the host needs to know to launch a spec's kernels: the same
// numbers that the CUDA source has as constants.
type Launch struct {
	Threads      int // per block of dispatch and combine
	CountThreads int // of the counts kernel's one block
	MaxBlocks    int // of a dispatch or combine launch
	Plan         []PlanRow
	Layout       Layout
}

// PlanRow says how to launch for steps of up to Tokens tokens a rank.
type PlanRow struct {
	Tokens int
	Blocks int
}

// LaunchOf returns how a spec's kernels are launched.
func LaunchOf(s *spec.Spec) Launch {
	return Launch{
		Threads: threads,
		// One thread a rank and one for the total, in whole warps.
		CountThreads: int(alignUp(uint64(s.EPSize)+1, 32)),
		MaxBlocks:    s.SMLimit,
		Plan:         planOf(s),
		Layout:       layoutOf(s),
	}
}

// planOf gives every thread one pack of hidden states until the blocks run
// out, and the two small tensors a block each, so that they do not wait behind
// the large one; RMSNorm wants a block a row. What is quantised counts as it is
// before, or after, because that is how threads share it. Powers of two keep the
// number of rows small.
func planOf(s *spec.Spec) []PlanRow {
	packs := max(s.PayloadRowBytes(), s.HiddenRowBytes()) / 16
	var plan []PlanRow
	for tokens := 1; ; tokens *= 2 {
		tokens = min(tokens, s.MaxTokens)
		blocks := (tokens*packs+threads-1)/threads + 2
		if s.Combine.Has(spec.RMSNorm) {
			blocks = max(blocks, tokens)
		}
		blocks = min(s.SMLimit, blocks)
		plan = append(plan, PlanRow{Tokens: tokens, Blocks: blocks})
		if tokens == s.MaxTokens {
			return plan
		}
		if blocks == s.SMLimit { // more tokens change nothing
			plan[len(plan)-1].Tokens = s.MaxTokens
			return plan
		}
	}
}
