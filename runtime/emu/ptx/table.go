package ptx

import (
	"fmt"
	"strings"
	"sync"
)

// A form is one line of the opcode table: the modifiers that may or must
// follow an opcode, and the operands it then takes.
//
// ptxas accepts modifiers in any order, and nvcc, libcu++ and hand-written asm
// each use their own, so a form is a set of slots and not a sequence. Only
// types are matched in order: cvt's first is the destination's.
//
// The text of a form is
//
//	opcode slot... | destination... = source... [!check] [>Op]
//
// A slot is a comma-separated list of words, of which one must be present, or
// may be where "?" follows. "kind:" before it says what the words mean where
// they mean several things. "$name" stands for a list in lists.
//
// An operand is a type or a letter:
//
//	T       register or immediate of the instruction's (first) type
//	S       ... of the second type, where there is one
//	W       ... of the double width of T (mul.wide)
//	u32     ... of that type
//	P       predicate; as a source !p too
//	M       memory, M:shared and so on where the space is fixed
//	I       integer constant
//	L       label
//	A       anything mov takes
//
// with the suffixes ~ (a wider register may hold it, as ld, st and cvt allow),
// * (as many elements as the vector modifier says), _ (may be the sink), ?
// (optional) and, for a destination, |P or |P? (a second, predicate one).
type form struct {
	op       Op
	slots    []slot
	dst, src []shape
	check    func(*Instr) string // says what is wrong, "" if nothing
}

type slotKind int

const (
	kindLit slotKind = iota // must be there, says nothing more
	kindType
	kindVec
	kindSpace
	kindSem
	kindScope
	kindCmp
	kindBool
	kindAtom
	kindRound
	kindPart
	kindShfl
	kindVote
	kindPrmt
	kindFlag
	kindHint
	kindMixed // each word has its own kind
)

type slot struct {
	kind  slotKind
	words []string
	opt   bool
}

func (s *slot) has(word string) bool {
	for _, w := range s.words {
		if w == word {
			return true
		}
	}
	return false
}

type shapeKind int

const (
	shapeReg shapeKind = iota // register, or as a source an immediate
	shapePred
	shapeMem
	shapeImm
	shapeLabel
	shapeMov
)

type typeRef int

const (
	refFixed typeRef = iota
	refT
	refS
	refW
)

type shape struct {
	kind    shapeKind
	ref     typeRef
	typ     Type // refFixed
	space   Space
	fixed   bool // space is given
	wide    bool // ~
	vec     bool // *
	sink    bool // _
	opt     bool
	pair    bool // |P
	pairOpt bool
}

var kindNames = map[string]slotKind{
	"lit": kindLit, "type": kindType, "space": kindSpace, "sem": kindSem, "scope": kindScope, "cmp": kindCmp,
	"bool": kindBool, "atom": kindAtom, "round": kindRound, "part": kindPart, "shfl": kindShfl,
	"vote": kindVote, "prmt": kindPrmt, "flag": kindFlag, "hint": kindHint,
}

// lists are the abbreviations in the opcode table.
var lists = map[string]string{
	"int":    "s16,u16,s32,u32,s64,u64",
	"int8":   "s8,u8,s16,u16,s32,u32,s64,u64",
	"bits":   "b16,b32,b64",
	"any":    "b8,b16,b32,b64,b128,u8,u16,u32,u64,s8,s16,s32,s64,f32,f64",
	"rnd":    "rn,rz,rm,rp",
	"rndi":   "rni,rzi,rmi,rpi",
	"vec":    "v2,v4,v8",
	"scope":  "scope:cta,cluster,gpu,sys",
	"cmps":   "cmp:eq,ne,lt,le,gt,ge",
	"cmpi":   "cmp:eq,ne,lt,le,gt,ge,lo,ls,hi,hs",
	"cmpb":   "cmp:eq,ne",
	"cmpf":   "cmp:eq,ne,lt,le,gt,ge,equ,neu,ltu,leu,gtu,geu,num,nan",
	"bool":   "bool:and,or,xor",
	"shared": "lit:shared,shared::cta",
	"cop":    "hint:ca,cg,cs,lu,cv",
	"wcop":   "hint:wb,cg,cs,wt",
	"l1":     "hint:L1::evict_normal,L1::evict_unchanged,L1::evict_first,L1::evict_last,L1::no_allocate",
	"l2":     "hint:L2::evict_normal,L2::evict_first,L2::evict_last",
	"l2p":    "hint:L2::64B,L2::128B,L2::256B",
	"l2c":    "hint:L2::cache_hint",
}

