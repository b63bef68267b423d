// Package ptx parses the PTX that nvcc emits into typed instructions.
//
// It accepts a closed set of opcodes, modifiers, types and directives: what it
// does not know is an error with the line and the text, never ignored, because
// an emulator that skips an instruction proves nothing.
//
// The package knows PTX's grammar and typing, not its execution: package emu
// turns an Instr into something that runs.
package ptx

// Module is one PTX file.
type Module struct {
	Name    string   // for messages
	Version [2]int   // .version
	Target  string   // .target, first word, e.g. "sm_90a"
	Files   []string // .file table, indexed by .loc file number (0 unused)
	Globals []Var    // module-scope .global, .const and .shared variables
	Funcs   []*Func  // entries, in file order

	// GlobalBytes and ConstBytes are the sizes of the blocks in which the
	// .global and .const variables have their offsets.
	GlobalBytes, ConstBytes int
}

// Var is a declared variable or parameter.
type Var struct {
	Name  string
	Space Space  // Param, Global, Const, Shared or Local
	Type  Type   // element type
	Align int    // bytes
	Len   int    // elements; 1 for scalars, 0 for an extern array of unknown size
	Init  []byte // leading bytes of the initialiser, the rest is zero; nil where there is none
	// Offset is the variable's byte offset in its space: in the parameter
	// block, in the function's static shared memory, in its local frame, or in
	// the module's .global or .const block. It is 0 for an extern array
	// (Len 0), which starts where the using function's dynamic shared memory
	// does: at Func.SharedBytes rounded up to 16.
	Offset int
}

// Size is the variable's size in bytes.
func (v *Var) Size() int { return v.Len * v.Type.Size() }

// Func is one kernel.
type Func struct {
	Name       string
	Params     []Var
	ParamBytes int
	Vars       []Var // function-scope .shared and .local variables
	// SharedBytes and LocalBytes are the static sizes; dynamic shared memory
	// (an .extern array) starts at SharedBytes rounded up to 16.
	SharedBytes  int
	LocalBytes   int
	Regs         []Reg // every register that is used, of nested scopes too; operands index it
	Body         []Instr
	MaxNTID      [3]int // 0 where not given
	ReqNTID      [3]int // 0 where not given
	MinNCTAPerSM int
	Line         int
}

// Reg is a declared register.
type Reg struct {
	Name string
	Type Type // B16, B32, B64, F32, ..., or Pred
}

// Instr is one instruction. Fields that an opcode does not use are zero.
type Instr struct {
	Op    Op
	Guard Guard

	Type     Type // the operation's (or the destination's) type
	SrcType  Type // cvt, set: the source's type; mad.wide and the like keep Type
	Vec      int  // number of vector elements: 1, 2, 4 or 8
	Space    Space
	Sem      Sem
	Scope    Scope
	Cmp      Cmp      // setp, set
	Bool     BoolOp   // setp.and/.or/.xor, bar.red, and so on
	Atom     AtomOp   // atom, red, multimem.red, multimem.ld_reduce, redux
	Round    Round    // cvt and float arithmetic
	Mul      MulPart  // mul, mad: .lo .hi .wide
	Shfl     ShflMode // shfl
	Vote     VoteMode // vote, match
	Fence    FenceKind
	Sat      bool // .sat, .satfinite
	Ftz      bool
	Approx   bool
	Full     bool // div.full
	Relu     bool
	NC       bool // ld.global.nc
	Volatile bool // Sem and Scope are then Relaxed and Sys, which is what volatile means
	Uni      bool // bra.uni
	AccF32   bool // multimem.ld_reduce .acc::f32
	AccF16   bool
	Wrap     bool // shf.wrap (else .clamp)
	Left     bool // shf.l (else .r)
	ShiftAmt bool // bfind.shiftamt
	NoInc    bool
	CC       bool     // add.cc and the like: carry out
	NaN      bool     // min, max, redux .NaN
	Abs      bool     // redux .abs
	XorSign  bool     // min, max .xorsign.abs
	ToSpace  bool     // cvta.to
	Aligned  bool     // barriers: bar.* and .aligned, which all threads of a warp must reach together
	Prmt     PrmtMode // prmt
	// Hints holds accepted modifiers without effect on results, e.g.
	// "L1::no_allocate", in source order.
	Hints []string
	// Mods is everything after the opcode's base name as written, for
	// opcodes (cp.async, mbarrier, griddepcontrol) whose forms are few and
	// enumerated in the parser's table, e.g. "async.bulk.commit_group".
	Mods string

	Dst    []Operand // destinations; setp p|q and shfl d|p have two
	Src    []Operand // sources; for st and red: address first, then the value
	Target int       // bra: index in Func.Body of the first instruction after the label
	// Targets are the branch targets of brx.idx, in the order of the
	// .branchtargets list.
	Targets []int

	Line int    // in the PTX file, 1-based
	Text string // the instruction as written, one line, without the guard
	Loc  Loc    // nearest preceding .loc, zero if none
}

// Guard is the @p or @!p before an instruction.
type Guard struct {
	Reg int // index in Func.Regs; -1 if there is no guard
	Neg bool
}

