package spec

import "time"

// Version is the one version of the spec's language that this package reads.
const Version = 1

// Spec is the shape of one model's expert-parallel exchange: everything that
// the generated code depends on. Specs come from [Parse] or [Load]; one built
// or changed in Go should go through [Spec.Validate].
type Spec struct {
	// Version is the version of the spec's language, always 1.
	Version int

	// Model names the model in generated comments and metrics: letters, digits
	// and "._-", starting with a letter or digit, at most 64 bytes. The default
	// is the file's base name without its extension.
	Model string

	// From is the path of the model's config.json, relative to the spec, with
	// slashes: HiddenDim, NumExperts and TopK are taken from there. The default is
	// none. It is no part of the canonical form or the hash, which have the values.
	From string

	// HiddenDim is the number of elements in one token's hidden state. A row,
	// HiddenDim elements of DType, is a multiple of 16 bytes of at most 1 MiB,
	// because kernels move it in 16-byte vectors. Required, unless From is given.
	HiddenDim int

	// TopK is the number of experts that each token is routed to, 1..32.
	// Required, unless From is given.
	TopK int

	// NumExperts is the number of routed experts in the whole model, over all
	// ranks: at least TopK and at least EPSize, at most 65536 and at most what
	// RoutingDType can count. It need not be a multiple of EPSize, see
	// [Spec.LocalExperts]. 0 means "not known": then nothing that depends on it
	// is checked, here or later, and no expert is anybody's.
	NumExperts int

	// EPSize is the number of ranks (GPUs) in the expert-parallel group, 1..72.
	// With 1 the exchange is a pass-through. Required.
	EPSize int

	// DType is the element type of hidden states: BF16, FP16 or FP32. Required.
	DType DType

	// MaxTokens is the most tokens that one rank may bring to one step,
	// 1..65536. It sizes the buffers: EPSize × MaxTokens rows of hidden states
	// must fit in 16 GiB. Default 512.
	MaxTokens int

	// MaxPrefillTokens is the most tokens that one rank may bring to a step that
	// is not captured, whose counts the host knows: more than MaxTokens travel
	// in several exchanges. 0 (default) for no more than MaxTokens; otherwise
	// MaxTokens..1048576.
	MaxPrefillTokens int

	// RoutingDType is the type of expert ids: Int16, Int32 (default) or Int64.
	RoutingDType DType

	// ProbsDType is the type of routing probabilities: FP32 (default) or BF16.
	ProbsDType DType

	// Layout is where the ranks' rows lie in the gathered tensors.
	Layout Layout

	// RoutingFill is what Dispatch writes to gathered routing rows that hold no
	// token, up to the last row that the step's capacity allows.
	RoutingFill RoutingFill

	// Dispatch is how tokens travel to the experts.
	Dispatch Dispatch

	// Combine is how partial results travel back.
	Combine Combine

	// Arch lists the GPU architectures to compile for, in nvcc's names. A set:
	// kept sorted as in the allowed list. Default sm_90a and sm_100a.
	Arch []string

	// Transports lists the transports to generate. A set: always kept in the
	// order nvls, p2p, nccl, in which they are tried. Default all three.
	Transports []Transport

	// SMLimit is the most streaming multiprocessors that one kernel may occupy
	// (its number of blocks), 1..132. Default 32. A plan of moegen tune is for one.
	SMLimit int

	// Timeout bounds every wait for a peer, 1ms..10m. Default 2s. With protocol ll a
	// peer that has not even begun the operation gets an eighth more, half a second
	// at most: it may itself be waiting, for the rank that is to blame.
	Timeout time.Duration

	// Plan says how to launch, where [Load] found a file that says so beside the
	// spec; see [PlanFile]. Like From it is no part of the canonical form or the
	// hash. Whoever changes the spec may leave it: it is for one shape.
	Plan *Plan `json:"-"`
}

// Dispatch is how tokens travel to the experts.
type Dispatch struct {
	// Quantize is what the dispatch kernel does to hidden states before it sends
	// them. QuantizeFP8 needs a HiddenDim that is a multiple of 128.
	Quantize Quantize

	// Input is the element type of the hidden states that a rank brings where
	// they are quantised already: FP8 or FP4. "" (default) is the spec's DType.
	Input DType

	// ScaleDType and ScaleBlock describe the scales that come with a quantised
	// Input and travel with it unchanged: one scale (FP32, FP8 or UE8M0) for
	// every ScaleBlock (16, 32, 64 or 128) elements of a row. Both are required
	// with Input and must be left out without.
	ScaleDType DType
	ScaleBlock int
}