// flags are the modifiers that set one field.
var flags = map[string]func(*Instr){
	"sat":       func(in *Instr) { in.Sat = true },
	"satfinite": func(in *Instr) { in.Sat = true },
	"ftz":       func(in *Instr) { in.Ftz = true },
	"approx":    func(in *Instr) { in.Approx = true },
	"full":      func(in *Instr) { in.Full = true },
	"relu":      func(in *Instr) { in.Relu = true },
	"nc":        func(in *Instr) { in.NC = true },
	"uni":       func(in *Instr) { in.Uni = true },
	"acc::f32":  func(in *Instr) { in.AccF32 = true },
	"acc::f16":  func(in *Instr) { in.AccF16 = true },
	"wrap":      func(in *Instr) { in.Wrap = true },
	"clamp":     func(*Instr) {},
	"l":         func(in *Instr) { in.Left = true },
	"r":         func(*Instr) {},
	"shiftamt":  func(in *Instr) { in.ShiftAmt = true },
	"noinc":     func(in *Instr) { in.NoInc = true },
	"cc":        func(in *Instr) { in.CC = true },
	"NaN":       func(in *Instr) { in.NaN = true },
	"abs":       func(in *Instr) { in.Abs = true },
	"xorsign":   func(in *Instr) { in.XorSign = true },
	"to":        func(in *Instr) { in.ToSpace = true },
	"aligned":   func(in *Instr) { in.Aligned = true },
	// Each of these goes with a semantics of its own, see the checks.
	"volatile": func(in *Instr) { in.Volatile, in.Sem, in.Scope = true, Relaxed, Sys },
	"mmio":     func(in *Instr) { in.Hints = append(in.Hints, "mmio") },
}

// spaceWords are the state spaces as modifiers. An address in shared::cta is
// one in shared; shared::cluster is for the table to allow.
var spaceWords = map[string]Space{
	"global": Global, "shared": Shared, "shared::cta": Shared, "param": Param, "param::entry": Param,
	"local": Local, "const": Const,
}

// wordKind says what a word means where the table does not.
func wordKind(word string) slotKind {
	if _, ok := typeWords[word]; ok && word != "none" {
		return kindType
	}
	if _, ok := spaceWords[word]; ok {
		return kindSpace
	}
	if _, ok := semWords[word]; ok {
		return kindSem
	}
	if _, ok := roundWords[word]; ok {
		return kindRound
	}
	if _, ok := flags[word]; ok {
		return kindFlag
	}
	switch word {
	case "v2", "v4", "v8":
		return kindVec
	case "lo", "hi", "wide":
		return kindPart
	}
	return kindLit
}

// forms is the table by opcode, e.g. "add" or "cp.async.bulk", built once.
var forms = sync.OnceValue(func() map[string][]*form {
	m := map[string][]*form{}
	for _, text := range []string{arithTable, moveTable, syncTable, cvtTable, multimemTable} {
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); line != "" {
				key, f := parseForm(line)
				m[key] = append(m[key], f)
			}
		}
	}
	return m
})

// parseForm reads one line of the table. The table is part of the program: a
// mistake in it is a panic, which any test meets.
func parseForm(line string) (string, *form) {
	left, right, ok := strings.Cut(line, "|")
	if !ok {
		panic("ptx table: no | in " + line)
	}
	words := strings.Fields(left)
	f := &form{op: opWords[words[0]]}
	for _, w := range words[1:] {
		f.slots = append(f.slots, parseSlot(w))
	}
	dst, src, ok := strings.Cut(right, "=")
	if !ok {
		panic("ptx table: no = in " + line)
	}
	for _, w := range strings.Fields(dst) {
		f.dst = append(f.dst, parseShape(w))
	}
	for _, w := range strings.Fields(src) {
		switch w[0] {
		case '!':
			if f.check = checks[w[1:]]; f.check == nil {
				panic("ptx table: check " + w)
			}
		case '>':
			f.op = opWords[w[1:]]
		default:
			f.src = append(f.src, parseShape(w))
		}
	}
	if f.op == 0 {
		panic("ptx table: no opcode in " + line)
	}
	return words[0], f
}

