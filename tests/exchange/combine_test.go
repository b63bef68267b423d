package exchange

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/moegen/moegen/cmd/moegen/gen"
	"github.com/moegen/moegen/cmd/moegen/layer"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/emu"
	"github.com/moegen/moegen/spec"
)

// fused asks for everything that combine can do.
const fused = "combine: {order: rank, epilogue: [add_shared, scale, residual, rmsnorm], scale: 2.5, rmsnorm: {weight: bf16}, output: fp8_e4m3_block128}\n"

// bf16s are n numbers as bf16 in memory.
func bf16s(rng *rand.Rand, n int) []byte {
	b := make([]byte, 0, 2*n)
	for range n {
		h := math.Float32bits(float32(rng.NormFloat64())) >> 16
		b = append(b, byte(h), byte(h>>8))
	}
	return b
}

// place is where a token is in a step, and how the step runs.
type place struct {
	transport moert.Transport
	counts    []int
	rank, row int
	own, pad  bool // partial sums of the caller's; layout padded
	graph     bool
	bulk      bool // protocol
}

// TestRankOrder: with order: rank a token's results are the same bits whatever
// its rank, its row, the other ranks' counts, the batch, the transport, the
// protocol, the layout, and whether the step is captured.
func TestRankOrder(t *testing.T) {
	for name, text := range map[string]string{
		"sum":   "hidden_dim: 4104\ndtype: bf16\ncombine: {order: rank}\n",
		"fused": "hidden_dim: 640\ndtype: bf16\n" + fused,
		"norm":  "hidden_dim: 4232\ndtype: bf16\ncombine: {order: rank, wire: fp32, epilogue: [residual, rmsnorm], rmsnorm: {weight: bf16}}\n",
		"fp8":   "hidden_dim: 384\ndtype: bf16\ncombine: {order: rank, output: fp8_e4m3_block128}\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text += "topk: 2\nnum_experts: 8\nep_size: 3\nmax_tokens: 9\nsm_limit: 3\n"
			programs := map[bool]*moert.Program{false: program(t, text), true: program(t, text+"layout: padded\n")}
			plan := func(p *moert.Program, protocol gen.Protocol) *moert.Program {
				s, err := spec.Parse("moe.yaml", []byte(text))
				check(t, err)
				q := *p
				layer.SetProtocol(&q, s, protocol)
				return &q
			}
			var want []byte
			for i, p := range []place{
				{transport: moert.P2P, counts: []int{1, 0, 0}, bulk: true},
				{transport: moert.P2P, counts: []int{4, 9, 2}, rank: 1, row: 7},
				{transport: moert.P2P, counts: []int{9, 1, 9}, rank: 2, row: 8, own: true, graph: true, bulk: true},
				{transport: moert.P2P, counts: []int{9, 3, 0}, rank: 1, row: 2, own: true, pad: true},
				{transport: moert.P2P, counts: []int{2, 7, 6}, rank: 1, row: 6, own: true, graph: true},
				{transport: moert.NVLS, counts: []int{0, 0, 1}, rank: 2, bulk: true},
				{transport: moert.NVLS, counts: []int{9, 9, 9}, rank: 0, row: 5, own: true},
				{transport: moert.NVLS, counts: []int{3, 6, 1}, rank: 1, row: 1, graph: true, pad: true, bulk: true},
				{transport: moert.NCCL, counts: []int{2, 5, 0}, rank: 0, row: 1},
				{transport: moert.NCCL, counts: []int{9, 8, 7}, rank: 2, row: 6, own: true, graph: true},
			} {
				protocol := gen.Auto
				if p.bulk {
					protocol = gen.Bulk
				}
				got := resultAt(t, plan(programs[p.pad], protocol), p)
				if i == 0 {
					want = got
				} else if !bytes.Equal(got, want) {
					t.Errorf("%+v: other bits than alone on rank 0", p)
				}
			}
		})
	}
}

