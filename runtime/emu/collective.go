package emu

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/moegen/moegen/runtime/driver"
)

// NewCollectives makes an in-process stand-in for NCCL over devices, one
// communicator per rank. A call becomes a stream operation that waits, on the
// device's own time, for the same call of all other ranks; group calls become
// one operation. Sums are taken in rank order in float32 and rounded once.
// Ranks must make their calls in one order; where their kinds or sizes differ,
// all devices concerned fail, where NCCL would hang or corrupt memory.
func (d *Driver) NewCollectives(devices []driver.Device) ([]driver.Collective, error) {
	const op = "ncclCommInitRank"
	if err := d.enter(op, nil); err != nil {
		return nil, err
	}
	if len(devices) == 0 {
		return nil, fail(op, driver.CodeInvalidValue, "no devices")
	}
	comm := &communicator{d: d, n: len(devices)}
	out := make([]driver.Collective, len(devices))
	for i, dev := range devices {
		ed, err := d.own(op, dev)
		if err != nil {
			return nil, err
		}
		out[i] = &collective{comm: comm, rank: i, dev: ed}
	}
	return out, nil
}

// JoinCollective makes one rank's end of the communicator that id names; ranks
// of one Driver find each other by it. It waits for nobody.
func (d *Driver) JoinCollective(id [128]byte, rank, size int, dev driver.Device) (driver.Collective, error) {
	const op = "ncclCommInitRank"
	ed, err := d.own(op, dev)
	if err != nil {
		return nil, err
	}
	if err := d.enter(op, ed); err != nil {
		return nil, err
	}
	if rank < 0 || rank >= size {
		return nil, fail(op, driver.CodeInvalidValue, "rank %d of %d", rank, size)
	}
	c := &communicator{d: d, n: size}
	if old, ok := d.comms.LoadOrStore(id, c); ok {
		if c = old.(*communicator); c.n != size {
			return nil, fail(op, driver.CodeInvalidValue, "rank %d says that there are %d ranks, another said %d", rank, size, c.n)
		}
	}
	if int(c.joined.Add(1)) == size {
		d.comms.Delete(id) // nobody else asks for it
	}
	return &collective{comm: c, rank: rank, dev: ed}, nil
}

type communicator struct {
	d      *Driver
	n      int
	joined atomic.Int32 // ranks that came by JoinCollective
	// next is, by rank, the number of the rank's next operation; waiting holds
	// operations for which ranks are missing. Under the scheduler's lock.
	next    map[int]int
	waiting map[int][]*node
}

type collective struct {
	comm   *communicator
	rank   int
	dev    *Device
	mu     sync.Mutex
	depth  int
	group  []collPart
	stream *stream
	closed atomic.Bool
}

// collKind is what a call does.
type collKind int

const (
	allGather collKind = iota
	allToAll
	reduceScatter
)

func (k collKind) String() string {
	return [...]string{"all-gather", "all-to-all", "reduce-scatter"}[k]
}

// collPart is one call inside a group.
type collPart struct {
	kind       collKind
	send, recv uint64
	bytes      uint64 // per rank
	elem       driver.ElementType
}

// sent and received are a rank's bytes in all, of n ranks.
func (p collPart) sent(n int) uint64 {
	if p.kind == allGather {
		return p.bytes
	}
	return p.bytes * uint64(n)
}

func (p collPart) received(n int) uint64 {
	if p.kind == reduceScatter {
		return p.bytes
	}
	return p.bytes * uint64(n)
}

func (p collPart) String() string {
	return fmt.Sprintf("%v of %d bytes per rank", p.kind, p.bytes)
}

// collectiveOp is one rank's operation.
type collectiveOp struct {
	comm  *communicator
	rank  int
	seq   int
	parts []collPart
	peers []*node // all ranks' nodes, set when the last has arrived
}

func (c *collective) Rank() int { return c.rank }
func (c *collective) Size() int { return c.comm.n }

