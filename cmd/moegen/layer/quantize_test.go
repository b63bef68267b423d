package layer

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/emu"
	"github.com/moegen/moegen/runtime/nvcc"
	"github.com/moegen/moegen/templates"
)

// quantizeKernel quantises blocks, kEach elements a thread.
const quantizeKernel = `
constexpr int kEach = %d, kLanes = 128 / kEach;
extern "C" __global__ void quantize_blocks(const float* in, int blocks, uint32_t* q, float* scales) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i / kLanes >= blocks) return;
  float x[kEach];
  for (int e = 0; e < kEach; ++e) x[e] = in[kEach * i + e];
  uint32_t w[kEach / 4];
  float scale;
  quantize_block(x, w, &scale);
  for (int e = 0; e < kEach / 4; ++e) q[kEach / 4 * i + e] = w[e];
  if (i %% kLanes == 0) scales[i / kLanes] = scale;
}
`

// TestQuantizeBits: what the kernels make of a block is what the definition of
// the format says, bit by bit, as dispatch (16) and combine (8) share it out.
func TestQuantizeBits(t *testing.T) {
	for _, each := range []int{8, 16} {
		t.Run(strconv.Itoa(each), func(t *testing.T) { testQuantizeBits(t, each) })
	}
}

func testQuantizeBits(t *testing.T, each int) {
	in := quantizeInputs()
	q, scales := emulateQuantize(t, in, each)
	want := make([]byte, quantBlock)
	for b, block := range slices.Collect(slices.Chunk(in, quantBlock)) {
		scale := quantize(want, block)
		if math.Float32bits(scale) != math.Float32bits(scales[b]) {
			t.Errorf("block %d: scale %v, want %v", b, scales[b], scale)
		}
		if got := q[b*quantBlock:][:quantBlock]; !bytes.Equal(got, want) {
			i := firstDifference(got, want)
			t.Errorf("block %d: element %d, %v, becomes %#x, want %#x", b, i, block[i], got[i], want[i])
		}
	}
}

// divideKernel counts largest magnitudes for which the kernels' quotients are not
// those of a division: all mantissas, and all powers of two with some mantissas.
const divideKernel = `
extern "C" __global__ void divide(uint32_t* wrong) {
  const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  const uint32_t bits = i < 1u << 23 ? 0x3f800000u + i : ((113 + (i >> 12) % 142) << 23) + (i * 2654435761u >> 9);
  const float amax = __uint_as_float(bits);
  if (over_448(amax) != __fdiv_rn(amax, 448.0f)) atomicAdd(&wrong[0], 1u);
  if (over_amax(amax) != __fdiv_rn(448.0f, amax)) atomicAdd(&wrong[1], 1u);
}
`

// TestQuantizeDivisions: scale and factor are rounded as a division is, although
// GPUs approximate the reciprocal, with an error of one unit in the last place.
func TestQuantizeDivisions(t *testing.T) {
	const reciprocal = `: "=f"(y) : "f"(x));`
	for _, c := range []struct {
		name, from, to string
		exact          bool
	}{
		{"a unit too large", reciprocal, reciprocal + "y = __uint_as_float(__float_as_uint(y) + 1);", true},
		{"a unit too small", reciprocal, reciprocal + "y = __uint_as_float(__float_as_uint(y) - 1);", true},
		{"no last step of the factor", "__fmaf_rn(__fmaf_rn(-x, q, 448.0f), y, q)", "q", false},
		{"no last step of the scale", "__fmaf_rn(__fmaf_rn(-448.0f, q, amax), kInverse, q)", "q", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := newQuantizeGPU(t, divideKernel, func(text string) string {
				if strings.Count(text, c.from) != 1 {
					t.Fatalf("quantize.cuh does not have %q once", c.from)
				}
				return strings.Replace(text, c.from, c.to, 1)
			})
			wrong := g.alloc(8)
			must(t, g.dev.Write(wrong, make([]byte, 8)))
			threads := 1 << 16
			if c.exact {
				threads = 1<<23 + 1<<20
			}
			g.launch("divide", threads, uint64(wrong))
			counts := make([]byte, 8)
			must(t, g.dev.Read(counts, wrong))
			a, b := binary.LittleEndian.Uint32(counts), binary.LittleEndian.Uint32(counts[4:])
			if (a+b == 0) != c.exact {
				t.Errorf("%d and %d quotients of %d are not those of a division", a, b, threads)
			}
		})
	}
}