// resultAt runs a step in which the same token is somewhere among others, and
// returns the bytes of its results.
func resultAt(t *testing.T, p *moert.Program, at place) []byte {
	t.Helper()
	r := newRig(t, machine(t, emu.Config{Devices: p.Ranks}), p, moert.WithTransport(at.transport))
	defer r.close(t)
	token := rand.New(rand.NewPCG(1, 2))
	others := rand.New(rand.NewPCG(uint64(at.row), uint64(at.counts[0])))
	wire := func(rng *rand.Rand) []byte {
		b := bf16s(rng, p.HiddenDim)
		if p.Wire == moert.FP32 { // the upper halves
			wide := make([]byte, 0, 2*len(b))
			for pair := range slices.Chunk(b, 2) {
				wide = append(wide, 0, byte(rng.Uint32()), pair[0], pair[1])
			}
			return wide
		}
		return b
	}
	first, n := 0, 0
	for rank, count := range at.counts {
		if p.Padded {
			n = (rank + 1) * p.MaxTokens
		} else {
			n += count
		}
		if rank < at.rank {
			first = n
		}
	}
	args := make([]moert.CombineArgs, p.Ranks)
	for rank, d := range r.d {
		rows := make([]byte, 0, n*p.WireRowBytes())
		for row := range n {
			if row == first+at.row {
				rows = append(rows, wire(token)...)
			} else {
				rows = append(rows, wire(others)...)
			}
		}
		args[rank].Partial = d.PartialBuffer()
		if at.own {
			args[rank].Partial = tensor(t, d, p.Ranks*p.MaxTokens, p.WireRowBytes(), nil)
		}
		write(t, d, args[rank].Partial, rows)
	}
	shared, residual, weight := bf16s(token, p.HiddenDim), bf16s(token, p.HiddenDim), bf16s(token, p.HiddenDim)
	fill := func(d *moert.Dispatcher, mine bool, row []byte) moert.Tensor {
		rows := bf16s(others, p.MaxTokens*p.HiddenDim)
		if mine {
			copy(rows[at.row*len(row):], row)
		}
		return tensor(t, d, p.MaxTokens, p.HiddenRowBytes(), rows)
	}
	for rank, d := range r.d {
		mine := rank == at.rank
		if p.Epilogue.Shared {
			args[rank].Shared = fill(d, mine, shared)
		}
		if p.Epilogue.Residual {
			args[rank].Residual = fill(d, mine, residual)
		}
		if p.Epilogue.Norm != "" {
			args[rank].Weight = tensor(t, d, 1, p.HiddenRowBytes(), weight)
		}
	}
	combined := r.combine(t, at.counts, args, at.graph)[at.rank]
	var got []byte
	read := func(out moert.Tensor, rowBytes int) {
		if rowBytes > 0 {
			b := make([]byte, rowBytes)
			check(t, r.d[at.rank].Device().Read(b, out.Ptr+driver.DevicePtr(at.row*rowBytes)))
			got = append(got, b...)
		}
	}
	read(combined.Out, p.OutputRowBytes())
	read(combined.Scales, p.OutputScaleRowBytes())
	if p.Epilogue.Sum {
		read(combined.Sum, p.HiddenRowBytes())
	}
	return got
}

// combine runs a step whose partial sums are in place already.
func (r *rig) combine(t *testing.T, counts []int, args []moert.CombineArgs, graph bool) []moert.Combined {
	t.Helper()
	combined := make([]moert.Combined, len(r.d))
	for rank, d := range r.d {
		s := r.streams[rank]
		if graph {
			check(t, s.BeginCapture())
		}
		check(t, d.NextStep(moert.HostTokens(counts[rank])))
		_, err := d.Dispatch(s, r.in[rank].rows())
		check(t, err)
		combined[rank], err = d.Combine(s, args[rank])
		check(t, err)
		if graph {
			g, err := s.EndCapture()
			check(t, err)
			exec, err := g.Instantiate()
			check(t, err)
			check(t, exec.Launch(s))
			t.Cleanup(func() { check(t, errors.Join(exec.Close(), g.Close())) })
		}
	}
	for rank, d := range r.d {
		check(t, d.Synchronize(r.streams[rank]))
	}
	return combined
}

func tensor(t *testing.T, d *moert.Dispatcher, rows, rowBytes int, content []byte) moert.Tensor {
	t.Helper()
	x, err := d.NewTensor(rows, rowBytes)
	check(t, err)
	if content != nil {
		write(t, d, x, content)
	}
	return x
}

