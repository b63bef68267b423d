package emu

import (
	"fmt"
	"strings"

	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/emu/ptx"
	"github.com/moegen/moegen/runtime/emu/race"
)

// ReportKind is the class of a Report.
type ReportKind int

// The kinds of report. Those from DataRace to BadAccess are package race's.
const (
	DataRace ReportKind = iota
	WeakRaceWithStrong
	ScopeTooNarrow
	MixedAlias
	MissingAliasFence
	MissingAsyncFence
	UninitialisedRead
	NCOfMutable
	BadAccess
	// OutOfBounds, Misaligned, WrongAddressKind (ld or st on a multicast address,
	// multimem on a unicast one) and Fault (everything else that kills a context)
	// are also errors of the device.
	OutOfBounds
	Misaligned
	WrongAddressKind
	Fault
	// DivergentBarrier is an aligned barrier that not all threads of a warp
	// reached together.
	DivergentBarrier
	// Deadlock: nothing can run any more, and nothing waits for time.
	Deadlock
	// Stall: nothing could run any more until a timer fired.
	Stall
	// StepLimit: the execution was cut short; it was not judged to its end.
	StepLimit
)

func (k ReportKind) String() string {
	if k < OutOfBounds {
		return race.ReportKind(k).String()
	}
	return [...]string{"access out of bounds", "misaligned access", "wrong kind of address", "fault",
		"divergent barrier", "deadlock", "stall", "step limit"}[k-OutOfBounds]
}

// Report is one finding of the modes Check and Explore.
type Report struct {
	Kind ReportKind
	// Text is the whole report for people, several lines, the seed included.
	Text string
	Seed uint64
	// Race has the particulars of the kinds up to BadAccess, else nil.
	Race *race.Report
	// Count is how often it was found; Text shows the first time.
	Count int
}

func (r Report) String() string { return r.Text }

// Verdict is what became of an execution.
type Verdict int

const (
	// Clean: everything that ran was judged, and there are no reports.
	Clean Verdict = iota
	// Faulty: there are reports.
	Faulty
	// Incomplete: the step limit was reached before anything was found.
	Incomplete
)

func (v Verdict) String() string { return [...]string{"clean", "faulty", "incomplete"}[v] }

// JudgeError is returned by synchronising calls when the execution up to there
// has brought new reports. It comes once for them; where a device has failed
// too, its error, which comes always, is wrapped.
type JudgeError struct {
	Reports []Report // the new ones
	Verdict Verdict
	Device  error // the device's error, if any
}

func (e *JudgeError) Error() string {
	more := ""
	if n := len(e.Reports) - 1; n > 0 {
		more = fmt.Sprintf("\nand %d more", n)
	}
	return fmt.Sprintf("emu: the execution is %v: %s%s", e.Verdict, e.Reports[0].Text, more)
}

// Unwrap is the device's error.
func (e *JudgeError) Unwrap() error { return e.Device }

