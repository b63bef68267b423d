package spec_test

import (
	"errors"
	"fmt"

	"github.com/moegen/moegen/spec"
)

func ExampleParse() {
	s, err := spec.Parse("qwen3.yaml", []byte(`
hidden_dim: 4096
topk: 8
dtype: bf16
ep_size: 8
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(s.Model, s.HiddenDim, s.MaxTokens, s.Combine.Wire, s.Timeout)
	// Output: qwen3 4096 512 bf16 2s
}

// All mistakes of a file are reported at once.
func ExampleErrorList() {
	_, err := spec.Parse("moe.yaml", []byte(`
hidden_dim: 4100
top_k: 8
dtype: bf16
ep_size: "8"
`))
	var list spec.ErrorList
	if errors.As(err, &list) {
		for _, e := range list {
			fmt.Println(e)
		}
	}
	// Output:
	// moe.yaml:2:13: hidden_dim: a row of bf16 must be a multiple of 16 bytes; the nearest are 4096 and 4104 (got 4100; allowed: multiples of 8 from 8 to 524288)
	// moe.yaml:3:1: top_k: unknown key; did you mean topk?
	// moe.yaml:5:10: ep_size: must be a whole number in plain decimal digits, as in 8 without quotes (got "8"; allowed: 1..72)
}

func ExampleSpec_Canonical() {
	s, err := spec.Parse("moe.yaml", []byte(`{hidden_dim: 2880, topk: 4, num_experts: 128, ep_size: 4, dtype: bf16}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s", s.Canonical())
	// Output:
	// version: 1
	// model: "moe"
	// hidden_dim: 2880
	// topk: 4
	// num_experts: 128
	// ep_size: 4
	// dtype: bf16
	// max_tokens: 512
	// max_prefill_tokens: 0
	// routing_dtype: int32
	// probs_dtype: fp32
	// layout: compact
	// routing_fill: none
	// dispatch:
	//   quantize: none
	// combine:
	//   wire: bf16
	//   order: any
	//   epilogue: []
	//   output: bf16
	// arch: [sm_90a, sm_100a]
	// transports: [nvls, p2p, nccl]
	// sm_limit: 32
	// timeout: 2s
}

func ExampleSpec_LocalExperts() {
	s := &spec.Spec{NumExperts: 10, EPSize: 4}
	for rank := range s.EPSize {
		first, count := s.LocalExperts(rank)
		fmt.Printf("rank %d: experts %d to %d\n", rank, first, first+count-1)
	}
	// Output:
	// rank 0: experts 0 to 2
	// rank 1: experts 3 to 5
	// rank 2: experts 6 to 7
	// rank 3: experts 8 to 9
}
