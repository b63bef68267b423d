package bench

import (
	"fmt"

	moert "github.com/moegen/moegen/runtime"
)

// Result is what a run of the benchmark found, and its JSON form.
type Result struct {
	Model     string          `json:"model"`
	Shape     string          `json:"shape"`
	Ranks     int             `json:"ranks"`
	Machine   string          `json:"machine"`
	Emulated  bool            `json:"emulated,omitempty"` // times mean nothing
	Shared    bool            `json:"shared,omitempty"`   // ranks shared a GPU: times say nothing about a link
	Transport moert.Transport `json:"transport"`
	Kernels   string          `json:"kernels"`              // where they came from
	NCCL      string          `json:"nccl,omitempty"`       // its version
	NoNCCL    string          `json:"no_nccl,omitempty"`    // why it was not measured
	NoWindows string          `json:"no_windows,omitempty"` // why NCCL was measured without symmetric windows
	Layers    int             `json:"layers"`               // of a step
	Floor     Floor           `json:"floor"`
	Rows      []*Row          `json:"rows"`
	Skew      []Skew          `json:"skew,omitempty"` // with 8 tokens a rank
}

// Row is one token count, the same on all ranks.
type Row struct {
	Tokens   int    `json:"tokens"`
	Protocol string `json:"protocol,omitempty"`
	Blocks   int    `json:"blocks,omitempty"`
	Threads  int    `json:"threads,omitempty"`

	DispatchBytes int     `json:"dispatch_bytes"` // that each rank sends
	CombineBytes  int     `json:"combine_bytes"`
	DispatchBound float64 `json:"dispatch_bound_us"` // see Floor.Bound
	CombineBound  float64 `json:"combine_bound_us"`

	// Stores is a kernel that stores DispatchBytes to the other ranks and does nothing
	// else, one after the other in a graph, on all ranks at once.
	Stores   *Time `json:"stores,omitempty"`
	Counts   *Time `json:"begin_step,omitempty"` // counts in a launch of their own
	Dispatch *Time `json:"dispatch,omitempty"`   // dispatch after dispatch in a graph
	Combine  *Time `json:"combine,omitempty"`    // combine after combine in a graph
	Pair     Time  `json:"pair"`                 // dispatch and combine in turn in a graph
	Eager    Time  `json:"eager_pair"`           // the same without a graph, counts included
	Step     Time  `json:"step"`                 // all layers with experts in one graph, counts included
	Experts  Time  `json:"step_experts"`         // the same experts alone

	NCCL  *NCCLRow `json:"nccl,omitempty"`
	Fewer []Fewer  `json:"fewer,omitempty"`
}

// NCCLRow is NCCL's times for the same exchange.
type NCCLRow struct {
	ThreeAllGathers     *Time `json:"three_all_gathers"`
	Grouped             *Time `json:"grouped_all_gathers"`
	SymmetricGrouped    *Time `json:"grouped_all_gathers_symmetric,omitempty"`
	ReduceBF16          *Time `json:"reduce_scatter_bf16"`
	ReduceFP32          *Time `json:"reduce_scatter_fp32"`
	SymmetricReduceBF16 *Time `json:"reduce_scatter_bf16_symmetric,omitempty"`
	SymmetricReduceFP32 *Time `json:"reduce_scatter_fp32_symmetric,omitempty"`
}

// Fewer is a replay, with fewer tokens, of a graph captured for the row's.
type Fewer struct {
	Tokens int  `json:"tokens"`
	Pair   Time `json:"pair"`
	// Ratio is to the pair of a graph captured for that many, 0 if there is none.
	Ratio float64 `json:"ratio,omitempty"`
}

// Skew is what a late rank costs the others, in microseconds an exchange.
type Skew struct {
	Late   float64 `json:"late_us"`   // how much later rank 0 begins
	Others float64 `json:"others_us"` // how much longer the others take
}

// Communication is what a layer's exchange takes in a whole step: the step's
// time without its experts, by layers, in microseconds.
func (r *Row) Communication(layers int) float64 {
	return (r.Step.Median - r.Experts.Median) / float64(layers)
}

// BestGather and BestReduce are NCCL's fastest ways, 0 if it was not measured.
func (n *NCCLRow) BestGather() float64 {
	if n == nil {
		return 0
	}
	return best(n.ThreeAllGathers, n.Grouped, n.SymmetricGrouped)
}

// BestReduce is of bf16, or of whatever type has two bytes.
func (n *NCCLRow) BestReduce() float64 {
	if n == nil {
		return 0
	}
	return best(n.ReduceBF16, n.SymmetricReduceBF16)
}

func best(times ...*Time) float64 {
	least := 0.0
	for _, t := range times {
		if t != nil && (least == 0 || t.Median < least) {
			least = t.Median
		}
	}
	return least
}

func (b *bench) newResult() *Result {
	p, d := b.Program, b.members[0].Dispatcher
	info := d.Device().Info()
	return &Result{
		Model: p.Name, Ranks: p.Ranks, Layers: b.Layers, Shared: b.Share, Emulated: b.effort.emulated,
		Shape: fmt.Sprintf("hidden %d %s, top %d, routing %s, probabilities %s, wire %s",
			p.HiddenDim, p.Payload, p.TopK, p.Routing, p.Probs, p.Wire),
		Machine:   fmt.Sprintf("%d x %s, %s", p.Ranks, info.Name, d.Device().Driver().Version()),
		Transport: d.Transport(), Kernels: d.Image(),
	}
}

// newRow starts a row with what each rank sends to the others.
func (b *bench) newRow(tokens int) *Row {
	p := b.Program
	peers := (p.Ranks - 1) * tokens
	return &Row{
		Tokens:        tokens,
		DispatchBytes: peers * (p.RoutingRowBytes() + p.ProbsRowBytes() + p.ScaleRowBytes() + p.PayloadRowBytes()),
		CombineBytes:  peers * p.WireRowBytes(),
	}
}

// finish computes what follows from what was measured.
func (x *Result) finish() {
	pairs := map[int]float64{}
	for _, row := range x.Rows {
		row.DispatchBound, row.CombineBound = x.Floor.Bound(row.DispatchBytes), x.Floor.Bound(row.CombineBytes)
		pairs[row.Tokens] = row.Pair.Median
		for i := range row.Fewer {
			if own, ok := pairs[row.Fewer[i].Tokens]; ok {
				row.Fewer[i].Ratio = row.Fewer[i].Pair.Median / own
			}
		}
	}
}
