package nvcc

import (
	"bytes"
	"errors"
	"os/exec"
	"strings"
	"testing"
)

const realSource = `#include <cuda_bf16.h>
namespace {
__device__ float table[4] = {1, 2, 3, 4};
__device__ __noinline__ float f(float x) { return x * table[threadIdx.x & 3]; }
}
extern "C" __global__ void k(float* p, const __nv_bfloat16* q) {
  __shared__ float s[64];
  s[threadIdx.x & 63] = f(__bfloat162float(q[threadIdx.x]));
  __syncthreads();
  p[threadIdx.x] = s[63 - (threadIdx.x & 63)];
}
`

// findReal returns the machine's compiler. Without one, these tests check nothing.
func findReal(t *testing.T) *Compiler {
	t.Helper()
	t.Setenv("MOEGEN_CACHE_DIR", t.TempDir())
	t.Setenv("MOEGEN_DISABLE_JIT", "")
	c, err := Find(t.Context())
	if err != nil {
		t.Skipf("NO REAL COMPILE WAS TESTED, run `make toolchain`: %v", err)
	}
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("NO REAL COMPILE WAS TESTED: nvcc needs gcc, which is not on PATH")
	}
	return c
}

func TestRealCompile(t *testing.T) {
	c := findReal(t)
	t.Logf("nvcc %s at %s (%s)", c.Version, c.Path, c.Found)
	src := Source{Name: "some/dir/real.cu", Text: []byte(realSource)}
	img, err := c.Compile(t.Context(), src, Target{Arch: "sm_90a"})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	funcs := img.Funcs()
	if len(funcs) == 0 || funcs[0].Name != "k" || funcs[0].Registers == 0 || funcs[0].SharedBytes != 256 {
		t.Errorf("functions %+v in the log:\n%s", funcs, img.Log)
	}
	for _, n := range []int{0, 16, 64, len(img.Data) / 2, len(img.Data) - 64} {
		if checkCubin(img.Data[:n]) == nil {
			t.Errorf("a cubin cut to %d of %d bytes passes", n, len(img.Data))
		}
	}
	if again, err := c.Compile(t.Context(), src, Target{Arch: "sm_90a"}); err != nil || !again.FromCache || !bytes.Equal(again.Data, img.Data) {
		t.Errorf("second time: from cache %t, error %v", again.FromCache, err)
	}
}

// TestRealPTX compiles in two directories: the bytes must be the same.
func TestRealPTX(t *testing.T) {
	c := findReal(t)
	var images [2]Image
	for i := range images {
		t.Setenv("MOEGEN_CACHE_DIR", t.TempDir())
		img, err := c.Compile(t.Context(), Source{Name: "real.cu", Text: []byte(realSource)}, Target{Arch: "sm_100a", PTX: true, LineInfo: true})
		if err != nil {
			t.Fatalf("%+v", err)
		}
		images[i] = img
	}
	if !bytes.Equal(images[0].Data, images[1].Data) {
		t.Errorf("the same source has two forms:\n%s\n%s", images[0].Data, images[1].Data)
	}
	for _, want := range []string{".target sm_100a", ".loc", `"real.cu"`, ".entry k("} {
		if !strings.Contains(string(images[0].Data), want) {
			t.Errorf("the PTX lacks %s:\n%s", want, images[0].Data)
		}
	}
}

func TestRealErrors(t *testing.T) {
	c := findReal(t)
	for name, tc := range map[string]struct{ text, want string }{
		"undefined": {"__global__ void k(int* p) {\n  p[0] = zz;\n}\n", `nvcc: a/b.cu:2: error: identifier "zz" is undefined`},
		"unused":    {"__global__ void k() {\n  int unused;\n}\n", "nvcc: a/b.cu:2: error: variable \"unused\" was declared but never referenced"},
		"include":   {"\n#include \"nope.h\"\n", "nvcc: a/b.cu:2:10: fatal: nope.h: No such file or directory"},
		"asm":       {"__global__ void k() { asm volatile(\"foo;\"); }\n", "nvcc: b.ptx:"},
	} {
		_, err := c.Compile(t.Context(), Source{Name: "a/b.cu", Text: []byte(tc.text)}, Target{Arch: "sm_90a"})
		var ce *CompileError
		if !errors.As(err, &ce) || !strings.HasPrefix(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %s", name, err, tc.want)
		}
	}
}
