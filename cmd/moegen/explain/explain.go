// Package explain says what is generated for a spec and why, what it costs in
// bytes and memory, and how long it is likely to take: `moegen explain`.
package explain

import (
	"fmt"
	"slices"
	"strings"

	"github.com/moegen/moegen/cmd/moegen/cost"
	"github.com/moegen/moegen/cmd/moegen/gen"
	"github.com/moegen/moegen/spec"
)

// Explanation is what there is to say about a spec, and its JSON form. Sizes are
// in bytes, times in microseconds.
type Explanation struct {
	Model       string         `json:"model"`
	Shape       string         `json:"shape"`
	MaxTokens   int            `json:"max_tokens"`
	SMLimit     int            `json:"sm_limit"`
	Transports  []Transport    `json:"transports"`
	Kernels     []Kernel       `json:"kernels"`
	Plan        string         `json:"plan"` // where it comes from
	Launches    []Launch       `json:"launches"`
	Wire        Wire           `json:"wire"`
	Memory      []Part         `json:"memory"` // of each GPU
	Total       uint64         `json:"memory_total"`
	Predictions []Prediction   `json:"predictions,omitempty"`
	Models      []Model        `json:"models,omitempty"` // that the predictions are made with
	Defaults    []spec.Default `json:"defaults"`
}

// Transport is one of the spec's, in the order in which they are tried.
type Transport struct {
	Name string `json:"name"`
	What string `json:"what"`
}

// Kernel is one of the source's.
type Kernel struct {
	Name    string `json:"name"`
	Threads int    `json:"threads"` // of a block, at most
	What    string `json:"what"`
}

// Launch is a row of the plan.
type Launch struct {
	Tokens   int     `json:"tokens"` // a rank, at most
	Protocol string  `json:"protocol"`
	Blocks   int     `json:"blocks"`
	Threads  int     `json:"threads"`
	Why      string  `json:"why"`
	Measured float64 `json:"measured_pair_us,omitempty"` // dispatch and combine, by moegen tune
}

// Wire is what leaves a GPU.
type Wire struct {
	Token   []Part `json:"token"` // for each token and peer, by tensor
	Gather  int    `json:"dispatch_per_token"`
	Reduce  int    `json:"combine_per_token"`
	Peers   int    `json:"peers"`
	Step    int    `json:"layer_at_max_tokens"` // dispatch and combine of a layer, max_tokens tokens on each rank, to all peers
	Comment string `json:"comment"`
}

// Part is a size with a name.
type Part struct {
	Name  string `json:"name"`
	Bytes uint64 `json:"bytes"`
}

// Prediction is of one token count, the same on all ranks.
type Prediction struct {
	Tokens int               `json:"tokens"`
	Times  map[string]Timing `json:"times"` // by transport
}

// Timing is what an operation should take.
type Timing struct {
	Dispatch float64 `json:"dispatch_us"`
	Combine  float64 `json:"combine_us"`
}

// Model is what predictions of a way are made with.
type Model struct {
	Way      cost.Way   `json:"way"`
	Dispatch cost.Model `json:"dispatch"`
	Combine  cost.Model `json:"combine"`
}

// Of explains a spec whose text is given, so that defaults can be told.
func Of(s *spec.Spec, text []byte) *Explanation {
	x := &Explanation{
		Model: s.Model, Shape: s.Shape(), MaxTokens: s.MaxTokens, SMLimit: s.SMLimit,
		Wire: wire(s), Defaults: spec.Defaults(text, s), Plan: "built in; moegen tune measures one",
	}
	if s.EPSize > 1 {
		for _, t := range s.Transports {
			x.Transports = append(x.Transports, Transport{string(t), transports[t]})
		}
	}
	for _, k := range gen.Kernels(s) {
		x.Kernels = append(x.Kernels, Kernel{k.Name, k.Threads, describe(k.Name)})
	}
	x.launches(s)
	x.memory(s)
	if s.EPSize > 1 {
		x.predict(s)
	}
	return x
}

var transports = map[spec.Transport]string{
	spec.NVLS: "NVLink multicast and in-switch reduction; needs NVSwitch and all ranks' consent",
	spec.P2P:  "loads and stores to peers; needs peer access between all GPUs",
	spec.NCCL: "NCCL's collectives, between kernels that pad and compact; needs libnccl",
}

// describe says what a kernel is for.
func describe(name string) string {
	name = strings.TrimPrefix(name, "moegen_")
	for _, k := range []struct{ prefix, what string }{
		{"counts", "token counts to all ranks, for BeginStep"},
		{"first_dispatch_ll", "the same, and the step's token counts"},
		{"dispatch_ll", "dispatch of few tokens: rows carry their arrival marks"},
		{"combine_ll", "combine of few tokens, likewise"},
		{"dispatch_mixed", "dispatch of either kind, by the step's token counts"},
		{"combine_mixed", "combine of either kind, likewise"},
		{"first_dispatch", "the same, and the step's token counts"},
		{"dispatch", "dispatch: rows to all ranks, then a flag for each block"},
		{"combine", "combine: a flag for each block, then the ranks' sums"},
		{"nccl_announce", "this rank's token count, for NCCL to gather"},
		{"nccl_counts", "all ranks' token counts, as gathered"},
		{"nccl_pad", "rows to where NCCL takes them"},
		{"nccl_compact", "gathered rows to where experts look"},
		{"nccl_expand", "partial sums to where NCCL takes them"},
		{"nccl_combine", "reduced rows to outputs"},
	} {
		if strings.HasPrefix(name, k.prefix) {
			return k.what
		}
	}
	return ""
}

