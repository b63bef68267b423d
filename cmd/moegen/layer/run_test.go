package layer

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/moegen/moegen/cmd/moegen/gen"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/emu"
	"github.com/moegen/moegen/runtime/nvcc"
	"github.com/moegen/moegen/spec"
)

// emulated returns the config of a run on as many virtual GPUs as the spec
// has ranks.
func emulated(t *testing.T, text string) Config {
	t.Helper()
	if _, err := nvcc.Find(t.Context()); err != nil {
		t.Skipf("kernels have to be compiled: %v", err)
	}
	s, err := spec.Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	p, err := Program(s)
	if err != nil {
		t.Fatal(err)
	}
	drv, err := emu.New(emu.Config{Devices: s.EPSize})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := drv.Close(); err != nil {
			t.Error(err)
		}
	})
	return Config{Spec: s, Program: p, Devices: drv.Devices(), Layers: 2, Seed: 1,
		Options: []moert.Option{moert.WithLogger(slog.New(slog.DiscardHandler))}}
}

// uneven makes counts for the ranks: one token, none on some, all of the
// capacity on one.
func uneven(ranks, capacity int) [][]int {
	steps := make([][]int, 4)
	for i := range steps {
		steps[i] = make([]int, ranks)
	}
	for r := range ranks {
		steps[0][r] = 1
		steps[1][r] = (r * 3) % (capacity + 1)
		steps[2][r] = (capacity - r + capacity) % capacity
	}
	steps[1][0], steps[2][ranks-1] = 0, capacity
	return steps // the last one has no token at all
}

func TestRun(t *testing.T) {
	all := []moert.Transport{moert.NVLS, moert.P2P, moert.NCCL}
	for _, c := range []struct {
		name, text string
		ranks      int
		transports []moert.Transport
	}{
		{"bf16", "hidden_dim: 64\ntopk: 2\nnum_experts: 8\ndtype: bf16\n", 2, all},
		{"fp16 odd", "hidden_dim: 72\ntopk: 3\nnum_experts: 13\ndtype: fp16\nrouting_dtype: int64\n", 4, all},
		{"fp32", "hidden_dim: 20\ntopk: 1\ndtype: fp32\n", 3, all},
		{"wide wire", "hidden_dim: 64\ntopk: 4\nnum_experts: 16\ndtype: bf16\nrouting_dtype: int16\nprobs_dtype: bf16\ncombine: {wire: fp32}\n", 2, all},
		{"one rank", "hidden_dim: 64\ntopk: 2\ndtype: bf16\n", 1, []moert.Transport{""}},
		{"one rank, wide wire", "hidden_dim: 64\ntopk: 2\ndtype: bf16\ncombine: {wire: fp32}\n", 1, []moert.Transport{""}},
		{"one rank, only nccl", "hidden_dim: 64\ntopk: 2\ndtype: bf16\ntransports: [nccl]\n", 1, []moert.Transport{""}},
	} {
		for _, transport := range c.transports {
			t.Run(fmt.Sprintf("%s %s", c.name, transport), func(t *testing.T) {
				t.Parallel()
				cfg := emulated(t, fmt.Sprintf("%smax_tokens: 9\nsm_limit: 3\nep_size: %d\n", c.text, c.ranks))
				cfg.Transport = transport
				cfg.Tokens = uneven(c.ranks, 9)
				cfg.Steps, cfg.Replays = 4, 4
				result := runOK(t, cfg)
				if len(result.Steps) != 8 {
					t.Errorf("%d steps", len(result.Steps))
				}
				if transport != "" && result.Transport != transport {
					t.Errorf("ran over %s", result.Transport)
				}
			})
		}
	}
}

// runOK runs, and wants everything to be right.
func runOK(t *testing.T, cfg Config) *Result {
	t.Helper()
	result, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range faults(result) {
		t.Error(f)
	}
	return result
}

func faults(result *Result) []string {
	var all []string
	for _, s := range result.Steps {
		for _, r := range s.Ranks {
			for _, f := range r.Faults {
				all = append(all, fmt.Sprintf("step %d graph %v rank %d: %s", s.Index, s.Graph, r.Rank, f))
			}
		}
	}
	return all
}

const two = "hidden_dim: 64\ntopk: 2\nnum_experts: 8\ndtype: bf16\nmax_tokens: 9\nsm_limit: 3\nep_size: 2\n"

