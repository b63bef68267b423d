package mutation

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/moegen/moegen/runtime/emu/ptx"
	"github.com/moegen/moegen/runtime/emu/race"
)

var bracket = regexp.MustCompile(`\[([^\]+]+)(?:\+(-?\d+))?\]`)

// shifted is the instruction with its address moved by some bytes.
func (c *collector) shifted(i, by int) string {
	text := c.line(&c.Body[i])
	m := bracket.FindStringSubmatchIndex(text)
	off := 0
	if m[4] >= 0 {
		off, _ = strconv.Atoi(text[m[4]:m[5]])
	}
	return text[:m[0]] + "[" + text[m[2]:m[3]] + "+" + strconv.Itoa(off+by) + "]" + text[m[1]:]
}

// addresses moves each access by one element: a vector, a flag, a word.
func addresses(c *collector) {
	for i := range c.Body {
		if in := &c.Body[i]; c.isMem(in) {
			c.replace("address up by one", i, c.shifted(i, bytesOf(in)))
			if c.roles.is(in.Line, flagRole, countRole, headerRole, lineRole, packRole, gatherRole, partialRole) {
				c.replace("address down by one", i, c.shifted(i, -bytesOf(in)))
			}
		}
	}
}

// deletions deletes each store: also that to one of several ranks.
func deletions(c *collector) {
	for i := range c.Body {
		if in := &c.Body[i]; c.isMem(in) && (in.Op == ptx.St || in.Op == ptx.MultimemSt) {
			c.replace("delete store", i, "")
		}
	}
}

var (
	multimemStore = regexp.MustCompile(`multimem\.st\.weak\.global\.(v\d\.)?f32`)
	multimemLoad  = regexp.MustCompile(`multimem\.ld_reduce\.\S+`)
)

// windows uses ordinary accesses on multicast addresses, multimem on unicast
// ones, and one rank's memory in place of another's.
func windows(c *collector) {
	for i := range c.Body {
		in := &c.Body[i]
		switch in.Op {
		case ptx.MultimemSt:
			c.replace("plain store to multicast", i, multimemStore.ReplaceAllString(c.line(in), "st.global.${1}u32"))
		case ptx.MultimemLdReduce:
			c.replace("plain load from multicast", i, multimemLoad.ReplaceAllString(c.line(in), "ld.global.v4.u32"))
		case ptx.Ld:
			off, ok := c.param(i)
			if !ok || in.Type.Size() != 8 || off%8 != 0 {
				continue
			}
			switch {
			case off == c.multicastParam():
				c.replace("multimem to unicast", i, c.shifted(i, -8))
			case off >= 0 && off < c.multicastParam():
				by := 8
				if off == c.multicastParam()-8 {
					by = int(-off)
				}
				c.replace("another rank's memory", i, c.shifted(i, by))
				c.replace("multicast for unicast", i, c.shifted(i, int(c.multicastParam()-off)))
			}
		}
	}
}

// peers makes a flag go to the wrong rank, or the wrong word of the right one.
func peers(c *collector) {
	for i := range c.Body {
		in := &c.Body[i]
		store := in.Op == ptx.St && c.roles.is(in.Line, flagRole, countRole, headerRole)
		if !store && !(c.isPoll(in) && !c.roles.is(in.Line, lineRole)) {
			continue
		}
		for _, d := range c.slice(i) {
			def := &c.Body[d]
			if def.Op == ptx.Ld && def.Space == ptx.Param && def.Type.Size() == 8 && at(def).Var == nil && !c.constant(d) {
				to := c.Regs[def.Dst[0].Reg].Name
				names := []string{"flag to itself", "flag to the next rank"}
				index := []string{c.rankIndex(), c.peerIndex(in, 1)}
				if !store {
					names, index = []string{"poll the peer's word"}, []string{c.peerIndex(in, 0)}
				}
				for n, name := range names {
					c.wrongBase(name, i, d, to, index[n])
				}
			}
			if store && c.isRank(d) {
				c.wrongRank("slot of the peer", i, d, c.peerIndex(in, 0))
			}
		}
	}
}

