package layer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
)

// rank is one rank's dispatcher, experts and memory.
type rank struct {
	config     *Config
	id         int
	dispatcher *moert.Dispatcher
	experts    *experts
	stream     driver.Stream
	count      moert.Tensor   // one int32, for steps whose counts the host does not know
	step       moert.Tensor   // copy of the Step's words
	own        moert.Tensor   // the caller's own partial sums
	combined   moert.Combined // where Combine left its results last, zero if it never ran
	layers     []buffers
	graph      driver.Graph
	exec       driver.GraphExec
}

// buffers are one layer's inputs, and copies of what the layer left in memory
// that the next layer uses again.
type buffers struct {
	in, gathered moert.Rows
	args         moert.CombineArgs // but for the partial sums
}

func newRank(ctx context.Context, c *Config, g moert.Group, id int) (*rank, error) {
	var opts []moert.Option
	if c.Transport != "" && c.Transport != moert.Local {
		opts = append(opts, moert.WithTransport(c.Transport))
	}
	d, err := moert.NewDispatcher(ctx, g, id, c.Program, append(opts, c.Options...)...)
	if err != nil {
		return nil, err
	}
	r := &rank{config: c, id: id, dispatcher: d}
	return r, r.open(ctx)
}

func (r *rank) open(ctx context.Context) error {
	c, d, p := r.config, r.dispatcher, r.config.Program
	err := d.SetCapacity(c.Capacity)
	if err != nil {
		return err
	}
	if r.stream, err = d.NewStream(); err != nil {
		return err
	}
	if r.experts, err = loadExperts(ctx, d.Device(), c.Spec, p, r.id, c.Capacity); err != nil {
		return err
	}
	allocate := func(t *moert.Tensor, rows, rowBytes int) {
		if err == nil {
			*t, err = d.NewTensor(rows, rowBytes)
		}
	}
	allocate(&r.count, 1, 4)
	allocate(&r.step, stepWords(p.Ranks), 4)
	allocate(&r.own, p.Ranks*p.MaxTokens, p.WireRowBytes())
	r.layers = make([]buffers, c.Layers)
	for l := range r.layers {
		b := &r.layers[l]
		for _, t := range broughtTensors(p) {
			allocate(t.rows(&b.in), c.Capacity, t.rowBytes)
		}
		for _, t := range tensors(p) {
			allocate(t.rows(&b.gathered), r.gatherRows(), t.rowBytes)
		}
		for _, t := range operands(p) {
			rows := c.Capacity
			if t.oneRow {
				rows = 1
			}
			allocate(t.in(&b.args), rows, t.rowBytes)
		}
		for _, t := range outputs(p) {
			allocate(t.into(&b.args), c.Capacity, t.rowBytes)
		}
	}
	return err
}

// gatherRows and outRows are how many rows of the gathered tensors and of the
// output are looked at.
func (r *rank) gatherRows() int {
	c, p := r.config, r.config.Program
	rows := p.Ranks * p.MaxTokens
	switch {
	case p.Ranks == 1 && !p.Quantizes() && !p.Fills:
		rows = c.Capacity // the gathered tensors are the inputs
	case p.Padded || p.Fills:
		return window(p.Ranks*c.Capacity, rows)
	}
	return window(p.Ranks*c.mostTokens(), rows)
}

func (r *rank) outRows() int { return window(r.config.mostTokens(), r.config.Capacity) }

// prepare writes the step's inputs and fills everything else that the step may
// write with poison. No rank has anything under way while one does this.
func (r *rank) prepare(in []*input) error {
	c, p, dev := r.config, r.config.Program, r.dispatcher.Device()
	tokens := in[0].tokens
	if err := dev.Write(r.count.Ptr, binary.LittleEndian.AppendUint32(nil, uint32(tokens))); err != nil {
		return err
	}
	for l := range r.layers {
		for _, t := range broughtTensors(p) {
			rows := t.input(in[l])
			past := bytes.Repeat([]byte{inputPoison}, r.outRows()*t.rowBytes-len(rows))
			if err := dev.Write(t.rows(&r.layers[l].in).Ptr, append(rows[:len(rows):len(rows)], past...)); err != nil {
				return err
			}
		}
		for _, t := range operands(p) {
			rows := t.input(in[l])
			if !t.oneRow {
				rows = append(rows[:len(rows):len(rows)], bytes.Repeat([]byte{inputPoison}, r.outRows()*t.rowBytes-len(rows))...)
			}
			if err := dev.Write(t.in(&r.layers[l].args).Ptr, rows); err != nil {
				return err
			}
		}
	}
	g := r.dispatcher.Gathered()
	rows := window(p.Ranks*c.Capacity, p.Ranks*p.MaxTokens)
	if !p.Padded && !p.Fills {
		rows = window(p.Ranks*c.mostTokens(), p.Ranks*p.MaxTokens)
	}
	fill := map[driver.DevicePtr]int{
		r.dispatcher.PartialBuffer().Ptr: rows * p.WireRowBytes(), r.own.Ptr: rows * p.WireRowBytes(),
	}
	for _, t := range tensors(p) {
		fill[t.rows(&g.Rows).Ptr] = rows * t.rowBytes
	}
	for _, t := range outputs(p) {
		for l := range r.layers {
			fill[t.into(&r.layers[l].args).Ptr] = r.outRows() * t.rowBytes
		}
		if own := t.of(&r.combined).Ptr; own != 0 {
			fill[own] = r.outRows() * t.rowBytes
		}
	}
	for ptr, size := range fill {
		value := byte(poison)
		if p.Fills && ptr == g.Routing.Ptr {
			value = 0 // poison is what the rows without a token are filled with
		}
		if err := r.stream.MemsetAsync(ptr, value, uint64(size)); err != nil {
			return err
		}
	}
	return r.stream.Synchronize()
}

