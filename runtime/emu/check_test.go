package emu

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moegen/moegen/runtime/driver"
)

// court is a small machine for judge.ptx: two devices with a page each that
// both reach, also through a multicast address.
type court struct {
	machine
	page [2]driver.DevicePtr
	mc   driver.DevicePtr
	mods [2]driver.Module
	ss   [2]driver.Stream
	out  [2]driver.DevicePtr
}

const courtFlag = 4096 // offset of the flags in a page

func newCourt(t testing.TB, cfg Config) *court {
	cfg.Devices = 2
	cfg.Judge.HostGraceMillis = -1
	c := &court{machine: newMachine(t, cfg)}
	obj := must(c.CreateMulticast(2, Granularity, driver.HandleNone))(t)
	for _, d := range c.Devices() {
		ok(t, obj.AddDevice(d))
	}
	for i, d := range c.Devices() {
		p, mem := c.peerAlloc(i, Granularity)
		ok(t, obj.Bind(d, 0, mem, 0, Granularity))
		c.page[i] = p
		ok(t, d.Write(p+courtFlag, make([]byte, 256)))
		c.mods[i] = c.load(i, readFile(t, "judge.ptx"))
		c.ss[i] = c.stream(i)
		c.out[i] = alloc(c.machine, i, make([]uint32, 256))
	}
	c.mc = must(c.Reserve(Granularity, 0))(t)
	ok(t, c.Map(c.mc, Granularity, obj, 0))
	ok(t, c.SetAccess(c.mc, Granularity, c.Devices()...))
	return c
}

// launch enqueues one block of 64 threads.
func (c *court) launch(dev int, kernel string, args ...any) {
	c.t.Helper()
	for i, a := range args {
		if p, ok := a.(driver.DevicePtr); ok {
			args[i] = uint64(p)
		}
	}
	ok(c.t, c.ss[dev].Launch(c.kernel(c.mods[dev], kernel), grid1(1, 64), pack(args...)))
}

// finish waits for everything and returns the reports' kinds, each once.
func (c *court) finish() []ReportKind {
	c.t.Helper()
	var judged bool
	for _, s := range c.ss {
		err := s.Synchronize()
		var je *JudgeError
		if errors.As(err, &je) {
			judged = true
		}
	}
	var kinds []ReportKind
	for _, r := range c.Reports() {
		if !slices.Contains(kinds, r.Kind) {
			kinds = append(kinds, r.Kind)
		}
		if !strings.Contains(r.Text, fmt.Sprintf("seed %d", c.cfg.Seed)) {
			c.t.Errorf("no seed in:\n%s", r.Text)
		}
	}
	slices.Sort(kinds)
	dead := false
	for _, d := range c.devices {
		dead = dead || d.sticky.Load() != nil
	}
	if !dead && judged != (len(kinds) > 0) {
		c.t.Errorf("JudgeError %v, but reports %v", judged, kinds)
	}
	if (c.Verdict() == Clean) != (len(kinds) == 0) {
		c.t.Errorf("verdict %v with reports %v", c.Verdict(), kinds)
	}
	return kinds
}

// crime is a program and what the judge must say of it.
type crime struct {
	name string
	run  func(c *court)
	want []ReportKind
	says []string // in the reports
	// some: only some schedules make it happen.
	some bool
}

func (c *court) send(kernel string) {
	flag := c.page[1] + courtFlag
	c.launch(0, kernel, c.page[1], flag)
	c.launch(1, "receive", c.page[1], flag, c.out[1])
}

func (c *court) multicast(kernel string, window driver.DevicePtr) {
	flag := c.page[1] + courtFlag
	c.launch(0, kernel, window, flag)
	c.launch(1, "receive", c.page[1], flag, c.out[1])
}

func (c *court) epochs(answer driver.DevicePtr) {
	flag := c.page[1] + courtFlag
	c.launch(0, "produce", c.page[1], flag, answer)
	c.launch(1, "consume", c.page[1], flag, answer, c.out[1])
}

func (c *court) copies(kernel string) {
	in := alloc(c.machine, 0, make([]uint32, 256))
	c.launch(0, kernel, in, c.out[0])
}