// Loc is a source position from .loc (the inlined-at chain is not kept: the
// innermost position is what a reader wants to see).
type Loc struct{ File, Line int }

// Operand is one operand.
type Operand struct {
	Kind OperandKind
	Reg  int  // RegOperand; base register of MemOperand (-1: none)
	Neg  bool // RegOperand of predicate type written !p
	// Imm is an ImmOperand's bits. An integer is cut to the width of the type
	// that the operand has in this instruction and sign-extended to 64 bits,
	// for unsigned types too. A float has the bits of that type, zero-extended.
	// A predicate is 0 or 1.
	Imm     uint64
	Off     int64 // MemOperand: byte offset; VarOperand: byte offset
	Var     *Var  // MemOperand or VarOperand that names a variable
	Special Special
	Vec     []Operand // VecOperand: registers, immediates or sinks
}

// OperandKind tells which fields of an Operand count.
type OperandKind int

const (
	RegOperand     OperandKind = iota + 1
	ImmOperand                 // a constant, integer or float
	SpecialOperand             // %tid.x and the like
	MemOperand                 // [reg+off] or [var+off]
	VarOperand                 // the address of a variable: mov.u64 %rd, name
	VecOperand                 // {a,b,...}
	SinkOperand                // _
)

// Special is a special register.
type Special int

const (
	TidX Special = iota + 1
	TidY
	TidZ
	NTidX
	NTidY
	NTidZ
	CtaidX
	CtaidY
	CtaidZ
	NCtaidX
	NCtaidY
	NCtaidZ
	LaneID
	WarpID
	NWarpID
	SMID
	NSMID
	GridID
	LanemaskEq
	LanemaskLt
	LanemaskLe
	LanemaskGt
	LanemaskGe
	Clock
	Clock64
	GlobalTimer
	GlobalTimerLo
	GlobalTimerHi
	ClusterCtaRank
	ClusterNCtaRank
	DynamicSmemSize
	TotalSmemSize
)

// Type is a PTX fundamental or packed type.
type Type int

const (
	NoType Type = iota
	B8
	B16
	B32
	B64
	B128
	U8
	U16
	U32
	U64
	S8
	S16
	S32
	S64
	F16
	F16x2
	BF16
	BF16x2
	F32
	F32x2
	F64
	E4M3x2
	E5M2x2
	E4M3x4
	E5M2x4
	Pred
)

// Space is a state space.
type Space int

const (
	Generic Space = iota
	Global
	Shared
	Param
	Local
	Const
)

// Sem is a memory ordering.
type Sem int

const (
	Weak Sem = iota
	Relaxed
	Acquire
	Release
	AcqRel
	SC
)

// Scope is the set of threads with which a strong operation synchronises.
type Scope int

const (
	NoScope Scope = iota
	CTA
	Cluster
	GPU
	Sys
)

// Cmp is a comparison; the U forms are true for unordered operands.
type Cmp int

const (
	EQ Cmp = iota + 1
	NE
	LT
	LE
	GT
	GE
	LO // unsigned lt
	LS
	HI
	HS
	EQU
	NEU
	LTU
	LEU
	GTU
	GEU
	NUM
	NAN
)

// BoolOp combines predicates.
type BoolOp int

const (
	BoolAnd BoolOp = iota + 1
	BoolOr
	BoolXor
	BoolPopc // bar.red.popc
)

// AtomOp is a read-modify-write or a reduction.
type AtomOp int

const (
	AtomAdd AtomOp = iota + 1
	AtomMin
	AtomMax
	AtomAnd
	AtomOr
	AtomXor
	AtomExch
	AtomCAS
	AtomInc
	AtomDec
)

// Round is a rounding modifier.
type Round int

const (
	NoRound Round = iota
	RN
	RZ
	RM
	RP
	RNA
	RNI // to integer
	RZI
	RMI
	RPI
)

// MulPart selects which half of a product is kept.
type MulPart int

const (
	NoPart MulPart = iota
	Lo
	Hi
	Wide
)

// ShflMode is the kind of a shuffle.
type ShflMode int

const (
	ShflUp ShflMode = iota + 1
	ShflDown
	ShflBfly
	ShflIdx
)

// PrmtMode is a mode of prmt; the zero mode takes a selector per byte.
type PrmtMode int

const (
	PrmtBytes PrmtMode = iota
	PrmtF4E            // forward 4 extract
	PrmtB4E            // backward 4 extract
	PrmtRC8            // replicate 8
	PrmtECL            // edge clamp left
	PrmtECR            // edge clamp right
	PrmtRC16           // replicate 16
)

// VoteMode is the kind of a vote or match.
type VoteMode int

const (
	VoteAny VoteMode = iota + 1
	VoteAll
	VoteUni
	VoteBallot
	MatchAny
	MatchAll
)

// FenceKind is the kind of a fence or membar.
type FenceKind int

const (
	// FenceThread orders memory: Sem is AcqRel, SC, Acquire or Release and
	// Scope its reach. membar.{cta,gl,sys} are FenceThread with SC.
	FenceThread FenceKind = iota + 1
	FenceProxyAlias
	FenceProxyAsync   // fence.proxy.async: generic and async proxies, Space narrows it
	FenceMbarrierInit // fence.mbarrier_init.release.cluster
)
