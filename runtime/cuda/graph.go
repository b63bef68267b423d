//go:build linux && cgo

package cuda

// #include <stdlib.h>
// #include "moecu.h"
import "C"

import (
	"slices"
	"strings"
	"sync/atomic"
	"unsafe"

	"github.com/moegen/moegen/runtime/driver"
)

func (s *stream) BeginCapture() error {
	const op = "cuStreamBeginCapture"
	ctx, h, err := s.get(op)
	if err != nil {
		return err
	}
	return s.dev.err(op, C.moecu_capture_begin(s.dev.drv.lib.t, ctx, h))
}

func (s *stream) EndCapture() (driver.Graph, error) {
	const op = "cuStreamEndCapture"
	ctx, h, err := s.get(op)
	if err != nil {
		return nil, err
	}
	out := C.moecu_capture_end(s.dev.drv.lib.t, ctx, h)
	if err := s.dev.err(op, out.rc); err != nil {
		return nil, err
	}
	g := &graph{dev: s.dev}
	g.handle.Store(uint64(out.a))
	return g, nil
}

// Capturing is true for an invalidated capture as well: it has to be ended.
func (s *stream) Capturing() (bool, error) {
	const op = "cuStreamIsCapturing"
	ctx, h, err := s.get(op)
	if err != nil {
		return false, err
	}
	out := C.moecu_capture_status(s.dev.drv.lib.t, ctx, h)
	return out.a != 0, s.dev.err(op, out.rc)
}

type graph struct {
	dev    *device
	handle atomic.Uint64
}

var _ driver.Graph = (*graph)(nil)

func (g *graph) get(op string) (C.CUcontext, C.CUgraph, error) {
	h := g.handle.Load()
	if h == 0 {
		return 0, 0, usageError(op, driver.CodeInvalidHandle, "the graph is closed")
	}
	ctx, err := g.dev.context(op)
	return ctx, C.CUgraph(h), err
}

func (g *graph) Nodes() ([]driver.GraphNode, error) {
	const op = "cuGraphGetNodes"
	ctx, h, err := g.get(op)
	if err != nil {
		return nil, err
	}
	t := g.dev.drv.lib.t
	out := C.moecu_graph_nodes(t, ctx, h, nil, 0)
	if err := g.dev.err(op, out.rc); err != nil || out.a == 0 {
		return nil, err
	}
	n := out.a
	// C memory: the names that the driver puts there are its own.
	array := (*C.moecu_node)(C.calloc(C.size_t(n), C.sizeof_moecu_node))
	defer C.free(unsafe.Pointer(array))
	out = C.moecu_graph_nodes(t, ctx, h, array, n)
	if err := g.dev.err(op, out.rc); err != nil {
		return nil, err
	}
	nodes := make([]driver.GraphNode, n)
	for i, c := range unsafe.Slice(array, n) {
		nodes[i].Kind = nodeKind(int(c._type))
		if c.name != nil {
			nodes[i].Name = C.GoString(c.name)
		} else if name, ok := g.dev.drv.names.Load(c._func); ok {
			nodes[i].Name = name.(string)
		}
	}
	return nodes, nil
}

func nodeKind(t int) string {
	switch t {
	case 0:
		return "kernel"
	case 1:
		return "memcpy"
	case 2:
		return "memset"
	case 3:
		return "host"
	case 6, 7:
		return "event"
	}
	return "other"
}

func (g *graph) Instantiate() (driver.GraphExec, error) {
	const op = "cuGraphInstantiateWithFlags"
	ctx, h, err := g.get(op)
	if err != nil {
		return nil, err
	}
	out := C.moecu_graph_instantiate(g.dev.drv.lib.t, ctx, h)
	if err := g.dev.err(op, out.rc); err != nil {
		return nil, err
	}
	e := &graphExec{dev: g.dev, note: g.note()}
	e.handle.Store(uint64(out.a))
	return e, nil
}

// note names the kernels of the graph, for the error that one of them may
// cause in a later call.
func (g *graph) note() string {
	const most = 6
	nodes, err := g.Nodes()
	if err != nil {
		return "a graph"
	}
	var names []string
	for _, n := range nodes {
		if n.Name == "" || slices.Contains(names, n.Name) {
			continue
		}
		if len(names) == most {
			names = append(names, "...")
			break
		}
		names = append(names, n.Name)
	}
	return "a graph with the kernels " + strings.Join(names, ", ")
}

func (g *graph) Close() error {
	h := g.handle.Swap(0)
	ctx := g.dev.ctx.Load()
	if h == 0 || ctx == 0 {
		return nil // closed already, or gone with the context
	}
	return g.dev.err("cuGraphDestroy", C.moecu_graph_destroy(g.dev.drv.lib.t, C.CUcontext(ctx), C.CUgraph(h)))
}

type graphExec struct {
	dev    *device
	note   string
	handle atomic.Uint64
}

var _ driver.GraphExec = (*graphExec)(nil)

func (e *graphExec) Launch(st driver.Stream) error {
	const op = "cuGraphLaunch"
	s, ok := st.(*stream)
	if !ok || s.dev != e.dev {
		return usageError(op, driver.CodeInvalidHandle, "the stream is not on the graph's device")
	}
	h := e.handle.Load()
	if h == 0 {
		return usageError(op, driver.CodeInvalidHandle, "the graph is closed")
	}
	ctx, sh, err := s.get(op)
	if err != nil {
		return err
	}
	rc := C.moecu_graph_launch(e.dev.drv.lib.t, ctx, C.CUgraphExec(h), sh)
	if rc == 0 {
		e.dev.last.Store(&e.note)
		return nil
	}
	return e.dev.err(op, rc)
}

func (e *graphExec) Close() error {
	h := e.handle.Swap(0)
	ctx := e.dev.ctx.Load()
	if h == 0 || ctx == 0 {
		return nil // closed already, or gone with the context
	}
	return e.dev.err("cuGraphExecDestroy", C.moecu_graph_exec_destroy(e.dev.drv.lib.t, C.CUcontext(ctx), C.CUgraphExec(h)))
}