func (c *collective) enter(op string) error {
	if err := c.comm.d.enter(op, c.dev); err != nil {
		return err
	}
	if c.closed.Load() {
		return fail(op, driver.CodeInvalidHandle, "the communicator was closed")
	}
	return nil
}

func (c *collective) GroupStart() error {
	if err := c.enter("ncclGroupStart"); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.depth++
	return nil
}

func (c *collective) GroupEnd() error {
	const op = "ncclGroupEnd"
	if err := c.enter(op); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.depth == 0 {
		return fail(op, driver.CodeInvalidValue, "no group was started")
	}
	c.depth--
	if c.depth == 0 {
		c.flush()
	}
	return nil
}

// flush enqueues the group; c.mu is held.
func (c *collective) flush() {
	if len(c.group) == 0 {
		return
	}
	parts, s := c.group, c.stream
	c.group, c.stream = nil, nil
	const name = "emu_collective"
	s.do("kernel", name, false, func() *node {
		o := &collectiveOp{comm: c.comm, rank: c.rank, parts: parts}
		return &node{dev: c.dev, name: name, collective: o, run: o.run}
	})
}

func (c *collective) call(op string, st driver.Stream, p collPart) error {
	if err := c.enter(op); err != nil {
		return err
	}
	s, ok := st.(*stream)
	if !ok || s.dev != c.dev {
		return fail(op, driver.CodeInvalidValue, "the stream is not on the communicator's device %d", c.dev.ordinal)
	}
	if err := s.enter(op); err != nil {
		return err
	}
	if err := s.check(op, p.send, p.sent(c.comm.n)); err != nil {
		return err
	}
	if err := s.check(op, p.recv, p.received(c.comm.n)); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stream != nil && c.stream != s {
		return fail(op, driver.CodeInvalidValue, "one group's calls are on two streams")
	}
	c.group, c.stream = append(c.group, p), s
	if c.depth == 0 {
		c.flush()
	}
	return nil
}

func (c *collective) AllGather(s driver.Stream, send, recv driver.DevicePtr, bytes uint64) error {
	return c.call("ncclAllGather", s, collPart{send: uint64(send), recv: uint64(recv), bytes: bytes})
}

func (c *collective) AllToAll(s driver.Stream, send, recv driver.DevicePtr, bytes uint64) error {
	return c.call("ncclSend", s, collPart{kind: allToAll, send: uint64(send), recv: uint64(recv), bytes: bytes})
}

func (c *collective) ReduceScatter(s driver.Stream, send, recv driver.DevicePtr, count uint64, t driver.ElementType) error {
	bytes := count * uint64(t.Size())
	return c.call("ncclReduceScatter", s, collPart{kind: reduceScatter, send: uint64(send), recv: uint64(recv), bytes: bytes, elem: t})
}

func (c *collective) Close() error {
	if err := c.enter("ncclCommDestroy"); err != nil {
		return err
	}
	if err := c.dev.idle(); err != nil {
		c.comm.d.log.Debug("destroying a communicator after a device error", "device", c.dev.ordinal, "err", err)
	}
	c.closed.Store(true)
	return nil
}

// Abort closes the communicator and fails this rank's device if an operation
// of it is still waiting for its peers.
func (c *collective) Abort() error {
	c.closed.Store(true)
	return nil
}

// arrive notes that a rank's stream has come to n. The node of the last rank
// to arrive is returned: it runs for all. The scheduler's lock is held.
func (o *collectiveOp) arrive(n *node) *node {
	c := o.comm
	if c.next == nil {
		c.next, c.waiting = map[int]int{}, map[int][]*node{}
	}
	o.seq = c.next[o.rank]
	c.next[o.rank]++
	c.waiting[o.seq] = append(c.waiting[o.seq], n)
	if len(c.waiting[o.seq]) < c.n {
		return nil
	}
	o.peers = make([]*node, c.n)
	for _, p := range c.waiting[o.seq] {
		o.peers[p.collective.rank] = p
	}
	delete(c.waiting, o.seq)
	return n
}

