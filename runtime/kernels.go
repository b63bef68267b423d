package runtime

import (
	"fmt"

	"github.com/moegen/moegen/runtime/driver"
)

// kernelEngine runs moegen's own kernels, over nvls or p2p.
type kernelEngine struct {
	d                                        *Dispatcher
	countsFn, dispatchFn, firstFn, combineFn driver.Function
}

func newKernelEngine(d *Dispatcher) (*kernelEngine, error) {
	e := &kernelEngine{d: d}
	err := d.functions(map[string]*driver.Function{
		"moegen_counts": &e.countsFn,
		"moegen_first_dispatch_" + string(d.transport): &e.firstFn,
		"moegen_dispatch_" + string(d.transport):       &e.dispatchFn,
		"moegen_combine_" + string(d.transport):        &e.combineFn,
	})
	if err != nil {
		return nil, err
	}
	for _, f := range []driver.Function{e.firstFn, e.dispatchFn, e.combineFn} {
		if err := d.checkResident(f); err != nil {
			return nil, err
		}
	}
	return e, nil
}

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
func (d *Dispatcher) checkResident(f driver.Function) error {
	perSM, err := f.MaxActiveBlocks(d.prog.Threads, 0)
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
	return driver.LaunchConfig{Grid: driver.Dim3{X: d.prog.blocks(d.capacity)}, Block: driver.Dim3{X: d.prog.Threads}}
}

func oneBlock(threads int) driver.LaunchConfig {
	return driver.LaunchConfig{Grid: driver.Dim3{X: 1}, Block: driver.Dim3{X: threads}}
}

func (e *kernelEngine) counts(s driver.Stream, t Tokens) error {
	p := e.d.begin()
	p.bring(t, e.d.prog.blocks(e.d.capacity), e.d.capacity)
	return s.Launch(e.countsFn, oneBlock(e.d.prog.CountThreads), *p)
}

func (e *kernelEngine) dispatch(s driver.Stream, r Rows, first *Tokens) error {
	p := e.d.begin()
	p.rows(e.d.prog, r)
	if first == nil {
		return s.Launch(e.dispatchFn, e.d.grid(), *p)
	}
	p.bring(*first, e.d.prog.blocks(e.d.capacity), e.d.capacity)
	return s.Launch(e.firstFn, e.d.grid(), *p)
}

func (e *kernelEngine) combine(s driver.Stream, a CombineArgs) error {
	p := e.d.begin()
	p.ptr(a.Partial.Ptr)
	p.combine(e.d.prog, a)
	return s.Launch(e.combineFn, e.d.grid(), *p)
}
