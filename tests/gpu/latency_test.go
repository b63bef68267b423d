package gpu

import (
	"context"
	"fmt"
	"strings"
	"testing"

	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/spec"
)

// latencyResult is latency.json. Times are microseconds.
type latencyResult struct {
	Device  string `json:"device"`
	Driver  string `json:"driver"`
	Shape   string `json:"shape"`
	Kernels string `json:"kernels"`
	Floor   floor  `json:"floor"`
	Rows    []*row `json:"rows"`
	Sweep   []best `json:"sweep"`
	Limits  string `json:"limits"`
}

// row is one token count a rank.
type row struct {
	Tokens   int     `json:"tokens"`
	Blocks   int     `json:"blocks"`
	Bound    float64 `json:"dispatch_bound"` // an empty node, a flag, and the bytes at the peer copy's speed
	Dispatch float64 `json:"dispatch"`       // dispatch after dispatch in a graph
	Combine  float64 `json:"combine"`        // combine after combine in a graph
	Pair     float64 `json:"pair"`           // dispatch and combine in turn in a graph, as layers have them
	Eager    float64 `json:"eager_pair"`     // the same without a graph
	Counts   float64 `json:"begin_step"`

	ThreeAllGathers   float64 `json:"nccl_3_all_gathers"`
	GroupedAllGathers float64 `json:"nccl_3_all_gathers_grouped"`
	ReduceBF16        float64 `json:"nccl_reduce_scatter_bf16"`
	ReduceFP32        float64 `json:"nccl_reduce_scatter_fp32"`
}

// dispatchLimits are microseconds that a dispatch of that many tokens may take
// on two H200.
var dispatchLimits = map[int]float64{1: 3.6, 64: 7, 1024: 50}

// TestLatency measures operations of deepseek-v3 on two ranks against what the
// link can do and against NCCL, all in one run.
func TestLatency(t *testing.T) {
	m := gpus(t, 2)
	s := specs(t, func(s *spec.Spec) {
		s.SMLimit, s.MaxTokens = 132, pick(m, 1024, 16)
	})["deepseek-v3"]
	r := open(t, m, program(t, s), moert.WithTransport(moert.P2P))
	x := &timer{rig: r, replays: pick(m, 9, 3)}
	result := &latencyResult{
		Device: m.ranks()[0].Info().Name, Driver: m.Version(), Kernels: r.d[0].Image(),
		Shape:  fmt.Sprintf("hidden %d %s, top %d, routing %s, probs %s, 2 ranks", s.HiddenDim, s.DType, s.TopK, s.RoutingDType, s.ProbsDType),
		Limits: fmt.Sprint(dispatchLimits),
	}
	// What there is is kept whatever happens later.
	defer func() { writeResult(t, "latency.json", result) }()
	result.Floor = measureFloor(t, x)
	baseline := newBaseline(t, x)
	for _, tokens := range pick(m, []int{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024}, []int{1, 2, 8}) {
		row := &row{Tokens: tokens}
		result.Rows = append(result.Rows, row)
		measureRow(t, x, row)
		row.Bound = result.Floor.bound(tokens * (s.HiddenRowBytes() + s.RoutingRowBytes() + s.ProbsRowBytes()))
		baseline.measure(t, row)
		if limit, ok := dispatchLimits[tokens]; ok && m.real && !m.oneGPU && row.Dispatch > limit {
			t.Errorf("dispatch of %d tokens takes %.2f us, more than %v", tokens, row.Dispatch, limit)
		}
	}
	for _, tokens := range pick(m, []int{1, 8, 64, 256, 1024}, []int{1, 8}) {
		result.Sweep = append(result.Sweep, sweep(t, x, tokens, pick(m, []int{2, 4, 8, 16, 32, 64, 128}, []int{2, 4})))
	}
	t.Log("\n" + result.table())
}

// stepLaunches runs a step of so many tokens on both ranks and returns each
// rank's launches of BeginStep, Dispatch and Combine.
//
// Repeating one of them is legal on its own. Dispatches after each other, with
// nobody reading, store the same rows again; combines after each other, with
// no experts between, read the same sums; flags are epochs that only grow.
func (r *rig) stepLaunches(t *testing.T, tokens int) [2][]launch {
	t.Helper()
	var all [2][]launch
	err := r.each(func(_ context.Context, rank int) error {
		if err := r.d[rank].SetCapacity(tokens); err != nil {
			return err
		}
		r.streams[rank].forget()
		if err := r.step(rank, tokens); err != nil {
			return err
		}
		all[rank] = r.streams[rank].launches
		return r.d[rank].Synchronize(r.streams[rank])
	})
	if err != nil {
		t.Fatal(err)
	}
	for rank, l := range all {
		if len(l) != 3 {
			t.Fatalf("rank %d: a step is %d launches, not BeginStep, Dispatch and Combine", rank, len(l))
		}
	}
	return all
}

