package emu

import (
	"sync/atomic"

	"github.com/moegen/moegen/runtime/driver"
)

// capture turns what is enqueued on one or more streams into a graph.
type capture struct {
	origin  *stream
	streams []*stream
	nodes   []*gnode
	invalid atomic.Bool // also set by Device.Synchronize
	done    bool
}

// gnode is an operation of a graph.
type gnode struct {
	kind, name string
	deps       []*gnode
	// prog is the kernel that this one may overlap with.
	prog  *gnode
	build func() *node
}

// graph is captured work.
type graph struct {
	d      *Driver
	nodes  []*gnode
	closed bool
}

func (c *capture) add(s *stream, kind, name string, dependent bool, build func() *node) {
	n := &gnode{kind: kind, name: name, deps: s.capDeps, build: build}
	if dependent && len(n.deps) == 1 && n.deps[0].kind == "kernel" {
		n.prog, n.deps = n.deps[0], nil
	}
	c.nodes = append(c.nodes, n)
	s.capDeps = []*gnode{n}
}

// leave takes a stream out of the capture.
func (c *capture) leave(s *stream) {
	s.setCapture(nil)
	s.capDeps = nil
	for i, t := range c.streams {
		if t == s {
			c.streams = append(c.streams[:i], c.streams[i+1:]...)
			return
		}
	}
}

func (s *stream) join(c *capture, deps []*gnode) {
	s.setCapture(c)
	s.capDeps = append([]*gnode(nil), deps...)
	c.streams = append(c.streams, s)
}

// setCapture changes s.cap, which Device.Synchronize reads from anywhere.
func (s *stream) setCapture(c *capture) {
	s.dev.mu.Lock()
	defer s.dev.mu.Unlock()
	s.cap = c
}

func union(a, b []*gnode) []*gnode {
	out := append([]*gnode(nil), a...)
next:
	for _, n := range b {
		for _, m := range out {
			if m == n {
				continue next
			}
		}
		out = append(out, n)
	}
	return out
}

// BeginCapture makes later calls build a graph, in CUDA's relaxed mode: other
// calls of the same goroutine (allocations, loads) stay legal.
func (s *stream) BeginCapture() error {
	const op = "cuStreamBeginCapture"
	if err := s.enter(op); err != nil {
		return err
	}
	if s.cap != nil {
		return fail(op, driver.CodeIllegalState, "the stream is capturing already")
	}
	s.join(&capture{origin: s}, nil)
	return nil
}

// EndCapture returns the graph.
func (s *stream) EndCapture() (driver.Graph, error) {
	const op = "cuStreamEndCapture"
	if err := s.dev.d.enter(op, s.dev); err != nil {
		return nil, err
	}
	c := s.cap
	if c == nil {
		return nil, fail(op, driver.CodeIllegalState, "the stream is not capturing")
	}
	if c.origin != s {
		return nil, fail(op, codeCaptureUnmatched, "the capture did not begin on this stream, which joined it through an event")
	}
	reach := map[*gnode]bool{}
	var visit func(n *gnode)
	visit = func(n *gnode) {
		if n == nil || reach[n] {
			return
		}
		reach[n] = true
		visit(n.prog)
		for _, d := range n.deps {
			visit(d)
		}
	}
	for _, n := range s.capDeps {
		visit(n)
	}
	unjoined := false
	for _, t := range append([]*stream(nil), c.streams...) {
		for _, n := range t.capDeps {
			unjoined = unjoined || t != s && !reach[n]
		}
		c.leave(t)
	}
	c.done = true
	switch {
	case c.invalid.Load():
		return nil, fail(op, driver.CodeCaptureInvalidated, "the capture was invalidated by an earlier error")
	case unjoined:
		return nil, fail(op, codeCaptureUnjoined, "the capture was forked to another stream that was not joined again: let this stream wait for an event recorded at its end")
	}
	return &graph{d: s.dev.d, nodes: c.nodes}, nil
}

// Capturing says whether the stream is part of a capture.
func (s *stream) Capturing() (bool, error) {
	const op = "cuStreamIsCapturing"
	if err := s.enter(op); err != nil {
		return false, err
	}
	return s.cap != nil, nil
}

func (g *graph) check(op string) error {
	if err := g.d.enter(op, nil); err != nil {
		return err
	}
	if g.closed {
		return fail(op, driver.CodeInvalidValue, "the graph was closed")
	}
	return nil
}

// Nodes lists the operations in the order of their capture.
func (g *graph) Nodes() ([]driver.GraphNode, error) {
	if err := g.check("cuGraphGetNodes"); err != nil {
		return nil, err
	}
	var out []driver.GraphNode
	for _, n := range g.nodes {
		gn := driver.GraphNode{Kind: n.kind}
		if n.kind == "kernel" {
			gn.Name = n.name
		}
		out = append(out, gn)
	}
	return out, nil
}

// Instantiate makes the graph executable.
func (g *graph) Instantiate() (driver.GraphExec, error) {
	if err := g.check("cuGraphInstantiate"); err != nil {
		return nil, err
	}
	return &graphExec{d: g.d, nodes: append([]*gnode(nil), g.nodes...)}, nil
}

// Close drops the graph; what was instantiated from it stays.
func (g *graph) Close() error {
	if err := g.check("cuGraphDestroy"); err != nil {
		return err
	}
	g.closed = true
	return nil
}

// graphExec is a graph ready to run.
type graphExec struct {
	d      *Driver
	nodes  []*gnode
	last   *node // launches of one executable do not overlap
	closed bool
}

// Launch enqueues the whole graph as one operation of the stream.
func (x *graphExec) Launch(st driver.Stream) error {
	const op = "cuGraphLaunch"
	s, ok := st.(*stream)
	if !ok || s.dev.d != x.d {
		return fail(op, driver.CodeInvalidHandle, "%T is not a stream of this driver", st)
	}
	if err := s.enter(op); err != nil {
		return err
	}
	if x.closed {
		return fail(op, driver.CodeInvalidValue, "the executable graph was closed")
	}
	if s.cap != nil {
		return fail(op, driver.CodeNotSupported, "the emulator does not nest graphs: the stream is capturing")
	}
	sched := x.d.sched
	end := &node{dev: s.dev, name: op}
	begin := &node{dev: s.dev, name: op}
	sched.enqueue(begin, []*node{s.setTail(end), x.last}, nil)
	made := make(map[*gnode]*node, len(x.nodes))
	all := []*node{begin}
	for _, g := range x.nodes {
		n := g.build()
		made[g] = n
		all = append(all, n)
		var deps []*node
		for _, d := range g.deps {
			deps = append(deps, made[d])
		}
		if len(deps) == 0 && g.prog == nil {
			deps = append(deps, begin)
		}
		sched.enqueue(n, deps, made[g.prog])
	}
	sched.enqueue(end, all, nil)
	x.last = end
	return nil
}

// Close drops the executable graph; launches under way go on.
func (x *graphExec) Close() error {
	const op = "cuGraphExecDestroy"
	if err := x.d.enter(op, nil); err != nil {
		return err
	}
	if x.closed {
		return fail(op, driver.CodeInvalidValue, "the executable graph was closed before")
	}
	x.closed = true
	return nil
}
