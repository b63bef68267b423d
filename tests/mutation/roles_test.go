package mutation

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/moegen/moegen/cmd/moegen/gen"
	"github.com/moegen/moegen/runtime/emu"
	"github.com/moegen/moegen/runtime/emu/ptx"
)

// roles says what each line of a program's PTX that accesses memory is for:
// the name of an area, "input" for what is none of them. It is observed in a
// run, so a line without a role was not executed.
type roles map[int]map[string]bool

func (r roles) is(line int, names ...string) bool {
	for _, n := range names {
		if r[line][n] {
			return true
		}
	}
	return false
}

// The areas of symmetric memory, of the private state, and the rest.
const (
	failureRole = "failure"
	countRole   = "count"
	flagRole    = "flag"
	headerRole  = "header" // of protocol ll
	lineRole    = "line"   // routing and probabilities on their way
	packRole    = "pack"   // hidden states and partial sums on theirs
	gatherRole  = "gather" // routing, probabilities and hidden states
	partialRole = "partial"
	epochRole   = "epoch"
	stepRole    = "step"
	controlRole = "control"
	statusRole  = "status"
	sharedRole  = "shared"
	inputRole   = "input"
)

// watcher collects where each line's accesses went.
type watcher struct {
	mu   sync.Mutex
	at   map[int]map[place]bool
	symm map[int]place // by device: the start of its symmetric memory
	// Set when they are known, before the first launch.
	base, end []uint64 // of each device's own symmetric memory, as it sees it
	ran       map[string]bool
}

// place is a byte of physical memory. Devices tell their private addresses
// apart: the allocations of all devices have different ids.
type place struct {
	alloc, offset uint64
	addr          uint64
	space         ptx.Space
}

func (w *watcher) Launch(e *emu.GridEvent) {
	if !isExperts(e.Kernel) && strings.HasPrefix(e.Kernel, "moegen_") { // else a copy
		w.ran[e.Kernel] = true
	}
}

func (w *watcher) End(*emu.GridEvent)        {}
func (w *watcher) Fence(*emu.FenceEvent)     {}
func (w *watcher) Barrier(*emu.BarrierEvent) {}
func (w *watcher) Switch(*emu.Event)         {}

// isExperts says whether a kernel is of the other module, which has lines of
// its own.
func isExperts(kernel string) bool { return strings.HasPrefix(kernel, "moegen_experts") }

func (w *watcher) Access(e *emu.Access) {
	if isExperts(e.Kernel) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.at[e.Line] == nil {
		w.at[e.Line] = map[place]bool{}
	}
	for i := range 32 {
		if e.Mask>>i&1 == 0 {
			continue
		}
		w.at[e.Line][place{e.Alloc[i], e.Offset[i], e.Addr[i], e.Space}] = true
		if a := e.Addr[i]; !e.Multicast && e.Space == ptx.Global && a >= w.base[e.Device] && a < w.end[e.Device] {
			w.symm[e.Device] = place{alloc: e.Alloc[i], offset: e.Offset[i] - (a - w.base[e.Device])}
		}
	}
}

// observe runs the trial's scenarios as check does and returns what its lines
// are for, which of them access memory in which scenario, and which kernels run
// in it.
func (x *trial) observe(t testing.TB) (out roles, accessed map[string]map[int]bool, ran map[string]map[string]bool) {
	t.Helper()
	areas := x.areas()
	out, accessed, ran = roles{}, map[string]map[int]bool{}, map[string]map[string]bool{}
	for _, run := range slices.Concat(budgets()[0].scenarios, budgets()[1].scenarios) {
		w := &watcher{at: map[int]map[place]bool{}, symm: map[int]place{}, ran: map[string]bool{}}
		var control, status []uint64
		c := check
		c.Observer = w
		v, r := run.run(x, c, func(r *rig) {
			for _, k := range r.ranks {
				w.base, w.end = append(w.base, uint64(k.symm)), append(w.end, uint64(k.symm)+x.prog.Layout.Bytes)
				control, status = append(control, uint64(k.control)), append(status, uint64(k.status))
			}
		})
		if v.kind != "" {
			t.Fatalf("%s/%s: %s: %s: %s", x.shape.name, x.transport, run.name, v.kind, v.text)
		}
		r.close()
		ran[run.name] = w.ran
		accessed[run.name] = map[int]bool{}
		for line, places := range w.at {
			accessed[run.name][line] = true
			if out[line] == nil {
				out[line] = map[string]bool{}
			}
			for p := range places {
				if name := areas.name(p, w.symm, control, status); name != inputRole || len(w.symm) == x.prog.Ranks {
					out[line][name] = true
				} // else it may be memory of a rank that ran no kernel
			}
		}
	}
	return out, accessed, ran
}

// area is a named stretch of memory, to where the next one starts.
type area struct {
	start uint64
	name  string
}

type areas struct{ symm, control []area }

func (x *trial) areas() areas {
	l := gen.LaunchOf(x.spec).Layout
	return areas{
		symm: []area{{l.Failure, failureRole}, {l.CountSlots, countRole}, {l.DispatchFlags, flagRole}, {l.CombineFlags, flagRole},
			{l.LowDispatchHeaders, headerRole}, {l.LowLines, lineRole}, {l.Routing, gatherRole}, {l.Partial, partialRole}, {l.LowDispatch, packRole},
			{l.Bytes, inputRole}},
		control: []area{{0, controlRole}, {l.StepOffset, stepRole}, {l.EpochOffset, epochRole}, {l.ControlBytes, inputRole}},
	}
}

func find(list []area, offset uint64) string {
	name := inputRole
	for _, a := range list {
		if offset >= a.start {
			name = a.name
		}
	}
	return name
}

func (a areas) name(p place, symm map[int]place, control, status []uint64) string {
	if p.space == ptx.Shared {
		return sharedRole
	}
	for _, s := range symm {
		if p.alloc == s.alloc && p.offset >= s.offset {
			if name := find(a.symm, p.offset-s.offset); name != inputRole {
				return name
			}
		}
	}
	end := a.control[len(a.control)-1].start
	for _, c := range control {
		if p.addr >= c && p.addr < c+end {
			return find(a.control, p.addr-c)
		}
	}
	if slices.Contains(status, p.addr) {
		return statusRole
	}
	return inputRole
}
