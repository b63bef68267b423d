package litmus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/emu"
)

// Where things are in the memory of one run.
const (
	runBytes  = 1024
	locBytes  = 256
	outOffset = 768
)

// bench is an emulated machine for litmus tests: memory that all devices reach.
type bench struct {
	drv     *emu.Driver
	base    driver.DevicePtr
	streams []driver.Stream
}

func newBench(t testing.TB, devices int, c emu.Config) *bench {
	t.Helper()
	c.Devices = devices
	drv, err := emu.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { drv.Close() })
	b := &bench{drv: drv}
	mem, err := drv.Devices()[0].CreateMemory(emu.Granularity, driver.HandleNone)
	if err == nil {
		b.base, err = drv.Reserve(emu.Granularity, 0)
	}
	if err == nil {
		err = drv.Map(b.base, emu.Granularity, mem, 0)
	}
	if err == nil {
		err = drv.SetAccess(b.base, emu.Granularity, drv.Devices()...)
	}
	for _, d := range drv.Devices() {
		if err == nil {
			var s driver.Stream
			s, err = d.NewStream()
			b.streams = append(b.streams, s)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// run runs the program some times and counts the outcomes. The machine's seed
// decides; each run has memory of its own.
func (b *bench) run(t testing.TB, p *program, runs int) map[string]int {
	t.Helper()
	if err := b.drv.Devices()[0].Write(b.base, make([]byte, runs*runBytes)); err != nil {
		t.Fatal(err)
	}
	functions := b.load(t, p)
	out := map[string]int{}
	memory := make([]byte, runBytes)
	for i := range runs {
		at := b.base + driver.DevicePtr(i*runBytes)
		b.launch(t, p, functions, at)
		if err := b.drv.Devices()[0].Read(memory, at); err != nil {
			t.Fatal(err)
		}
		word := func(off int) int { return int(binary.LittleEndian.Uint32(memory[off:])) }
		regs, final := make([]int, p.regs), map[byte]int{}
		for r := range regs {
			regs[r] = word(outOffset + 4*r)
		}
		for l := range len(p.locs) {
			final[p.locs[l]] = word(l * locBytes)
		}
		out[p.outcome(regs, final)]++
	}
	return out
}

func (b *bench) load(t testing.TB, p *program) []driver.Function {
	t.Helper()
	devices := 1
	if p.where == sys {
		devices = len(p.threads)
	}
	var out []driver.Function
	for _, d := range b.drv.Devices()[:devices] {
		m, err := d.LoadModule(driver.Image{Name: "litmus.ptx", PTX: []byte(p.ptx())})
		if err != nil {
			t.Fatalf("%v\n%s", err, p.ptx())
		}
		f, err := m.Function("k")
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, f)
	}
	return out
}

// launch runs the program once.
func (b *bench) launch(t testing.TB, p *program, functions []driver.Function, at driver.DevicePtr) {
	t.Helper()
	grid, block := 1, 32
	switch p.where {
	case cta:
		block = 32 * len(p.threads)
	case gpu:
		grid = len(p.threads)
	}
	for dev, f := range functions {
		params := binary.LittleEndian.AppendUint64(nil, uint64(at))
		params = binary.LittleEndian.AppendUint32(params, uint32(dev))
		err := b.streams[dev].Launch(f, driver.LaunchConfig{Grid: driver.Dim3{X: grid}, Block: driver.Dim3{X: block}}, params)
		if err != nil {
			t.Fatal(err)
		}
	}
	for dev := range functions {
		var judged *emu.JudgeError // races are what litmus tests are made of
		if err := b.streams[dev].Synchronize(); err != nil && (!errors.As(err, &judged) || judged.Device != nil) {
			t.Fatal(err)
		}
	}
}

// ptx is the program for one kernel: its threads are warps, blocks or devices.
func (p *program) ptx() string {
	var b strings.Builder
	b.WriteString(".version 8.0\n.target sm_90\n.address_size 64\n.visible .entry k(.param .u64 at, .param .u32 first)\n{\n" +
		".reg .pred %p<8>;\n.reg .b32 %r<8>;\n.reg .b32 %v<16>;\n.reg .b64 %rd<2>;\nld.param.u64 %rd1, [at];\nld.param.u32 %r1, [first];\n" +
		"mov.u32 %r2, %tid.x;\nand.b32 %r3, %r2, 31;\nsetp.ne.u32 %p1, %r3, 0;\n@%p1 bra $end;\n" +
		"shr.u32 %r2, %r2, 5;\nadd.u32 %r1, %r1, %r2;\nmov.u32 %r2, %ctaid.x;\nadd.u32 %r1, %r1, %r2;\n")
	for t := range p.threads {
		fmt.Fprintf(&b, "setp.eq.u32 %%p2, %%r1, %d;\n@%%p2 bra $t%d;\n", t, t)
	}
	b.WriteString("bra $end;\n")
	for t, events := range p.threads {
		fmt.Fprintf(&b, "$t%d:\n", t)
		for _, e := range events {
			b.WriteString(p.instruction(e))
		}
		// Results are stored at the end, so that they order nothing.
		for _, e := range events {
			if e.mem() && e.reads() {
				fmt.Fprintf(&b, "st.global.u32 [%%rd1+%d], %%v%d;\n", outOffset+4*e.reg, e.reg)
			}
		}
		b.WriteString("bra $end;\n")
	}
	b.WriteString("$end:\nret;\n}\n")
	return b.String()
}

func (p *program) instruction(e *event) string {
	order := "." + e.sem + "." + e.scope
	if e.sem == weak {
		order = ".weak"
	}
	at := fmt.Sprintf("[%%rd1+%d]", strings.IndexByte(p.locs, e.loc)*locBytes)
	switch e.kind {
	case load:
		return fmt.Sprintf("ld%s.global.u32 %%v%d, %s;\n", order, e.reg, at)
	case store:
		return fmt.Sprintf("st%s.global.u32 %s, %d;\n", order, at, e.value)
	case add:
		return fmt.Sprintf("atom%s.global.add.u32 %%v%d, %s, %d;\n", order, e.reg, at, e.value)
	}
	return fmt.Sprintf("fence%s;\n", order)
}
