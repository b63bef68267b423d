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
)

// Size returns an element's size in bytes.
func (t DType) Size() int {
	switch t {
	case FP8:
		return 1
	case BF16, FP16, Int16:
		return 2
	case Int64:
		return 8
	}
	return 4
}

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

	Hidden  DType // of tokens, gathered tokens and outputs
	Routing DType // of expert ids
	Probs   DType // of routing probabilities
	Wire    DType // of the experts' partial sums

	Epilogue Epilogue // of combine

	Transports   []Transport   // in order of preference
	Timeout      time.Duration // a wait longer than this fails the group
	Threads      int           // per block of dispatch and combine
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
	Tokens int
	Blocks int
}

// Layout is where things are in symmetric memory and in the rank's private
// state, in bytes. The generator places them; the kernels have the same
// numbers as constants.
type Layout struct {
	// Offsets in symmetric memory. Signals, all that holds an epoch, reaches to
	// Routing.
	Signals, Routing, Probs, Hidden, Partial uint64
	Bytes                                    uint64 // size of the symmetric memory

	Control uint64 // size of the private state
	Step    uint64 // offset of the step's counts in it
	Epochs  uint64 // offset of the epochs, 4 bytes each, to the end
}

// RoutingRowBytes, ProbsRowBytes, HiddenRowBytes and WireRowBytes are the
// sizes of one token's row in the tensors.
func (p *Program) RoutingRowBytes() int { return p.TopK * p.Routing.Size() }
func (p *Program) ProbsRowBytes() int   { return p.TopK * p.Probs.Size() }
func (p *Program) HiddenRowBytes() int  { return p.HiddenDim * p.Hidden.Size() }
func (p *Program) WireRowBytes() int    { return p.HiddenDim * p.Wire.Size() }

// blocks is the grid for a capacity.
func (p *Program) blocks(capacity int) int {
	for _, row := range p.Plan {
		if capacity <= row.Tokens {
			return row.Blocks
		}
	}
	return p.MaxBlocks
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
	}
	return nil
}

// Tensor is device memory with a number of rows; what a row is, the type that
// wraps it says. The zero Tensor is no memory.
type Tensor struct {
	Ptr  driver.DevicePtr
	Rows int
}