// TestRunOptions: one layer, another capacity, and each place for partial sums.
func TestRunOptions(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"one layer":  func(c *Config) { c.Layers = 1 },
		"capacity":   func(c *Config) { c.Capacity = 4; c.Tokens = uneven(2, 4) },
		"buffer":     func(c *Config) { c.Partials = PartialsBuffer },
		"own":        func(c *Config) { c.Partials = PartialsOwn },
		"only graph": func(c *Config) { c.Steps = 0 },
		"epoch wrap": func(c *Config) { c.Options = append(c.Options, moert.WithFirstEpoch(1<<31-3)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := emulated(t, two)
			cfg.Tokens, cfg.Steps, cfg.Replays, cfg.Transport = uneven(2, 9), 3, 3, moert.P2P
			change(&cfg)
			runOK(t, cfg)
		})
	}
}

// TestManyRows: more rows than the blocks push at first, where threads do not
// push what they receive: with RMSNorm's barrier after each row, with more threads
// than a row has units, and with two pushes for a pack.
func TestManyRows(t *testing.T) {
	const shape = "hidden_dim: 256\ntopk: 2\ndtype: bf16\nep_size: 2\nmax_tokens: 256\nsm_limit: 1\n"
	for name, text := range map[string]string{
		"plain":     shape,
		"normed":    shape + "combine: {epilogue: [rmsnorm], rmsnorm: {weight: bf16}}\n",
		"quantised": shape + "dispatch: {quantize: fp8_e4m3_block128}\n",
		"both":      shape + "dispatch: {quantize: fp8_e4m3_block128}\ncombine: {epilogue: [rmsnorm], rmsnorm: {weight: bf16}, output: fp8_e4m3_block128}\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := emulated(t, text)
			cfg.Transport, cfg.Tokens, cfg.Steps = moert.P2P, [][]int{{256, 256}, {256, 3}}, 2
			runOK(t, cfg)
		})
	}
}

// TestRunFindsWrongKernels: kernels with one mistake each are found out.
func TestRunFindsWrongKernels(t *testing.T) {
	for _, c := range []struct {
		name, old, replacement string
		transport              moert.Transport
		want                   string
	}{
		{"truncates instead of rounding", "cvt.rn.bf16x2.f32", "cvt.rz.bf16x2.f32", moert.P2P, "rounding explains"},
		{"casts NCCL's sums wrongly", "cvt.rn.bf16x2.f32", "cvt.rz.bf16x2.f32", moert.NCCL, "rounding explains"},
		{"reads the next row's sums", "kPartial + size_t(step.offset[g.rank])", "kPartial + size_t(1 + step.offset[g.rank])", moert.P2P, "output: token"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cfg := emulated(t, two+"combine: {wire: fp32}\n")
			if !bytes.Contains(cfg.Program.Source, []byte(c.old)) {
				t.Fatalf("the kernels have no %q any more", c.old)
			}
			SetProtocol(cfg.Program, cfg.Spec, gen.Bulk)
			cfg.Program.Source = bytes.ReplaceAll(cfg.Program.Source, []byte(c.old), []byte(c.replacement))
			cfg.Tokens, cfg.Steps, cfg.Transport = [][]int{{7, 5}}, 1, c.transport
			result, err := Run(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(faults(result), "\n"); result.OK() || !strings.Contains(got, c.want) {
				t.Errorf("found %q, not %q", got, c.want)
			}
		})
	}
}

func TestCompare(t *testing.T) {
	var results []*Result
	for _, transport := range []moert.Transport{moert.P2P, moert.NCCL} {
		cfg := emulated(t, strings.Replace(two, "ep_size: 2", "ep_size: 4", 1))
		cfg.Tokens, cfg.Steps, cfg.Replays, cfg.Transport, cfg.Keep = uneven(4, 9), 3, 2, transport, true
		results = append(results, runOK(t, cfg))
	}
	c, err := Compare(results[0], results[1], "emu")
	if err != nil {
		t.Fatal(err)
	}
	if !c.OK() || c.Elements == 0 {
		t.Errorf("%+v", c)
	}
	t.Logf("%d of %d equal, %.3g wire ulp, %.3g of the bound", c.Equal, c.Elements, float64(c.MaxULP), float64(c.MaxOfBound))
	put(results[1].kept[1].outputs[3][1].out, 70, moert.BF16, 9)
	if c, err = Compare(results[0], results[1], "emu"); err != nil || c.OK() {
		t.Errorf("a wrong element passed: %+v, %v", c, err)
	}
	if _, err := Compare(results[0], &Result{}, "emu"); err == nil {
		t.Error("runs of different lengths were compared")
	}
}