// Combine is how partial results travel back and are summed.
type Combine struct {
	// Wire is the element type of partial sums between GPUs: the spec's DType
	// (default), or FP32 for more exact sums at more bytes.
	Wire DType

	// Order is the order in which the ranks' partial sums are added.
	Order Order

	// Epilogue lists what the combine kernel does to the sum, in fp32, before it
	// stores it: any of AddShared, Scale, Residual, RMSNorm, in this order.
	// Default none.
	Epilogue []Epilogue

	// Scale is the factor of the epilogue Scale, required with it.
	Scale float64

	// RMSNorm is what the epilogue RMSNorm needs.
	RMSNorm RMSNormParams

	// Output is the element type of what combine yields: the spec's DType
	// (default), another of BF16, FP16 and FP32, or FP8Block128: fp8 e4m3 with
	// one fp32 scale per 128 elements.
	Output DType
}

// RMSNormParams are the parameters of the epilogue RMSNorm.
type RMSNormParams struct {
	// Weight is the element type of the weight vector, BF16, FP16 or FP32.
	// Required with the epilogue.
	Weight DType
	// Eps is added to the mean square, 0..1. Default 1e-6.
	Eps float64
}

// DType is the type of one element in memory or on the wire.
type DType string

// The element types. Each field of a [Spec] allows some of them.
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

	// FP8Block128 is FP8 in rows that have one fp32 scale per 128 elements.
	FP8Block128 DType = "fp8_e4m3_block128"
)

// Size returns the size of one element in bytes, or 0 for a type that this
// package does not know and for FP4, which has half a byte.
func (t DType) Size() int {
	switch t {
	case FP8, UE8M0, FP8Block128:
		return 1
	case BF16, FP16, Int16:
		return 2
	case FP32, Int32:
		return 4
	case Int64:
		return 8
	}
	return 0
}

// Layout is where the ranks' rows lie in the gathered tensors.
type Layout string

const (
	// Compact puts each rank's rows right behind those of the rank before.
	Compact Layout = "compact"
	// Padded gives each rank as many rows as the step's capacity.
	Padded Layout = "padded"
)

// RoutingFill is what becomes of gathered routing rows without a token.
type RoutingFill string

const (
	// FillNone leaves them as they are.
	FillNone RoutingFill = "none"
	// FillMinusOne sets every expert id in them to -1: no expert.
	FillMinusOne RoutingFill = "-1"
)

// Quantize is what is done to hidden states before dispatch.
type Quantize string

const (
	// QuantizeNone sends hidden states as they are.
	QuantizeNone Quantize = "none"
	// QuantizeFP8 sends fp8 e4m3 with one fp32 scale per 128 elements.
	QuantizeFP8 Quantize = "fp8_e4m3_block128"
)

// Order is the order in which combine adds the ranks' partial sums.
type Order string

const (
	// OrderAny lets the switch add over nvls, in an order of its own: results may
	// differ in the last bits from run to run, and a sum comes in the type Wire
	// before anything is done to it. Other transports add in rank order anyway.
	OrderAny Order = "any"
	// OrderRank adds in rank order in fp32 over every transport: the same bits for
	// a token whatever its batch, its row and the other ranks' tokens. Over nvls
	// this costs a read from each peer in place of one from the switch.
	OrderRank Order = "rank"
)

// Epilogue is one operation fused into the end of combine.
type Epilogue string

const (
	// AddShared adds the shared expert's output, of type DType.
	AddShared Epilogue = "add_shared"
	// Scale multiplies by [Combine.Scale].
	Scale Epilogue = "scale"
	// Residual adds the residual stream, of type DType, and writes the new one.
	Residual Epilogue = "residual"
	// RMSNorm divides the row by its root mean square, multiplies it by a weight
	// and writes that beside the row itself.
	RMSNorm Epilogue = "rmsnorm"
)

// Transport is a way for bytes to get from one GPU to another.
type Transport string

const (
	// NVLS is NVLink SHARP: multicast stores and in-switch reduction.
	NVLS Transport = "nvls"
	// P2P is loads and stores on peer-mapped memory.
	P2P Transport = "p2p"
	// NCCL is NCCL's collectives.
	NCCL Transport = "nccl"
)
