package exchange

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/moegen/moegen/cmd/moegen/gen"
	"github.com/moegen/moegen/cmd/moegen/layer"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/emu"
	"github.com/moegen/moegen/spec"
)

// expertsPTX has an expert that yields its tokens: it copies the gathered rows,
// words of 8 bytes each, to where partial sums go.
const expertsPTX = `.version 8.6
.target sm_90
.address_size 64
.visible .entry experts(.param .u64 total, .param .u64 hidden, .param .u64 partial, .param .u32 words)
{
	.reg .pred %p<2>;
	.reg .b32 %r<4>;
	.reg .b64 %rd<7>;
	ld.param.u64 %rd1, [total];
	ld.param.u64 %rd2, [hidden];
	ld.param.u64 %rd3, [partial];
	ld.param.u32 %r1, [words];
	ld.global.u32 %r2, [%rd1];
	mul.lo.u32 %r2, %r2, %r1;
	mov.u32 %r3, %tid.x;
NEXT:
	setp.ge.u32 %p1, %r3, %r2;
	@%p1 bra DONE;
	mul.wide.u32 %rd4, %r3, 8;
	add.u64 %rd5, %rd2, %rd4;
	ld.global.u64 %rd6, [%rd5];
	add.u64 %rd5, %rd3, %rd4;
	st.global.u64 [%rd5], %rd6;
	add.u32 %r3, %r3, 32;
	bra NEXT;
DONE:
	ret;
}
`

// TestNodes: a captured step is one kernel for each operation and nothing else,
// whether its counts travel early or in band, with experts that read what was
// gathered and write PartialBuffer, and with each layer's output the input of
// the next.
func TestNodes(t *testing.T) {
	const layers = 3
	for _, way := range []struct {
		kernels   string // how their names end
		transport moert.Transport
		protocol  gen.Protocol
	}{{"nvls", moert.NVLS, gen.Bulk}, {"p2p", moert.P2P, gen.Bulk}, {"ll", moert.P2P, gen.LL}} {
		for _, early := range []bool{false, true} {
			s, err := spec.Parse("moe.yaml", []byte(small))
			if err != nil {
				t.Fatal(err)
			}
			p := program(t, small)
			layer.SetProtocol(p, s, way.protocol)
			r := newRig(t, machine(t, emu.Config{Devices: 2}), p, moert.WithTransport(way.transport))
			want := []string{"moegen_first_dispatch_" + way.kernels, "experts", "moegen_combine_" + way.kernels}
			later := []string{"moegen_dispatch_" + way.kernels, "experts", "moegen_combine_" + way.kernels}
			if early {
				want = slices.Concat([]string{"moegen_counts"}, later)
			}
			for range layers - 1 {
				want = append(want, later...)
			}
			outs, graphs := make([]moert.Tensor, 2), make([]driver.GraphExec, 2)
			for rank := range r.d {
				var nodes []driver.GraphNode
				nodes, graphs[rank], outs[rank] = captureStep(t, r, rank, layers, early)
				defer graphs[rank].Close()
				var names []string
				for _, n := range nodes {
					if n.Kind != "kernel" {
						t.Errorf("%s: rank %d: a %s node", way.kernels, rank, n.Kind)
					}
					names = append(names, n.Name)
				}
				if !slices.Equal(names, want) {
					t.Errorf("%s, early %v: rank %d: the step is\n%s, not\n%s", way.kernels, early, rank, strings.Join(names, "\n"), strings.Join(want, "\n"))
				}
			}
			doubled(t, r, graphs, outs, layers, 1, 0, 5, 16)
		}
	}
}

// captureStep captures a step of a rank whose count is in the first word of its
// routing.
func captureStep(t *testing.T, r *rig, rank, layers int, early bool) ([]driver.GraphNode, driver.GraphExec, moert.Tensor) {
	t.Helper()
	d, s, rows := r.d[rank], r.streams[rank], r.in[rank].rows()
	m, err := d.Device().LoadModule(driver.Image{Name: "experts", PTX: []byte(expertsPTX)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Unload(); err != nil {
			t.Error(err)
		}
	})
	experts, err := m.Function("experts")
	if err != nil {
		t.Fatal(err)
	}
	step := func() error {
		tokens := moert.DeviceTokens(rows.Routing.Ptr)
		if early {
			if err := d.BeginStep(s, tokens); err != nil {
				return err
			}
		} else if err := d.NextStep(tokens); err != nil {
			return err
		}
		for range layers {
			g, err := d.Dispatch(s, rows)
			if err != nil {
				return err
			}
			var params []byte
			for _, ptr := range []driver.DevicePtr{g.Step.Total, g.Hidden.Ptr, d.PartialBuffer().Ptr} {
				params = binary.LittleEndian.AppendUint64(params, uint64(ptr))
			}
			params = binary.LittleEndian.AppendUint32(params, uint32(d.Program().HiddenRowBytes()/8))
			block := driver.LaunchConfig{Grid: driver.Dim3{X: 1}, Block: driver.Dim3{X: 32}}
			if err := s.Launch(experts, block, params); err != nil {
				return err
			}
			out, err := d.Combine(s, moert.CombineArgs{Partial: d.PartialBuffer()})
			if err != nil {
				return err
			}
			rows.Hidden = out.Out
		}
		return nil
	}
	if err := s.BeginCapture(); err != nil {
		t.Fatal(err)
	}
	err = step()
	g, endErr := s.EndCapture()
	if err := errors.Join(err, endErr); err != nil {
		t.Fatal(err)
	}
	nodes, nodesErr := g.Nodes()
	exec, err := g.Instantiate()
	if err := errors.Join(nodesErr, err, g.Close()); err != nil {
		t.Fatal(err)
	}
	return nodes, exec, rows.Hidden
}

// doubled replays the graphs, some times: each of their layers doubles tokens,
// since both ranks yield them. Tokens are numbers from 1 to 2, different with seed.
func doubled(t *testing.T, r *rig, graphs []driver.GraphExec, outs []moert.Tensor, layers, replays, seed int, counts ...int) {
	t.Helper()
	hidden := make([][]byte, 2)
	for rank, d := range r.d {
		for i := range counts[rank] * d.Program().HiddenDim { // bf16
			hidden[rank] = binary.LittleEndian.AppendUint16(hidden[rank], 0x3f80+uint16((i+seed)%128))
		}
		count := binary.LittleEndian.AppendUint32(nil, uint32(counts[rank]))
		if err := errors.Join(d.Device().Write(r.in[rank].hidden.Ptr, hidden[rank]), d.Device().Write(r.in[rank].routing.Ptr, count)); err != nil {
			t.Fatal(err)
		}
	}
	for range replays {
		for rank := range r.d {
			if err := graphs[rank].Launch(r.streams[rank]); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.synchronize(t)
	for rank, d := range r.d {
		got := make([]byte, len(hidden[rank]))
		if err := d.Device().Read(got, outs[rank].Ptr); err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(got); i += 2 {
			// A doubling adds one to the exponent.
			have, want := binary.LittleEndian.Uint16(got[i:]), binary.LittleEndian.Uint16(hidden[rank][i:])+uint16(layers)<<7
			if have != want {
				t.Fatalf("rank %d: element %d is %#x, not %#x", rank, i/2, have, want)
			}
		}
	}
}