func TestConfigErrors(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"no spec":         func(c *Config) { c.Spec = nil },
		"1 devices":       func(c *Config) { c.Devices = c.Devices[:1] },
		"0 layers":        func(c *Config) { c.Layers = 0 },
		"no token counts": func(c *Config) { c.Tokens = nil },
		"3 token counts":  func(c *Config) { c.Tokens = [][]int{{1, 2, 3}} },
		"10 tokens":       func(c *Config) { c.Tokens = [][]int{{1, 10}} },
		"-1 tokens":       func(c *Config) { c.Tokens = [][]int{{-1, 0}} },
	} {
		cfg := emulated(t, two)
		cfg.Tokens = [][]int{{1, 1}}
		change(&cfg)
		if _, err := Run(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, not %q", err, want)
		}
	}
}

// TestRunPrefill: steps of more tokens than a captured one takes run among eager
// steps and between replays, over every transport and in every layout.
func TestRunPrefill(t *testing.T) {
	for _, c := range []struct {
		name, text string
		ranks      int
		capacity   int
	}{
		{"compact", "hidden_dim: 64\ntopk: 2\nnum_experts: 8\ndtype: bf16\n", 2, 0},
		{"padded fill", "hidden_dim: 72\ntopk: 3\nnum_experts: 13\ndtype: fp16\nrouting_dtype: int64\nlayout: padded\nrouting_fill: -1\n", 3, 0},
		{"given fp4", "hidden_dim: 64\ntopk: 2\nnum_experts: 8\ndtype: bf16\ndispatch: {input: fp4_e2m1, scale_dtype: ue8m0, scale_block: 32}\n", 2, 0},
		{"epilogue", "hidden_dim: 128\ntopk: 2\nnum_experts: 8\ndtype: bf16\ncombine: {order: rank, epilogue: [add_shared, residual, rmsnorm], rmsnorm: {weight: bf16}, output: fp8_e4m3_block128}\n", 3, 3},
		{"one rank", "hidden_dim: 64\ntopk: 2\ndtype: bf16\n", 1, 4},
		{"one rank, padded", "hidden_dim: 64\ntopk: 2\ndtype: bf16\nlayout: padded\n", 1, 3},
	} {
		transports := []moert.Transport{moert.NVLS, moert.P2P, moert.NCCL}
		if c.ranks == 1 {
			transports = []moert.Transport{""}
		}
		for _, transport := range transports {
			t.Run(fmt.Sprintf("%s %s", c.name, transport), func(t *testing.T) {
				t.Parallel()
				cfg := emulated(t, fmt.Sprintf("%smax_tokens: 5\nmax_prefill_tokens: 16\nsm_limit: 3\nep_size: %d\n", c.text, c.ranks))
				cfg.Transport, cfg.Capacity, cfg.Layers = transport, c.capacity, 2
				few, none := make([]int, c.ranks), make([]int, c.ranks)
				uneven, exact, one := make([]int, c.ranks), make([]int, c.ranks), make([]int, c.ranks)
				for r := range c.ranks {
					few[r], uneven[r], exact[r] = (r+2)%4, (13+9*r)%16, 5*(r%3+1)
				}
				one[c.ranks-1] = 16 // the others come for nothing, four times
				// Counts between the capacity and max_tokens are a prefill of one exchange.
				short := make([]int, c.ranks)
				short[0] = 5
				cfg.Tokens = [][]int{few, uneven, exact, none, one, short}
				cfg.Steps, cfg.Replays = 3, 7
				result := runOK(t, cfg)
				kinds := ""
				for _, s := range result.Steps {
					kinds += s.Name()[:1]
				}
				want := "epp" + "rpprprr"
				if c.capacity > 0 {
					want = "epp" + "rpprppr"
				}
				if kinds != want {
					t.Errorf("steps ran as %s, not %s", kinds, want)
				}
			})
		}
	}
}
