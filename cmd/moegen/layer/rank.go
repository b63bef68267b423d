package layer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

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
	count      moert.Tensor // one int32, for steps whose counts the host does not know
	own        moert.Tensor // the caller's own partial sums
	// combined is where Combine left its results last, in prefills and else.
	combined map[bool]moert.Combined
	prefills bool // the step is a prefill,
	tokens   int  // of so many tokens of this rank,
	times    int  // in so many exchanges
	layers   []buffers
	graph    driver.Graph
	exec     driver.GraphExec
}

// buffers are one layer's inputs, and copies of what the layer left in memory
// that the next layer uses again.
type buffers struct {
	in       moert.Rows
	gathered []snapshot        // by exchange
	args     moert.CombineArgs // but for the partial sums
}

// snapshot is a copy of what an exchange gathered.
type snapshot struct {
	step moert.Tensor // the Step's words
	rows moert.Rows
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
	r := &rank{config: c, id: id, dispatcher: d, combined: map[bool]moert.Combined{}, times: 1}
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
	allocate(&r.own, p.Ranks*p.MaxTokens, p.WireRowBytes())
	r.layers = make([]buffers, c.Layers)
	_, exchanges := c.widest()
	for l := range r.layers {
		b := &r.layers[l]
		for _, t := range broughtTensors(p) {
			in := t.rows(&b.in)
			if allocate(in, c.rows(), t.rowBytes); err == nil {
				err = r.stream.MemsetAsync(in.Ptr, inputPoison, uint64(min(c.rows()*t.rowBytes, loadedEarly)))
			}
		}
		b.gathered = make([]snapshot, exchanges)
		for e := range b.gathered {
			allocate(&b.gathered[e].step, stepWords(p.Ranks), 4)
			for _, t := range tensors(p) {
				allocate(t.rows(&b.gathered[e].rows), r.gatherRows(), t.rowBytes)
			}
		}
		for _, t := range operands(p) {
			rows := c.rows()
			if t.oneRow {
				rows = 1
			}
			allocate(t.in(&b.args), rows, t.rowBytes)
		}
		for _, t := range outputs(p) {
			allocate(t.into(&b.args), c.rows(), t.rowBytes)
		}
	}
	if err == nil {
		err = r.stream.Synchronize() // before the host writes there
	}
	return err
}

// loadedEarly is more of an input than protocol ll loads before it knows how many
// rows there are: a pack of each thread of the grid, whatever is in it.
const loadedEarly = 2 << 20

// gatherRows and outRows are how many rows of the gathered tensors and of the
// output are looked at.
func (r *rank) gatherRows() int {
	c, p := r.config, r.config.Program
	rows := p.Ranks * p.MaxTokens
	if passesThrough(p, false) {
		rows = min(rows, c.rows()) // the gathered tensors are the inputs
	}
	used, _ := c.widest()
	if !p.Padded && !p.Fills {
		used = min(used, c.mostTokens())
	}
	return window(p.Ranks*used, rows)
}

func (r *rank) outRows() int { return window(r.config.mostTokens(), r.config.rows()) }

// passesThrough reports whether what a step gathers is what was brought.
func passesThrough(p *moert.Program, prefill bool) bool {
	return p.Ranks == 1 && !p.Quantizes() && !p.Fills && !(prefill && p.Padded)
}

// gatheredRows is how many rows of what an exchange of the step gathers are
// looked at.
func (r *rank) gatheredRows(exchange int) int {
	p := r.config.Program
	if r.prefills && passesThrough(p, true) {
		// What follows the exchange's rows is brought to the next one.
		return min(max(r.tokens-exchange*p.MaxTokens, 0), p.MaxTokens, r.gatherRows())
	}
	return r.gatherRows()
}

// prepare writes the step's inputs and fills everything else that the step may
// write with poison. No rank has anything under way while one does this.
func (r *rank) prepare(in []*input) error {
	p, dev := r.config.Program, r.dispatcher.Device()
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
	if err := r.poisonGathered(); err != nil {
		return err
	}
	partials := r.gatherRows() * p.WireRowBytes()
	fill := map[driver.DevicePtr]int{r.dispatcher.PartialBuffer().Ptr: partials, r.own.Ptr: partials}
	for _, t := range outputs(p) {
		for l := range r.layers {
			fill[t.into(&r.layers[l].args).Ptr] = r.outRows() * t.rowBytes
		}
		for _, combined := range r.combined {
			own := t.of(&combined)
			fill[own.Ptr] = max(fill[own.Ptr], min(r.outRows(), own.Rows)*t.rowBytes)
		}
	}
	for ptr, size := range fill {
		if err := r.stream.MemsetAsync(ptr, poison, uint64(size)); err != nil {
			return err
		}
	}
	return r.stream.Synchronize()
}

