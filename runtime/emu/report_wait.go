package emu

import (
	"fmt"
	"strings"

	"github.com/moegen/moegen/runtime/emu/ptx"
)

// waiting lists who waits for what, by rank and block; only those warps where
// given.
func (c *checker) waiting(only []*warp) []string {
	var out []string
	want := map[*warp]bool{}
	for _, w := range only {
		want[w] = true
	}
	for _, dev := range c.d.devices {
		for _, b := range c.s.byDevice(dev) {
			for _, w := range b.warps {
				if len(w.splits) == 0 || only != nil && !want[w] {
					continue
				}
				for _, sp := range w.splits {
					out = append(out, c.waits(w, sp))
				}
			}
		}
		for _, g := range dev.queue {
			out = append(out, fmt.Sprintf("device %d, kernel %s: %d of %d blocks are not resident, as others occupy the multiprocessors",
				dev.ordinal, g.prog.fn.Name, g.blocks-g.next, g.blocks))
		}
		for _, n := range c.s.startedBy(dev) {
			if n.collective != nil {
				out = append(out, n.collective.waits(n))
			}
		}
	}
	return squeeze(out)
}

// squeeze joins runs of lines that differ in nothing but the warp.
func squeeze(lines []string) []string {
	const most = 64
	var out []string
	for i := 0; i < len(lines); {
		head, tail, _ := strings.Cut(lines[i], warpMark)
		n := 1
		for i+n < len(lines) {
			h, t, _ := strings.Cut(lines[i+n], warpMark)
			if h != head || t[strings.Index(t, ":")+1:] != tail[strings.Index(tail, ":")+1:] {
				break
			}
			n++
		}
		s := strings.Replace(lines[i], warpMark, "warp ", 1)
		if n > 1 {
			s = head + fmt.Sprintf("%d warps from ", n) + tail
		}
		out = append(out, s)
		i += n
	}
	if len(out) > most {
		out = append(out[:most], fmt.Sprintf("and %d more", len(out)-most))
	}
	return out
}

// warpMark stands for where squeeze finds the warp.
const warpMark = "\x00"

// waits describes one split.
func (c *checker) waits(w *warp, sp *split) string {
	b := w.b
	in := &w.code[min(sp.pc, len(w.code)-1)]
	what := "at"
	switch {
	case sp.state == splitBarrier:
		in, what = sp.in, "waits at a barrier,"
	case sp.state == splitSync:
		what = "waits for other lanes,"
	case sp.ck.grid:
		what = "waits for the kernel before,"
	}
	s := fmt.Sprintf("device %d, block %d, %s%d, lanes %#x: %s %s", b.g.dev.ordinal, b.n, warpMark, w.id, sp.mask, what, b.g.prog.where(in.src))
	if sp.state != splitReady || sp.ck.grid {
		return s
	}
	for i := range w.ck.polled {
		p := &w.ck.polled[i]
		lanes := p.mask & sp.mask
		if lanes == 0 {
			continue
		}
		s += fmt.Sprintf("\n\t\tpolled %d times by line %d (%s)", p.count, p.in.src.Line, p.in.src.Text)
		seen := map[uint64]bool{}
		for k := lanes; k != 0; k &= k - 1 {
			i := lane(k)
			addr := p.addr[i] + p.in.mem.off
			if seen[addr] {
				continue
			}
			seen[addr] = true
			if len(seen) > mostLanes {
				s += "\n\t\t\tand more lanes"
				break
			}
			val := p.val
			if p.in.src.Op == ptx.Ld {
				val = w.src(p.in.mem.regs[0])[i]
			}
			s += fmt.Sprintf("\n\t\t\tlane %d: %s, saw %#x%s", i, c.place(w.b, p.in.mem, addr), val, wants(w, p, i))
		}
	}
	return s
}

// mostLanes is how many lanes' locations are listed for one instruction.
const mostLanes = 16

// wants says what a poll's loop compares the value with, where the next few
// instructions tell.
func wants(w *warp, p *poll, at int) string {
	prog := w.b.g.prog
	first := 0
	for i := range prog.code {
		if &prog.code[i] == p.in {
			first = i
		}
	}
	if p.in.mem == nil || len(p.in.mem.regs) == 0 || p.in.src.Op != ptx.Ld {
		return ""
	}
	reg := p.in.mem.regs[0]
	for i := first + 1; i < len(prog.code) && i < first+8; i++ {
		in := &prog.code[i]
		if in.kind == kindBra {
			return ""
		}
		if in.kind != kindALU && in.kind != kindSetp {
			continue
		}
		other := int32(0)
		var o ptx.Operand
		switch reg {
		case in.a:
			other, o = in.b, in.src.Src[min(1, len(in.src.Src)-1)]
		case in.b:
			other, o = in.a, in.src.Src[0]
		default:
			continue
		}
		if in.kind == kindALU && (in.src.Op != ptx.Sub || len(in.src.Src) != 2) {
			reg = in.d // a shift or the like: what is compared comes of it
			continue
		}
		return fmt.Sprintf(", compares with %s = %#x (line %d: %s)", operand(prog, o), w.src(other)[at], in.src.Line, in.src.Text)
	}
	return ""
}

// byDevice lists a device's blocks that have begun, in order.
func (s *checkScheduler) byDevice(dev *Device) []*block {
	var out []*block
	for _, b := range s.blocks {
		if b.g.dev == dev {
			i := len(out)
			out = append(out, b)
			for ; i > 0 && (out[i-1].g.id > b.g.id || out[i-1].g.id == b.g.id && out[i-1].n > b.n); i-- {
				out[i] = out[i-1]
			}
			out[i] = b
		}
	}
	return out
}

// reportStall notes that a timer has to fire.
func (c *checker) reportStall(timed []*warp, now, next uint64) {
	if c.judge.AllowStalls {
		return
	}
	// Once for each kernel, however often time has to move on for it.
	key := timed[0].b.g.prog.fn.Name
	if c.stalled[key] {
		return
	}
	c.stalled[key] = true
	lines := c.waiting(nil)
	c.add(Stall, fmt.Sprintf("nothing can run any more; time moves on by %d ns to the next moment that a kernel looks for. Who waits:\n\t%s",
		next-now, strings.Join(lines, "\n\t")))
}

// deadlock ends an execution in which nothing can run and nobody looks at a
// clock.
func (s *checkScheduler) deadlock() {
	lines := s.c.waiting(nil)
	hit := map[*Device]bool{}
	for _, dev := range s.d.devices {
		hit[dev] = len(s.byDevice(dev)) > 0 || len(dev.queue) > 0 || len(dev.started) > 0
	}
	text := "nothing can run any more, and nobody waits for time. Who waits:\n\t" + strings.Join(lines, "\n\t")
	s.c.add(Deadlock, text)
	for _, dev := range s.d.devices {
		if hit[dev] {
			s.kill(dev, codeLaunchTimeout, text)
		}
	}
}
