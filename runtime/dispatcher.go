package runtime

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/symm"
)

// Dispatcher exchanges the tokens of one model's MoE layers for one rank. It
// is the untyped core of what generated packages export.
//
// A step is BeginStep or NextStep, then Dispatch and Combine in turn, once a
// layer. All of them only enqueue kernels on the caller's stream: nothing in a step waits
// for the host, allocates, or synchronises, and all of it may be captured into
// a graph. Operations of one group run in one order on all ranks, on one
// stream per rank. A Dispatcher may be used by one goroutine at a time.
type Dispatcher struct {
	prog  *Program
	group Group
	rank  int
	dev   driver.Device

	transport Transport
	refusals  []Refusal
	why       string // of the transport, beside the refusals
	image     string // where the kernels came from
	log       *slog.Logger
	observe   func(Event) // nil without an observer
	row       *row        // the other ranks' dispatchers in this process
	mem       *symm.Memory
	control   driver.DevicePtr
	status    driver.HostMemory
	own       Combined // where Combine leaves its results, if the caller gives no place
	module    driver.Module
	engine    engine
	undo      []func() error
	timeout   time.Duration // of waits for other ranks
	dependent bool          // kernels may be launched before those before them have ended

	capacity int
	// graphedCapacity is what capacity was when graphed mode was left.
	graphedCapacity int

	state   state
	eager   *prefill // outside graphs; nil in graphed mode
	first   *Tokens  // of a step whose counts its first dispatch exchanges; nil once they are
	failed  error
	scratch params // reused by every launch
	prefix  int    // length of the packed Group at scratch's start
	tally   tally

	// For other goroutines than the steps'.
	failure atomic.Pointer[string] // text of failed
	reading sync.Mutex             // keeps memory that is read from being freed
	counted deviceCounts
	closed  bool
}

// state is what may come next.
type state int

const (
	stateNew        state = iota // BeginStep
	stateStep                    // Dispatch or BeginStep
	stateDispatched              // Combine
	stateClosed
)

// engine enqueues a step's operations over one transport.
type engine interface {
	counts(s driver.Stream, t Tokens) error
	// dispatch exchanges the counts of a step too where first is not nil.
	dispatch(s driver.Stream, r Rows, first *Tokens) error
	combine(s driver.Stream, a CombineArgs) error
}

// NewDispatcher builds a rank's dispatcher. All ranks call it, each in a
// goroutine of its own (see LocalGroup.Each); it succeeds on all of them or
// fails on all of them. It allocates everything that steps need and must not
// run inside a capture.
//
// The transport is the first of the program's that every rank can use; see
// Transport and Refusals.
func NewDispatcher(ctx context.Context, g Group, rank int, p *Program, opts ...Option) (*Dispatcher, error) {
	o := options{timeout: p.Timeout, logger: slog.Default()}
	for _, f := range opts {
		f(&o)
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	if g.Size() != p.Ranks {
		return nil, fmt.Errorf("%w: %s is generated for ep_size %d and the group has %d ranks: generate it for this group, or form another", ErrGroup, p.Name, p.Ranks, g.Size())
	}
	dev, err := g.Device(rank)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrGroup, err)
	}
	v, err := vote(ctx, g, rank, p, &o)
	if err != nil {
		return nil, err
	}
	refusals := v.refusals
	var failures []error
	for _, t := range v.usable {
		d := &Dispatcher{prog: p, group: g, rank: rank, dev: dev, transport: t, why: v.why, capacity: p.MaxTokens, timeout: o.timeout, log: o.logger, observe: o.observe}
		d.dependent = !o.serial && p.WaitsForStream && ranksOn(g, dev) == 1
		err := symm.Agree(ctx, g, rank, string(t), d.build(ctx, &o, v.windows))
		if err == nil {
			d.refusals = refusals
			d.counted.begin(o.epoch)
			d.enlist()
			d.watchGroup()
			d.formed()
			return d, nil
		}
		failures = append(failures, err, d.release())
		if groupError(g) != nil {
			break // no transport helps
		}
		refusals = append(refusals, Refusal{Rank: rank, Transport: t, Reason: err.Error()})
	}
	return nil, fmt.Errorf("%w: %w", ErrNoTransport, errors.Join(failures...))
}

// build acquires what the transport needs. What it acquired before it failed
// is in d.undo.
func (d *Dispatcher) build(ctx context.Context, o *options, windows bool) error {
	p := d.prog
	req := symm.Request{Device: d.dev, Rank: d.rank, Bytes: p.Layout.Bytes, Clear: p.Layout.Routing, Multicast: d.transport == NVLS}
	var err error
	if d.transport == NCCL || p.Ranks == 1 {
		d.mem, err = symm.Local(d.group, req)
	} else {
		provider := o.provider
		switch {
		case provider != nil:
		case windows && (d.transport == NVLS || spansHosts(d.group)):
			// NVIDIA tests this path on hardware of all kinds.
			provider = symm.NCCL{Communicator: d.group.Collective}
		default:
			provider = symm.VMM{}
		}
		d.mem, err = provider.Allocate(ctx, d.group, req)
	}
	if err != nil {
		return err
	}
	d.undo = append(d.undo, d.mem.Close)
	if err := d.allocControl(o); err != nil {
		return err
	}
	if err := d.allocOwn(); err != nil {
		return err
	}
	if err := fillMemory(d.dev, d.mem.Unicast[d.rank]+driver.DevicePtr(p.Layout.Staging), 0xff, p.Layout.Bytes-p.Layout.Staging); err != nil {
		return err
	}
	if d.module, d.image, err = loadProgram(ctx, d.dev, p); err != nil {
		return err
	}
	d.undo = append(d.undo, d.module.Unload)
	d.scratch.group(d.mem.Unicast, d.mem.Multicast, d.control, d.rank)
	d.prefix = len(d.scratch)
	if d.transport == NCCL {
		d.engine, err = newNCCLEngine(ctx, d)
	} else {
		d.engine, err = newKernelEngine(d)
	}
	return err
}

