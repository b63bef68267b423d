package spec

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDefaults(t *testing.T) {
	text := []byte("model: m\nhidden_dim: 1024\ntopk: 2\ndtype: bf16\nep_size: 2\ncombine: {order: rank}\narch: [sm_90a]\n")
	s, err := Parse("moe.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	want := []Default{{"version", "1"}, {"num_experts", "0"}, {"max_tokens", "512"}, {"max_prefill_tokens", "0"},
		{"routing_dtype", "int32"}, {"probs_dtype", "fp32"}, {"layout", "compact"}, {"routing_fill", "none"}, {"dispatch.quantize", "none"},
		{"combine.wire", "bf16"}, {"combine.epilogue", "[]"}, {"combine.output", "bf16"},
		{"transports", "[nvls, p2p, nccl]"}, {"sm_limit", "32"}, {"timeout", "2s"}}
	if d := cmp.Diff(want, Defaults(text, s)); d != "" {
		t.Error(d)
	}
	s.From = "config.json" // the text need not say what the config does
	for _, d := range Defaults([]byte("ep_size: 2\nfrom: config.json\n"), s) {
		if d.Field == "hidden_dim" || d.Field == "topk" || d.Field == "num_experts" {
			t.Errorf("%s is the config's", d.Field)
		}
	}
	if d := Defaults([]byte("\t"), s); d != nil {
		t.Error(d)
	}
}