// poisonGathered fills the gathered tensors. No rank may be about to dispatch
// while it does so.
func (r *rank) poisonGathered() error {
	p, g := r.config.Program, r.dispatcher.Gathered()
	for _, t := range tensors(p) {
		value := byte(poison)
		if p.Fills && t.name == "routing" {
			value = 0 // poison is what the rows without a token are filled with
		}
		if err := r.stream.MemsetAsync(t.rows(&g.Rows).Ptr, value, uint64(r.gatherRows()*t.rowBytes)); err != nil {
			return err
		}
	}
	return nil
}

// prefill begins a step outside graphs. It waits for the other ranks.
func (r *rank) prefill(ctx context.Context, counts []int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	exchanges, err := r.dispatcher.Prefill(ctx, counts[r.id])
	if want := r.config.exchanges(counts); err == nil && exchanges != want {
		err = fmt.Errorf("%d tokens travel in %d exchanges, not in %d", slices.Max(counts), exchanges, want)
	}
	r.prefills, r.tokens, r.times = true, counts[r.id], exchanges
	return err
}

// begin begins any other step. Its counts travel early, in a launch of their
// own, or with its first dispatch.
func (r *rank) begin(t moert.Tokens, early bool) error {
	if early {
		return r.dispatcher.BeginStep(r.stream, t)
	}
	return r.dispatcher.NextStep(t)
}

// enqueue puts all layers of a step on the stream, or into the graph being
// captured.
func (r *rank) enqueue() error {
	for l := range r.layers {
		for e := range r.times {
			if err := r.exchange(l, e); err != nil {
				return err
			}
		}
	}
	return nil
}

// exchange enqueues one exchange of a layer.
func (r *rank) exchange(l, e int) error {
	c, p, d, s := r.config, r.config.Program, r.dispatcher, r.stream
	b := &r.layers[l]
	g, err := d.Dispatch(s, b.in)
	if err != nil {
		return err
	}
	seen := &b.gathered[e]
	if err := s.CopyAsync(seen.step.Ptr, g.Step.Total, uint64(4*stepWords(p.Ranks))); err != nil {
		return err
	}
	for _, t := range tensors(p) {
		if err := r.copy(*t.rows(&seen.rows), *t.rows(&g.Rows), r.gatheredRows(e)*t.rowBytes); err != nil {
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
	if r.times > 1 {
		// So that rows of this exchange are not taken for the next one's: until
		// this rank's combine nobody can dispatch again.
		if err := r.poisonGathered(); err != nil {
			return err
		}
	}
	args := b.args
	args.Partial = partial
	if l < len(r.layers)-1 {
		_, err = d.Combine(s, args)
		return err
	}
	return r.combine(args, e == r.times-1)
}

// copy enqueues a copy, of nothing at all too.
func (r *rank) copy(to, from moert.Tensor, bytes int) error {
	if bytes == 0 {
		return nil
	}
	return r.stream.CopyAsync(to.Ptr, from.Ptr, uint64(bytes))
}

// combine is for the last layer, so that the dispatcher's own buffers are used
// too. After the last exchange it copies the results to where they would have gone.
func (r *rank) combine(args moert.CombineArgs, last bool) error {
	p, to := r.config.Program, args
	for _, t := range outputs(p) {
		*t.into(&args) = moert.Tensor{}
	}
	combined, err := r.dispatcher.Combine(r.stream, args)
	if err != nil || !last {
		return err
	}
	r.combined[r.prefills] = combined
	for _, t := range outputs(p) {
		from := *t.of(&combined)
		if err := r.copy(*t.into(&to), from, min(r.outRows(), from.Rows)*t.rowBytes); err != nil {
			return err
		}
	}
	return nil
}

// capture makes the graph that replays launch, in place of an earlier one. Its
// counts travel early, or with its first dispatch.
func (r *rank) capture(early bool) error {
	r.prefills, r.times = false, 1
	if err := errors.Join(r.closeGraph(), r.dispatcher.SetGraphed(true), r.stream.BeginCapture()); err != nil {
		return err
	}
	enqueued := r.begin(moert.DeviceTokens(r.count.Ptr), early)
	if enqueued == nil {
		enqueued = r.enqueue()
	}
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
	o := &observed{gathered: make([]gathered, r.times), outPoisoned: outPoisoned}
	var err error
	for e := range o.gathered {
		g, seen := &o.gathered[e], &b.gathered[e]
		g.step = make([]byte, 4*stepWords(p.Ranks))
		err = errors.Join(err, dev.Read(g.step, seen.step.Ptr))
		for _, t := range tensors(p) {
			to := t.observed(g)
			*to = make([]byte, r.gatheredRows(e)*t.rowBytes)
			err = errors.Join(err, dev.Read(*to, t.rows(&seen.rows).Ptr))
		}
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