// withdraw takes a dead device's operation out of the meeting.
func (o *collectiveOp) withdraw(n *node) {
	ws := o.comm.waiting[o.seq]
	for i, w := range ws {
		if w == n {
			o.comm.waiting[o.seq] = append(ws[:i], ws[i+1:]...)
			// The slot stays short for ever: the peers wait, as they do with NCCL.
			return
		}
	}
}

func (o *collectiveOp) waits(n *node) string {
	var missing []int
	here := map[int]bool{}
	for _, w := range o.comm.waiting[o.seq] {
		here[w.collective.rank] = true
	}
	for r := range o.comm.n {
		if !here[r] {
			missing = append(missing, r)
		}
	}
	return fmt.Sprintf("device %d, collective %d (%v): waits for ranks %v", n.dev.ordinal, o.seq, o.parts, missing)
}

// run moves the data of all ranks.
func (o *collectiveOp) run() error {
	const op = "collective"
	for _, p := range o.peers {
		q := p.collective.parts
		for i := range q {
			if len(q) != len(o.parts) || q[i].bytes != o.parts[i].bytes || q[i].kind != o.parts[i].kind || q[i].elem != o.parts[i].elem {
				err := fail(op, driver.CodeLaunchFailed, "rank %d calls %v, rank %d calls %v", o.rank, o.parts, p.collective.rank, q)
				for _, p := range o.peers {
					if p.dev != o.peers[o.rank].dev {
						o.comm.d.sched.fault(p.dev, driver.CodeLaunchFailed, textOf(err))
					}
				}
				return err
			}
		}
	}
	for i := range o.parts {
		for r, p := range o.peers {
			part := p.collective.parts[i]
			if err := o.gather(op, r, i, part); err != nil {
				return err
			}
		}
	}
	return nil
}

// gather fills rank r's receive buffer. In-place calls read what is not
// written yet: reductions write only the rank's own part.
func (o *collectiveOp) gather(op string, r, i int, part collPart) error {
	mem := &o.comm.d.mem
	n := part.bytes
	if part.kind != reduceScatter {
		for q, p := range o.peers {
			from := p.collective.parts[i].send
			if part.kind == allToAll {
				from += uint64(r) * n
			}
			if err := mem.copyWithin(op, part.recv+uint64(q)*n, from, n); err != nil {
				return err
			}
		}
		return nil
	}
	buf := make([]byte, n)
	acc := make([]float32, n/uint64(part.elem.Size()))
	for q, p := range o.peers {
		if err := mem.copyOut(op, buf, p.collective.parts[i].send+uint64(r)*n); err != nil {
			return err
		}
		for k := range acc {
			v := element(buf, k, part.elem)
			if q == 0 {
				acc[k] = v
			} else {
				acc[k] += v
			}
		}
	}
	for k, v := range acc {
		setElement(buf, k, part.elem, v)
	}
	return mem.copyIn(op, part.recv, buf)
}

func element(b []byte, k int, t driver.ElementType) float32 {
	p := unsafe.Pointer(unsafe.SliceData(b))
	switch t {
	case driver.Float32:
		return *(*float32)(unsafe.Add(p, 4*k))
	case driver.Float16:
		return fromF16(*(*uint16)(unsafe.Add(p, 2*k)))
	}
	return fromBF16(*(*uint16)(unsafe.Add(p, 2*k)))
}

func setElement(b []byte, k int, t driver.ElementType, v float32) {
	p := unsafe.Pointer(unsafe.SliceData(b))
	switch t {
	case driver.Float32:
		*(*uint32)(unsafe.Add(p, 4*k)) = math.Float32bits(v)
	case driver.Float16:
		*(*uint16)(unsafe.Add(p, 2*k)) = toF16(v)
	default:
		*(*uint16)(unsafe.Add(p, 2*k)) = toBF16(v)
	}
}
