package gen_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/moegen/moegen/cmd/moegen/gen"
	"github.com/moegen/moegen/runtime/nvcc"
	"github.com/moegen/moegen/spec"
)

// kernels cuts PTX into its kernels, by name.
func kernels(t *testing.T, ptx []byte) map[string]string {
	t.Helper()
	found := map[string]string{}
	parts := regexp.MustCompile(`(?m)^\.visible \.entry `).Split(string(ptx), -1)
	for _, part := range parts[1:] {
		name, _, _ := strings.Cut(part, "(")
		body, _, ok := strings.Cut(part, "\n}\n")
		if !ok {
			t.Fatalf("the kernel %s has no end", name)
		}
		found[name] = body
	}
	return found
}

// checkPTX checks what the design says of the instructions.
func checkPTX(t *testing.T, s *spec.Spec, source, ptx []byte, want []gen.Kernel) {
	t.Helper()
	found := kernels(t, ptx)
	for _, k := range want {
		if body, ok := found[k.Name]; !ok {
			t.Errorf("there is no kernel %s", k.Name)
		} else if line := fmt.Sprintf(".maxntid %d, 1, 1", k.Threads); !strings.Contains(body, line) {
			t.Errorf("%s has not %s", k.Name, line)
		}
	}
	if len(found) != len(want) {
		t.Errorf("there are %d kernels, the manifest lists %d", len(found), len(want))
	}
	for name, body := range found {
		if strings.Contains(body, "ld.global.nc") && !strings.HasPrefix(name, "moegen_nccl_") {
			t.Errorf("%s loads what peers write through the non-coherent path", name)
		}
		stores, loads := 0, 0
		switch name {
		case "moegen_dispatch_nvls", "moegen_first_dispatch_nvls", "moegen_dispatch_mixed_nvls", "moegen_first_dispatch_mixed_nvls":
			stores = 3 * constant(t, source, "kUnroll") // a loop for each tensor
		case "moegen_combine_nvls", "moegen_combine_mixed_nvls":
			loads = reduceLoads(t, s, source)
		}
		if n := strings.Count(body, "multimem.st"); n != stores {
			t.Errorf("%s has %d multimem.st, want %d", name, n, stores)
		}
		if n := strings.Count(body, "multimem.ld_reduce"); n != loads {
			t.Errorf("%s has %d multimem.ld_reduce, want %d", name, n, loads)
		}
		if n := strings.Count(body, "multimem."); n != stores+loads {
			t.Errorf("%s has %d multimem instructions, want %d", name, n, stores+loads)
		}
	}
}

// reduceLoads is how many multimem.ld_reduce combine has over nvls.
func reduceLoads(t *testing.T, s *spec.Spec, source []byte) int {
	t.Helper()
	unroll := constant(t, source, "kCombineUnroll")
	unit := 8
	if s.DType == spec.FP32 && s.Combine.Output != spec.FP8Block128 {
		unit = 4
	}
	each := unit * s.Combine.Wire.Size() / 16
	switch perThread := (s.HiddenDim/unit + 511) / 512; {
	case s.Combine.Order == spec.OrderRank:
		return 0
	case !s.Combine.Has(spec.RMSNorm):
		return each * unroll
	case perThread*unit <= 16: // the row's are all in registers
		return each * unroll * ((perThread + unroll - 1) / unroll)
	}
	return each * unroll * 2 // two loops over the row
}

// constant reads an integer constant of the CUDA source.
func constant(t *testing.T, source []byte, name string) int {
	t.Helper()
	var v int
	_, after, ok := bytes.Cut(source, []byte("constexpr int "+name+" = "))
	if _, err := fmt.Fscanf(bytes.NewReader(after), "%d;", &v); !ok || err != nil {
		t.Fatalf("the source has no constant %s: %v", name, err)
	}
	return v
}

