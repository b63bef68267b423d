package mutation

import (
	"fmt"
	"regexp"
	"strconv"

	"github.com/moegen/moegen/runtime/emu/ptx"
)

var lastNumber = regexp.MustCompile(`(-?\d+);$`)

// number makes a mutant in which the instruction's last operand, an integer,
// is another one.
func (c *collector) number(op string, i int, n int64) {
	text := c.line(&c.Body[i])
	if lastNumber.MatchString(text) {
		c.replace(op, i, lastNumber.ReplaceAllString(text, strconv.FormatInt(n, 10)+";"))
	}
}

// immediate is the last operand, if it is an integer.
func immediate(in *ptx.Instr) (int64, bool) {
	if len(in.Src) == 0 || in.Src[len(in.Src)-1].Kind != ptx.ImmOperand {
		return 0, false
	}
	return int64(in.Src[len(in.Src)-1].Imm), true
}

// from returns the instruction that a register operand comes from, through
// copies and conversions.
func (c *collector) from(i int, o ptx.Operand) *ptx.Instr {
	for o.Kind == ptx.RegOperand {
		if i = c.def(i, o.Reg); i < 0 {
			return nil
		}
		in := &c.Body[i]
		if in.Op != ptx.Mov && in.Op != ptx.Cvt || in.Src[0].Kind != ptx.RegOperand {
			return in
		}
		o = in.Src[0]
	}
	return nil
}

// epochs makes each epoch advance by too much or not at all, and the waits
// satisfied one epoch early.
func epochs(c *collector) {
	for i := range c.Body {
		in := &c.Body[i]
		imm, ok := immediate(in)
		if !ok {
			continue
		}
		src := c.from(i, in.Src[0])
		switch {
		case in.Op == ptx.Add && imm == 1 && src != nil && src.Op == ptx.Ld && c.roles.is(src.Line, epochRole):
			c.number("epoch + 2", i, 2)
			c.number("epoch + 0", i, 0)
		case in.Op == ptx.Setp && src != nil && src.Op == ptx.Sub && (imm == -1 || imm == 0) && c.comparesPoll(i):
			c.number("satisfied one epoch early", i, imm-1)
			c.compared(i, imm)
		case in.Op == ptx.And && (c.nearCount(i) && (imm == 1 || imm == int64(8*c.ranks)) || c.ofEpoch(i)):
			c.number("no parity", i, 0)
		}
	}
}

// comparesPoll says whether a setp compares the difference of a polled word.
func (c *collector) comparesPoll(i int) bool {
	sub := c.def(i, c.Body[i].Src[0].Reg)
	poll := c.from(sub, c.Body[sub].Src[0])
	return poll != nil && c.isPoll(poll)
}

// compared makes epochs be compared by themselves, not by their difference.
func (c *collector) compared(i int, imm int64) {
	in := &c.Body[i]
	sub := &c.Body[c.def(i, in.Src[0].Reg)]
	cmp := "lt"
	if imm == -1 {
		cmp = "ge"
	}
	for _, t := range []string{"s32", "u32"} {
		c.replace("epochs compared as "+t, i, fmt.Sprintf("setp.%s.%s %s, %s, %s;", cmp, t,
			c.Regs[in.Dst[0].Reg].Name, c.Regs[sub.Src[0].Reg].Name, c.Regs[sub.Src[1].Reg].Name))
	}
}

// ofEpoch says whether an instruction's source is an epoch of protocol ll, but
// for a shift.
func (c *collector) ofEpoch(i int) bool {
	in := c.from(i, c.Body[i].Src[0])
	for n := 0; in != nil && n < 3; n++ {
		if in.Op == ptx.Ld {
			return c.roles.is(in.Line, epochRole)
		}
		if in.Op != ptx.Shl && in.Op != ptx.Add {
			return false
		}
		in = c.from(i, in.Src[0])
	}
	return false
}

// nearCount says whether the instruction is part of a count slot's address.
func (c *collector) nearCount(i int) bool {
	for j := range c.Body {
		if in := &c.Body[j]; in.Op == ptx.St && c.roles.is(in.Line, countRole) {
			for _, d := range c.slice(j) {
				if d == i {
					return true
				}
			}
		}
	}
	return false
}

// worlds changes the number of ranks, one place after another: where threads
// are told apart that speak with a peer, where ranks are counted, and where
// words are numbered.
func worlds(c *collector) {
	for i := range c.Body {
		in := &c.Body[i]
		imm, ok := immediate(in)
		if !ok {
			continue
		}
		src := c.from(i, in.Src[0])
		special := ptx.Special(0)
		if src != nil && src.Op == ptx.Mov && src.Src[0].Kind == ptx.SpecialOperand {
			special = src.Src[0].Special
		}
		ranks := int64(c.ranks)
		switch {
		case in.Op == ptx.Setp && special == ptx.TidX && (imm == ranks-1 || imm == ranks):
			c.number("one rank fewer", i, imm-1)
			c.number("one rank more", i, imm+1)
		case in.Op == ptx.Setp && special == 0 && imm == ranks && in.Cmp != ptx.EQ && in.Cmp != ptx.NE:
			c.number("one rank fewer", i, imm-1)
		case in.Op == ptx.Mul && special == ptx.CtaidX && imm == ranks:
			c.number("one rank fewer", i, imm-1)
			c.number("one rank more", i, imm+1)
		}
	}
}

// layouts moves each area of symmetric memory, and scales rows wrongly.
func layouts(c *collector) {
	for i := range c.Body {
		in := &c.Body[i]
		imm, ok := immediate(in)
		if !ok {
			continue
		}
		switch src := c.from(i, in.Src[0]); {
		case in.Op == ptx.Add && in.Type.Size() == 8 && imm >= 128 && imm%128 == 0:
			c.number("area 16 bytes on", i, imm+16)
			for _, by := range []int64{-128, 128} {
				c.number(fmt.Sprintf("area %+d", by), i, imm+by)
			}
		case (in.Op == ptx.Mul || in.Op == ptx.Shl) && src != nil && src.Op == ptx.Ld && c.roles.is(src.Line, stepRole):
			c.number("fewer bytes a row", i, imm-1)
			c.number("more bytes a row", i, imm+1)
		}
	}
}
