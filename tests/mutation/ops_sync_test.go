package mutation

import (
	"maps"
	"regexp"
	"strings"

	"github.com/moegen/moegen/runtime/emu/ptx"
	"github.com/moegen/moegen/runtime/emu/race"
)

// races are the kinds that a missing order between weak accesses gives.
var races = []race.ReportKind{race.DataRace, race.WeakRaceWithStrong}

// data are the lines of weak accesses that other threads depend on.
func (c *collector) data() map[int]bool {
	return c.linesOf(func(in *ptx.Instr) bool {
		return c.isMem(in) && in.Sem <= ptx.Weak && (isMultimem(in) || c.roles.is(in.Line, gatherRole, partialRole, sharedRole))
	})
}

var reduction = regexp.MustCompile(`bar\.red\.(?:or|and)\.pred\s+(%\w+), \d+, (%\w+);`)

// barriers deletes each barrier; of a reduction its own operand remains. Behind
// ll's all threads have read the epoch that some of them then count.
func barriers(c *collector) {
	ordered := c.data()
	if strings.HasSuffix(c.Name, "_ll") {
		maps.Copy(ordered, c.linesOf(func(in *ptx.Instr) bool { return c.isMem(in) && in.Sem <= ptx.Weak && c.roles.is(in.Line, epochRole) }))
	}
	for i := range c.Body {
		switch in := &c.Body[i]; in.Op {
		case ptx.BarSync:
			c.replace("delete barrier", i, "").wants(ordered, races...)
		case ptx.BarRed:
			if m := reduction.FindStringSubmatch(c.line(in)); m != nil {
				c.replace("delete barrier", i, "mov.pred "+m[1]+", "+m[2]+";").wants(ordered, races...)
			}
		}
	}
}

// fences deletes each alias fence, makes it a fence of the wrong kind, and
// moves it behind the release that it has to come before.
func fences(c *collector) {
	multimem := c.linesOf(isMultimem)
	for i := range c.Body {
		in := &c.Body[i]
		if in.Op != ptx.FenceOp || in.Fence != ptx.FenceProxyAlias {
			continue
		}
		c.replace("delete alias fence", i, "").wants(multimem, race.MissingAliasFence)
		for _, other := range []string{"fence.acq_rel.sys;", "fence.sc.sys;", "fence.proxy.async;"} {
			c.replace("alias fence to "+other, i, other).wants(multimem, race.MissingAliasFence)
		}
		if r := c.release(); r > i {
			late := c.line(&c.Body[r]) + " " + c.line(in)
			c.add("alias fence after the release", i, edit{text: ""}, edit{c.Body[r].Line, late}).
				wants(multimem, race.MissingAliasFence)
		}
	}
}

// release is the index of the flag's store, -1 if the kernel has none.
func (c *collector) release() int {
	for i := range c.Body {
		if in := &c.Body[i]; in.Op == ptx.St && c.roles.is(in.Line, flagRole, countRole) {
			return i
		}
	}
	return -1
}

// isPoll says whether the instruction looks for a peer's signal.
func (c *collector) isPoll(in *ptx.Instr) bool {
	return in.Op == ptx.Ld && c.roles.is(in.Line, flagRole, countRole, headerRole, lineRole)
}

// waits ends each wait too early: before the first poll counts, or after it.
// Without a flag's wait, what it announces is read too early.
func waits(c *collector) {
	for i := range c.Body {
		if !c.isPoll(&c.Body[i]) {
			continue
		}
		var early map[int]bool
		if c.roles.is(c.Body[i].Line, flagRole) {
			early = c.data()
		}
		for j := i + 1; j < len(c.Body); j++ {
			in := &c.Body[j]
			if in.Op != ptx.Bra || in.Guard.Reg < 0 {
				continue
			}
			if in.Target > j {
				text := c.line(in)
				c.replace("skip wait", j, text[strings.Index(text, "bra"):]).wants(early, races...)
			} else {
				c.replace("wait for one poll", j, "").wants(early, races...)
			}
			break
		}
	}
}

var strong = regexp.MustCompile(`\.(acquire|release|relaxed)\.(sys|gpu|cta)\b`)

// weaken takes the semantics of each strong access away, step by step, and
// puts a fence in the wrong place.
func weaken(c *collector) {
	data := c.data()
	for i := range c.Body {
		in := &c.Body[i]
		if in.Op != ptx.Ld && in.Op != ptx.St || in.Sem <= ptx.Weak || !c.isMem(in) {
			continue
		}
		text := c.line(in)
		weak := strong.ReplaceAllString(text, "")
		own := map[int]bool{in.Line: true}
		switch in.Sem {
		case ptx.Acquire:
			c.replace("acquire to relaxed", i, strings.Replace(text, ".acquire", ".relaxed", 1)).wants(data, races...)
			c.replace("acquire to weak", i, weak).wants(own, races...)
			c.replace("acquire to fence and relaxed load", i, "fence.acq_rel.sys; "+strings.Replace(text, ".acquire", ".relaxed", 1)).
				wants(data, races...)
		case ptx.Release:
			relaxed := strings.Replace(text, ".release", ".relaxed", 1)
			c.replace("release to relaxed", i, relaxed).wants(data, races...)
			c.replace("release to weak", i, weak).wants(own, races...)
			c.replace("release to relaxed store and fence", i, relaxed+" fence.acq_rel.sys;").wants(data, races...)
			c.replace("release to store and membar.gl", i, "membar.gl; "+relaxed).wants(data, race.ScopeTooNarrow)
		case ptx.Relaxed:
			c.replace("relaxed to weak", i, weak).wants(own, races...)
		}
		if c.roles.is(in.Line, countRole) {
			for _, m := range c.out {
				if m.line == in.Line && m.want != nil {
					m.want.others = true // counts order the steps, too
				}
			}
		}
	}
}

// scopes narrows the scope of each strong access.
func scopes(c *collector) {
	for i := range c.Body {
		in := &c.Body[i]
		if in.Scope != ptx.Sys || !c.isMem(in) {
			continue
		}
		for _, to := range []string{"gpu", "cta"} {
			c.replace("sys to "+to, i, strings.Replace(c.line(in), ".sys", "."+to, 1)).wants(c.scopeLines(in), race.ScopeTooNarrow)
		}
	}
}

// scopeLines are where a scope that is too narrow shows: at the access itself,
// and at the data that it no longer orders.
func (c *collector) scopeLines(in *ptx.Instr) map[int]bool {
	lines := c.data()
	lines[in.Line] = true
	return lines
}

var cas = regexp.MustCompile(`atom\.global\.sys\.cas\.b64\s+(%\w+), (\[.*\]), 0, (%\w+);`)

// atomics replaces the compare-and-swap by what is nearly one.
func atomics(c *collector) {
	for i := range c.Body {
		if c.Body[i].Op != ptx.Atom {
			continue
		}
		m := cas.FindStringSubmatch(c.line(&c.Body[i]))
		if m == nil {
			continue
		}
		c.replace("cas to exch", i, "atom.global.sys.exch.b64 "+m[1]+", "+m[2]+", "+m[3]+";")
		c.replace("cas to load and store", i, "ld.relaxed.sys.global.u64 "+m[1]+", "+m[2]+"; st.relaxed.sys.global.u64 "+m[2]+", "+m[3]+";")
		c.replace("cas to load", i, "ld.relaxed.sys.global.u64 "+m[1]+", "+m[2]+";")
	}
}
