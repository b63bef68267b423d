package gpu

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moegen/moegen/cmd/moegen/gen"
	"github.com/moegen/moegen/cmd/moegen/layer"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/nvcc"
	"github.com/moegen/moegen/spec"
)

// bytesRecord is what the emulator computed when the test was written; a GPU
// has to compute the same.
const bytesRecord = "testdata/p2p_bytes.json"

//go:embed testdata/p2p_bytes.json
var recordedBytes []byte

// modelBytes identifies what steps of one model left in memory.
type modelBytes struct {
	PTX   string      `json:"ptx_sha256"` // not compared: it depends on nvcc
	Steps []stepBytes `json:"steps"`
}

// stepBytes are SHA-256 over both ranks' tensors.
type stepBytes struct {
	Tokens  [2]int `json:"tokens"`
	Routing string `json:"routing"`
	Probs   string `json:"probs"`
	Hidden  string `json:"hidden"`
	Out     string `json:"out"`
	Scales  string `json:"scales,omitempty"` // of out, where it is fp8
	Sum     string `json:"sum,omitempty"`    // where the epilogue has it
}

// TestSamePTXSameBytes runs every generated model's p2p dispatcher, with partial
// sums of random bits, from one PTX on GPUs and on the emulator, with either
// protocol: all gathered and combined bytes are the same. Without GPUs it compares
// the emulator with the record.
func TestSamePTXSameBytes(t *testing.T) {
	all := specs(t, func(s *spec.Spec) {
		s.MaxTokens, s.Transports = 64, []spec.Transport{spec.P2P}
	})
	programs := map[string]*moert.Program{}
	for name, s := range all {
		programs[name] = program(t, s)
		programs[name].PTX = modelPTX(t, name, programs[name].Source)
	}
	// Now that the PTX is there: no compiler and no cache, or CUDA would get
	// something else.
	t.Setenv("MOEGEN_NVCC", filepath.Join(t.TempDir(), "none"))
	t.Setenv("MOEGEN_CACHE_DIR", t.TempDir())

	emulator := runBytes(t, emulated(t, 2), all, programs)
	if os.Getenv("MOEGEN_UPDATE") == "1" {
		text, err := json.MarshalIndent(emulator, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(bytesRecord, append(text, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	} else {
		recorded := map[string]modelBytes{}
		if err := json.Unmarshal(recordedBytes, &recorded); err != nil {
			t.Fatal(err)
		}
		compareBytes(t, "the emulator", emulator, bytesRecord+" (MOEGEN_UPDATE=1 writes it)", recorded)
	}
	t.Run("cuda", func(t *testing.T) {
		m := gpus(t, 2)
		here := runBytes(t, m, all, programs)
		writeResult(t, "p2p_bytes.json", here)
		compareBytes(t, m.Version(), here, "the emulator", emulator)
	})
}

// modelPTX takes the PTX that came with the bundle, or compiles it.
func modelPTX(t *testing.T, model string, source []byte) []byte {
	t.Helper()
	name := model + ".ptx"
	ptx, err := os.ReadFile(filepath.Join("ptx", name))
	if err != nil {
		c, err := nvcc.Find(t.Context())
		if err != nil {
			t.Skipf("SKIPPED: needs nvcc, or PTX in a bundle: %v", err)
		}
		im, err := c.Compile(t.Context(), nvcc.Source{Name: model + ".cu", Text: source}, nvcc.Target{Arch: "sm_90a", PTX: true})
		if err != nil {
			t.Fatal(err)
		}
		ptx = im.Data
	}
	if dir := os.Getenv("MOEGEN_PTX_OUT"); dir != "" { // gpu-bundle.sh collects it
		if err := os.WriteFile(filepath.Join(dir, name), ptx, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return ptx
}

func runBytes(t *testing.T, m machine, specs map[string]*spec.Spec, programs map[string]*moert.Program) map[string]modelBytes {
	t.Helper()
	all := map[string]modelBytes{}
	for name, p := range programs {
		sum := sha256.Sum256(p.PTX)
		x := modelBytes{PTX: hex.EncodeToString(sum[:])}
		for _, protocol := range []gen.Protocol{gen.LL, gen.Bulk} {
			p := *p
			layer.SetProtocol(&p, specs[name], protocol)
			r := open(t, m, &p, moert.WithTransport(moert.P2P))
			if !strings.Contains(r.d[0].Image(), "embedded PTX") {
				t.Errorf("%s: kernels from %q, not from the PTX that is to be compared", name, r.d[0].Image())
			}
			var steps []stepBytes
			for i, tokens := range [][2]int{{3, 5}, {1, 0}, {0, 2}, {64, 7}} {
				steps = append(steps, r.stepBytes(t, uint64(i), tokens))
			}
			r.close(t)
			if x.Steps != nil && !slices.Equal(x.Steps, steps) {
				t.Errorf("%s: protocol %s leaves %+v, ll %+v", name, protocol, steps, x.Steps)
			}
			x.Steps = steps
		}
		all[name] = x
	}
	return all
}

// stepBytes runs one step on inputs made of seed.
func (r *rig) stepBytes(t *testing.T, seed uint64, tokens [2]int) stepBytes {
	t.Helper()
	p, total := r.prog, tokens[0]+tokens[1]
	random := func(dev driver.Device, ptr driver.DevicePtr, bytes int, stream uint64, finite bool) {
		var key [32]byte
		key[0], key[1] = byte(seed), byte(stream)
		data := make([]byte, bytes)
		_, _ = rand.NewChaCha8(key).Read(data) // makes no errors
		if finite {                            // bf16 of either sign, 2^-7 to 2^9
			for i := 1; i < len(data); i += 2 {
				data[i] = data[i]&0x80 | (0x3c + data[i]&7)
			}
		}
		if err := dev.Write(ptr, data); err != nil {
			t.Fatal(err)
		}
	}
	// A row of sums with one NaN is nothing else once it is normalised.
	norm := p.Epilogue.Norm != ""
	args := make([]moert.CombineArgs, 2)
	for rank, d := range r.d {
		for i, bytes := range rowBytes(p) {
			random(d.Device(), r.in[rank][i].Ptr, tokens[rank]*bytes, uint64(4*rank+i), false)
		}
		args[rank].Partial = d.PartialBuffer()
		random(d.Device(), args[rank].Partial.Ptr, total*p.WireRowBytes(), uint64(4*rank+3), norm)
		for i, in := range []struct {
			wanted bool
			t      *moert.Tensor
			rows   int
			bytes  int
		}{
			{p.Epilogue.Shared, &args[rank].Shared, p.MaxTokens, p.HiddenRowBytes()},
			{p.Epilogue.Residual, &args[rank].Residual, p.MaxTokens, p.HiddenRowBytes()},
			{norm, &args[rank].Weight, 1, p.HiddenDim * p.Epilogue.Norm.Size()},
		} {
			if !in.wanted {
				continue
			}
			var err error
			if *in.t, err = d.NewTensor(in.rows, in.bytes); err != nil {
				t.Fatal(err)
			}
			random(d.Device(), in.t.Ptr, in.rows*in.bytes, uint64(8+4*rank+i), norm)
		}
	}
	outputs := make([]moert.Combined, 2)
	err := r.each(func(_ context.Context, rank int) error {
		d, s, in := r.d[rank], r.streams[rank], r.in[rank]
		if err := d.BeginStep(s, moert.HostTokens(tokens[rank])); err != nil {
			return err
		}
		if _, err := d.Dispatch(s, moert.Rows{Routing: in[0], Probs: in[1], Hidden: in[2]}); err != nil {
			return err
		}
		var err error
		if outputs[rank], err = d.Combine(s, args[rank]); err != nil {
			return err
		}
		return d.Synchronize(s)
	})
	if err != nil {
		t.Fatal(err)
	}
	x := stepBytes{Tokens: tokens}
	bytes := rowBytes(p)
	for i, to := range []*string{&x.Routing, &x.Probs, &x.Hidden} {
		*to = r.hash(t, func(rank int) (driver.DevicePtr, int) {
			g := r.d[rank].Gathered()
			return []moert.Tensor{g.Routing, g.Probs, g.Hidden}[i].Ptr, total * bytes[i]
		})
	}
	of := func(tensor func(c moert.Combined) moert.Tensor, rowBytes int) string {
		return r.hash(t, func(rank int) (driver.DevicePtr, int) { return tensor(outputs[rank]).Ptr, tokens[rank] * rowBytes })
	}
	x.Out = of(func(c moert.Combined) moert.Tensor { return c.Out }, p.OutputRowBytes())
	if n := p.OutputScaleRowBytes(); n > 0 {
		x.Scales = of(func(c moert.Combined) moert.Tensor { return c.Scales }, n)
	}
	if p.Epilogue.Sum {
		x.Sum = of(func(c moert.Combined) moert.Tensor { return c.Sum }, p.HiddenRowBytes())
	}
	return x
}

// hash is over both ranks' memory, one after the other.
func (r *rig) hash(t *testing.T, memory func(rank int) (driver.DevicePtr, int)) string {
	t.Helper()
	h := sha256.New()
	for rank, d := range r.d {
		ptr, size := memory(rank)
		data := make([]byte, size)
		if size > 0 {
			if err := d.Device().Read(data, ptr); err != nil {
				t.Fatal(err)
			}
		}
		h.Write(data)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func compareBytes(t *testing.T, nameA string, a map[string]modelBytes, nameB string, b map[string]modelBytes) {
	t.Helper()
	for model, x := range a {
		y, ok := b[model]
		switch {
		case !ok:
			t.Errorf("%s: not in %s", model, nameB)
		case !slices.Equal(x.Steps, y.Steps):
			t.Errorf("%s: %s has %+v\n%s has %+v", model, nameA, x.Steps, nameB, y.Steps)
		case x.PTX != y.PTX:
			t.Logf("%s: same bytes from another PTX than in %s", model, nameB)
		}
	}
}
