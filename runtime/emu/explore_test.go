package emu

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/moegen/moegen/runtime/driver"
)

// TestDeterminism: a seed makes the very same reports, another one others.
func TestDeterminism(t *testing.T) {
	once := func(mode Mode, s Schedule, seed uint64) string {
		c := newCourt(t, Config{Mode: mode, Seed: seed, Judge: Judge{Schedule: s}})
		defer c.Close()
		c.send("send_no_barrier")
		c.epochs(0)
		c.copies("copy_no_wait")
		c.launch(0, "wait_deadline", c.page[0]+courtFlag+64, 5, uint64(1e9), c.out[0])
		c.finish()
		var text string
		for _, r := range c.Reports() {
			text += r.Text + "\n"
		}
		return text
	}
	for _, mode := range []Mode{Check, Explore} {
		for _, s := range []Schedule{RandomWalk, PCT} {
			texts := map[string]bool{}
			for seed := range uint64(6) {
				a, b := once(mode, s, seed), once(mode, s, seed)
				if a != b {
					t.Fatalf("mode %d, schedule %d, seed %d:\n%s\nand then\n%s", mode, s, seed, a, b)
				}
				texts[strings.ReplaceAll(a, "seed", "")] = true
			}
			if len(texts) < 4 {
				t.Errorf("mode %d, schedule %d: 6 seeds make %d different reports", mode, s, len(texts))
			}
		}
	}
}

// TestExploreWeakMemory: relaxed data behind a relaxed flag is free of races,
// and right in every interleaving. That it can be late only Explore shows.
func TestExploreWeakMemory(t *testing.T) {
	late := map[Mode]int{}
	for _, mode := range []Mode{Check, Explore} {
		for seed := range uint64(40) {
			c := newCourt(t, Config{Mode: mode, Seed: seed})
			data, flag := c.page[1]+courtFlag+128, c.page[1]+courtFlag
			c.launch(0, "relaxed_send", data, flag)
			c.launch(1, "relaxed_receive", data, flag, c.out[1])
			if got := c.finish(); len(got) > 0 {
				t.Fatalf("seed %d: %v", seed, c.Reports())
			}
			if read[uint32](c.machine, 1, c.out[1], 1)[0] != 7 {
				late[mode]++
			}
			c.Close()
		}
	}
	if late[Check] != 0 || late[Explore] == 0 || late[Explore] == 40 {
		t.Errorf("late in %d of 40 interleavings and %d of 40 explorations", late[Check], late[Explore])
	}
}

// TestStepLimit: an execution that is cut short is not a deadlock.
func TestStepLimit(t *testing.T) {
	c := newCourt(t, Config{Mode: Check, Judge: Judge{StepLimit: 20000}})
	c.launch(0, "spin_forever", c.page[0]+courtFlag)
	err := c.ss[0].Synchronize()
	var je *JudgeError
	if !errors.As(err, &je) || je.Verdict != Incomplete || je.Reports[0].Kind != StepLimit {
		t.Fatalf("%v", err)
	}
	if driver.CodeOf(err) != codeLaunchTimeout {
		t.Errorf("the device's error is %v", je.Device)
	}
	if c.Verdict() != Incomplete || !strings.Contains(err.Error(), "spin_forever") {
		t.Errorf("verdict %v: %v", c.Verdict(), err)
	}
}

// TestAllowStalls: a stall need not be a report.
func TestAllowStalls(t *testing.T) {
	c := newCourt(t, Config{Mode: Check, Judge: Judge{AllowStalls: true}})
	c.launch(0, "wait_deadline", c.page[0]+courtFlag, 5, uint64(2e9), c.out[0])
	if got := c.finish(); len(got) > 0 {
		t.Errorf("%v", c.Reports())
	}
	if read[uint32](c.machine, 0, c.out[0], 1)[0] != 1 {
		t.Error("the deadline did not pass")
	}
}

// TestAliasRules: what counts as a missing fence is a choice.
func TestAliasRules(t *testing.T) {
	for rule, want := range map[AliasRule]int{AliasStrict: 1, AliasPractical: 1, AliasOff: 0} {
		c := newCourt(t, Config{Mode: Check, Judge: Judge{Alias: rule}})
		c.multicast("send_no_alias_fence", c.mc)
		if got := c.finish(); len(got) != want {
			t.Errorf("rule %d: %v", rule, got)
		}
	}
}

// TestRelaxedFlag: happens-before finds the planted bug in every schedule that
// random scheduling alone found in one of a hundred.
func TestRelaxedFlag(t *testing.T) {
	for seed := range uint64(200) {
		c := newCourt(t, Config{Mode: Explore, Seed: seed, Judge: Judge{Schedule: Schedule(seed % 2), PCTLength: 64}})
		c.send("send_relaxed")
		if got := c.finish(); len(got) != 1 || got[0] != DataRace {
			t.Fatalf("seed %d: %v", seed, got)
		}
		c.Close()
	}
}

// TestReduceOrder: sums of values that float32 cannot add exactly depend on the
// order, which Explore varies; in native mode also on the roundings.
func TestReduceOrder(t *testing.T) {
	const kernel = `.version 8.1
.target sm_90a
.address_size 64
.visible .entry reduce(.param .u64 mc, .param .u64 out)
{
	.reg .b32 %r<3>;
	.reg .b64 %rd<3>;
	ld.param.u64 %rd1, [mc];
	ld.param.u64 %rd2, [out];
	multimem.ld_reduce.weak.global.add.bf16x2 %r1, [%rd1];
	st.global.u32 [%rd2], %r1;
	ret;
}`
	bf := func(f float32) uint16 { return uint16(math.Float32bits(f) >> 16) }
	sums := map[bool]map[uint16]bool{false: {}, true: {}}
	for _, native := range []bool{false, true} {
		for seed := range uint64(30) {
			m := newMachine(t, Config{Devices: 3, Mode: Explore, Seed: seed, Judge: Judge{NativeReduce: native}})
			obj := must(m.CreateMulticast(3, Granularity, driver.HandleNone))(t)
			for _, d := range m.Devices() {
				ok(t, obj.AddDevice(d))
			}
			// 256 + 1 + 1 is 258; rounded in between, either 256 or 258.
			for i, v := range []float32{256, 1, 1} {
				p, mem := m.peerAlloc(i, Granularity)
				ok(t, obj.Bind(m.Devices()[i], 0, mem, 0, Granularity))
				ok(t, m.Devices()[i].Write(p, toBytes([]uint16{bf(v), bf(v)})))
			}
			mc := must(m.Reserve(Granularity, 0))(t)
			ok(t, m.Map(mc, Granularity, obj, 0))
			ok(t, m.SetAccess(mc, Granularity, m.Devices()...))
			out, s := alloc(m, 0, make([]uint16, 2)), m.stream(0)
			ok(t, s.Launch(m.kernel(m.load(0, []byte(kernel)), "reduce"), grid1(1, 1), pack(uint64(mc), uint64(out))))
			ok(t, s.Synchronize())
			sums[native][read[uint16](m, 0, out, 1)[0]] = true
			m.Close()
		}
	}
	if len(sums[false]) != 1 || !sums[false][bf(258)] {
		t.Errorf("with one rounding: %v", sums[false])
	}
	if len(sums[true]) != 2 || !sums[true][bf(258)] || !sums[true][bf(256)] {
		t.Errorf("with native rounding: %v", sums[true])
	}
}