// checkCubin compiles for an architecture. Warnings are errors.
func checkCubin(t *testing.T, c *nvcc.Compiler, name, arch string, source []byte) {
	t.Helper()
	im, err := c.Compile(t.Context(), nvcc.Source{Name: name + ".cu", Text: source}, nvcc.Target{Arch: arch})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	if len(im.Funcs()) == 0 {
		t.Fatal("the compiler lists no functions")
	}
	for _, f := range im.Funcs() {
		if f.SpillLoads+f.SpillStores > 0 {
			t.Errorf("%s: %s spills %d bytes and loads %d back", arch, f.Name, f.SpillStores, f.SpillLoads)
		}
		if f.StackBytes > 0 {
			t.Errorf("%s: %s has a stack of %d bytes", arch, f.Name, f.StackBytes)
		}
		t.Logf("%s: %-24s %3d registers", arch, f.Name, f.Registers)
	}
}

// The packages in generated/ compile for all their architectures.
func TestGeneratedCompiles(t *testing.T) {
	c := compiler(t)
	for _, path := range generatedSpecs(t) {
		name := filepath.Base(filepath.Dir(path))
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := spec.Load(path)
			if err != nil {
				t.Fatal(err)
			}
			set, err := gen.Generate(t.Context(), gen.Options{SpecFile: path, Spec: s})
			if err != nil {
				t.Fatal(err)
			}
			source := set.Files["moe_moegen.cu"]
			checkPTX(t, s, source, set.Files["moe_moegen.ptx"], set.Manifest().Kernels)
			for _, arch := range s.Arch {
				checkCubin(t, c, "moe_moegen", arch, source)
			}
		})
	}
}

