package ptx

// Op is an opcode's base name.
type Op int

const (
	Abs Op = iota + 1
	Activemask
	Add
	Addc
	And
	Atom
	BarArrive // bar.arrive, barrier.cta.arrive
	BarRed    // bar.red.{and,or}.pred, bar.red.popc.u32
	BarSync   // bar.sync, barrier.cta.sync
	BarWarpSync
	Bfe
	Bfi
	Bfind
	Bra
	Brev
	Brkpt
	Brx // brx.idx: an indexed branch, Instr.Targets
	Clz
	Cnot
	CopySign
	Cos
	CpAsync     // cp.async.{ca,cg}.shared.global
	CpAsyncBulk // cp.async.bulk copies; Mods tells the direction
	CpAsyncCtl  // commit_group, wait_group, wait_all, bulk.commit_group, bulk.wait_group[.read], mbarrier.arrive
	Cvt
	Cvta
	Div
	Elect
	Ex2
	Exit    // exit, and ret from an entry
	FenceOp // fence, membar
	Fma
	GridDepControl // Mods: "wait" or "launch_dependents"
	Isspacep
	Ld
	Lg2
	Lop3
	Mad
	Madc // mad with carry in; carry out where CC is set
	Match
	Max
	MbarArrive // mbarrier.arrive[.expect_tx], Mods as written
	MbarExpectTx
	MbarInit
	MbarInval
	MbarTestWait
	MbarTryWait
	Min
	Mov
	Mul
	MultimemLdReduce
	MultimemRed
	MultimemSt
	Nanosleep
	Neg
	Not
	Or
	Popc
	Prefetch
	Prmt
	Rcp
	Red
	Redux
	Rem
	Rsqrt
	Sad
	Selp
	Set
	Setp
	Shf
	Shfl
	Shl
	Shr
	Sin
	Slct
	Sqrt
	St
	Sub
	Subc
	Tanh
	Trap
	Vote
	Xor
)

// Size is the type's size in bytes; 1 for predicates, 0 for NoType.
func (t Type) Size() int {
	switch t {
	case NoType:
		return 0
	case B8, U8, S8, Pred:
		return 1
	case B16, U16, S16, F16, BF16, E4M3x2, E5M2x2:
		return 2
	case B32, U32, S32, F32, F16x2, BF16x2, E4M3x4, E5M2x4:
		return 4
	case B64, U64, S64, F64, F32x2:
		return 8
	case B128:
		return 16
	}
	return 0
}
