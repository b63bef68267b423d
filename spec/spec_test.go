package spec

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func full() *Spec {
	return &Spec{
		Version: 1, Model: "moe", HiddenDim: 4096, TopK: 8, EPSize: 8, DType: BF16,
		MaxTokens: 512, RoutingDType: Int32, ProbsDType: FP32,
		Layout: Compact, RoutingFill: FillNone,
		Dispatch:   Dispatch{Quantize: QuantizeNone},
		Combine:    Combine{Wire: BF16, Order: OrderAny, Output: BF16},
		Arch:       []string{"sm_90a", "sm_100a"},
		Transports: []Transport{NVLS, P2P, NCCL},
		SMLimit:    32, Timeout: 2 * time.Second,
	}
}

func TestParseGood(t *testing.T) {
	with := func(change func(*Spec)) *Spec { s := full(); change(s); return s }
	tests := []struct {
		name, data string
		want       *Spec
	}{
		{"four keys", four, full()},
		{"crlf", strings.ReplaceAll(four, "\n", "\r\n"), full()},
		{"bom", "\ufeff" + four, full()},
		{"comments and marker", "%YAML 1.1\n--- # one\n# two\n" + four + "...\n", full()},
		{"json", `{"hidden_dim": 4096, "topk": 8, "dtype": "bf16", "ep_size": 8, "arch": ["sm_100a"]}`,
			with(func(s *Spec) { s.Arch = []string{"sm_100a"} })},
		{"tabs after values", "hidden_dim: 4096\t# wide\ntopk:\t8\ndtype: bf16\nep_size: 8\n", full()},
		{"no final newline", strings.TrimSuffix(four, "\n"), full()},
		{"sets in any order", four + "arch: [sm_100a, sm_90a]\ntransports: [nccl, p2p, nvls]\n", full()},
		{"everything", four + `version: 1
model: '4.5'
num_experts: 10
max_tokens: 65536
routing_dtype: int16
probs_dtype: bf16
layout: compact
routing_fill: none
max_prefill_tokens: 0
dispatch: {quantize: none}
combine:
  wire: fp32
  order: any
  epilogue: []
  rmsnorm: {}
  output: bf16
arch:
- sm_90a
transports: [p2p]
sm_limit: 132
timeout: 1m30.5s
`, with(func(s *Spec) {
			s.Model, s.NumExperts, s.MaxTokens, s.RoutingDType, s.ProbsDType = "4.5", 10, 65536, Int16, BF16
			s.Combine.Wire, s.Arch, s.Transports, s.SMLimit = FP32, []string{"sm_90a"}, []Transport{P2P}, 132
			s.Timeout = 90*time.Second + 500*time.Millisecond
		})},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := Parse("dir/moe.yaml", []byte(tt.data))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, s); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			checkRoundTrip(t, s)
		})
	}
}

// The wire's default follows the dtype.
func TestWireDefault(t *testing.T) {
	for _, d := range dtypes {
		s, err := Parse("x.yaml", []byte(strings.Replace(four, "bf16", string(d), 1)))
		if err != nil || s.Combine.Wire != d {
			t.Errorf("%s: %+v, %v", d, s, err)
		}
	}
}

func TestDefaultModel(t *testing.T) {
	for file, want := range map[string]string{
		"moe.yaml": "moe", "a/b/Qwen3.5 moe!.yml": "Qwen3.5-moe", "": "model", "-": "model", ".yaml": "model",
		"../..": "model", "/": "model", "__x_": "x_", "été.yaml": "t", strings.Repeat("a", 99): strings.Repeat("a", 64),
	} {
		s, err := Parse(file, []byte(four))
		if err != nil {
			t.Errorf("%q: %v", file, err)
		} else if want = strings.TrimRight(want, "!"); strings.TrimRight(s.Model, "-") != want {
			t.Errorf("%q: model %q, want %q", file, s.Model, want)
		}
	}
}

func TestValidate(t *testing.T) {
	s := full()
	s.Arch = []string{"sm_100a", "sm_90a"}
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(full(), s); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	s = &Spec{Version: 1, Model: "x"}
	err := s.Validate()
	if err == nil || !strings.HasPrefix(err.Error(), `dtype: not one of the allowed values (got ""; allowed: bf16, fp16, fp32)`) {
		t.Errorf("Validate = %v", err)
	}
}