// Reports returns what the modes Check and Explore have found so far, in the
// order in which it was found. In Fast mode there is nothing.
func (d *Driver) Reports() []Report {
	c := d.check
	if c == nil {
		return nil
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.collect()
	rs := c.det.Reports()
	out := append([]Report(nil), c.reports...)
	n := 0
	for i := range out {
		if out[i].Race != nil {
			for n < len(rs) && ignored(&rs[n]) {
				n++
			}
			out[i].Count = rs[n].Count
			n++
		}
	}
	return out
}

// Judges reports whether the driver is in one of these modes: a host's copy is
// then judged, too, and lets kernels go on.
func (d *Driver) Judges() bool { return d.check != nil }

// Verdict sums the reports up.
func (d *Driver) Verdict() Verdict {
	c := d.check
	if c == nil {
		return Clean
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.collect()
	return c.verdict()
}

func (c *checker) verdict() Verdict {
	v := Clean
	for _, r := range c.reports {
		if r.Kind != StepLimit {
			return Faulty
		}
		v = Incomplete
	}
	return v
}

// judged wraps the error of a synchronising call if there are new reports.
func (d *Driver) judged(err error) error {
	c := d.check
	if c == nil {
		return err
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.collect()
	if c.delivered == len(c.reports) {
		return err
	}
	e := &JudgeError{Reports: append([]Report(nil), c.reports[c.delivered:]...), Verdict: c.verdict(), Device: err}
	c.delivered = len(c.reports)
	return e
}

// ignored says which of package race's findings are none here: copies may carry
// bytes that nobody has written, as they often take more than is needed.
func ignored(r *race.Report) bool {
	return r.Kind == race.UninitialisedRead && r.Second.Path == race.PathAny
}

// collect renders the detector's new findings.
func (c *checker) collect() {
	if c.det.Stats().Reports == c.raceCount {
		return
	}
	c.raceCount = c.det.Stats().Reports
	rs := c.det.Reports()
	for i := c.raceSeen; i < len(rs); i++ {
		r := rs[i]
		if !ignored(&r) {
			c.add(ReportKind(r.Kind), c.raceText(&r))
			c.reports[len(c.reports)-1].Race = &r
		}
	}
	c.raceSeen = len(rs)
}

// add enters a report; the seed makes its last line.
func (c *checker) add(k ReportKind, text string) {
	seed := c.d.cfg.Seed
	mode := map[Mode]string{Check: "check", Explore: "explore"}[c.d.cfg.Mode]
	text = fmt.Sprintf("%s: %s\n\tmode %s, seed %d", k, text, mode, seed)
	c.reports = append(c.reports, Report{Kind: k, Text: text, Seed: seed, Count: 1})
}

func (c *checker) reportText(k ReportKind, text string) { c.add(k, text) }

func (c *checker) raceText(r *race.Report) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d bytes at offset %#x of %s", r.Size, r.Offset, r.Alloc)
	c.side(&b, "now", r.Second)
	if r.HasFirst {
		c.side(&b, "before", r.First)
	}
	if r.Explain != "" {
		fmt.Fprintf(&b, "\n\twhy: %s", r.Explain)
	}
	return b.String()
}

// side renders one access.
func (c *checker) side(b *strings.Builder, when string, a race.AccessInfo) {
	if a.Host {
		fmt.Fprintf(b, "\n\t%s: %s by the host (Device.Read or Write)", when, a.Kind)
		return
	}
	if a.Path == race.PathAny {
		fmt.Fprintf(b, "\n\t%s: %s by %s on device %d", when, a.Kind, a.Kernel, a.Device)
		return
	}
	sem := a.Sem.String()
	if a.Sem != race.Weak {
		sem += "." + a.Scope.String()
	}
	fmt.Fprintf(b, "\n\t%s: %s %s through a %s address by device %d, kernel %s, block %d, warp %d, lane %d", when, sem, a.Kind,
		a.Path, a.Device, a.Kernel, a.Block, a.Warp, a.Lane)
	fmt.Fprintf(b, "\n\t\tPTX line %d: %s", a.PTXLine, c.text(a.Kernel, a.PTXLine))
	if a.CUDALoc != "" {
		fmt.Fprintf(b, "\n\t\tCUDA %s", a.CUDALoc)
	}
}

func (c *checker) text(kernel string, line int) string {
	if in := c.source[sourceKey{kernel, line}]; in != nil {
		return in.Text
	}
	return "?"
}

// kindOfFault classifies an error that kills a context.
func kindOfFault(code driver.Code) ReportKind {
	switch code {
	case driver.CodeIllegalAddress:
		return OutOfBounds
	case driver.CodeMisalignedAddress:
		return Misaligned
	}
	return Fault
}

func (c *checker) reportFault(w *warp, f *kernelFault) {
	k := kindOfFault(f.code)
	if k == OutOfBounds && (strings.Contains(f.text, "is a multicast address") || strings.Contains(f.text, "multimem on")) {
		k = WrongAddressKind
	}
	c.add(k, f.text)
}

func (c *checker) reportDivergent(w *warp, in *inst, came uint32) {
	if c.divergent[in.src] {
		return
	}
	c.divergent[in.src] = true
	c.add(DivergentBarrier, fmt.Sprintf("device %d, block %d, warp %d: lanes %#x reached it, others of the live lanes %#x did not, or by another instruction\n\t%s",
		w.b.g.dev.ordinal, w.b.n, w.id, came, w.alive, w.b.g.prog.where(in.src)))
}

func (c *checker) reportLimit() {
	if !c.limited {
		c.limited = true
		c.add(StepLimit, fmt.Sprintf("%d warp instructions were executed (Config.Judge.StepLimit); where everything was then:\n\t%s",
			c.judge.StepLimit, strings.Join(c.waiting(nil), "\n\t")))
	}
}

// operand names a register for people.
func operand(p *program, o ptx.Operand) string {
	if o.Kind == ptx.RegOperand {
		return p.fn.Regs[o.Reg].Name
	}
	return fmt.Sprintf("%#x", o.Imm)
}