func (c *court) dependent(second string) {
	data := must(c.Devices()[0].Alloc(256))(c.t)
	ok(c.t, c.Devices()[0].Write(data, make([]byte, 256)))
	c.launch(0, "first", data)
	cfg := grid1(1, 64)
	cfg.Dependent = true
	ok(c.t, c.ss[0].Launch(c.kernel(c.mods[0], second), cfg, pack(uint64(data), uint64(c.out[0]))))
}

var crimes = []crime{
	{name: "message", run: func(c *court) { c.send("send_right") }},
	{name: "message by fence", run: func(c *court) { c.send("send_fence") }},
	{name: "relaxed flag", run: func(c *court) { c.send("send_relaxed") }, want: []ReportKind{DataRace},
		says: []string{"symmetric memory", "of GPU 1", "kernel receive", "kernel send_relaxed", "judge.cu:", "st.global.u32", "no release"}},
	{name: "narrow scope", run: func(c *court) { c.send("send_gpu_scope") }, want: []ReportKind{ScopeTooNarrow}, says: []string{"scope gpu"}},
	{name: "no barrier before the flag", run: func(c *court) { c.send("send_no_barrier") }, want: []ReportKind{DataRace, UninitialisedRead}},
	{name: "multicast", run: func(c *court) { c.multicast("send_multicast", c.mc) }},
	{name: "no alias fence", run: func(c *court) { c.multicast("send_no_alias_fence", c.mc) }, want: []ReportKind{MissingAliasFence},
		says: []string{"multimem.st", "multicast address by device 0", "unicast address by device 1", "fence.proxy.alias"}},
	{name: "st on a multicast address", run: func(c *court) { c.launch(0, "send_plain_store", c.mc, c.page[1]) }, want: []ReportKind{WrongAddressKind},
		says: []string{"is a multicast address", "send_plain_store"}},
	{name: "multimem on a unicast address", run: func(c *court) { c.launch(0, "send_multimem_on_unicast", c.page[1], c.page[1]) },
		want: []ReportKind{WrongAddressKind}, says: []string{"unicast address"}},
	{name: "reuse", run: func(c *court) { c.epochs(c.page[0] + courtFlag) }},
	{name: "reuse without an answer", run: func(c *court) { c.epochs(0) }, want: []ReportKind{DataRace}, some: true},
	{name: "deadlock", run: func(c *court) {
		a, b := c.page[0]+courtFlag, c.page[1]+courtFlag
		c.launch(0, "wait_for", a, 5, b)
		c.launch(1, "wait_for", b, 5, a)
	}, want: []ReportKind{Deadlock}, says: []string{"device 0, block 0, warp 0", "device 1, block 0, warp 0", "of GPU 0, offset 0x1000", "saw 0x0, compares with", "= 0x5", "judge.cu:"}},
	{name: "stall", run: func(c *court) {
		c.launch(0, "wait_deadline", c.page[0]+courtFlag, 5, uint64(2e9), c.out[0])
	}, want: []ReportKind{Stall}, says: []string{"of GPU 0, offset 0x1000", "saw 0x0"}},
	{name: "delay is no stall", run: func(c *court) {
		c.launch(0, "wait_deadline", c.page[0]+courtFlag, 1, uint64(2e9), c.out[0])
		c.launch(1, "delay", uint64(1e6), c.page[0]+courtFlag)
	}},
	{name: "uninitialised", run: func(c *court) { c.launch(0, "uninitialised", c.page[0], c.out[0]) }, want: []ReportKind{UninitialisedRead}},
	{name: "shared memory", run: func(c *court) { c.launch(0, "shared_right", c.out[0]) }},
	{name: "race in shared memory", run: func(c *court) { c.launch(0, "shared_race", c.out[0]) }, want: []ReportKind{DataRace, UninitialisedRead}},
	{name: "divergent barrier", run: func(c *court) { c.launch(0, "divergent", c.out[0]) }, want: []ReportKind{DivergentBarrier}},
	{name: "misaligned", run: func(c *court) { c.launch(0, "misaligned", c.page[0]) }, want: []ReportKind{Misaligned}},
	{name: "out of bounds", run: func(c *court) { c.launch(0, "uninitialised", c.out[0]+2000, c.out[0]) }, want: []ReportKind{OutOfBounds}},
	{name: "nc of data that a peer writes", run: func(c *court) {
		flag := c.page[1] + courtFlag
		ok(c.t, c.Devices()[1].Write(c.page[1], make([]byte, 256)))
		c.launch(0, "send_right", c.page[1], flag)
		c.launch(1, "read_only", c.page[1], flag, c.out[1])
	}, want: []ReportKind{DataRace, NCOfMutable}},
	{name: "copy", run: func(c *court) { c.copies("copy_right") }},
	{name: "copy without a wait", run: func(c *court) { c.copies("copy_no_wait") }, want: []ReportKind{DataRace, UninitialisedRead}},
	{name: "bulk copy", run: func(c *court) { c.copies("bulk_right") }},
	{name: "bulk copy without a wait", run: func(c *court) { c.copies("bulk_no_wait") }, want: []ReportKind{DataRace, UninitialisedRead}},
	{name: "dependent launch", run: func(c *court) { c.dependent("second_waits") }},
	{name: "dependent launch without a wait", run: func(c *court) { c.dependent("second_does_not") }, want: []ReportKind{WeakRaceWithStrong}},
	{name: "host read without a wait", run: func(c *court) {
		c.launch(0, "shared_right", c.out[0])
		read[uint32](c.machine, 0, c.out[0], 64)
	}, want: []ReportKind{DataRace}},
}