// oddSpecs are the corners of the language.
var oddSpecs = map[string]string{
	"one rank":           "hidden_dim: 8\ntopk: 1\ndtype: bf16\nep_size: 1\n",
	"one rank in nccl":   "hidden_dim: 64\ntopk: 2\ndtype: bf16\nep_size: 1\ntransports: [nccl]\n",
	"fp16 int16":         "hidden_dim: 5120\ntopk: 6\ndtype: fp16\nep_size: 8\nrouting_dtype: int16\nprobs_dtype: bf16\n",
	"fp16 to fp32":       "hidden_dim: 2688\ntopk: 10\ndtype: fp16\nep_size: 4\ncombine: {wire: fp32}\nrouting_dtype: int64\n",
	"bf16 to fp32":       "hidden_dim: 7168\ntopk: 8\ndtype: bf16\nep_size: 8\ncombine: {wire: fp32}\n",
	"fp32, odd topk":     "hidden_dim: 4\ntopk: 3\ndtype: fp32\nep_size: 5\n",
	"72 ranks":           "hidden_dim: 7168\ntopk: 8\ndtype: bf16\nep_size: 72\nmax_tokens: 128\n",
	"72 ranks, fp32":     "hidden_dim: 4096\ntopk: 32\ndtype: fp32\nep_size: 72\nsm_limit: 132\n",
	"72 ranks to fp32":   "hidden_dim: 4096\ntopk: 2\ndtype: bf16\nep_size: 72\ncombine: {wire: fp32}\ntransports: [p2p]\n",
	"nvls only":          "hidden_dim: 2880\ntopk: 1\ndtype: bf16\nep_size: 7\ntransports: [nvls]\n",
	"p2p only":           "hidden_dim: 2880\ntopk: 4\ndtype: bf16\nep_size: 3\ntransports: [p2p]\n",
	"nccl only, fp32":    "hidden_dim: 1024\ntopk: 2\ndtype: bf16\nep_size: 2\ntransports: [nccl]\ncombine: {wire: fp32}\n",
	"nvls and nccl":      "hidden_dim: 1024\ntopk: 2\ndtype: fp32\nep_size: 16\ntransports: [nccl, nvls]\nsm_limit: 1\n",
	"long rows, 64-bit":  "hidden_dim: 262144\ntopk: 2\ndtype: fp32\nep_size: 1\nmax_tokens: 16384\n",
	"rank order":         "hidden_dim: 7168\ntopk: 8\ndtype: bf16\nep_size: 8\ncombine: {order: rank}\n",
	"everything fused":   "hidden_dim: 7168\ntopk: 8\ndtype: bf16\nep_size: 8\ncombine: {epilogue: [add_shared, scale, residual, rmsnorm], scale: 2.5, rmsnorm: {weight: fp32}, output: fp8_e4m3_block128}\n",
	"fused, fp32 wire":   "hidden_dim: 7168\ntopk: 8\ndtype: bf16\nep_size: 8\ncombine: {wire: fp32, epilogue: [add_shared, scale, residual, rmsnorm], scale: -1, rmsnorm: {weight: bf16}}\n",
	"fused, long rows":   "hidden_dim: 16384\ntopk: 2\ndtype: fp16\nep_size: 16\ncombine: {epilogue: [residual, rmsnorm], rmsnorm: {weight: fp16, eps: 0}, output: fp32}\n",
	"fused, two ranks":   "hidden_dim: 2880\ntopk: 4\ndtype: bf16\nep_size: 2\ncombine: {epilogue: [add_shared, residual], output: fp16, order: rank}\n",
	"fused, fp32":        "hidden_dim: 4\ntopk: 2\ndtype: fp32\nep_size: 3\ncombine: {epilogue: [add_shared, rmsnorm], rmsnorm: {weight: bf16}, output: bf16}\n",
	"fp32 to fp8":        "hidden_dim: 4096\ntopk: 2\ndtype: fp32\nep_size: 72\nmax_tokens: 64\ncombine: {output: fp8_e4m3_block128}\n",
	"quantises":          "hidden_dim: 7168\ntopk: 8\ndtype: bf16\nep_size: 4\ndispatch: {quantize: fp8_e4m3_block128}\n",
	"quantises, 8 ranks": "hidden_dim: 7168\ntopk: 8\ndtype: bf16\nep_size: 8\ndispatch: {quantize: fp8_e4m3_block128}\n",
	"quantises fp32":     "hidden_dim: 2176\ntopk: 4\ndtype: fp32\nep_size: 3\ndispatch: {quantize: fp8_e4m3_block128}\n",
	"only a scale":       "hidden_dim: 1024\ntopk: 2\ndtype: bf16\nep_size: 2\ntransports: [nvls]\ncombine: {epilogue: [scale], scale: 1e-9}\n",
	"only a cast, nccl":  "hidden_dim: 1024\ntopk: 2\ndtype: fp16\nep_size: 2\ntransports: [nccl]\ncombine: {output: bf16}\n",
	"one rank, fused":    "hidden_dim: 256\ntopk: 2\ndtype: bf16\nep_size: 1\ncombine: {epilogue: [residual, rmsnorm], rmsnorm: {weight: bf16}, output: fp8_e4m3_block128}\n",
	"longest everything": "model: a-model-whose-name-is-as-long-as-the-language-of-specs-allows-xx\nhidden_dim: 524288\ntopk: 32\ndtype: bf16\nep_size: 72\nmax_tokens: 200\nsm_limit: 132\nrouting_dtype: int64\nnum_experts: 65536\n",
}

// Odd specs generate, compile and keep to the rules. Cubins, which take long, are
// compiled for what might need too many registers: the others are like those of
// generated/.
func TestOddSpecs(t *testing.T) {
	c := compiler(t)
	for name, yaml := range oddSpecs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := parse(t, yaml)
			dir := t.TempDir()
			set, err := gen.Generate(t.Context(), gen.Options{SpecFile: "moe.yaml", Spec: s, Dir: dir, Package: "p"})
			if err != nil {
				t.Fatalf("%+v", err)
			}
			source := set.Files["moe_moegen.cu"]
			checkPTX(t, s, source, set.Files["moe_moegen.ptx"], set.Manifest().Kernels)
			if strings.HasPrefix(name, "72 ranks") || strings.Contains(name, "fused") || strings.HasPrefix(name, "quantises") || s.Combine.Output != s.DType {
				checkCubin(t, c, "moe_moegen", "sm_90a", source)
			}
		})
	}
}
