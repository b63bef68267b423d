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
}

// TestSamePTXSameBytes runs the p2p dispatcher, with partial sums of random
// bits, from one PTX on GPUs and on the emulator: all gathered and combined
// bytes are the same. Without GPUs it compares the emulator with the record.
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

	emulator := runBytes(t, emulated(t, 2), programs)
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
		here := runBytes(t, m, programs)
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

func runBytes(t *testing.T, m machine, programs map[string]*moert.Program) map[string]modelBytes {
	t.Helper()
	all := map[string]modelBytes{}
	for name, p := range programs {
		sum := sha256.Sum256(p.PTX)
		x := modelBytes{PTX: hex.EncodeToString(sum[:])}
		r := open(t, m, p, moert.WithTransport(moert.P2P))
		if !strings.Contains(r.d[0].Image(), "embedded PTX") {
			t.Errorf("%s: kernels from %q, not from the PTX that is to be compared", name, r.d[0].Image())
		}
		for i, tokens := range [][2]int{{3, 5}, {1, 0}, {0, 2}, {64, 7}} {
			x.Steps = append(x.Steps, r.stepBytes(t, uint64(i), tokens))
		}
		r.close(t)
		all[name] = x
	}
	return all
}

// stepBytes runs one step on inputs made of seed.
func (r *rig) stepBytes(t *testing.T, seed uint64, tokens [2]int) stepBytes {
	t.Helper()
	p, total := r.prog, tokens[0]+tokens[1]
	random := func(dev driver.Device, ptr driver.DevicePtr, bytes int, stream uint64) error {
		var key [32]byte
		key[0], key[1] = byte(seed), byte(stream)
		data := make([]byte, bytes)
		_, _ = rand.NewChaCha8(key).Read(data) // makes no errors
		return dev.Write(ptr, data)
	}
	for rank, d := range r.d {
		for i, bytes := range rowBytes(p) {
			if err := random(d.Device(), r.in[rank][i].Ptr, tokens[rank]*bytes, uint64(4*rank+i)); err != nil {
				t.Fatal(err)
			}
		}
		if err := random(d.Device(), d.PartialBuffer().Ptr, total*p.WireRowBytes(), uint64(4*rank+3)); err != nil {
			t.Fatal(err)
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
		if outputs[rank], err = d.Combine(s, moert.CombineArgs{Partial: d.PartialBuffer()}); err != nil {
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
	x.Out = r.hash(t, func(rank int) (driver.DevicePtr, int) {
		return outputs[rank].Out.Ptr, tokens[rank] * p.HiddenRowBytes()
	})
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