func (x *Explanation) launches(s *spec.Spec) {
	_, low := gen.ThreadsOf(s, gen.LL)
	tuned := map[int]spec.PlanRow{}
	measured := 0
	if s.Plan != nil && s.Plan.Shape == s.Shape() {
		x.Plan = "measured " + s.Plan.Measured
		for _, r := range s.Plan.Rows {
			tuned[r.Tokens], measured = r, r.Tokens
		}
		if measured < s.MaxTokens {
			x.Plan += fmt.Sprintf("; built in above %d tokens", measured)
		}
	}
	for _, r := range gen.Plan(s, gen.Auto) {
		l := Launch{Tokens: r.Tokens, Protocol: "bulk", Blocks: r.Blocks, Threads: r.Threads, Measured: tuned[r.Tokens].Pair}
		switch {
		case r.Low:
			l.Protocol, l.Why = "ll", "a thread for each 16 bytes; no fence, no flag"
		case low == 0:
			l.Why = "protocol ll is not generated for this spec"
		case r.Mixed:
			l.Protocol, l.Why = "mixed", fmt.Sprintf("bulk, and ll for steps of up to %d tokens, which its staging buffers have room for", low)
		default:
			l.Why = fmt.Sprintf("ll's staging buffers have room for %d tokens", low)
		}
		if r.Tokens <= measured {
			l.Why = "the fastest that was measured"
		} else if r.Blocks == s.SMLimit {
			l.Why += "; sm_limit bounds the blocks"
		}
		x.Launches = append(x.Launches, l)
	}
}

func wire(s *spec.Spec) Wire {
	w := Wire{Peers: s.EPSize - 1, Reduce: s.WireRowBytes()}
	for _, p := range []Part{
		{"hidden states", uint64(s.PayloadRowBytes())}, {"scales", uint64(s.ScaleRowBytes())},
		{"routing", uint64(s.RoutingRowBytes())}, {"probabilities", uint64(s.ProbsRowBytes())},
	} {
		if p.Bytes > 0 {
			w.Token = append(w.Token, p)
			w.Gather += int(p.Bytes)
		}
	}
	w.Step = w.Peers * s.MaxTokens * (w.Gather + w.Reduce)
	w.Comment = "to each peer; protocol ll sends what is not hidden states twice as wide, with its arrival marks; by multicast a row leaves once for all peers"
	return w
}

func (x *Explanation) memory(s *spec.Spec) {
	launch := gen.LaunchOf(s)
	l := launch.Layout
	row := s.OutputRowBytes()
	if s.WritesSum() {
		row += s.HiddenRowBytes()
	}
	if s.Combine.Output == spec.FP8Block128 {
		row += s.HiddenDim / 128 * 4 // scales
	}
	for _, p := range []Part{
		{"gathered hidden states", l.Partial - l.Hidden},
		{"gathered scales", l.Hidden - l.Scales},
		{"gathered routing and probabilities", l.Scales - l.Routing},
		{"partial sums", l.LowDispatch - l.Partial},
		{"staging of protocol ll, dispatch", l.LowCombine - l.LowDispatch},
		{"staging of protocol ll, combine", l.Bytes - l.LowCombine},
		{"signals, and staging of lines", l.Routing},
		{"kernels' private state", l.ControlBytes},
		{"combine's own outputs", uint64(max(s.MaxTokens, s.MaxPrefillTokens) * row)},
	} {
		if p.Bytes > 0 {
			x.Memory = append(x.Memory, p)
			x.Total += p.Bytes
		}
	}
}

// predict takes powers of four, and what the plan's last row covers.
func (x *Explanation) predict(s *spec.Spec) {
	plan := gen.Plan(s, gen.Auto)
	_, low := gen.ThreadsOf(s, gen.LL)
	used := map[cost.Way]bool{}
	for tokens := 1; ; tokens *= 4 {
		tokens = min(tokens, s.MaxTokens)
		p := Prediction{Tokens: tokens, Times: map[string]Timing{}}
		row := plan[slices.IndexFunc(plan, func(r gen.PlanRow) bool { return tokens <= r.Tokens })]
		for _, t := range s.Transports {
			way, small := cost.Bulk, x.Wire.Gather-s.PayloadRowBytes()
			switch {
			case t == spec.NCCL:
				way = cost.NCCL
			case row.Low, row.Mixed && tokens <= low:
				way, small = cost.LL, 2*small
			}
			used[way] = true
			sent := x.Wire.Peers * tokens
			p.Times[string(t)] = Timing{
				Dispatch: cost.Of(way, cost.Dispatch, s.EPSize).Predict(sent * (s.PayloadRowBytes() + small)),
				Combine:  cost.Of(way, cost.Combine, s.EPSize).Predict(sent * x.Wire.Reduce),
			}
		}
		x.Predictions = append(x.Predictions, p)
		if tokens == s.MaxTokens {
			break
		}
	}
	for _, way := range []cost.Way{cost.LL, cost.Bulk, cost.NCCL} {
		if used[way] {
			x.Models = append(x.Models, Model{way, cost.Of(way, cost.Dispatch, s.EPSize), cost.Of(way, cost.Combine, s.EPSize)})
		}
	}
}
