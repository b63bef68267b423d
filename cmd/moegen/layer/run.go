package layer

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	moert "github.com/moegen/moegen/runtime"
)

// Run drives the exchange and verifies it. What it found wrong with results is
// in the Result; the error is for what kept it from having any.
func Run(ctx context.Context, c Config) (*Result, error) {
	if c.Joined != nil {
		if err := c.check(); err != nil {
			return nil, err
		}
		return runJoined(ctx, c)
	}
	x, err := Open(ctx, c)
	if err != nil {
		return nil, err
	}
	x.describe()
	if err := errors.Join(x.steps(ctx), x.Close()); err != nil {
		return nil, err
	}
	return x.result, nil
}

func newRun(c Config, ranks int) *run {
	return &run{
		config: c, ranks: make([]*rank, ranks),
		inputs: newInputs(c.Spec, c.Program, c.Seed), owner: owners(c.Spec),
		// NCCL's calls may wait for those of the other ranks. The emulator's do
		// not, and one goroutine makes its runs repeatable.
		concurrent: c.Devices[0].Driver().Name() != "emu",
	}
}

// run is steps under way.
type run struct {
	done       int // steps of earlier runs
	config     Config
	ranks      []*rank // of this process
	inputs     *inputs
	owner      []int
	rounding   rounding
	concurrent bool
	result     *Result
}

// describe starts the result.
func (x *run) describe() {
	first := x.ranks[0]
	d := first.dispatcher
	x.result = &Result{Transport: d.Transport(), Provider: d.Provider(), Image: d.Image(), Experts: first.experts.image, config: x.config}
	for _, refusal := range d.Refusals() {
		x.result.Refusals = append(x.result.Refusals, refusal.String())
	}
	x.rounding = newRounding(x.config.Spec, x.config.Program, d.Transport(), d.Device().Driver().Name())
}

func (x *run) steps(ctx context.Context) error {
	total, prefills := x.config.Steps+x.config.Replays, 0
	for i := range total {
		if err := ctx.Err(); err != nil {
			return err
		}
		index, graph := i, false
		if i >= x.config.Steps {
			index, graph = i-x.config.Steps, true
		}
		if graph && index == 0 {
			err := x.drive(func(r *rank) error { return r.capture(x.config.early(0)) })
			if err := x.agree(ctx, "capture", err); err != nil {
				return fmt.Errorf("capture: %w", err)
			}
		}
		counts := x.config.Tokens[index%len(x.config.Tokens)]
		s := Step{Index: index, Graph: graph}
		if x.config.prefill(counts) {
			s = Step{Index: prefills, Prefill: true}
			prefills++
		}
		if err := x.step(ctx, x.done+i, s, counts, x.config.early(index)); err != nil {
			return fmt.Errorf("%s: %w", s.Name(), err)
		}
		if x.config.Progress != nil {
			x.config.Progress(i+1, total)
		}
	}
	return nil
}

// drive calls f for every rank: in the calling goroutine, or each in its own.
func (x *run) drive(f func(r *rank) error) error {
	if x.concurrent {
		return parallel(len(x.ranks), len(x.ranks), func(i int) error { return f(x.ranks[i]) })
	}
	for _, r := range x.ranks {
		if err := f(r); err != nil {
			return fmt.Errorf("rank %d: %w", r.id, err)
		}
	}
	return nil
}

// step runs and verifies the i-th step of all. Everything is enqueued on all
// ranks before any of them is waited for: their kernels wait for each other.
func (x *run) step(ctx context.Context, i int, s Step, counts []int, early bool) error {
	references := x.references(i, counts)
	if err := x.agree(ctx, "prepare", x.prepare(references)); err != nil {
		return err
	}
	// The address of Combine's own buffer is known once it has run.
	_, poisoned := x.ranks[0].combined[s.Prefill]
	start := time.Now()
	err := x.enqueue(ctx, s, counts, early)
	if err == nil {
		var failures []error
		for _, r := range x.ranks {
			if err := r.dispatcher.Synchronize(r.stream); err != nil {
				failures = append(failures, fmt.Errorf("rank %d: %w", r.id, err))
			}
		}
		err = errors.Join(failures...)
	}
	s.Took = time.Since(start)
	if err == nil {
		err = x.verify(references, &s, i, poisoned)
	}
	if err = x.merge(ctx, &s, err); err == nil {
		x.result.Steps = append(x.result.Steps, s)
	}
	return err
}

// prepare writes every rank's inputs.
func (x *run) prepare(refs []*reference) error {
	for _, r := range x.ranks {
		in := make([]*input, len(refs))
		for l, ref := range refs {
			in[l] = ref.inputs[r.id]
		}
		if err := r.prepare(in); err != nil {
			return fmt.Errorf("rank %d: prepare: %w", r.id, err)
		}
	}
	return nil
}

