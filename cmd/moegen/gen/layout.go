package gen

import (
	"slices"

	"github.com/moegen/moegen/spec"
)

// threads is the number of threads in a block of dispatch and combine.
const threads = 512

// Layout is where things are in a rank's symmetric memory and how large its
// private state is. Offsets and sizes are in bytes; the same on every rank.
type Layout struct {
	Failure            uint64 // uint64
	CountSlots         uint64 // uint64[2][blocks][ranks]
	DispatchFlags      uint64 // uint32[blocks][ranks]
	CombineFlags       uint64 // uint32[blocks][ranks]
	LowDispatchHeaders uint64 // uint32[ranks]
	LowCombineHeaders  uint64 // uint32[ranks]
	LowLines           uint64 // staging buffers of protocol ll: lines
	Routing            uint64 // gathered routing
	Probs              uint64 // gathered probabilities
	Scales             uint64 // gathered scales of the hidden states, if they have any
	Hidden             uint64 // gathered hidden states
	Partial            uint64 // the experts' partial sums
	LowDispatch        uint64 // staging buffers of protocol ll: packs of dispatch, to the end
	LowCombine         uint64 // and of combine
	Bytes              uint64 // end of the symmetric memory

	ControlBytes uint64 // the private Control struct
	StepOffset   uint64 // its Step
	EpochOffset  uint64 // its epochs, to the end
}

// tensorAlign separates the tensors by more than any vector access or cache
// line needs, so that views of them suit any expert kernel.
const tensorAlign = 1024

func layoutOf(s *spec.Spec) Layout {
	ranks, blocks := uint64(s.EPSize), uint64(s.SMLimit)
	rows := ranks * uint64(s.MaxTokens)
	at := uint64(0)
	place := func(bytes, align uint64) uint64 {
		start := alignUp(at, align)
		at = start + bytes
		return start
	}
	var l Layout
	l.Failure = place(8, 128)
	l.CountSlots = place(2*blocks*ranks*8, 128)
	l.DispatchFlags = place(blocks*ranks*4, 128)
	l.CombineFlags = place(blocks*ranks*4, 128)
	low := uint64(lowTokens(s))
	if low > 0 {
		l.LowDispatchHeaders = place(ranks*4, 128)
		l.LowCombineHeaders = place(ranks*4, 128)
		words := rowWords(s.RoutingRowBytes()) + rowWords(s.ProbsRowBytes()) + rowWords(s.ScaleRowBytes())
		l.LowLines = place(2*ranks*low*uint64(words)*8, 128)
	}
	l.Routing = place(rows*uint64(s.RoutingRowBytes()), tensorAlign)
	l.Probs = place(rows*uint64(s.ProbsRowBytes()), tensorAlign)
	l.Scales = place(rows*uint64(s.ScaleRowBytes()), tensorAlign)
	l.Hidden = place(rows*uint64(s.PayloadRowBytes()), tensorAlign)
	l.Partial = place(rows*uint64(s.WireRowBytes()), tensorAlign)
	l.LowDispatch, l.LowCombine = alignUp(at, tensorAlign), alignUp(at, tensorAlign)
	if low > 0 {
		l.LowDispatch = place(2*ranks*low*uint64(s.PayloadRowBytes()), tensorAlign)
		l.LowCombine = place(2*ranks*low*uint64(s.WireRowBytes()), tensorAlign)
	}
	l.Bytes = alignUp(at, tensorAlign)

	// struct Control in layout.cu.tmpl: two words of 8 and twelve of 4, then Step
	// (6 + ranks + ranks+1 words of 4) and the epochs.
	l.StepOffset = 64
	l.EpochOffset = l.StepOffset + 4*(6+ranks+ranks+1)
	words := blocks + 2*blocks*ranks
	if low > 0 {
		words += 2 * blocks
	}
	l.ControlBytes = alignUp(l.EpochOffset+4*words, 8)
	return l
}

// lowMemory is what staging buffers of protocol ll may take of a GPU.
const lowMemory = 128 << 20

// lowTokens is how many tokens a rank the staging buffers of protocol ll have
// room for: a power of two, or max_tokens. 0 means that the protocol is not
// generated: it needs ranks that push to each other, elements of which some bits
// are no number, and RMSNorm to look at a row no more than once.
func lowTokens(s *spec.Spec) int {
	unicast := slices.ContainsFunc(s.Transports, func(t spec.Transport) bool { return t != spec.NCCL })
	if s.EPSize == 1 || !unicast || s.PayloadDType() == spec.FP4 || s.Combine.Has(spec.RMSNorm) && !holdsRow(s) {
		return 0
	}
	each := 2 * s.EPSize * (s.PayloadRowBytes() + s.WireRowBytes())
	tokens := 1
	for 2*tokens*each <= lowMemory {
		tokens *= 2
	}
	return min(tokens, s.MaxTokens)
}

// hasMixed reports whether a spec has kernels that take protocol ll or bulk: they
// are for capacities beyond what ll can do.
func hasMixed(s *spec.Spec) bool {
	low := lowTokens(s)
	return low > 0 && low < s.MaxTokens
}

// rowWords is how many 32-bit words a row travels in as lines: one for each half
// word where a row is no whole number of words.
func rowWords(rowBytes int) int {
	if rowBytes%4 != 0 {
		return rowBytes / 2
	}
	return rowBytes / 4
}

func alignUp(n, align uint64) uint64 { return (n + align - 1) / align * align }

// packBytes is the widest unit, up to 16 bytes, that divides a row.
func packBytes(rowBytes int) int {
	for b := 16; b > 2; b /= 2 {
		if rowBytes%b == 0 {
			return b
		}
	}
	return 2
}
