package runtime

import (
	"fmt"

	"github.com/moegen/moegen/runtime/driver"
)

// Epilogue is what combine does to sums before it stores them. The zero
// Epilogue does nothing but round them to the type of hidden states.
type Epilogue struct {
	Shared   bool  // adds the shared expert's output
	Residual bool  // adds the residual stream
	Norm     DType // element type of RMSNorm's weight, "" without RMSNorm
	Sum      bool  // yields the row before RMSNorm and before the cast too, in the type of hidden states
	Output   DType // of the output, "" for that of hidden states; FP8 comes with scales
}

// outputBlock is how many elements of an FP8 output share one fp32 scale.
const outputBlock = 128

// OutputRowBytes and OutputScaleRowBytes are the sizes of one row that Combine
// yields, and of its scales, 0 if it has none.
func (p *Program) OutputRowBytes() int {
	if p.Epilogue.Output == "" {
		return p.HiddenRowBytes()
	}
	return p.HiddenDim * p.Epilogue.Output.Size()
}

func (p *Program) OutputScaleRowBytes() int {
	if p.Epilogue.Output != FP8 {
		return 0
	}
	return p.HiddenDim / outputBlock * FP32.Size()
}

// passesPartial reports whether combine has nothing to do.
func (p *Program) passesPartial() bool {
	return p.Ranks == 1 && p.Wire == p.Hidden && p.Epilogue == Epilogue{}
}

// CombineArgs are the tensors of a Combine.
type CombineArgs struct {
	// Partial has the experts' sums, one row for each gathered row: PartialBuffer,
	// which saves a copy, or any other memory of the rank outside of it.
	Partial Tensor

	// What the epilogue reads, required where the program has it and refused
	// where it has not: rows of hidden states, at least as many as the capacity,
	// and one row of RMSNorm's weight.
	Shared, Residual, Weight Tensor

	// Where results go, at least as many rows as the capacity. The zero Tensor
	// stands for a buffer of the dispatcher, valid until its next Combine. Out
	// and Sum may each be the same tensor as Shared or Residual, if their rows
	// are of one size; no other two may overlap, and none may lie in the
	// dispatcher's symmetric memory.
	Out, Scales, Sum Tensor
}

// Combined is what Combine yields: rows of this rank's tokens.
type Combined struct {
	Out    Tensor
	Scales Tensor // of Out, where it is FP8
	Sum    Tensor // where the program's epilogue has it
}

// Combine adds the ranks' partial sums up, leaves each rank its own tokens' rows,
// and does to them what the program's epilogue says, in one launch (over NCCL in
// three). Where a group of one has nothing to do it returns Partial as Out.
func (d *Dispatcher) Combine(s driver.Stream, a CombineArgs) (Combined, error) {
	if err := d.ready("Combine", s, stateDispatched); err != nil {
		return Combined{}, err
	}
	// A prefill's exchanges end in one output.
	passes := d.prog.passesPartial() && a.Out == (Tensor{}) && d.eager == nil
	for _, r := range []struct{ given, own *Tensor }{{&a.Out, &d.own.Out}, {&a.Scales, &d.own.Scales}, {&a.Sum, &d.own.Sum}} {
		if *r.given == (Tensor{}) {
			*r.given = *r.own
		}
	}
	if err := d.checkCombine(a); err != nil {
		return Combined{}, err
	}
	result := Combined{Out: a.Out, Scales: a.Scales, Sum: a.Sum}
	if passes {
		result.Out = a.Partial
	} else {
		if a.Partial.Ptr == d.PartialBuffer().Ptr {
			a.Partial.Ptr = 0 // it is where the kernels look anyway
		}
		if err := d.engine.combine(s, d.partOf(a)); err != nil {
			return Combined{}, fmt.Errorf("Combine: %w", err)
		}
	}
	d.tally.operation(&d.tally.combines, d.prog.combineBytes(d.tally.brings))
	d.ended()
	return result, nil
}

