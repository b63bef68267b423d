package gen

import (
	"fmt"
	"strconv"

	"github.com/moegen/moegen/spec"
)

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
	Mixed   bool // bulk, and ll for steps of few tokens: the GPU chooses
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

// lowThreads is the most threads of a block with protocol ll: as many as have
// registers for what they wait for at a time. RMSNorm's rows are laid out over
// blocks of one size.
func lowThreads(s *spec.Spec) int {
	switch {
	case s.Combine.Has(spec.RMSNorm):
		return threads
	case s.EPSize > 3 && quantizes(s): // for packs and for the scales beside them
		return threads
	case s.EPSize > 4:
		return threads + threads/2
	}
	return 2 * threads
}

func quantizes(s *spec.Spec) bool { return s.Dispatch.Quantize == spec.QuantizeFP8 }

// Protocol is how ranks learn that data has arrived.
type Protocol string

const (
	// Auto takes LL for as many tokens as it can, then Mixed.
	Auto Protocol = "auto"
	// LL is low latency: data carries its own arrival marks.
	LL Protocol = "ll"
	// Bulk is full bandwidth: data, then a flag for each block.
	Bulk Protocol = "bulk"
	// Mixed is LL for steps of few tokens and Bulk for others, chosen on the GPU.
	Mixed Protocol = "mixed"
)

