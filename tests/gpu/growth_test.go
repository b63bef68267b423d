package gpu

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
)

// resource is something that both ranks make and give back, in one cycle.
type resource struct {
	name  string
	cycle func() error
	// parts are the driver's own resources that one of moegen's is made of: what
	// they lose is not moegen's doing. None: the resource is the driver's alone.
	parts []string
	long  bool // a cycle takes about 10 ms
}

// loss is how many bytes each GPU lost over some cycles.
type loss struct {
	cycles int
	bytes  []float64 // a cycle
}

// TestGrowth looks for where GPU memory goes when dispatchers come and go: every
// resource that a dispatcher takes is made and given back by itself, time and
// again. It fails where something of moegen's loses more than what it is made
// of; what the driver loses alone is only told. Modules are no part of dispatchers,
// whose kernels stay loaded.
func TestGrowth(t *testing.T) {
	m := gpus(t, 2)
	x := &growth{t: t, machine: m, prog: smallProgram(t)}
	x.prepare()
	losses := map[string]loss{}
	table := &strings.Builder{}
	fmt.Fprintf(table, "%-36s %7s %16s %16s\n", "bytes lost a cycle by", "cycles", "the GPU of rank 0", "of rank 1")
	resources := x.resources()
	for _, r := range resources {
		l := x.measure(r)
		losses[r.name] = l
		fmt.Fprintf(table, "%-36s %7d %16.0f %16.0f\n", r.name, l.cycles, l.bytes[0], l.bytes[1])
	}
	t.Logf("GPU memory that does not come back:\n%s", table)
	// Free memory moves in pages: one of them is no loss.
	const allowed = 4 << 10
	page := pick(m, 2<<20, 0)
	for _, r := range resources {
		if r.parts == nil {
			continue
		}
		for rank, lost := range losses[r.name].bytes {
			for _, part := range r.parts {
				lost -= max(losses[part].bytes[rank], 0)
			}
			if lost > allowed+float64(page)/float64(losses[r.name].cycles) {
				t.Errorf("%s: rank %d's GPU loses %.0f bytes a cycle more than by the parts alone: %s", r.name, rank, lost, strings.Join(r.parts, ", "))
			}
		}
	}
}

// growth is what the cycles need.
type growth struct {
	machine
	t     *testing.T
	prog  *moert.Program
	words []driver.HostMemory // one for each rank's gate kernel, which is open
	gates []driver.Function
	kept  []driver.Stream
}

func (x *growth) prepare() {
	for _, d := range x.ranks(2) {
		h, err := d.AllocHost(64)
		if err != nil {
			x.t.Fatal(err)
		}
		x.t.Cleanup(func() {
			if err := h.Free(); err != nil {
				x.t.Error(err)
			}
		})
		clear(h.Bytes())
		h.Bytes()[0] = 1
		s, err := d.NewStream()
		if err != nil {
			x.t.Fatal(err)
		}
		x.t.Cleanup(func() {
			if err := s.Close(); err != nil {
				x.t.Error(err)
			}
		})
		x.words, x.gates, x.kept = append(x.words, h), append(x.gates, helpers(x.t, d)("gate")), append(x.kept, s)
	}
	if err := x.dispatchers(!x.oneGPU); err != nil { // the compiler's part, and what the driver keeps
		x.t.Fatal(err)
	}
	if x.real {
		// From now on the cache is read, without asking for the compiler's version.
		x.t.Setenv("MOEGEN_NVCC", filepath.Join(x.t.TempDir(), "none"))
	}
}

// resources are the rows of the table.
func (x *growth) resources() []resource {
	const (
		stream, launch        = "a stream", "a stream with a launch"
		module, moduleLaunch  = "a module", "a module with a launch"
		memory, host          = "cuMemAlloc", "page-locked memory"
		callsInTurn, callsNow = "VMM calls, ranks in turn", "VMM calls, ranks at once"
	)
	all := []resource{
		{name: stream, cycle: x.inTurn(x.stream)},
		{name: launch, cycle: x.inTurn(x.launch)},
		{name: module, cycle: x.inTurn(x.module)},
		{name: moduleLaunch, cycle: x.inTurn(x.moduleLaunch)},
		{name: memory, cycle: x.inTurn(x.memory)},
		{name: host, cycle: x.inTurn(x.host)},
		{name: callsInTurn, cycle: func() error { return x.calls(false) }},
		{name: callsNow, cycle: func() error { return x.calls(true) }},
		{name: "symmetric memory, closed in turn", cycle: func() error { return x.symmetric(false) }, parts: []string{callsNow}},
		{name: "symmetric memory, closed at once", cycle: func() error { return x.symmetric(true) }, parts: []string{callsNow}},
		{name: "group and dispatchers", cycle: func() error { return x.dispatchers(false) }, long: true,
			parts: []string{stream, memory, host, callsNow}},
	}
	// Where ranks share a GPU, steps may wait in vain: see testMemory.
	if !x.oneGPU {
		all = append(all, resource{name: "group and dispatchers, with a step", cycle: func() error { return x.dispatchers(true) }, long: true,
			parts: []string{launch, memory, host, callsNow}})
	}
	return all
}

// measure runs cycles that warm up, then those that count, as many as there is
// time for.
func (x *growth) measure(r resource) loss {
	x.t.Helper()
	most, limit := pick(x.machine, 4000, 10), pick(x.machine, 1500*time.Millisecond, time.Minute)
	if r.long {
		most, limit = pick(x.machine, 1000, 10), pick(x.machine, 10*time.Second, time.Minute)
	}
	run := func(most int, limit time.Duration) (n int) {
		for start := time.Now(); n < most && time.Since(start) < limit; n++ {
			if err := r.cycle(); err != nil || x.t.Failed() {
				x.t.Fatalf("%s, cycle %d: %v", r.name, n, err)
			}
		}
		return n
	}
	run(pick(x.machine, 100, 2), limit/4)
	before := free(x.t, x.machine)
	l := loss{cycles: run(most, limit), bytes: make([]float64, 2)}
	for rank, after := range free(x.t, x.machine) {
		l.bytes[rank] = (float64(before[rank]) - float64(after)) / float64(l.cycles)
	}
	return l
}