// enqueue puts a step on all ranks' streams.
func (x *run) enqueue(ctx context.Context, s Step, counts []int, early bool) error {
	for _, r := range x.ranks {
		if err := r.dispatcher.SetGraphed(!s.Prefill); err != nil {
			return fmt.Errorf("rank %d: %w", r.id, err)
		}
		r.prefills, r.times = false, 1
	}
	if s.Prefill {
		// Whatever the driver, Prefill waits for all ranks.
		if err := parallel(len(x.ranks), len(x.ranks), func(i int) error { return x.ranks[i].prefill(ctx, counts) }); err != nil {
			return err
		}
		return x.drive((*rank).enqueue)
	}
	return x.drive(func(r *rank) error {
		if s.Graph {
			return r.exec.Launch(r.stream)
		}
		if err := r.begin(moert.HostTokens(counts[r.id]), early); err != nil {
			return err
		}
		return r.enqueue()
	})
}

// references makes the inputs of all layers and ranks of the i-th step.
func (x *run) references(i int, counts []int) []*reference {
	refs := makeReferences(x.inputs, x.owner, x.config.Layers, i, counts, x.config.capacity(counts))
	for _, ref := range refs {
		ref.prefill = x.config.prefill(counts)
	}
	return refs
}

func makeReferences(in *inputs, owner []int, layers, i int, counts []int, capacity int) []*reference {
	refs := make([]*reference, layers)
	for l := range refs {
		refs[l] = &reference{spec: in.spec, prog: in.prog, owner: owner, inputs: make([]*input, len(counts)), capacity: capacity}
	}
	_ = parallel(layers*len(counts), 0, func(n int) error { // makes no errors
		l, id := n/len(counts), n%len(counts)
		refs[l].inputs[id] = in.make(i, l, id, counts[id])
		return nil
	})
	return refs
}

// verify reads every rank's and layer's memory back and adds the ranks to the
// step.
func (x *run) verify(refs []*reference, s *Step, i int, poisoned bool) error {
	verdicts := make([][]verdict, len(x.ranks))
	outputs := kept{step: i, outputs: make([][]results, len(x.ranks))}
	for n := range x.ranks {
		verdicts[n] = make([]verdict, len(refs))
		outputs.outputs[n] = make([]results, len(refs))
	}
	err := parallel(len(x.ranks)*len(refs), 0, func(n int) error {
		n, l := n/len(refs), n%len(refs)
		r := x.ranks[n]
		o, err := r.observe(l, x.outPoisoned(l, len(refs), poisoned))
		if err != nil {
			return fmt.Errorf("rank %d: read back: %w", r.id, err)
		}
		verdicts[n][l] = refs[l].verify(r.id, o, x.rounding)
		outputs.outputs[n][l] = o.results
		return nil
	})
	if err != nil {
		return err
	}
	for n, layers := range verdicts {
		id := x.ranks[n].id
		s.Ranks = append(s.Ranks, summarise(id, refs[0].inputs[id].tokens, layers))
	}
	if x.config.Keep {
		x.result.kept = append(x.result.kept, outputs)
	}
	return nil
}

// summarise makes one rank's line of its layers' verdicts.
func summarise(id, tokens int, layers []verdict) Rank {
	r := Rank{Rank: id, Tokens: tokens, Gathered: layers[0].gathered}
	for l, v := range layers {
		r.MaxError = max(r.MaxError, number(v.units))
		r.MaxAbsolute = max(r.MaxAbsolute, number(v.absolute))
		for _, f := range v.faults {
			r.Faults = append(r.Faults, fmt.Sprintf("layer %d: %s", l, f))
		}
		r.MoreFaults += v.more
	}
	return r
}

func (x *run) close() error {
	var errs []error
	for _, r := range x.ranks {
		if r != nil {
			errs = append(errs, r.dispatcher.Close())
		}
	}
	for _, r := range x.ranks {
		if r != nil {
			errs = append(errs, r.close())
		}
	}
	return errors.Join(errs...)
}

// parallel calls f for 0 to n-1 in at most workers goroutines, 0 meaning one a
// processor, and joins the errors.
func parallel(n, workers int, f func(i int) error) error {
	if workers == 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	errs := make([]error, n)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(workers, n) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				errs[i] = f(i)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// outPoisoned says whether a layer's output held poison before the step, so
// that rows past the last token can be looked at.
func (x *run) outPoisoned(l, layers int, poisoned bool) bool {
	if p := x.config.Program; p.Ranks == 1 && p.Padded {
		return false // the output is the partial sums, of padding rows too
	}
	return poisoned || l < layers-1
}
