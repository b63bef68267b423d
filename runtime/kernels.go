package runtime

import (
	"fmt"

	"github.com/moegen/moegen/runtime/driver"
)

// kernelEngine runs moegen's own kernels, over nvls or p2p.
type kernelEngine struct {
	d                *Dispatcher
	countsFn         driver.Function
	low, bulk, mixed protocol
}

// protocol is the kernels of one protocol; none of them if it is not planned.
type protocol struct{ dispatch, first, combine driver.Function }

func newKernelEngine(d *Dispatcher) (*kernelEngine, error) {
	e := &kernelEngine{d: d}
	names := map[string]*driver.Function{"moegen_counts": &e.countsFn}
	threads := map[*protocol]int{} // of a block of its kernels, at most
	plan := func(row PlanRow) {
		p := e.protocol(row)
		threads[p] = max(threads[p], row.Threads)
		suffix := map[*protocol]string{&e.low: "ll", &e.bulk: string(d.transport), &e.mixed: "mixed_" + string(d.transport)}[p]
		names["moegen_dispatch_"+suffix] = &p.dispatch
		names["moegen_first_dispatch_"+suffix] = &p.first
		names["moegen_combine_"+suffix] = &p.combine
	}
	for _, row := range d.prog.Plan {
		plan(row)
	}
	plan(PlanRow{Threads: d.prog.Threads}) // for capacities beyond the plan
	if err := d.functions(names); err != nil {
		return nil, err
	}
	for p, n := range threads {
		for _, f := range []driver.Function{p.first, p.dispatch, p.combine} {
			if err := d.checkResident(f, n); err != nil {
				return nil, err
			}
		}
	}
	return e, nil
}

// protocol is a row's.
func (e *kernelEngine) protocol(row PlanRow) *protocol {
	switch {
	case row.Low:
		return &e.low
	case row.Mixed:
		return &e.mixed
	}
	return &e.bulk
}

// kernels are those for the capacity.
func (e *kernelEngine) kernels() *protocol { return e.protocol(e.d.prog.plan(e.d.capacity)) }

// functions looks kernels up by name.
func (d *Dispatcher) functions(want map[string]*driver.Function) error {
	for name, f := range want {
		fn, err := d.module.Function(name)
		if err != nil {
			return fmt.Errorf("kernel %s: %w", name, err)
		}
		*f = fn
	}
	return nil
}

// checkResident makes sure that a whole grid fits on the GPU at once, with those
// of other ranks that share it: blocks wait for blocks of other ranks, and one
// that is not resident would never be.
func (d *Dispatcher) checkResident(f driver.Function, threads int) error {
	perSM, err := f.MaxActiveBlocks(threads, 0)
	if err != nil {
		return err
	}
	ranks := ranksOn(d.group, d.dev)
	if sms := d.dev.Info().SMs; perSM*sms < d.prog.MaxBlocks*ranks {
		return fmt.Errorf("%s needs %d blocks resident at once, for %d ranks, and GPU %d holds %d (%d multiprocessors): lower sm_limit",
			f.Name(), d.prog.MaxBlocks*ranks, ranks, d.dev.Ordinal(), perSM*sms, sms)
	}
	return nil
}

// begin starts the packed parameters of a launch with the Group.
func (d *Dispatcher) begin() *params {
	d.scratch = d.scratch[:d.prefix]
	return &d.scratch
}

// grid is the launch shape of dispatch and combine for the capacity.
func (d *Dispatcher) grid() driver.LaunchConfig {
	row := d.prog.plan(d.capacity)
	return driver.LaunchConfig{Grid: driver.Dim3{X: row.Blocks}, Block: driver.Dim3{X: row.Threads}, Dependent: d.dependent}
}

// bulkGrid is that of the kernels around NCCL, whatever the protocol.
func (d *Dispatcher) bulkGrid() driver.LaunchConfig {
	return driver.LaunchConfig{Grid: driver.Dim3{X: d.prog.plan(d.capacity).Blocks}, Block: driver.Dim3{X: d.prog.Threads}}
}

func oneBlock(threads int) driver.LaunchConfig {
	return driver.LaunchConfig{Grid: driver.Dim3{X: 1}, Block: driver.Dim3{X: threads}}
}

func (e *kernelEngine) counts(s driver.Stream, t Tokens) error {
	p := e.d.begin()
	p.bring(t, e.d.prog.plan(e.d.capacity).Blocks, e.d.capacity)
	shape := oneBlock(e.d.prog.CountThreads)
	shape.Dependent = e.d.dependent
	return s.Launch(e.countsFn, shape, *p)
}

func (e *kernelEngine) dispatch(s driver.Stream, r Rows, first *Tokens) error {
	p := e.d.begin()
	p.rows(e.d.prog, r, e.d.readable())
	if first == nil {
		return s.Launch(e.kernels().dispatch, e.d.grid(), *p)
	}
	p.bring(*first, e.d.prog.plan(e.d.capacity).Blocks, e.d.capacity)
	return s.Launch(e.kernels().first, e.d.grid(), *p)
}

func (e *kernelEngine) combine(s driver.Stream, a CombineArgs) error {
	p := e.d.begin()
	p.ptr(a.Partial.Ptr)
	p.combine(e.d.prog, a)
	return s.Launch(e.kernels().combine, e.d.grid(), *p)
}