func measureRow(t *testing.T, x *timer, row *row) {
	t.Helper()
	all := x.stepLaunches(t, row.Tokens)
	row.Blocks = all[0][1].config.Grid.X
	nodes := pick(x.machine, 64, 4)
	graph := func(ops int, pickLaunches func(l []launch) []launch) float64 {
		t.Helper()
		us, err := x.graphs(ops, func(rank int, s driver.Stream) error { return repeat(ops, pickLaunches(all[rank])...)(s) })
		if err != nil {
			t.Fatalf("%d tokens: %v", row.Tokens, err)
		}
		return us
	}
	row.Counts = graph(nodes, func(l []launch) []launch { return l[:1] })
	row.Dispatch = graph(nodes, func(l []launch) []launch { return l[1:2] })
	row.Combine = graph(nodes, func(l []launch) []launch { return l[2:] })
	row.Pair = graph(nodes/2, func(l []launch) []launch { return l[1:] })
	pairs := pick(x.machine, 200, 4)
	var err error
	row.Eager, err = x.runs(pairs, func(rank int, s driver.Stream) error { return repeat(pairs, all[rank][1:]...)(s) })
	if err != nil {
		t.Fatal(err)
	}
}

// best is the grid that suits a token count.
type best struct {
	Tokens   int             `json:"tokens"`
	Dispatch map[int]float64 `json:"dispatch_by_blocks"`
	Combine  map[int]float64 `json:"combine_by_blocks"`
	// The fewest blocks that are within 2 % of the fastest.
	DispatchBlocks int `json:"dispatch_best_blocks"`
	CombineBlocks  int `json:"combine_best_blocks"`
}

// sweep measures other grids than the planned one. A launch's blocks need not
// be those of the launch before, if they are the same on all ranks.
func sweep(t *testing.T, x *timer, tokens int, blocks []int) best {
	t.Helper()
	all := x.stepLaunches(t, tokens)
	b := best{Tokens: tokens, Dispatch: map[int]float64{}, Combine: map[int]float64{}}
	nodes := pick(x.machine, 64, 4)
	for i, times := range map[int]map[int]float64{1: b.Dispatch, 2: b.Combine} {
		for _, n := range blocks {
			us, err := x.graphs(nodes, func(rank int, s driver.Stream) error { return repeat(nodes, all[rank][i].with(n))(s) })
			if err != nil {
				t.Fatalf("%d tokens, %d blocks: %v", tokens, n, err)
			}
			times[n] = us
		}
	}
	b.DispatchBlocks, b.CombineBlocks = fewest(blocks, b.Dispatch), fewest(blocks, b.Combine)
	return b
}

func fewest(blocks []int, times map[int]float64) int {
	fastest := times[blocks[0]]
	for _, us := range times {
		fastest = min(fastest, us)
	}
	for _, n := range blocks {
		if times[n] <= 1.02*fastest {
			return n
		}
	}
	return 0
}

func (r *latencyResult) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s, %s\nfloor: empty node %.2f us, one-way flag %.2f us, peer copy %.0f GB/s\n",
		r.Device, r.Driver, r.Shape, r.Floor.EmptyNode, r.Floor.OneWayFlag, r.Floor.PeerCopyGBs)
	fmt.Fprintf(&b, "%6s %6s | %8s %8s %8s %8s %8s %8s | %8s %8s %8s %8s  (us)\n", "tokens", "blocks",
		"bound", "dispatch", "combine", "pair", "eager", "counts", "3 AG", "3 AG grp", "RS bf16", "RS fp32")
	for _, x := range r.Rows {
		fmt.Fprintf(&b, "%6d %6d | %8.2f %8.2f %8.2f %8.2f %8.2f %8.2f | %8.2f %8.2f %8.2f %8.2f\n", x.Tokens, x.Blocks,
			x.Bound, x.Dispatch, x.Combine, x.Pair, x.Eager, x.Counts, x.ThreeAllGathers, x.GroupedAllGathers, x.ReduceBF16, x.ReduceFP32)
	}
	for _, x := range r.Sweep {
		fmt.Fprintf(&b, "blocks at %d tokens: best dispatch %d of %v, best combine %d of %v\n",
			x.Tokens, x.DispatchBlocks, rounded(x.Dispatch), x.CombineBlocks, rounded(x.Combine))
	}
	return b.String()
}

func rounded(times map[int]float64) map[int]string {
	out := map[int]string{}
	for n, us := range times {
		out[n] = fmt.Sprintf("%.2f", us)
	}
	return out
}