func parseSlot(w string) slot {
	var s slot
	w, s.opt = strings.CutSuffix(w, "?")
	if strings.HasPrefix(w, "$") {
		list, ok := lists[w[1:]]
		if !ok {
			panic("ptx table: list " + w)
		}
		w = list
	}
	// "kind:" is not to be mistaken for the "::" of a word.
	if i := strings.IndexByte(w, ':'); i >= 0 && !strings.HasPrefix(w[i:], "::") {
		kind, ok := kindNames[w[:i]]
		if !ok {
			panic("ptx table: kind of " + w)
		}
		s.kind, s.words = kind, strings.Split(w[i+1:], ",")
		return s
	}
	s.words = strings.Split(w, ",")
	s.kind = wordKind(s.words[0])
	for _, w := range s.words[1:] {
		if wordKind(w) != s.kind {
			s.kind = kindMixed
		}
	}
	return s
}

func parseShape(w string) shape {
	var s shape
	if w, s.opt = strings.CutSuffix(w, "?"); strings.HasSuffix(w, "|P") {
		w = strings.TrimSuffix(w, "|P")
		s.pair, s.pairOpt, s.opt = true, s.opt, false
	}
	for {
		var cut bool
		if w, cut = strings.CutSuffix(w, "~"); cut {
			s.wide = true
			continue
		}
		if w, cut = strings.CutSuffix(w, "*"); cut {
			s.vec = true
			continue
		}
		if w, cut = strings.CutSuffix(w, "_"); cut {
			s.sink = true
			continue
		}
		break
	}
	if space, ok := strings.CutPrefix(w, "M:"); ok {
		s.kind, s.space, s.fixed = shapeMem, spaceWords[space], true
		return s
	}
	switch w {
	case "T":
		s.ref = refT
	case "S":
		s.ref = refS
	case "W":
		s.ref = refW
	case "P":
		s.kind, s.typ = shapePred, Pred
	case "M":
		s.kind = shapeMem
	case "I":
		s.kind = shapeImm
	case "L":
		s.kind = shapeLabel
	case "A":
		s.kind, s.ref = shapeMov, refT
	default:
		t, ok := typeWords[w]
		if !ok {
			panic("ptx table: operand " + w)
		}
		s.typ = t
	}
	return s
}

// match tries the form on an opcode's modifiers, and fills in what they say.
// It returns the index of the first word that does not fit, len(words) if a
// required one is missing, -1 if all is well.
func (f *form) match(words []string, in *Instr) int {
	used := make([]bool, len(f.slots))
	types := 0
next:
	for i, w := range words {
		for j := range f.slots {
			s := &f.slots[j]
			if used[j] {
				continue
			}
			if s.has(w) {
				used[j] = true
				if s.kind == kindType {
					types++
				}
				kind := s.kind
				if kind == kindMixed {
					kind = wordKind(w)
				}
				kind.apply(in, w, types)
				continue next
			}
			if s.kind == kindType && !s.opt && wordKind(w) == kindType {
				return i // types come in order
			}
		}
		return i
	}
	for j, s := range f.slots {
		if !s.opt && !used[j] {
			return len(words)
		}
	}
	return -1
}

// apply records what a modifier says; nth counts the types so far.
func (k slotKind) apply(in *Instr, w string, nth int) {
	switch k {
	case kindLit:
	case kindType:
		if nth == 1 {
			in.Type = typeWords[w]
		} else {
			in.SrcType = typeWords[w]
		}
	case kindVec:
		in.Vec = int(w[1] - '0')
	case kindSpace:
		in.Space = spaceWords[w]
	case kindSem:
		in.Sem = semWords[w]
	case kindScope:
		if w == "gl" { // membar's name for it
			w = "gpu"
		}
		in.Scope = scopeWords[w]
	case kindCmp:
		in.Cmp = cmpWords[w]
	case kindBool:
		in.Bool = boolWords[w]
	case kindAtom:
		in.Atom = atomWords[w]
	case kindRound:
		in.Round = roundWords[w]
	case kindPart:
		in.Mul = map[string]MulPart{"lo": Lo, "hi": Hi, "wide": Wide}[w]
	case kindShfl:
		in.Shfl = shflWords[w]
	case kindVote:
		in.Vote = voteWords[in.Op == Match][w]
	case kindPrmt:
		in.Prmt = prmtWords[w]
	case kindFlag:
		flags[w](in)
	case kindHint:
		in.Hints = append(in.Hints, w)
	default:
		panic(fmt.Sprintf("ptx table: slot kind %d", k))
	}
}

// voteWords is indexed by whether the opcode is match.
var voteWords = map[bool]map[string]VoteMode{
	false: {"any": VoteAny, "all": VoteAll, "uni": VoteUni, "ballot": VoteBallot},
	true:  {"any": MatchAny, "all": MatchAll},
}