func write(t *testing.T, d *moert.Dispatcher, to moert.Tensor, content []byte) {
	t.Helper()
	check(t, d.Device().Write(to.Ptr, content))
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestInPlace: outputs that are the very tensors that the epilogue reads get the
// same bits as others. Rows of one and of several steps of a block are tried.
func TestInPlace(t *testing.T) {
	for name, text := range map[string]string{
		"rows":      "hidden_dim: 4104\ndtype: bf16\ncombine: {epilogue: [add_shared, residual, rmsnorm], rmsnorm: {weight: bf16}}\n",
		"long rows": "hidden_dim: 12296\ndtype: bf16\ncombine: {epilogue: [add_shared, residual, rmsnorm], rmsnorm: {weight: bf16}}\n",
		"elements":  "hidden_dim: 4104\ndtype: bf16\ncombine: {epilogue: [add_shared, residual], output: fp16}\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text += "topk: 2\nnum_experts: 8\nep_size: 2\nmax_tokens: 9\nsm_limit: 2\n"
			p := program(t, text)
			sp, err := spec.Parse("moe.yaml", []byte(text))
			check(t, err)
			var results [][]byte
			for _, way := range []struct {
				inPlace  bool
				protocol gen.Protocol
			}{{false, gen.Bulk}, {true, gen.Bulk}, {true, gen.LL}} {
				inPlace := way.inPlace
				layer.SetProtocol(p, sp, way.protocol)
				r := newRig(t, machine(t, emu.Config{Devices: p.Ranks}), p, moert.WithTransport(moert.P2P))
				counts := []int{9, 4}
				rng := rand.New(rand.NewPCG(3, 4))
				args := make([]moert.CombineArgs, p.Ranks)
				for rank, d := range r.d {
					write(t, d, d.PartialBuffer(), bf16s(rng, 13*p.HiddenDim))
					a := &args[rank]
					a.Partial = d.PartialBuffer()
					a.Shared = tensor(t, d, 9, p.HiddenRowBytes(), bf16s(rng, 9*p.HiddenDim))
					a.Residual = tensor(t, d, 9, p.HiddenRowBytes(), bf16s(rng, 9*p.HiddenDim))
					if p.Epilogue.Norm != "" {
						a.Weight = tensor(t, d, 1, p.HiddenRowBytes(), bf16s(rng, p.HiddenDim))
					}
					if inPlace {
						a.Out, a.Sum = a.Shared, a.Residual
					}
				}
				var got []byte
				for rank, c := range r.combine(t, counts, args, false) {
					if inPlace && (c.Out != args[rank].Shared || c.Sum != args[rank].Residual) {
						t.Errorf("rank %d: results are elsewhere: %+v", rank, c)
					}
					for _, x := range []moert.Tensor{c.Out, c.Sum} {
						b := make([]byte, counts[rank]*p.HiddenRowBytes())
						check(t, r.d[rank].Device().Read(b, x.Ptr))
						got = append(got, b...)
					}
				}
				results = append(results, got)
			}
			if !bytes.Equal(results[0], results[1]) || !bytes.Equal(results[0], results[2]) {
				t.Error("in place the results are other bits")
			}
		})
	}
}

// TestOneKernelEach: a captured step has one kernel for dispatch and one for
// combine, whatever the epilogue, and copies nothing.
func TestOneKernelEach(t *testing.T) {
	for name, text := range map[string]string{"plain": "", "fused": fused} {
		whole := "hidden_dim: 128\ndtype: bf16\ntopk: 2\nnum_experts: 8\nep_size: 2\nmax_tokens: 9\nsm_limit: 2\n" + text
		p := program(t, whole)
		sp, err := spec.Parse("moe.yaml", []byte(whole))
		check(t, err)
		for _, way := range []struct {
			transport moert.Transport
			protocol  gen.Protocol
			kernels   string
		}{{moert.NVLS, gen.Bulk, "nvls"}, {moert.P2P, gen.Bulk, "p2p"}, {moert.P2P, gen.LL, "ll"}} {
			t.Run(fmt.Sprintf("%s %s %s", name, way.transport, way.protocol), func(t *testing.T) {
				p := *p
				layer.SetProtocol(&p, sp, way.protocol)
				r := newRig(t, machine(t, emu.Config{Devices: 2}), &p, moert.WithTransport(way.transport))
				for rank, d := range r.d {
					s := r.streams[rank]
					args := moert.CombineArgs{Partial: d.PartialBuffer()}
					if text != "" {
						args.Shared, args.Residual = tensor(t, d, 9, 256, nil), tensor(t, d, 9, 256, nil)
						args.Weight = tensor(t, d, 1, 256, nil)
					}
					check(t, s.BeginCapture())
					check(t, d.NextStep(moert.HostTokens(3)))
					for range 2 {
						g, err := d.Dispatch(s, r.in[rank].rows())
						check(t, err)
						if g.Hidden.Ptr != d.Gathered().Hidden.Ptr {
							t.Error("what was gathered is not where kernels write it")
						}
						_, err = d.Combine(s, args)
						check(t, err)
					}
					g, err := s.EndCapture()
					check(t, err)
					nodes, err := g.Nodes()
					check(t, err)
					var got []string
					for _, n := range nodes {
						got = append(got, n.Kind+" "+n.Name)
					}
					want := []string{"kernel moegen_first_dispatch_", "kernel moegen_combine_", "kernel moegen_dispatch_", "kernel moegen_combine_"}
					for i := range want {
						want[i] += way.kernels
					}
					if !slices.Equal(got, want) {
						t.Errorf("rank %d: %q, want %q", rank, got, want)
					}
					check(t, g.Close())
				}
			})
		}
	}
}
