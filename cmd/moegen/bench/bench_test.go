package bench

import (
	"bytes"
	"strings"
	"testing"

	"github.com/moegen/moegen/cmd/moegen/layer"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/emu"
	"github.com/moegen/moegen/spec"
)

const small = "hidden_dim: 256\ntopk: 2\ndtype: bf16\nep_size: 2\nmax_tokens: 16\nsm_limit: 4\n"

// config is a small benchmark on emulated GPUs.
func config(t *testing.T) Config {
	t.Helper()
	s, err := spec.Parse("small.yaml", []byte(small))
	if err != nil {
		t.Fatal(err)
	}
	p, err := layer.Program(s)
	if err != nil {
		t.Fatal(err)
	}
	d, err := emu.New(emu.Config{Devices: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return Config{Spec: s, Program: p, Devices: d.Devices(), Transport: moert.P2P, Tokens: []int{1, 8}, Layers: 3}
}

// TestRun: everything that is measured on GPUs runs on the emulator, over every
// transport.
func TestRun(t *testing.T) {
	for _, transport := range []moert.Transport{moert.P2P, moert.NVLS, moert.NCCL} {
		t.Run(string(transport), func(t *testing.T) {
			c := config(t)
			c.Transport = transport
			said := 0
			c.Progress = func(done, total int, what string) {
				if done != said || done >= total || what == "" {
					t.Errorf("progress %d of %d: %q", done, total, what)
				}
				said++
			}
			r, err := Run(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			if !r.Emulated || r.Transport != transport || len(r.Rows) != 2 || len(r.Skew) != 1 || r.NoNCCL != "" {
				t.Fatalf("%+v", r)
			}
			f := r.Floor
			if f.EmptyNode <= 0 || f.Flag <= 0 || f.OrderedFlag <= 0 || f.PeerCopyGBs <= 0 || f.BothCopyGBs <= 0 || f.StoreGBs <= 0 || f.BothStoreGBs <= 0 {
				t.Errorf("%+v", f)
			}
			for _, row := range r.Rows {
				alone := row.Dispatch != nil && row.Combine != nil && row.Counts != nil
				if alone == (transport == moert.NCCL) || row.Pair.Median <= 0 || row.Stores.Median <= 0 || row.Step.Median <= row.Experts.Median || row.Eager.Median <= 0 {
					t.Errorf("%+v", row)
				}
				if row.NCCL == nil || row.NCCL.BestGather() <= 0 || row.NCCL.BestReduce() <= 0 || row.NCCL.SymmetricGrouped != nil {
					t.Errorf("%+v", row.NCCL)
				}
			}
			if few := r.Rows[1].Fewer; len(few) != 1 || few[0].Tokens != 1 || few[0].Ratio <= 0 {
				t.Errorf("%+v", few)
			}
		})
	}
}

// TestSkew: a rank that comes late makes the others later, by about as much; the
// emulator's clock runs while all kernels wait.
func TestSkew(t *testing.T) {
	r, err := Run(t.Context(), config(t))
	if err != nil {
		t.Fatal(err)
	}
	if last := r.Skew[len(r.Skew)-1]; last.Late < 15 || last.Others < 15 {
		t.Errorf("%+v, want 20 us", last)
	}
}

// TestVerifies: kernels that compute wrong results are not timed.
func TestVerifies(t *testing.T) {
	c := config(t)
	right := []byte("(to) = Word(line);")
	if !bytes.Contains(c.Program.Source, right) {
		t.Fatalf("the source has no %q", right)
	}
	c.Program.Source = bytes.Replace(c.Program.Source, right, []byte("(to) = Word(line) + 1;"), 1)
	_, err := Run(t.Context(), c)
	const wrong = "rank 0 got wrong results with 1 tokens: layer 0: gathered routing"
	if err == nil || !strings.Contains(err.Error(), "1 tokens: before measuring: "+wrong) {
		t.Error(err)
	}
	if _, err := Alternate(t.Context(), []int{1}, 1, Version{Name: "a", Config: c}); err == nil || !strings.Contains(err.Error(), wrong) {
		t.Error(err)
	}
	if _, err := Alternate(t.Context(), []int{1}, 1, Version{Name: "a", Config: c, Wrong: true}); err != nil {
		t.Errorf("what is known to be wrong is verified: %v", err)
	}
}

// TestRefuses what cannot be measured.
func TestRefuses(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"2 ranks at least":             func(c *Config) { c.Devices = c.Devices[:1] },
		"0 layers":                     func(c *Config) { c.Layers = 0 },
		"no token counts":              func(c *Config) { c.Tokens = nil },
		"[8 8]: ascending ones from 1": func(c *Config) { c.Tokens = []int{8, 8} },
		"to max_tokens 16":             func(c *Config) { c.Tokens = []int{17} },
	} {
		c := config(t)
		change(&c)
		if _, err := Run(t.Context(), c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
