package mutation

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/moegen/moegen/runtime/emu/ptx"
	"github.com/moegen/moegen/runtime/emu/race"
)

// moves puts the release before what it has to come after, data stores after
// the release, and lets a rank without rows say nothing.
func moves(c *collector) {
	release := c.release()
	if release < 0 || c.Body[release].Sem != ptx.Release {
		return
	}
	c.lateStores(release)
	barrier := -1
	for i := range c.Body[:release] {
		if c.Body[i].Op == ptx.BarSync {
			barrier = i
		}
	}
	if barrier < 0 {
		return
	}
	if slices.ContainsFunc(c.Body[:barrier], func(in ptx.Instr) bool { return c.isGather(&in) }) {
		c.silent(barrier)
		// Before the barrier, and before each tensor but the first, which is
		// where the loop over the one before it ends.
		c.early(barrier, release, barrier, "the barrier")
		tensor := 1
		for i := range c.Body[:barrier] {
			if in := &c.Body[i]; in.Op == ptx.Bra && in.Target < i && i+1 < barrier {
				if tensor++; i+1 < barrier && tensor <= 3 {
					c.early(barrier, release, i+1, fmt.Sprintf("tensor %d", tensor))
				}
			}
		}
	}
}

func (c *collector) isGather(in *ptx.Instr) bool {
	return in.Op == ptx.MultimemSt || in.Op == ptx.St && c.roles.is(in.Line, gatherRole)
}

// early copies everything from behind the barrier to the release to a place
// before it, and takes the original release away.
func (c *collector) early(barrier, release, place int, name string) {
	var b strings.Builder
	for _, i := range c.needed(barrier, release, place) {
		b.WriteString(c.line(&c.Body[i]) + " ")
	}
	healthy := -1
	for i := barrier + 1; i <= release; i++ {
		in := &c.Body[i]
		text := c.line(in)
		if in.Op == ptx.Bra {
			target := " $early;" // whoever does not signal goes on behind the copy
			if in.Target <= release {
				healthy, target = in.Target, " $healthy;"
			}
			if at := strings.Index(text, "bra"); in.Guard.Reg >= 0 {
				text = text[:at] + "bra" + target
			} else {
				text = "ret;" // the group has failed
			}
		}
		if i == healthy {
			b.WriteString("$healthy: ")
		}
		b.WriteString(text + " ")
	}
	b.WriteString("$early: ")
	at := &c.Body[place]
	c.add("release before "+name, release, edit{text: ""}, edit{at.Line, b.String() + c.line(at)}).wants(c.data(), races...)
}

// needed are the instructions between place and barrier that what is copied
// depends on.
func (c *collector) needed(barrier, release, place int) []int {
	found := map[int]bool{}
	var visit func(i int)
	visit = func(i int) {
		for _, o := range c.Body[i].Src {
			if o.Kind != ptx.RegOperand && o.Kind != ptx.MemOperand || o.Reg < 0 {
				continue
			}
			if d := c.def(i, o.Reg); d >= place && d < barrier && !found[d] {
				found[d] = true
				visit(d)
			}
		}
	}
	for i := barrier + 1; i <= release; i++ {
		visit(i)
	}
	return slices.Sorted(maps.Keys(found))
}

var vector = regexp.MustCompile(`\[(%rd\d+)`)

// lateStores repeats each data store after the release: the same bytes again,
// so only the judge can notice.
func (c *collector) lateStores(release int) {
	for i := range c.Body[:release] {
		in := &c.Body[i]
		if !c.isGather(in) {
			continue
		}
		address := vector.FindStringSubmatch(c.line(in))[1]
		r := &c.Body[release]
		text := fmt.Sprintf("%s {.reg .pred %%q; setp.ne.u64 %%q, %s, 0; @%%q %s }", c.line(r), address, c.line(in))
		c.add("store again after the release", i, edit{r.Line, text}).
			wants(map[int]bool{r.Line: true}, race.DataRace, race.MissingAliasFence)
	}
}

// silent lets a rank without rows leave before it has told anybody.
func (c *collector) silent(barrier int) {
	for i := range c.Body[:barrier] {
		if in := &c.Body[i]; in.Op == ptx.Ld && c.roles.is(in.Line, stepRole) {
			reg := c.Regs[in.Dst[0].Reg].Name
			c.replace("a rank without rows says nothing", barrier,
				fmt.Sprintf("{.reg .pred %%q; setp.eq.u32 %%q, %s, 0; @%%q ret; } %s", reg, c.line(&c.Body[barrier])))
			return
		}
	}
}
