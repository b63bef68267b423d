package ptx

import (
	"fmt"
	"strings"
)

// checks are the rules of a form that its slots cannot say; they also fill in
// defaults. A check returns what is wrong, or "".
var checks = map[string]func(*Instr) string{
	"ld":         checkLd,
	"atom":       checkAtom,
	"multimem":   checkMultimem,
	"bar":        func(in *Instr) string { in.Aligned = true; return "" },
	"cvtsat":     checkCvtSat,
	"cpasync":    checkCpAsync,
	"membar":     func(in *Instr) string { in.Fence, in.Sem = FenceThread, SC; return "" },
	"fence":      checkFence,
	"fencealias": func(in *Instr) string { in.Fence = FenceProxyAlias; return "" },
	"fenceasync": func(in *Instr) string { in.Fence = FenceProxyAsync; return "" },
	"fenceinit":  func(in *Instr) string { in.Fence = FenceMbarrierInit; return "" },
	"mbarrier":   checkMbarrier,
}

// checkLd is for ld and st: what vectors there are, and where hints apply.
func checkLd(in *Instr) string {
	size := in.Type.Size()
	big := in.Vec == 8 && size == 4 || in.Vec == 4 && size == 8
	switch bytes := in.Vec * size; {
	case bytes > 16 && !big:
		return fmt.Sprintf("no such vector: v%d.%s", in.Vec, in.Type)
	case big && in.Space != Global && in.Space != Generic:
		return "256 bits need the global or generic space"
	}
	return checkHints(in, big)
}

// checkHints says where cache hints are out of place.
func checkHints(in *Instr, big bool) string {
	op := false // .ca and the like
	for _, h := range in.Hints {
		level := strings.HasPrefix(h, "L1::") || strings.HasPrefix(h, "L2::")
		switch {
		case !level:
			op = op || h != "mmio"
		case in.Space != Global && in.Space != Generic:
			return "." + h + " needs the global or generic space"
		case op && (strings.Contains(h, "evict") || strings.HasPrefix(h, "L1::")):
			return "." + h + " does not go with a cache operator"
		case strings.HasPrefix(h, "L2::evict") && !big:
			return "." + h + " needs v8.b32 or v4.b64"
		}
	}
	return ""
}

func checkAtom(in *Instr) string {
	if in.Sem == Weak { // none given
		in.Sem = Relaxed
	}
	if in.Scope == NoScope {
		in.Scope = GPU
	}
	return checkHints(in, false)
}

func checkFence(in *Instr) string {
	in.Fence = FenceThread
	if in.Sem == Weak { // none given
		in.Sem = AcqRel
	}
	return ""
}

func checkMultimem(in *Instr) string {
	strong := in.Sem != Weak
	if strong != (in.Scope != NoScope) {
		return "a scope goes with .relaxed, .acquire or .release, and only with them"
	}
	if in.Op == MultimemRed && !strong {
		in.Sem, in.Scope = Relaxed, Sys
	}
	in.Space = Global
	return ""
}

func checkCpAsync(in *Instr) string {
	if len(in.Src) < 3 {
		return ""
	}
	switch n := in.Src[2].Imm; {
	case n == 16:
	case (n == 4 || n == 8) && hasWord(in.Mods, "ca"):
	default:
		return fmt.Sprintf("cp.async cannot copy %d bytes", n)
	}
	return ""
}

// checkCvtSat allows .sat only where a value may be out of range.
func checkCvtSat(in *Instr) string {
	signed := func(t Type) bool { return t >= S8 && t <= S64 }
	d, s := in.Type, in.SrcType
	holds := d.Size() >= s.Size() && signed(d) == signed(s) || d.Size() > s.Size() && signed(d)
	if in.Sat && holds {
		return ".sat without effect: every ." + s.String() + " is a ." + d.String()
	}
	return ""
}

func checkMbarrier(in *Instr) string {
	if (in.Sem == Weak) != (in.Scope == NoScope) {
		return "memory order and scope come together or not at all"
	}
	def := Release
	switch in.Op {
	case MbarTestWait, MbarTryWait:
		def = Acquire
	case MbarExpectTx:
		def = Relaxed
	}
	if in.Sem == Weak { // none given
		in.Sem, in.Scope = def, CTA
	}
	return ""
}

// hasWord reports whether a dotted modifier list has a word.
func hasWord(mods, word string) bool {
	for w := range strings.SplitSeq(mods, ".") {
		if w == word {
			return true
		}
	}
	return false
}
