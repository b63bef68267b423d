package gen

import "github.com/moegen/moegen/spec"

// Launch is what the host needs to know to launch a spec's kernels: the same
// numbers that the CUDA source has as constants.
type Launch struct {
	Threads      int // per block of dispatch and combine with protocol bulk
	CountThreads int // of the counts kernel's one block
	MaxBlocks    int // of a dispatch or combine launch
	Plan         []PlanRow
	Layout       Layout
}

// PlanRow says how to launch for steps of up to Tokens tokens a rank.
type PlanRow struct {
	Tokens  int
	Low     bool // protocol ll, not bulk
	Blocks  int
	Threads int // per block
}

// LaunchOf returns how a spec's kernels are launched.
func LaunchOf(s *spec.Spec) Launch {
	return Launch{
		Threads: threads,
		// One thread a rank and one for the total, in whole warps.
		CountThreads: int(alignUp(uint64(s.EPSize)+1, 32)),
		MaxBlocks:    s.SMLimit,
		Plan:         Plan(s, Auto),
		Layout:       layoutOf(s),
	}
}

// lowThreads is the most threads of a block with protocol ll. RMSNorm's rows
// are laid out over blocks of one size.
func lowThreads(s *spec.Spec) int {
	if s.Combine.Has(spec.RMSNorm) {
		return threads
	}
	return 2 * threads
}

// Protocol is how ranks learn that data has arrived.
type Protocol string

const (
	// Auto takes LL for as many tokens as it can, then Bulk.
	Auto Protocol = "auto"
	// LL is low latency: data carries its own arrival marks.
	LL Protocol = "ll"
	// Bulk is full bandwidth: data, then a flag for each block.
	Bulk Protocol = "bulk"
)

// Plan plans a spec's launches without measurements: every thread gets one pack
// of hidden states, as they are before or after quantisation, until the blocks
// run out. Powers of two keep the number of rows small. With LL the plan is
// Auto's, since LL cannot do more.
func Plan(s *spec.Spec, protocol Protocol) []PlanRow {
	packs, low := max(s.PayloadRowBytes(), s.HiddenRowBytes())/16, lowTokens(s)
	if protocol == Bulk {
		low = 0
	}
	words := rowWords(s.RoutingRowBytes()) + rowWords(s.ProbsRowBytes()) + rowWords(s.ScaleRowBytes())
	var plan []PlanRow
	for tokens := 1; ; tokens *= 2 {
		tokens = min(tokens, s.MaxTokens)
		row := PlanRow{Tokens: tokens, Low: tokens <= low, Threads: threads}
		row.Blocks = (tokens*packs + threads - 1) / threads
		if row.Low {
			// Threads of their own for lines and headers, of which none should wait
			// for another thing.
			lines := s.EPSize * (tokens*words + 1)
			row.Blocks = (tokens*packs + lines + threads - 1) / threads
		} else {
			row.Blocks += 2 // one for each small tensor, so that it does not wait behind the large one
		}
		if row.Low && row.Blocks > s.SMLimit {
			row.Threads = lowThreads(s)
		}
		if s.Combine.Has(spec.RMSNorm) {
			row.Blocks = max(row.Blocks, tokens) // a block a row
		}
		row.Blocks = min(row.Blocks, s.SMLimit)
		if n := len(plan); n > 0 && plan[n-1].same(row) {
			plan[n-1].Tokens = tokens
		} else {
			plan = append(plan, row)
		}
		if tokens == s.MaxTokens {
			return plan
		}
	}
}

// same reports whether two rows are launched alike.
func (r PlanRow) same(o PlanRow) bool {
	r.Tokens = o.Tokens
	return r == o
}