// TestQuantizeDefinition: the reference says what people know of the format.
func TestQuantizeDefinition(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for _, c := range []struct {
		in   float32
		want byte
	}{
		{0, 0}, {float32(math.Copysign(0, -1)), 0x80}, {1, 0x38}, {-1, 0xb8}, {448, 0x7e}, {464, 0x7e}, {1e30, 0x7e}, {-inf, 0xfe},
		{nan, 0x7f}, {1.0 / 512, 1}, {1.0 / 1024, 0}, {3.0 / 1024, 2}, {1.0625, 0x38}, {1.1875, 0x3a}, {7.0 / 512, 7}, {15.0 / 1024, 8},
	} {
		if got := toE4M3(c.in); got != c.want {
			t.Errorf("%v becomes %#x, want %#x", c.in, got, c.want)
		}
	}
	for b := range 256 {
		v := fromE4M3(byte(b))
		if got := toE4M3(float32(v)); v == v && got != byte(b) {
			t.Errorf("%#x is %v, and that is %#x", b, v, got)
		}
	}
	q := make([]byte, 4)
	for _, c := range []struct {
		in    []float32
		q     []byte
		scale float32
	}{
		{[]float32{0, 0, 0, 0}, []byte{0, 0, 0, 0}, float32(1e-4) / 448},
		{[]float32{1e-4, -1e-4, 5e-5, 0}, []byte{0x7e, 0xfe, 0x76, 0}, float32(1e-4) / 448},
		{[]float32{1e-6, 0, 0, 0}, []byte{0x49, 0, 0, 0}, float32(1e-4) / 448}, // 4.48, to 4.5
		{[]float32{448, 1, -1, 0.5}, []byte{0x7e, 0x38, 0xb8, 0x30}, 1},
		{[]float32{nan, 896, 2, 0}, []byte{0x7f, 0x7e, 0x38, 0}, 2},
		{[]float32{inf, -inf, 1e30, nan}, []byte{0x7e, 0xfe, 0, 0x7f}, math.MaxFloat32 / 448},
		{[]float32{math.MaxFloat32, 0, 0, 0}, []byte{0x7e, 0, 0, 0}, math.MaxFloat32 / 448},
	} {
		if scale := quantize(q, c.in); !bytes.Equal(q, c.q) || scale != c.scale {
			t.Errorf("%v becomes %#x with scale %v, want %#x with %v", c.in, q, scale, c.q, c.scale)
		}
	}
}

// quantizeInputs are blocks of all kinds.
func quantizeInputs() []float32 {
	rng := rand.New(rand.NewPCG(1, 2))
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	var all []float32
	add := func(f func(i int) float32) {
		for i := range quantBlock {
			all = append(all, f(i))
		}
	}
	with := func(f func(i int) float32, special ...float32) {
		at := rng.IntN(quantBlock - len(special))
		add(func(i int) float32 {
			if i >= at && i < at+len(special) {
				return special[i-at]
			}
			return f(i)
		})
	}
	normal := func(int) float32 { return float32(rng.NormFloat64()) }
	zero := func(int) float32 { return 0 }
	for range 20 {
		add(normal)
		// Magnitudes over all of fp32's range, subnormals among them.
		add(func(int) float32 { return math.Float32frombits(rng.Uint32() &^ (1 << 30)) })
		scale := float32(math.Exp2(float64(rng.IntN(200) - 100)))
		add(func(int) float32 { return scale * float32(rng.NormFloat64()) })
	}
	add(zero)
	add(func(int) float32 { return float32(math.Copysign(0, -1)) })
	for _, most := range []float32{1e-4, 9.9e-5, 1e-6, 1e-38, 1e-45, 448, 1, math.MaxFloat32, 1e-4 * 1.0000001} {
		with(zero, most)
		with(zero, -most)
		add(func(i int) float32 { return most * float32(i-64) / 64 })
	}
	for _, special := range [][]float32{{nan}, {inf}, {-inf}, {nan, inf, -inf}, {-nan, 3}} {
		with(normal, special...)
		with(zero, special...)
	}
	add(func(int) float32 { return nan })
	add(func(int) float32 { return inf })
	// With a largest magnitude of 448 nothing is scaled: every number of the
	// format, every tie between two, and the neighbours of those.
	var exact []float32
	for b := range 0x7e {
		tie := float32(e4m3[b]+e4m3[b+1]) / 2
		exact = append(exact, float32(e4m3[b]), tie, math.Nextafter32(tie, 0), math.Nextafter32(tie, 500))
	}
	for part := range slices.Chunk(exact, quantBlock-1) {
		for _, sign := range []float32{1, -1} {
			add(func(i int) float32 {
				if i < len(part) {
					return sign * part[i]
				}
				return 448
			})
		}
	}
	return all
}