// Plan plans a spec's launches. With Auto it is as measured, if the spec has a
// plan, and built in for more tokens than were measured.
//
// The built-in plan is made without measurements: every thread gets one pack of
// hidden states, as they are before or after quantisation, until the blocks run
// out. Powers of two keep the number of rows small. With LL the plan is the built-in
// one, since LL cannot do more; so it is with Mixed where it is never bulk.
func Plan(s *spec.Spec, protocol Protocol) []PlanRow {
	packs, low := max(s.PayloadRowBytes(), s.HiddenRowBytes())/16, lowTokens(s)
	if protocol == Bulk || protocol == Mixed && hasMixed(s) {
		low = 0
	}
	words := rowWords(s.RoutingRowBytes()) + rowWords(s.ProbsRowBytes())
	if !quantizes(s) {
		words += rowWords(s.ScaleRowBytes()) // scales that dispatch makes travel with packs
	}
	var plan []PlanRow
	if protocol == Auto {
		plan = measured(s)
	}
	first := 1
	for _, row := range plan {
		if row.Tokens == s.MaxTokens {
			return plan
		}
		for first <= row.Tokens {
			first *= 2
		}
	}
	for tokens := first; ; tokens *= 2 {
		tokens = min(tokens, s.MaxTokens)
		row := PlanRow{Tokens: tokens, Low: tokens <= low, Mixed: tokens > low && protocol != Bulk && hasMixed(s), Threads: threads}
		if row.Low {
			// Threads of their own for lines and headers, of which none should wait
			// for another thing.
			all := tokens*packs + s.EPSize*tokens*words + (s.EPSize+31)/32*32
			// Small blocks are ready sooner, and large ones keep more on its way.
			row.Threads, row.Blocks = lowThreads(s), s.SMLimit
			for _, n := range []int{threads, max(threads/2, leastThreads(s))} {
				if b := blocksOf(all, n); b <= s.SMLimit {
					row.Threads, row.Blocks = n, b
				}
			}
			// Enough is on its way with fewer, where each thread pushes to several
			// ranks. Mixed kernels do the same with more registers a thread.
			if s.EPSize > 2 && row.Threads >= threads && lowThreads(s) > threads {
				row.Threads = threads
				row.Mixed = protocol == Auto && hasMixed(s)
				row.Low = !row.Mixed
			}
		}
		if !row.Low {
			row.Blocks = blocksOf(tokens*packs, threads) + 2 // one for each small tensor, so that it does not wait behind the large one
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

// blocksOf returns how many blocks of so many threads n threads take.
func blocksOf(n, threads int) int { return (n + threads - 1) / threads }

// measured returns the plan that the spec has for its shape, as far as max_tokens
// goes: none where the spec was changed since it was loaded.
func measured(s *spec.Spec) []PlanRow {
	if s.Plan == nil || s.Plan.Shape != s.Shape() {
		return nil
	}
	var plan []PlanRow
	for _, r := range s.Plan.Rows {
		// Mixed is never bulk where max_tokens is less than when it was measured.
		mixed := r.Protocol == string(Mixed)
		low := r.Protocol == string(LL) || mixed && !hasMixed(s)
		row := PlanRow{Tokens: min(r.Tokens, s.MaxTokens), Low: low, Mixed: mixed && !low, Blocks: r.Blocks, Threads: r.Threads}
		if n := len(plan); n > 0 && plan[n-1].same(row) {
			plan[n-1].Tokens = row.Tokens
		} else {
			plan = append(plan, row)
		}
		if r.Tokens >= s.MaxTokens {
			break
		}
	}
	return plan
}

// CheckPlan finds rows of a spec's measured plan that its kernels cannot be
// launched with. The error is a [spec.ErrorList].
func CheckPlan(s *spec.Spec) error {
	if s.Plan == nil {
		return nil
	}
	var list spec.ErrorList
	for i, row := range s.Plan.Rows {
		fault := func(field, msg string, value any, allowed string) {
			list = append(list, s.Plan.Fault(i, field, msg, fmt.Sprint(value), allowed))
		}
		if row.Protocol != string(LL) {
			if row.Threads != threads {
				fault("threads", "kernels of protocols bulk and mixed have blocks of one size", row.Threads, strconv.Itoa(threads))
			}
			if row.Protocol == string(Mixed) && lowTokens(s) == 0 {
				fault("protocol", "this spec has no kernels of protocols ll and mixed", row.Protocol, string(Bulk))
			}
			continue
		}
		low, most := lowTokens(s), lowThreads(s)
		switch tokens := min(row.Tokens, s.MaxTokens); {
		case low == 0:
			fault("protocol", "this spec has no kernels of protocol ll", row.Protocol, string(Bulk))
		case tokens > low:
			fault("tokens", "more tokens than the buffers of protocol ll have room for", row.Tokens, fmt.Sprintf("1..%d, or protocol bulk", low))
		}
		switch least := leastThreads(s); {
		case least == most && row.Threads != most:
			fault("threads", "kernels with RMSNorm have blocks of one size", row.Threads, strconv.Itoa(most))
		case row.Threads < least || row.Threads > most:
			fault("threads", "out of range", row.Threads, fmt.Sprintf("%d..%d", least, most))
		}
	}
	if list == nil {
		return nil
	}
	return list
}

// ThreadsOf lists block sizes that a protocol's kernels can be launched with and
// that are worth a try: powers of two, and what they were planned for; none for
// a protocol that the spec has no kernels of. tokens is the most that it can do.
func ThreadsOf(s *spec.Spec, p Protocol) (sizes []int, tokens int) {
	if p == Bulk || p == Mixed && hasMixed(s) {
		return []int{threads}, s.MaxTokens
	}
	if p == Mixed {
		return nil, 0
	}
	if tokens = lowTokens(s); tokens == 0 {
		return nil, 0
	}
	for n := threads / 2; n <= lowThreads(s); n *= 2 {
		if n >= leastThreads(s) {
			sizes = append(sizes, n)
		}
	}
	return sizes, tokens
}

// leastThreads is the fewest threads of a block with protocol ll: each rank has
// one of its own, and quantising takes lanes that come together.
func leastThreads(s *spec.Spec) int {
	if s.Combine.Has(spec.RMSNorm) {
		return threads
	}
	return int(alignUp(uint64(s.EPSize)+1, 128))
}

// same reports whether two rows are launched alike.
func (r PlanRow) same(o PlanRow) bool {
	r.Tokens = o.Tokens
	return r == o
}
