package mutation

import (
	"fmt"
	"strings"

	"github.com/moegen/moegen/runtime/emu/ptx"
)

// reports makes what is written down of a failure wrong: each number that the
// word is put together from.
func reports(c *collector) {
	seen := map[int]bool{}
	for i := range c.Body {
		in := &c.Body[i]
		if in.Op != ptx.St && in.Op != ptx.Atom || !c.roles.is(in.Line, failureRole, statusRole) {
			continue
		}
		for _, d := range c.value(i) {
			def := &c.Body[d]
			imm, ok := immediate(def)
			if !ok || seen[def.Line] {
				continue
			}
			seen[def.Line] = true
			switch {
			case def.Op == ptx.Or:
				for _, bit := range []int{56, 48} { // of the code, of the phase
					c.add(fmt.Sprintf("bit %d of the failure", bit), i,
						edit{def.Line, lastNumber.ReplaceAllString(c.line(def), fmt.Sprint(imm^1<<bit)+";")})
				}
			case def.Op == ptx.Shl:
				c.add(fmt.Sprintf("field of the failure at bit %d", imm+1), i,
					edit{def.Line, lastNumber.ReplaceAllString(c.line(def), fmt.Sprint(imm+1)+";")})
			}
		}
	}
}

// unseen makes a thread not see that its group has failed.
func unseen(c *collector) {
	for i := range c.Body {
		if in := &c.Body[i]; in.Op == ptx.Ld && c.isMem(in) && c.roles.is(in.Line, failureRole) {
			c.replace("failure not seen", i, "mov.u64 "+c.Regs[in.Dst[0].Reg].Name+", 0;")
		}
	}
}

// value returns the indices of the instructions that what instruction i writes
// is computed from, up to what is loaded.
func (c *collector) value(i int) []int {
	var out []int
	seen := map[int]bool{}
	var visit func(i int)
	visit = func(i int) {
		for _, o := range c.Body[i].Src {
			if o.Kind != ptx.RegOperand || o.Reg < 0 {
				continue
			}
			d := c.def(i, o.Reg)
			if d < 0 || seen[d] || c.Body[d].Op == ptx.Ld || c.Body[d].Op == ptx.Atom {
				continue
			}
			seen[d] = true
			out = append(out, d)
			visit(d)
		}
	}
	visit(i)
	return out
}

// deadlines makes waits end too early and too late.
func deadlines(c *collector) {
	timer := func(i int, o ptx.Operand) bool {
		src := c.from(i, o)
		return src != nil && src.Op == ptx.Mov && src.Src[0].Kind == ptx.SpecialOperand && src.Src[0].Special == ptx.GlobalTimer
	}
	for i := range c.Body {
		in := &c.Body[i]
		if len(in.Src) < 2 || in.Type.Size() != 8 || in.Src[1].Kind != ptx.RegOperand {
			continue
		}
		text := c.line(in)
		switch {
		case in.Op == ptx.Setp && timer(i, in.Src[0]) && strings.Contains(text, ".lt."):
			c.replace("deadline reversed", i, strings.Replace(text, ".lt.", ".ge.", 1))
		case in.Op == ptx.Setp && timer(i, in.Src[0]) && strings.Contains(text, ".ge."):
			c.replace("deadline reversed", i, strings.Replace(text, ".ge.", ".lt.", 1))
		case in.Op == ptx.Add:
			to := c.Regs[in.Dst[0].Reg].Name
			for n, o := range in.Src[:2] {
				if timer(i, in.Src[1-n]) && o.Kind == ptx.RegOperand {
					timeout := c.Regs[o.Reg].Name
					c.replace("timeout twice as long", i, text+" add.s64 "+to+", "+to+", "+timeout+";")
					c.replace("timeout half as long", i, "{.reg .b64 %qt; shr.u64 %qt, "+timeout+", 1; "+
						strings.NewReplacer(timeout+",", "%qt,", timeout+";", "%qt;").Replace(text)+" }")
				}
			}
		}
	}
}