func TestHash(t *testing.T) {
	base := full().Hash()
	if !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(base) {
		t.Errorf("hash %q", base)
	}
	// Written down, because checked-in output carries it: a change here makes
	// every user's output stale and must be meant.
	if want := "fe5de68c1757ee890b563f63a06024929b6f727743aa2b1277371070da717a59"; base != want {
		t.Errorf("hash of the default spec is %s, want %s", base, want)
	}
	for _, same := range []string{
		"# c\n\n" + four, "ep_size:   8\ndtype: \"bf16\"\ntopk: 8\nhidden_dim: 4096\n",
		four + "timeout: 2000ms\nmodel: moe\nnum_experts: 0\n", four + "transports: [nccl, nvls, p2p]", string(full().Canonical()),
	} {
		s, err := Parse("moe.yaml", []byte(same))
		if err != nil || s.Hash() != base {
			t.Errorf("hash differs for\n%s\n%v", same, err)
		}
	}
	seen := map[string]int{base: -1}
	for i, change := range []func(*Spec){
		func(s *Spec) { s.Version = 2 }, func(s *Spec) { s.Model = "m" }, func(s *Spec) { s.HiddenDim = 2048 },
		func(s *Spec) { s.TopK = 4 }, func(s *Spec) { s.NumExperts = 128 }, func(s *Spec) { s.EPSize = 4 },
		func(s *Spec) { s.DType = FP16 }, func(s *Spec) { s.MaxTokens = 1 }, func(s *Spec) { s.RoutingDType = Int64 },
		func(s *Spec) { s.ProbsDType = BF16 }, func(s *Spec) { s.Dispatch.Quantize = QuantizeFP8 },
		func(s *Spec) { s.Combine.Wire = FP32 }, func(s *Spec) { s.Combine.Order = OrderRank },
		func(s *Spec) { s.Combine.Epilogue = []Epilogue{Residual, RMSNorm} },
		func(s *Spec) { s.Combine.Epilogue = []Epilogue{RMSNorm, Residual} },
		func(s *Spec) { s.Arch = s.Arch[:1] }, func(s *Spec) { s.Transports = s.Transports[:1] },
		func(s *Spec) { s.SMLimit = 1 }, func(s *Spec) { s.Timeout = 1 },
	} {
		s := full()
		change(s)
		if j, dup := seen[s.Hash()]; dup {
			t.Errorf("changes %d and %d have one hash", i, j)
		}
		seen[s.Hash()] = i
	}
}

func TestPresets(t *testing.T) {
	want := map[string][4]int{ // hidden, topk, experts, ep
		"deepseek-v3": {7168, 8, 256, 8}, "kimi-k2": {7168, 8, 384, 8}, "qwen3-235b-a22b": {4096, 8, 128, 8},
		"qwen3-30b-a3b": {2048, 8, 128, 8}, "qwen3-next-80b-a3b": {2048, 10, 512, 8}, "mixtral-8x7b": {4096, 2, 8, 8},
		"mixtral-8x22b": {6144, 2, 8, 8}, "gpt-oss-120b": {2880, 4, 128, 4}, "gpt-oss-20b": {2880, 4, 32, 4},
		"llama4-maverick": {5120, 1, 128, 8}, "glm-4.5": {5120, 8, 160, 8}, "nemotron-3-nano": {2688, 6, 128, 2},
		"minimax-m2": {3072, 8, 256, 8},
	}
	got := make(map[string][4]int)
	for _, name := range Presets() {
		data, err := Preset(name)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Parse(name+".yaml", data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if s.Model != name || data[0] != '#' {
			t.Errorf("%s: model %s, starts with %q", name, s.Model, data[:1])
		}
		got[name] = [4]int{s.HiddenDim, s.TopK, s.NumExperts, s.EPSize}
		checkRoundTrip(t, s)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for name, want := range map[string]string{"Qwen3_30B-a3b": "did you mean qwen3-30b-a3b?", "../spec": "no preset", "": `no preset ""`} {
		if _, err := Preset(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Preset(%q) = %v, want %s", name, err, want)
		}
	}
}

// Every rank's experts follow on those before, none is left over, and no two
// ranks differ by more than one.
func TestLocalExperts(t *testing.T) {
	for _, n := range []int{8, 9, 15, 128, 160, 257} {
		for ep := 1; ep <= 8; ep++ {
			s := &Spec{NumExperts: n, EPSize: ep}
			next := 0
			for rank := range ep {
				first, count := s.LocalExperts(rank)
				if first != next || count < n/ep || count > (n+ep-1)/ep {
					t.Errorf("%d experts, %d ranks: rank %d has %d from %d", n, ep, rank, count, first)
				}
				next = first + count
			}
			if next != n {
				t.Errorf("%d experts, %d ranks: %d placed", n, ep, next)
			}
		}
	}
	for _, rank := range []int{-1, 8} {
		if first, count := (&Spec{NumExperts: 128, EPSize: 8}).LocalExperts(rank); first != 0 || count != 0 {
			t.Errorf("rank %d of 8 has %d experts from %d", rank, count, first)
		}
	}
	if first, count := full().LocalExperts(1); first != 0 || count != 0 {
		t.Errorf("unknown number of experts: %d from %d", count, first)
	}
}

func TestRowBytes(t *testing.T) {
	s := full()
	s.Combine.Wire, s.RoutingDType, s.ProbsDType = FP32, Int64, BF16
	got := []int{s.HiddenRowBytes(), s.RoutingRowBytes(), s.ProbsRowBytes(), s.WireRowBytes(), DType("fp8").Size()}
	if diff := cmp.Diff([]int{8192, 64, 16, 16384, 0}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Only one file may know the YAML library, so that it can be replaced.
func TestYAMLInOneFile(t *testing.T) {
	files, _ := filepath.Glob("*.go")
	for _, f := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), f, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range parsed.Imports {
			if strings.Contains(i.Path.Value, "yaml") && f != "yaml.go" {
				t.Errorf("%s imports %s; only yaml.go may", f, i.Path.Value)
			}
		}
	}
}

func checkRoundTrip(t *testing.T, s *Spec) {
	t.Helper()
	again, err := Parse("other.yaml", s.Canonical())
	if err != nil {
		t.Fatalf("the canonical form is refused: %v\n%s", err, s.Canonical())
	}
	if diff := cmp.Diff(s, again); diff != "" {
		t.Errorf("the canonical form says something else (-first +again):\n%s", diff)
	}
	if s.Hash() != again.Hash() || string(s.Canonical()) != string(again.Canonical()) {
		t.Error("the canonical form or hash changed in a round trip")
	}
}
