package exchange

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/moegen/moegen/cmd/moegen/gen"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/emu"
	"github.com/moegen/moegen/spec"
)

const (
	bitRanks  = 3
	bitTokens = 48 // to choose from
	bitHidden = 32 // fp32
	bitTopK   = 3
)

// bitsText asks for sums in rank order from every transport.
const bitsText = "hidden_dim: 32\ntopk: 3\ndtype: fp32\nep_size: 3\nmax_tokens: 5\nmax_prefill_tokens: 16\nnum_experts: 12\nsm_limit: 3\ncombine: {order: rank}\n"

// bits exchanges tokens of a fixed set, whose experts are the host: rank r's
// partial sum of token i is always the same, whoever brings the token.
type bits struct {
	*rig
	p                      *moert.Program
	routing, probs, hidden [][]byte   // by token
	partial                [][][]byte // by rank and token
	counts                 []moert.Tensor
	dispatch, combine      []driver.GraphExec // by rank: a layer with the experts between them
	graphedOut             []moert.Tensor
}

func newBits(t *testing.T, p *moert.Program, capacity int, opts ...moert.Option) *bits {
	t.Helper()
	b := &bits{rig: newRig(t, machine(t, emu.Config{Devices: bitRanks}), p, opts...), p: p, partial: make([][][]byte, bitRanks)}
	rng := rand.New(rand.NewPCG(3, 4))
	some := func(n int) []byte {
		row := make([]byte, n)
		for i := range row {
			row[i] = byte(rng.Uint32())
		}
		return row
	}
	// Magnitudes far apart, so that a sum in another order has other bits.
	numbers := func() []byte {
		var row []byte
		for range bitHidden {
			row = binary.LittleEndian.AppendUint32(row, math.Float32bits(float32(rng.NormFloat64()*math.Exp2(float64(rng.IntN(20))))))
		}
		return row
	}
	for range bitTokens {
		b.routing, b.probs, b.hidden = append(b.routing, some(p.RoutingRowBytes())), append(b.probs, some(p.ProbsRowBytes())), append(b.hidden, numbers())
		for r := range b.partial {
			b.partial[r] = append(b.partial[r], numbers())
		}
	}
	for rank, d := range b.d {
		if err := d.SetCapacity(capacity); err != nil {
			t.Fatal(err)
		}
		for _, x := range []struct {
			t     *moert.Tensor
			bytes int
		}{{&b.in[rank].routing, p.RoutingRowBytes()}, {&b.in[rank].probs, p.ProbsRowBytes()}, {&b.in[rank].hidden, p.HiddenRowBytes()}} {
			var err error
			if *x.t, err = d.NewTensor(p.MaxPrefill(), x.bytes); err != nil {
				t.Fatal(err)
			}
		}
		count, err := d.NewTensor(1, 4)
		if err != nil {
			t.Fatal(err)
		}
		b.counts = append(b.counts, count)
		b.capture(t, rank)
	}
	t.Cleanup(func() {
		for _, g := range append(b.dispatch, b.combine...) {
			if err := g.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return b
}

// capture makes the two graphs of a rank's layer.
func (b *bits) capture(t *testing.T, rank int) {
	t.Helper()
	d, s := b.d[rank], b.streams[rank]
	graph := func(f func() error) driver.GraphExec {
		t.Helper()
		if err := s.BeginCapture(); err != nil {
			t.Fatal(err)
		}
		err := f()
		g, endErr := s.EndCapture()
		if err := errors.Join(err, endErr); err != nil {
			t.Fatal(err)
		}
		exec, err := g.Instantiate()
		if err := errors.Join(err, g.Close()); err != nil {
			t.Fatal(err)
		}
		return exec
	}
	b.dispatch = append(b.dispatch, graph(func() error {
		if err := d.NextStep(moert.DeviceTokens(b.counts[rank].Ptr)); err != nil {
			return err
		}
		_, err := d.Dispatch(s, b.in[rank].rows())
		return err
	}))
	b.combine = append(b.combine, graph(func() error {
		out, err := d.Combine(s, moert.CombineArgs{Partial: d.PartialBuffer()})
		b.graphedOut = append(b.graphedOut, out.Out)
		return err
	}))
}

// step exchanges tokens, a list for each rank, and returns every token's
// output. What is gathered is compared with what was brought.
func (b *bits) step(t *testing.T, prefill bool, tokens [][]int) map[int][]byte {
	t.Helper()
	counts := make([]int, bitRanks)
	for rank, list := range tokens {
		counts[rank] = len(list)
		in := b.in[rank]
		for row, token := range list {
			b.write(t, rank, in.routing.Ptr, row, b.routing[token])
			b.write(t, rank, in.probs.Ptr, row, b.probs[token])
			b.write(t, rank, in.hidden.Ptr, row, b.hidden[token])
		}
		b.write(t, rank, b.counts[rank].Ptr, 0, binary.LittleEndian.AppendUint32(nil, uint32(len(list))))
	}
	exchanges := 1
	b.setGraphed(t, !prefill)
	if prefill {
		exchanges = b.begun(t, counts...)
	}
	outs := b.graphedOut
	for e := range exchanges {
		if prefill {
			b.dispatchAll(t)
		} else {
			b.launch(t, b.dispatch)
		}
		b.synchronize(t)
		for rank := range b.d {
			b.experts(t, rank, e, tokens)
		}
		if prefill {
			outs = b.combined(t)
		} else {
			b.launch(t, b.combine)
		}
	}
	b.synchronize(t)
	results := map[int][]byte{}
	for rank, list := range tokens {
		for row, token := range list {
			results[token] = b.read(t, rank, outs[rank].Ptr, row, b.p.HiddenRowBytes())
		}
	}
	return results
}

func (b *bits) launch(t *testing.T, graphs []driver.GraphExec) {
	t.Helper()
	for rank, g := range graphs {
		if err := g.Launch(b.streams[rank]); err != nil {
			t.Fatal(err)
		}
	}
}

func (b *bits) combined(t *testing.T) []moert.Tensor {
	t.Helper()
	outs := make([]moert.Tensor, bitRanks)
	for rank, d := range b.d {
		out, err := d.Combine(b.streams[rank], moert.CombineArgs{Partial: d.PartialBuffer()})
		if err != nil {
			t.Fatal(err)
		}
		outs[rank] = out.Out
	}
	return outs
}

// experts looks at what a rank gathered in an exchange, and writes partial sums.
func (b *bits) experts(t *testing.T, rank, exchange int, tokens [][]int) {
	t.Helper()
	d := b.d[rank]
	g, at := d.Gathered(), 0
	for from, list := range tokens {
		first, end := min(exchange*b.p.MaxTokens, len(list)), min((exchange+1)*b.p.MaxTokens, len(list))
		for _, token := range list[first:end] {
			for _, x := range []struct {
				name string
				ptr  driver.DevicePtr
				want []byte
			}{{"routing", g.Routing.Ptr, b.routing[token]}, {"probs", g.Probs.Ptr, b.probs[token]}, {"hidden", g.Hidden.Ptr, b.hidden[token]}} {
				if got := b.read(t, rank, x.ptr, at, len(x.want)); !bytes.Equal(got, x.want) {
					t.Errorf("rank %d, exchange %d: gathered %s of row %d, rank %d's token %d: % x, not % x", rank, exchange, x.name, at, from, token, got, x.want)
				}
			}
			b.write(t, rank, d.PartialBuffer().Ptr, at, b.partial[rank][token])
			at++
		}
	}
	if total := b.read(t, rank, g.Step.Total, 0, 4); binary.LittleEndian.Uint32(total) != uint32(at) {
		t.Errorf("rank %d, exchange %d: total % x, not %d", rank, exchange, total, at)
	}
}

func (b *bits) write(t *testing.T, rank int, p driver.DevicePtr, row int, data []byte) {
	t.Helper()
	if err := b.d[rank].Device().Write(p+driver.DevicePtr(row*len(data)), data); err != nil {
		t.Fatal(err)
	}
}

func (b *bits) read(t *testing.T, rank int, p driver.DevicePtr, row, size int) []byte {
	t.Helper()
	data := make([]byte, size)
	if err := b.d[rank].Device().Read(data, p+driver.DevicePtr(row*size)); err != nil {
		t.Fatal(err)
	}
	return data
}

// sum adds a token's partial sums up in the order of ranks.
func (b *bits) sum(token int, ranks ...int) []byte {
	var row []byte
	for i := range bitHidden {
		var sum float32
		for n, rank := range ranks {
			x := math.Float32frombits(binary.LittleEndian.Uint32(b.partial[rank][token][4*i:]))
			if sum += x; n == 0 {
				sum = x
			}
		}
		row = binary.LittleEndian.AppendUint32(row, math.Float32bits(sum))
	}
	return row
}

// TestSameBits: a token is gathered, and summed in rank order, to the same bits
// in graph replays and in prefills, whatever its exchange, its row, the other
// ranks' counts, the protocol and the transport.
func TestSameBits(t *testing.T) {
	for _, way := range []struct {
		name      string
		transport moert.Transport
		low       bool // in graphs: protocol ll
	}{{"p2p", moert.P2P, false}, {"p2p ll", moert.P2P, true}, {"nvls", moert.NVLS, false}, {"nvls ll", moert.NVLS, true}, {"nccl", moert.NCCL, false}} {
		for _, text := range []string{bitsText, bitsText[:len(bitsText)-len("combine: {order: rank}\n")]} {
			ordered := text == bitsText
			t.Run(way.name+map[bool]string{true: " rank order", false: " any order"}[ordered], func(t *testing.T) {
				s, err := spec.Parse("moe.yaml", []byte(text))
				if err != nil {
					t.Fatal(err)
				}
				p, capacity := program(t, text), 5
				plan := gen.Plan(s, gen.Bulk)
				if way.low {
					capacity = 4
					low := gen.Plan(s, gen.LL)[0]
					low.Tokens = capacity
					plan = []gen.PlanRow{low, plan[len(plan)-1]}
				}
				p.Plan = nil
				for _, row := range plan {
					p.Plan = append(p.Plan, moert.PlanRow(row))
				}
				b := newBits(t, p, capacity, moert.WithTransport(way.transport))
				testSameBits(t, b, ordered || way.transport != moert.NVLS)
			})
		}
	}
}

// testSameBits takes tokens at random. ordered: sums are in rank order.
func testSameBits(t *testing.T, b *bits, ordered bool) {
	rng := rand.New(rand.NewPCG(1, 2))
	seen, otherwise := map[int][2]bool{}, false
	for i, step := range []struct {
		prefill bool
		counts  [bitRanks]int
	}{
		{false, [bitRanks]int{3, 0, 4}},
		{true, [bitRanks]int{13, 0, 7}},  // uneven, and none
		{true, [bitRanks]int{10, 5, 15}}, // whole numbers of exchanges
		{false, [bitRanks]int{4, 4, 4}},
		{true, [bitRanks]int{0, 0, 16}}, // one rank alone
		{true, [bitRanks]int{16, 16, 16}},
		{false, [bitRanks]int{0, 1, 0}},
		{false, [bitRanks]int{2, 3, 4}},
		{true, [bitRanks]int{1, 2, 3}}, // no more than a graph could take
		{true, [bitRanks]int{0, 0, 0}},
		{false, [bitRanks]int{4, 0, 1}},
		{false, [bitRanks]int{1, 4, 4}},
		{true, [bitRanks]int{16, 16, 16}},
	} {
		perm, tokens := rng.Perm(bitTokens), make([][]int, bitRanks)
		for r, n := range step.counts {
			tokens[r], perm = perm[:n], perm[n:]
		}
		for token, got := range b.step(t, step.prefill, tokens) {
			want := b.sum(token, 0, 1, 2)
			if ordered && !bytes.Equal(got, want) {
				t.Errorf("step %d: token %d: the sum is % x, not % x", i, token, got, want)
			}
			otherwise = otherwise || !bytes.Equal(want, b.sum(token, 2, 1, 0))
			both := seen[token]
			both[map[bool]int{true: 1}[step.prefill]] = true
			seen[token] = both
		}
		if t.Failed() {
			return
		}
	}
	if !otherwise {
		t.Error("no sum depends on its order: the test shows nothing")
	}
	twice := 0
	for _, both := range seen {
		if both == [2]bool{true, true} {
			twice++
		}
	}
	if twice < bitTokens/3 {
		t.Errorf("only %d tokens were in graphs and in prefills", twice)
	}
}
