package ptx

// opNames are the opcodes as messages show them; for most that is the
// opcode's key in the table too.
var opNames = map[Op]string{
	Abs: "abs", Activemask: "activemask", Add: "add", Addc: "addc", And: "and", Atom: "atom",
	BarArrive: "bar.arrive", BarRed: "bar.red", BarSync: "bar.sync", BarWarpSync: "bar.warp.sync",
	Bfe: "bfe", Bfi: "bfi", Bfind: "bfind", Bra: "bra", Brev: "brev", Brkpt: "brkpt", Brx: "brx.idx",
	Clz: "clz", Cnot: "cnot", CopySign: "copysign", Cos: "cos",
	CpAsync: "cp.async", CpAsyncBulk: "cp.async.bulk", CpAsyncCtl: "cp.async.wait_group",
	Cvt: "cvt", Cvta: "cvta", Div: "div", Elect: "elect", Ex2: "ex2", Exit: "exit", FenceOp: "fence", Fma: "fma",
	GridDepControl: "griddepcontrol", Isspacep: "isspacep", Ld: "ld", Lg2: "lg2", Lop3: "lop3",
	Mad: "mad", Madc: "madc", Match: "match", Max: "max",
	MbarArrive: "mbarrier.arrive", MbarExpectTx: "mbarrier.expect_tx", MbarInit: "mbarrier.init",
	MbarInval: "mbarrier.inval", MbarTestWait: "mbarrier.test_wait", MbarTryWait: "mbarrier.try_wait",
	Min: "min", Mov: "mov", Mul: "mul",
	MultimemLdReduce: "multimem.ld_reduce", MultimemRed: "multimem.red", MultimemSt: "multimem.st",
	Nanosleep: "nanosleep", Neg: "neg", Not: "not", Or: "or", Popc: "popc", Prefetch: "prefetch", Prmt: "prmt",
	Rcp: "rcp", Red: "red", Redux: "redux", Rem: "rem", Rsqrt: "rsqrt", Sad: "sad", Selp: "selp", Set: "set",
	Setp: "setp", Shf: "shf", Shfl: "shfl", Shl: "shl", Shr: "shr", Sin: "sin", Slct: "slct", Sqrt: "sqrt",
	St: "st", Sub: "sub", Subc: "subc", Tanh: "tanh", Trap: "trap", Vote: "vote", Xor: "xor",
}

func (o Op) String() string { return name(opNames, o, "Op") }

// opWords gives the Op of a key of the table.
var opWords = func() map[string]Op {
	m := invert(opNames)
	for key, op := range map[string]Op{
		"bar.cta.sync": BarSync, "bar.cta.arrive": BarArrive, "bar.cta.red": BarRed,
		"barrier.sync": BarSync, "barrier.arrive": BarArrive, "barrier.red": BarRed,
		"barrier.cta.sync": BarSync, "barrier.cta.arrive": BarArrive, "barrier.cta.red": BarRed,
		"cp.async.commit_group": CpAsyncCtl, "cp.async.wait_all": CpAsyncCtl,
		"cp.async.mbarrier.arrive": CpAsyncCtl, "cp.async.bulk.commit_group": CpAsyncCtl,
		"cp.async.bulk.wait_group": CpAsyncCtl,
		"fence.proxy":              FenceOp, "fence.mbarrier_init": FenceOp, "membar": FenceOp,
		"mbarrier.arrive.noComplete": MbarArrive, "mbarrier.arrive.expect_tx": MbarArrive,
		"mbarrier.test_wait.parity": MbarTestWait, "mbarrier.try_wait.parity": MbarTryWait,
		"prefetchu": Prefetch, "ret": Exit,
	} {
		m[key] = op
	}
	return m
}()

const noCalls = "calls are not supported: no printf, no assert, no functions that are not inlined"

// unsupported are opcodes (or the start of one) that exist but that no kernel
// for the emulator may use, with what to say about them.
var unsupported = []struct{ prefix, why string }{
	{"call", noCalls},
	{"barrier.cluster", "thread block clusters are not supported"},
	{"mapa", "thread block clusters are not supported"},
	{"getctarank", "thread block clusters are not supported"},
	{"st.async", "thread block clusters are not supported"},
	{"red.async", "thread block clusters are not supported"},
	{"clusterlaunchcontrol", "thread block clusters are not supported"},
	{"createpolicy", "cache eviction policies are not supported"},
	{"applypriority", "cache eviction policies are not supported"},
	{"discard", "cache eviction policies are not supported"},
	{"cp.async.bulk.tensor", "tensor maps are not supported"},
	{"cp.reduce.async.bulk", "asynchronous reductions are not supported"},
	{"cp.async.bulk.prefetch", "asynchronous prefetch is not supported"},
	{"fence.proxy.tensormap", "tensor maps are not supported"},
	{"tensormap", "tensor maps are not supported"},
	{"multimem.cp", "asynchronous multicast copies are not supported"},
	{"wgmma", "matrix operations are not supported"},
	{"wmma", "matrix operations are not supported"},
	{"mma", "matrix operations are not supported"},
	{"ldmatrix", "matrix operations are not supported"},
	{"stmatrix", "matrix operations are not supported"},
	{"movmatrix", "matrix operations are not supported"},
	{"tcgen05", "matrix operations are not supported"},
	{"setmaxnreg", "warp specialisation is not supported"},
	{"tex", "textures are not supported"},
	{"tld4", "textures are not supported"},
	{"txq", "textures are not supported"},
	{"suld", "surfaces are not supported"},
	{"sust", "surfaces are not supported"},
	{"sured", "surfaces are not supported"},
	{"alloca", "variable stack frames are not supported"},
	{"stacksave", "variable stack frames are not supported"},
	{"stackrestore", "variable stack frames are not supported"},
}
