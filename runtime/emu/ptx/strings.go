package ptx

import "fmt"

// name returns names[i], or what and the number where there is no name.
func name[T ~int](names map[T]string, i T, what string) string {
	if s, ok := names[i]; ok {
		return s
	}
	return fmt.Sprintf("%s(%d)", what, int(i))
}

// invert makes the word table that goes with a name table.
func invert[T ~int](names map[T]string) map[string]T {
	m := make(map[string]T, len(names))
	for k, v := range names {
		if v != "" {
			m[v] = k
		}
	}
	return m
}

var typeNames = map[Type]string{
	NoType: "none", B8: "b8", B16: "b16", B32: "b32", B64: "b64", B128: "b128",
	U8: "u8", U16: "u16", U32: "u32", U64: "u64", S8: "s8", S16: "s16", S32: "s32", S64: "s64",
	F16: "f16", F16x2: "f16x2", BF16: "bf16", BF16x2: "bf16x2", F32: "f32", F32x2: "f32x2", F64: "f64",
	E4M3x2: "e4m3x2", E5M2x2: "e5m2x2", E4M3x4: "e4m3x4", E5M2x4: "e5m2x4",
	Pred: "pred",
}

var typeWords = invert(typeNames)

func (t Type) String() string { return name(typeNames, t, "Type") }

var spaceNames = map[Space]string{
	Generic: "generic", Global: "global", Shared: "shared", Param: "param", Local: "local", Const: "const",
}

func (s Space) String() string { return name(spaceNames, s, "Space") }

var semNames = map[Sem]string{
	Weak: "weak", Relaxed: "relaxed", Acquire: "acquire", Release: "release", AcqRel: "acq_rel", SC: "sc",
}

var semWords = invert(semNames)

func (s Sem) String() string { return name(semNames, s, "Sem") }

var scopeNames = map[Scope]string{
	NoScope: "none", CTA: "cta", Cluster: "cluster", GPU: "gpu", Sys: "sys",
}

var scopeWords = invert(scopeNames)

func (s Scope) String() string { return name(scopeNames, s, "Scope") }

var cmpNames = map[Cmp]string{
	EQ: "eq", NE: "ne", LT: "lt", LE: "le", GT: "gt", GE: "ge", LO: "lo", LS: "ls", HI: "hi", HS: "hs",
	EQU: "equ", NEU: "neu", LTU: "ltu", LEU: "leu", GTU: "gtu", GEU: "geu", NUM: "num", NAN: "nan",
}

var cmpWords = invert(cmpNames)

func (c Cmp) String() string { return name(cmpNames, c, "Cmp") }

var boolNames = map[BoolOp]string{BoolAnd: "and", BoolOr: "or", BoolXor: "xor", BoolPopc: "popc"}

var boolWords = invert(boolNames)

func (b BoolOp) String() string { return name(boolNames, b, "BoolOp") }

var atomNames = map[AtomOp]string{
	AtomAdd: "add", AtomMin: "min", AtomMax: "max", AtomAnd: "and", AtomOr: "or", AtomXor: "xor",
	AtomExch: "exch", AtomCAS: "cas", AtomInc: "inc", AtomDec: "dec",
}

var atomWords = invert(atomNames)

func (a AtomOp) String() string { return name(atomNames, a, "AtomOp") }

var roundNames = map[Round]string{
	NoRound: "none", RN: "rn", RZ: "rz", RM: "rm", RP: "rp", RNA: "rna",
	RNI: "rni", RZI: "rzi", RMI: "rmi", RPI: "rpi",
}

var roundWords = invert(roundNames)

func (r Round) String() string { return name(roundNames, r, "Round") }

var shflWords = map[string]ShflMode{"up": ShflUp, "down": ShflDown, "bfly": ShflBfly, "idx": ShflIdx}

var prmtWords = map[string]PrmtMode{
	"f4e": PrmtF4E, "b4e": PrmtB4E, "rc8": PrmtRC8, "ecl": PrmtECL, "ecr": PrmtECR, "rc16": PrmtRC16,
}

var specialNames = map[Special]string{
	TidX: "%tid.x", TidY: "%tid.y", TidZ: "%tid.z",
	NTidX: "%ntid.x", NTidY: "%ntid.y", NTidZ: "%ntid.z",
	CtaidX: "%ctaid.x", CtaidY: "%ctaid.y", CtaidZ: "%ctaid.z",
	NCtaidX: "%nctaid.x", NCtaidY: "%nctaid.y", NCtaidZ: "%nctaid.z",
	LaneID: "%laneid", WarpID: "%warpid", NWarpID: "%nwarpid", SMID: "%smid", NSMID: "%nsmid", GridID: "%gridid",
	LanemaskEq: "%lanemask_eq", LanemaskLt: "%lanemask_lt", LanemaskLe: "%lanemask_le",
	LanemaskGt: "%lanemask_gt", LanemaskGe: "%lanemask_ge",
	Clock: "%clock", Clock64: "%clock64",
	GlobalTimer: "%globaltimer", GlobalTimerLo: "%globaltimer_lo", GlobalTimerHi: "%globaltimer_hi",
	ClusterCtaRank: "%cluster_ctarank", ClusterNCtaRank: "%cluster_nctarank",
	DynamicSmemSize: "%dynamic_smem_size", TotalSmemSize: "%total_smem_size",
}

var specialWords = invert(specialNames)

func (s Special) String() string { return name(specialNames, s, "Special") }

// size is the width of the register in bytes.
func (s Special) size() int {
	switch s {
	case GridID, Clock64, GlobalTimer:
		return 8
	}
	return 4
}
