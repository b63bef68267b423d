package mutation

import (
	"regexp"
	"strings"

	"github.com/moegen/moegen/runtime/emu/ptx"
)

var (
	standIn  = regexp.MustCompile(`^selp\.b32\s+(%r\d+), 2147483647, (%r\d+), (%p\d+);$`)
	sentinel = regexp.MustCompile(`^setp\.(eq|ne)\.s32\s+(%p\d+), (%r\d+), -1;$`)
	epochOf  = regexp.MustCompile(`^setp\.(eq|ne)\.s32\s+(%p\d+), (%r\d+), (%r\d+);$`)
	absentV4 = regexp.MustCompile(`\{(%r\d+), (%r\d+), (%r\d+), (%r\d+)\};$`)
)

// marks breaks what protocol ll knows data by: words that are never data, and
// the epochs of lines.
func marks(c *collector) {
	stands := map[string]bool{} // predicates that say that data equals kAbsent
	for i := range c.Body {
		if m := standIn.FindStringSubmatch(c.line(&c.Body[i])); m != nil {
			stands[m[3]] = true
			c.replace("kAbsent travels", i, "mov.b32 "+m[1]+", "+m[2]+";")
		}
	}
	for i := range c.Body {
		in := &c.Body[i]
		text := c.line(in)
		if m := sentinel.FindStringSubmatch(text); m != nil && !stands[m[2]] {
			c.replace("word not awaited", i, "setp."+map[string]string{"eq": "ne", "ne": "eq"}[m[1]]+".s32 "+m[2]+", "+m[3]+", "+m[3]+";")
		}
		if m := epochOf.FindStringSubmatch(text); m != nil && (c.ofLine(i, in.Src[0]) || c.ofLine(i, in.Src[1])) {
			c.replace("epoch not compared", i, "setp."+m[1]+".s32 "+m[2]+", "+m[3]+", "+m[3]+";")
		}
		if m := absentV4.FindStringSubmatch(text); m != nil && in.Op == ptx.St && c.roles.is(in.Line, packRole) && m[1] == m[2] && m[1] == m[3] && m[1] == m[4] {
			words := strings.Replace(m[0], m[1], "%qz", 1)
			c.replace("a word not put back", i, "{.reg .b32 %qz; mov.u32 %qz, 0; "+strings.Replace(text, m[0], words, 1)+" }")
		}
	}
}

// ofLine says whether an operand is the upper half of what was polled.
func (c *collector) ofLine(i int, o ptx.Operand) bool {
	in := c.from(i, o)
	if in == nil || in.Op != ptx.Shr {
		return false
	}
	for j := range c.Body {
		if &c.Body[j] == in {
			poll := c.from(j, in.Src[0])
			return poll != nil && c.isPoll(poll)
		}
	}
	return false
}