// constant says whether a ld.param reads a fixed place in the Group.
func (c *collector) constant(i int) bool { _, ok := c.param(i); return ok }

// slots makes what protocol ll pushes arrive where another rank's should.
func slots(c *collector) {
	for i := range c.Body {
		if in := &c.Body[i]; in.Op == ptx.St && c.roles.is(in.Line, lineRole, packRole) {
			for _, d := range c.slice(i) {
				if c.isRank(d) {
					c.wrongRank("slot of the next rank", i, d, c.rankIndex()+fmt.Sprintf(" add.u32 %%qi, %%qi, 1; rem.u32 %%qi, %%qi, %d;", c.ranks))
				}
			}
		}
	}
}

// wrongRank makes instruction d, which uses the rank for the access i, use what
// index computes.
func (c *collector) wrongRank(op string, i, d int, index string) {
	def := &c.Body[d]
	text := strings.Replace(c.line(def), ", "+c.Regs[def.Src[0].Reg].Name, ", %qi", 1)
	c.add(op, i, edit{def.Line, "{.reg .b32 %qi, %qn; " + index + " " + text + " }"})
}

// isRank says whether an instruction widens the rank in the Group, for an
// address.
func (c *collector) isRank(i int) bool {
	if op := c.Body[i].Op; op != ptx.Cvt && op != ptx.Mul {
		return false
	}
	d := c.def(i, c.Body[i].Src[0].Reg)
	if d < 0 || c.Body[d].Op != ptx.Ld {
		return false
	}
	off, ok := c.param(d)
	return ok && off == c.rankParam()
}

func (c *collector) rankIndex() string {
	return fmt.Sprintf("ld.param.u32 %%qi, [%s_param_0+%d];", c.Name, c.rankParam())
}

// peerIndex is the rank that a thread exchanges signals with, or another one: of
// headers, the block's last threads.
func (c *collector) peerIndex(in *ptx.Instr, plus int) string {
	peer := "mov.u32 %qi, %tid.x;"
	if c.roles.is(in.Line, headerRole) {
		peer = "mov.u32 %qn, %ntid.x; mov.u32 %qi, %tid.x; sub.u32 %qi, %qn, %qi; sub.u32 %qi, %qi, 1;"
	}
	return peer + fmt.Sprintf(" add.u32 %%qi, %%qi, %d; rem.u32 %%qi, %%qi, %d;", plus, c.ranks)
}

// wrongBase makes instruction d, a load of a rank's base address for the
// access i, load the one that index computes.
func (c *collector) wrongBase(op string, i, d int, to, index string) {
	c.add(op, i, edit{c.Body[d].Line, fmt.Sprintf(
		"{.reg .b32 %%qi, %%qn; .reg .b64 %%qa, %%qb; %s mov.b64 %%qb, %s_param_0; mul.wide.u32 %%qa, %%qi, 8; add.s64 %%qa, %%qa, %%qb; ld.param.u64 %s, [%%qa]; }",
		index, c.Name, to)})
}

// caching makes loads of what other ranks write go through the path that is
// not coherent.
func caching(c *collector) {
	for i := range c.Body {
		in := &c.Body[i]
		if in.Op != ptx.Ld || in.Space != ptx.Global || !c.roles.is(in.Line, partialRole, flagRole, countRole, failureRole, headerRole, lineRole, packRole) {
			continue
		}
		text := strong.ReplaceAllString(c.line(in), "")
		c.replace("load through the non-coherent path", i, strings.Replace(text, "ld.global.", "ld.global.nc.", 1)).
			wants(map[int]bool{in.Line: true}, append([]race.ReportKind{race.NCOfMutable}, races...)...)
	}
}
