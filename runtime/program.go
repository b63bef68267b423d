package runtime

import (
	"fmt"
	"time"

	"github.com/moegen/moegen/runtime/driver"
)

// Version is the interface between generated code and this package. Generated
// code refers to the constant below that carries its number, so that code
// generated for another interface does not compile.
const Version = 1

// EnforceVersion1 exists while generated code of interface version 1 works.
const EnforceVersion1 = true

// DType is an element type.
type DType string

const (
	BF16  DType = "bf16"
	FP16  DType = "fp16"
	FP32  DType = "fp32"
	Int16 DType = "int16"
	Int32 DType = "int32"
	Int64 DType = "int64"
	FP8   DType = "fp8_e4m3"
	FP4   DType = "fp4_e2m1" // two in a byte
	UE8M0 DType = "ue8m0"    // a power of two: a scale
)

// Bits returns an element's size in bits.
func (t DType) Bits() int {
	switch t {
	case FP4:
		return 4
	case FP8, UE8M0:
		return 8
	case BF16, FP16, Int16:
		return 16
	case Int64:
		return 64
	}
	return 32
}

// Size returns an element's size in bytes, 0 for FP4.
func (t DType) Size() int { return t.Bits() / 8 }

// Transport is a way to move tokens between GPUs.
type Transport string

const (
	NVLS  Transport = "nvls"  // multicast and in-switch reduction
	P2P   Transport = "p2p"   // loads and stores to peers
	NCCL  Transport = "nccl"  // NCCL's collectives
	Local Transport = "local" // one rank: nothing to move
)

// Program is what the generator knows about a model: the shape, where things
// are in memory, and the kernels. Generated packages hold one; it is not
// changed after that.
type Program struct {
	Name     string // the model's name
	SpecHash string // of the spec it was generated from; must agree on all ranks

	Ranks     int // size of the expert-parallel group
	HiddenDim int // elements of a token
	TopK      int // experts a token is routed to
	MaxTokens int // tokens per rank and step, at most
	// MaxPrefillTokens is the most tokens per rank of a step outside graphs; 0
	// for no more than MaxTokens.
	MaxPrefillTokens int

	Input   DType // of the tokens that a rank brings
	Payload DType // of gathered tokens: another than Input where dispatch quantises
	Hidden  DType // of outputs
	Routing DType // of expert ids
	Probs   DType // of routing probabilities
	Wire    DType // of the experts' partial sums

	Epilogue Epilogue // of combine

	// Scale is the type of the scales that are gathered with tokens, of which
	// ScaleBlock elements share one; 0 where tokens have none.
	Scale      DType
	ScaleBlock int

	// WaitsForStream says that the kernels wait themselves for what is before them
	// on their stream: they may be launched programmatically.
	WaitsForStream bool

	Padded bool // gathered rows of each rank start at a multiple of the capacity
	Fills  bool // dispatch sets the routing of rows without a token to -1

	Transports   []Transport   // in order of preference
	Timeout      time.Duration // a wait longer than this fails the group
	Threads      int           // per block of dispatch and combine with protocol bulk
	CountThreads int           // of the counts kernel's one block
	MaxBlocks    int           // of a dispatch or combine launch
	Plan         []PlanRow     // ascending in Tokens, the last one covers MaxTokens
	Layout       Layout

	Source  []byte // CUDA C++
	PTX     []byte // Source compiled for PTXArch; empty if that was not done
	PTXArch string
}

// PlanRow says how to launch for steps of up to Tokens tokens a rank.
type PlanRow struct {
	Tokens  int
	Low     bool // protocol ll, not bulk
	Mixed   bool // bulk, and ll for steps of few tokens: the GPU chooses
	Blocks  int
	Threads int // per block
}

// Layout is where things are in symmetric memory and in the rank's private
// state, in bytes. The generator places them; the kernels have the same
// numbers as constants.
type Layout struct {
	// Offsets in symmetric memory. Signals, all that holds an epoch, reaches to
	// Routing; Staging, what protocol ll expects to find full of ones, to the end.
	Signals, Routing, Probs, Scales, Hidden, Partial, Staging uint64
	Bytes                                                     uint64 // size of the symmetric memory

	Control uint64 // size of the private state
	Step    uint64 // offset of the step's counts in it
	Epochs  uint64 // offset of the epochs, 4 bytes each, to the end
}

// The sizes of one token's row in the tensors, in bytes: what a rank brings
// (InputRowBytes), what is gathered (PayloadRowBytes, ScaleRowBytes), partial
// sums (WireRowBytes) and outputs (HiddenRowBytes).
func (p *Program) RoutingRowBytes() int { return p.TopK * p.Routing.Size() }
func (p *Program) ProbsRowBytes() int   { return p.TopK * p.Probs.Size() }
func (p *Program) InputRowBytes() int   { return p.HiddenDim * p.Input.Bits() / 8 }
func (p *Program) PayloadRowBytes() int { return p.HiddenDim * p.Payload.Bits() / 8 }
func (p *Program) HiddenRowBytes() int  { return p.HiddenDim * p.Hidden.Size() }
func (p *Program) WireRowBytes() int    { return p.HiddenDim * p.Wire.Size() }

func (p *Program) ScaleRowBytes() int {
	if p.ScaleBlock == 0 {
		return 0
	}
	return p.HiddenDim / p.ScaleBlock * p.Scale.Size()
}

// Quantizes reports whether dispatch quantises the tokens.
func (p *Program) Quantizes() bool { return p.Payload != p.Input }

// GivenScales reports whether ranks bring scales with their tokens.
func (p *Program) GivenScales() bool { return p.ScaleBlock > 0 && !p.Quantizes() }

// passesThrough reports whether dispatch has nothing to do.
func (p *Program) passesThrough() bool { return p.Ranks == 1 && !p.Quantizes() && !p.Fills }

// plan is how to launch for a capacity.
func (p *Program) plan(capacity int) PlanRow {
	for _, row := range p.Plan {
		if capacity <= row.Tokens {
			return row
		}
	}
	return PlanRow{Blocks: p.MaxBlocks, Threads: p.Threads}
}

// check refuses programs that the generator cannot have written.
func (p *Program) check() error {
	if p.Ranks < 1 || p.MaxTokens < 1 || p.HiddenRowBytes()%16 != 0 || p.Layout.Bytes == 0 || len(p.Source) == 0 {
		return fmt.Errorf("program %q is not complete: regenerate the package with moegen generate", p.Name)
	}
	for _, row := range p.Plan {
		if row.Blocks < 1 || row.Blocks > p.MaxBlocks {
			return fmt.Errorf("program %q plans %d blocks, allowed are 1 to %d", p.Name, row.Blocks, p.MaxBlocks)
		}
		if !row.Low && row.Threads != p.Threads {
			return fmt.Errorf("program %q plans %d threads, and its kernels have %d", p.Name, row.Threads, p.Threads)
		}
	}
	return nil
}

// Tensor is device memory with a number of rows; what a row is, the type that
// wraps it says. The zero Tensor is no memory.
type Tensor struct {
	Ptr  driver.DevicePtr
	Rows int
}