// enqueue puts a whole step on the stream, or into the graph being captured.
// Its counts travel early, in a launch of their own, or with its first dispatch.
func (r *rank) enqueue(t moert.Tokens, early bool) error {
	c, p, d, s := r.config, r.config.Program, r.dispatcher, r.stream
	begin := func() error { return d.NextStep(t) }
	if early {
		begin = func() error { return d.BeginStep(s, t) }
	}
	if err := begin(); err != nil {
		return err
	}
	for l := range r.layers {
		b := &r.layers[l]
		g, err := d.Dispatch(s, b.in)
		if err != nil {
			return err
		}
		if l == 0 {
			if err := s.CopyAsync(r.step.Ptr, d.Step().Total, uint64(4*stepWords(p.Ranks))); err != nil {
				return err
			}
		}
		for _, t := range tensors(p) {
			if err := s.CopyAsync(t.rows(&b.gathered).Ptr, t.rows(&g.Rows).Ptr, uint64(r.gatherRows()*t.rowBytes)); err != nil {
				return err
			}
		}
		partial := d.PartialBuffer()
		if c.ownPartial(l) {
			partial = r.own
		}
		if err := r.experts.launch(s, g, partial); err != nil {
			return err
		}
		args := b.args
		args.Partial = partial
		if l < len(r.layers)-1 {
			_, err = d.Combine(s, args)
		} else {
			err = r.combine(args)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// combine is for the last layer, so that the dispatcher's own buffers are used
// too. It copies the results to where they would have gone.
func (r *rank) combine(args moert.CombineArgs) error {
	p, to := r.config.Program, args
	for _, t := range outputs(p) {
		*t.into(&args) = moert.Tensor{}
	}
	combined, err := r.dispatcher.Combine(r.stream, args)
	if err != nil {
		return err
	}
	r.combined = combined
	for _, t := range outputs(p) {
		if err := r.stream.CopyAsync(t.into(&to).Ptr, t.of(&combined).Ptr, uint64(r.outRows()*t.rowBytes)); err != nil {
			return err
		}
	}
	return nil
}

// capture makes the graph that replays launch.
func (r *rank) capture() error {
	if err := r.stream.BeginCapture(); err != nil {
		return err
	}
	enqueued := r.enqueue(moert.DeviceTokens(r.count.Ptr), r.config.early(0))
	graph, err := r.stream.EndCapture()
	if r.graph = graph; enqueued != nil || err != nil {
		return errors.Join(enqueued, err)
	}
	r.exec, err = graph.Instantiate()
	return err
}

// observe reads back what a layer left.
func (r *rank) observe(layer int, outPoisoned bool) (*observed, error) {
	p, dev, b := r.config.Program, r.dispatcher.Device(), &r.layers[layer]
	o := &observed{step: make([]byte, 4*stepWords(p.Ranks)), outPoisoned: outPoisoned}
	err := dev.Read(o.step, r.step.Ptr)
	for _, t := range tensors(p) {
		to := t.observed(o)
		*to = make([]byte, r.gatherRows()*t.rowBytes)
		err = errors.Join(err, dev.Read(*to, t.rows(&b.gathered).Ptr))
	}
	for _, t := range outputs(p) {
		to := t.bytes(&o.results)
		*to = make([]byte, r.outRows()*t.rowBytes)
		err = errors.Join(err, dev.Read(*to, t.into(&b.args).Ptr))
	}
	return o, err
}

// close gives back what outlives the dispatcher, which is closed on all ranks
// by then: nothing runs any more. It works on a rank that is half open.
func (r *rank) close() error {
	errs := []error{r.closeGraph()}
	if r.experts != nil {
		errs = append(errs, r.experts.module.Unload())
	}
	if r.stream != nil {
		errs = append(errs, r.stream.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close rank %d: %w", r.id, err)
	}
	return nil
}

// closeGraph gives the captured graph back, if there is one.
func (r *rank) closeGraph() error {
	var errs []error
	if r.exec != nil {
		errs = append(errs, r.exec.Close())
	}
	if r.graph != nil {
		errs = append(errs, r.graph.Close())
	}
	r.exec, r.graph = nil, nil
	return errors.Join(errs...)
}