// TestCrimes: both modes find what is wrong, in every schedule, and nothing
// else. The exceptions are schedules in which part of a crime does not happen.
func TestCrimes(t *testing.T) {
	for _, x := range crimes {
		t.Run(x.name, func(t *testing.T) {
			for _, mode := range []Mode{Check, Explore} {
				found := 0
				for seed := range uint64(8) {
					c := newCourt(t, Config{Mode: mode, Seed: seed, Judge: Judge{Schedule: Schedule(seed % 2)}})
					x.run(c)
					got := c.finish()
					if len(got) > 0 {
						found++
					} else if x.some {
						continue
					}
					if !agrees(got, x.want) {
						t.Errorf("mode %d, seed %d: found %v, want %v\n%v", mode, seed, got, x.want, c.Reports())
					}
					var all string
					for _, r := range c.Reports() {
						all += r.Text + "\n"
					}
					for _, s := range x.says {
						if !strings.Contains(all, s) {
							t.Errorf("mode %d, seed %d: the reports do not say %q:\n%s", mode, seed, s, all)
						}
					}
					c.Close()
				}
				if found == 0 && len(x.want) > 0 {
					t.Errorf("mode %d: no schedule finds it", mode)
				}
			}
		})
	}
}

// agrees says whether got is want, or where want has several kinds, some of it.
func agrees(got, want []ReportKind) bool {
	if len(want) == 0 || len(got) == 0 {
		return len(got) == len(want)
	}
	for _, k := range got {
		if !slices.Contains(want, k) {
			return false
		}
	}
	return true
}

// TestSeveralHosts: a host that waits does not keep another one from enqueuing
// what it waits for.
func TestSeveralHosts(t *testing.T) {
	m := newMachine(t, Config{Devices: 2, Mode: Check})
	page, _ := m.peerAlloc(0, Granularity)
	ok(t, m.Devices()[0].Write(page, make([]byte, 256)))
	errs := make(chan error, 2)
	for i := range 2 {
		out := alloc(m, i, make([]uint32, 256))
		s, mod := m.stream(i), m.load(i, readFile(t, "judge.ptx"))
		go func() {
			var err error
			if i == 0 {
				err = s.Launch(m.kernel(mod, "wait_deadline"), grid1(1, 64), pack(uint64(page), 1, uint64(2e9), uint64(out)))
			} else {
				time.Sleep(20 * time.Millisecond)
				err = s.Launch(m.kernel(mod, "delay"), grid1(1, 64), pack(uint64(10), uint64(page)))
			}
			errs <- errors.Join(err, s.Synchronize())
		}()
	}
	ok(t, errors.Join(<-errs, <-errs))
}

// TestHostWrites: what a host writes to its own memory ends a wait.
func TestHostWrites(t *testing.T) {
	c := newCourt(t, Config{Mode: Explore})
	h := must(c.Devices()[0].AllocHost(64))(t)
	c.launch(0, "wait_for", h.Ptr(), 1, c.page[0]+courtFlag)
	if b := make([]byte, 4); c.Devices()[0].Read(b, c.out[0]) != nil {
		t.Fatal("read")
	}
	h.Bytes()[0] = 1
	if got := c.finish(); len(got) > 0 {
		t.Errorf("%v", c.Reports())
	}
	ok(t, h.Free())
}