// emulateQuantize runs the kernel on an emulated GPU.
func emulateQuantize(t *testing.T, in []float32, each int) (q []byte, scales []float32) {
	t.Helper()
	g := newQuantizeGPU(t, fmt.Sprintf(quantizeKernel, each), func(text string) string { return text })
	blocks := len(in) / quantBlock
	from, to, scale := g.alloc(4*len(in)), g.alloc(len(in)), g.alloc(4*blocks)
	data, err := binary.Append(nil, binary.LittleEndian, in)
	must(t, err)
	must(t, g.dev.Write(from, data))
	g.launch("quantize_blocks", quantBlock/each*blocks, uint64(from), uint64(blocks), uint64(to), uint64(scale))
	q, words := make([]byte, len(in)), make([]byte, 4*blocks)
	must(t, g.dev.Read(q, to))
	must(t, g.dev.Read(words, scale))
	scales = make([]float32, blocks)
	_, err = binary.Decode(words, binary.LittleEndian, scales)
	must(t, err)
	return q, scales
}

// quantizeGPU is an emulated GPU with a kernel that uses quantize.cuh.
type quantizeGPU struct {
	t      *testing.T
	dev    driver.Device
	module driver.Module
	stream driver.Stream
}

// newQuantizeGPU compiles the kernel behind quantize.cuh, of which edit may make
// another one. The test's end closes it.
func newQuantizeGPU(t *testing.T, kernel string, edit func(string) string) *quantizeGPU {
	t.Helper()
	if _, err := nvcc.Find(t.Context()); err != nil {
		t.Skipf("kernels have to be compiled: %v", err)
	}
	functions, err := fs.ReadFile(templates.CUDA(), "quantize.cuh")
	must(t, err)
	drv, err := emu.New(emu.Config{Devices: 1})
	must(t, err)
	g := &quantizeGPU{t: t, dev: drv.Devices()[0]}
	g.module, _, err = moert.LoadSource(t.Context(), g.dev, "quantize.cu", []byte("#include <cstdint>\n"+edit(string(functions))+kernel), nil)
	must(t, err)
	g.stream, err = g.dev.NewStream()
	must(t, err)
	t.Cleanup(func() {
		must(t, g.stream.Close())
		must(t, g.module.Unload())
		must(t, drv.Close())
	})
	return g
}

// alloc allocates memory until the test ends.
func (g *quantizeGPU) alloc(bytes int) driver.DevicePtr {
	g.t.Helper()
	p, err := g.dev.Alloc(uint64(bytes))
	must(g.t, err)
	g.t.Cleanup(func() { must(g.t, g.dev.Free(p)) })
	return p
}

// launch runs the kernel with so many threads, or a few more, to its end.
func (g *quantizeGPU) launch(name string, threads int, params ...uint64) {
	g.t.Helper()
	kernel, err := g.module.Function(name)
	must(g.t, err)
	data, err := binary.Append(nil, binary.LittleEndian, params)
	must(g.t, err)
	const block = 64
	must(g.t, g.stream.Launch(kernel, driver.LaunchConfig{Grid: driver.Dim3{X: (threads + block - 1) / block}, Block: driver.Dim3{X: block}}, data))
	must(g.t, g.stream.Synchronize())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