// allocOwn allocates the dispatcher's own buffers of what Combine yields.
func (d *Dispatcher) allocOwn() error {
	p := d.prog
	sum := 0
	if p.Epilogue.Sum {
		sum = p.HiddenRowBytes()
	}
	for _, t := range []struct {
		at       *Tensor
		rowBytes int
	}{{&d.own.Out, p.OutputRowBytes()}, {&d.own.Scales, p.OutputScaleRowBytes()}, {&d.own.Sum, sum}} {
		if t.rowBytes == 0 {
			continue
		}
		ptr, err := d.alloc(uint64(p.MaxPrefill() * t.rowBytes))
		if err != nil {
			return err
		}
		*t.at = Tensor{Ptr: ptr, Rows: p.MaxPrefill()}
	}
	return nil
}

// operand is one of a Combine's tensors, as far as kernels may touch it.
type operand struct {
	name     string
	t        Tensor
	wanted   bool // by the program
	rows     int
	rowBytes int
}

func (o operand) overlaps(q operand) bool {
	return o.t.Ptr < q.t.Ptr+driver.DevicePtr(q.rows*q.rowBytes) && q.t.Ptr < o.t.Ptr+driver.DevicePtr(o.rows*o.rowBytes)
}

// checkCombine checks all tensors of a Combine.
func (d *Dispatcher) checkCombine(a CombineArgs) error {
	p, e := d.prog, d.prog.Epilogue
	read := []operand{
		{"partial", a.Partial, true, p.Ranks * d.capacity, p.WireRowBytes()},
		{"shared", a.Shared, e.Shared, d.rows(), p.HiddenRowBytes()},
		{"residual", a.Residual, e.Residual, d.rows(), p.HiddenRowBytes()},
		{"weight", a.Weight, e.Norm != "", 1, p.HiddenDim * e.Norm.Size()},
	}
	written := []operand{
		{"out", a.Out, true, d.rows(), p.OutputRowBytes()},
		{"scales", a.Scales, p.OutputScaleRowBytes() > 0, d.rows(), p.OutputScaleRowBytes()},
		{"sum", a.Sum, e.Sum, d.rows(), p.HiddenRowBytes()},
	}
	for _, o := range append(read[:len(read):len(read)], written...) {
		if !o.wanted {
			if o.t != (Tensor{}) {
				return fmt.Errorf("Combine: %w: %s is given, and this program has none: leave it out, or add it to the spec and generate again", ErrTensor, o.name)
			}
			continue
		}
		if err := checkTensor("Combine", o.name, o.t, o.rows); err != nil {
			return err
		}
	}
	symmetric := operand{"the dispatcher's symmetric memory", Tensor{Ptr: d.mem.Unicast[d.rank]}, true, 1, int(p.Layout.Bytes)}
	for i, w := range written {
		if !w.wanted {
			continue
		}
		others := append(append([]operand{symmetric}, read...), written[:i]...)
		for _, o := range others {
			inPlace := (o.name == "shared" || o.name == "residual") && w.name != "scales" && o.t.Ptr == w.t.Ptr && o.rowBytes == w.rowBytes
			if o.wanted && w.overlaps(o) && !inPlace {
				return fmt.Errorf("Combine: %w: %s overlaps %s: give it memory of its own", ErrTensor, w.name, o.name)
			}
		}
	}
	return nil
}

// partOf is a with what belongs to the coming exchange of a prefill.
func (d *Dispatcher) partOf(a CombineArgs) CombineArgs {
	p := d.prog
	a.Shared.Ptr, a.Residual.Ptr, a.Sum.Ptr = d.part(a.Shared, p.HiddenRowBytes()), d.part(a.Residual, p.HiddenRowBytes()), d.part(a.Sum, p.HiddenRowBytes())
	a.Out.Ptr, a.Scales.Ptr = d.part(a.Out, p.OutputRowBytes()), d.part(a.Scales, p.OutputScaleRowBytes())
	return a
}

// combine packs where results go, and struct Epilogue's other tensors.
func (p *params) combine(prog *Program, a CombineArgs) {
	e := prog.Epilogue
	for _, t := range []struct {
		has bool
		Tensor
	}{{e.Shared, a.Shared}, {e.Residual, a.Residual}, {e.Norm != "", a.Weight}, {true, a.Out}, {prog.OutputScaleRowBytes() > 0, a.Scales}, {e.Sum, a.Sum}} {
		if t.has {
			p.ptr(t.Ptr)
		}
	}
}