// allocControl makes the kernels' private state and the word through which
// they tell the host of a failure.
func (d *Dispatcher) allocControl(o *options) error {
	var err error
	if d.status, err = d.dev.AllocHost(64); err != nil {
		return err
	}
	d.undo = append(d.undo, d.status.Free)
	clear(d.status.Bytes())
	if d.control, err = d.alloc(d.prog.Layout.Control); err != nil {
		return err
	}
	l := d.prog.Layout
	state := make([]byte, l.Control)
	binary.LittleEndian.PutUint64(state, uint64(o.timeout.Nanoseconds()))
	binary.LittleEndian.PutUint64(state[8:], uint64(d.status.Ptr()))
	fillWords(state[l.Epochs:], o.epoch)
	if err := d.dev.Write(d.control, state); err != nil || o.epoch == 0 {
		return err // at epoch 0 the signals are as they were made
	}
	// Before any peer signals: it waits for this rank's part of the set-up.
	signals := make([]byte, l.Routing-l.Signals)
	fillWords(signals, o.epoch)
	return d.dev.Write(d.mem.Unicast[d.rank]+driver.DevicePtr(l.Signals), signals)
}

func fillWords(b []byte, v uint32) {
	for ; len(b) >= 4; b = b[4:] {
		binary.LittleEndian.PutUint32(b, v)
	}
}

func (d *Dispatcher) alloc(bytes uint64) (driver.DevicePtr, error) {
	p, err := d.dev.Alloc(max(bytes, 16))
	if err != nil {
		return 0, fmt.Errorf("allocate %d bytes: %w", bytes, err)
	}
	d.undo = append(d.undo, func() error { return d.dev.Free(p) })
	return p, nil
}

func (d *Dispatcher) release() error {
	var errs []error
	for i := len(d.undo) - 1; i >= 0; i-- {
		errs = append(errs, d.undo[i]())
	}
	d.undo = nil
	return errors.Join(errs...)
}

// Rank, Device, Transport, Refusals and Program say what the dispatcher is.
func (d *Dispatcher) Rank() int             { return d.rank }
func (d *Dispatcher) Device() driver.Device { return d.dev }
func (d *Dispatcher) Program() *Program     { return d.prog }

// Transport is what the group agreed on; Local for a group of one.
func (d *Dispatcher) Transport() Transport {
	if d.prog.Ranks == 1 {
		return Local
	}
	return d.transport
}

// Refusals says which preferred transports were not used, and why, by rank.
func (d *Dispatcher) Refusals() []Refusal { return d.refusals }

// Provider says who made the symmetric memory: "vmm", "nccl" or "local".
func (d *Dispatcher) Provider() string { return d.mem.Provider }

// Image says where the kernels came from.
func (d *Dispatcher) Image() string { return d.image }

// NewStream returns a stream of the rank's device, which the caller closes.
func (d *Dispatcher) NewStream() (driver.Stream, error) { return d.dev.NewStream() }

// NewTensor allocates a tensor of rows rows of rowBytes bytes on the rank's
// device. It is freed with the dispatcher.
func (d *Dispatcher) NewTensor(rows, rowBytes int) (Tensor, error) {
	if d.state == stateClosed {
		return Tensor{}, ErrClosed
	}
	p, err := d.alloc(uint64(rows) * uint64(rowBytes))
	return Tensor{Ptr: p, Rows: rows}, err
}

// Err returns the failure that the kernels have reported so far, nil if there
// is none. It does not wait; after a synchronised step it is conclusive.
// Having returned a *StepError it forgets it.
func (d *Dispatcher) Err() error {
	word, err := d.reported()
	if errors.Is(err, ErrTokens) && atomic.CompareAndSwapUint64(d.statusWord(), word, 0) {
		d.stepFailed(err)
	}
	return err
}

func (d *Dispatcher) statusWord() *uint64 {
	return (*uint64)(unsafe.Pointer(unsafe.SliceData(d.status.Bytes())))
}

// reported decodes what the kernels have written down. A failure of the group
// is remembered.
func (d *Dispatcher) reported() (word uint64, err error) {
	if d.failed != nil {
		return 0, d.failed
	}
	if gone := groupError(d.group); gone != nil {
		d.fail(gone)
		return 0, gone
	}
	if word = atomic.LoadUint64(d.statusWord()); word == 0 {
		return 0, nil
	}
	if err = d.explain(decodeFailure(word)); !errors.Is(err, ErrTokens) {
		d.fail(err)
	}
	return word, err
}

// Synchronize waits for the stream and returns what went wrong in the steps on
// it, if anything did.
func (d *Dispatcher) Synchronize(s driver.Stream) error {
	if d.state == stateClosed {
		return ErrClosed
	}
	if err := s.Synchronize(); err != nil {
		return d.because(err)
	}
	return d.Err()
}

// Close ends the rank's use of the dispatcher. Memory goes back when all ranks
// of the group have closed theirs, because peers may still store into it. A
// second Close does nothing.
func (d *Dispatcher) Close() error {
	if d.state == stateClosed {
		return nil
	}
	d.tell(Closed, nil)
	d.state = stateClosed
	d.row.remove(d.rank)
	d.reading.Lock()
	d.closed = true
	d.reading.Unlock()
	return d.group.Leave(d.rank, d.release)
}
