package gpu

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/moegen/moegen/cmd/moegen/gen"
	"github.com/moegen/moegen/cmd/moegen/layer"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/spec"
)

// modelRun is what models.json has of a model.
type modelRun struct {
	Model     string             `json:"model"`
	HiddenDim int                `json:"hidden_dim"`
	TopK      int                `json:"topk"`
	MaxErrors map[string]float64 `json:"max_error_of_bound"` // by transport and way of launching
	Images    map[string]string  `json:"kernels"`
	Compared  *layer.Comparison  `json:"p2p_and_nccl,omitempty"`
	Seconds   float64            `json:"seconds"`
}

// TestModels runs whole MoE layers of five models on two ranks, eagerly, as a
// replayed graph, and with a prefill among either, over p2p and nccl. Gathered tensors are compared bit by
// bit, outputs with float64 sums; and the transports' outputs with each other.
func TestModels(t *testing.T) {
	m := gpus(t, 2)
	all := specs(t, func(s *spec.Spec) {
		if m.real {
			s.MaxTokens = max(s.MaxTokens, 1024)
		} else {
			s.MaxTokens, s.SMLimit = 32, 8
		}
		s.MaxPrefillTokens = 2 * s.MaxTokens
	})
	names := []string{"deepseek-v3", "qwen3-235b-a22b", "gpt-oss-120b", "nemotron-3-nano", "mixtral-8x7b"}
	programs := map[string]*moert.Program{}
	for _, name := range names {
		if all[name] == nil {
			t.Fatalf("no spec of %s", name)
		}
		programs[name] = program(t, all[name])
	}
	compileAll(t, m, programs)
	var runs []*modelRun
	// Also if a model fails: the others' results are wanted all the more.
	defer func() { writeResult(t, "models.json", runs) }()
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			run := &modelRun{Model: name, HiddenDim: all[name].HiddenDim, TopK: all[name].TopK,
				MaxErrors: map[string]float64{}, Images: map[string]string{}}
			runs = append(runs, run)
			start := time.Now()
			testModel(t, m, all[name], programs[name], run)
			run.Seconds = time.Since(start).Seconds()
		})
	}
}

// compileAll fills the compiler's cache with all models at once: one after the
// other they would take most of the time.
func compileAll(t *testing.T, m machine, programs map[string]*moert.Program) {
	t.Helper()
	start := time.Now()
	var wg sync.WaitGroup
	for name, p := range programs {
		wg.Go(func() {
			module, _, err := moert.LoadSource(t.Context(), m.Devices()[0], p.Name+".cu", p.Source, p.PTX)
			if err == nil {
				err = module.Unload()
			}
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	if wg.Wait(); t.Failed() {
		t.FailNow()
	}
	t.Logf("compiled %d models in %v", len(programs), time.Since(start).Round(time.Millisecond))
}

// modelSteps are token counts of both ranks; the last eager ones are a
// prefill's. Replays go through the others, mostly small ones: the host's
// reference is what takes the time.
func modelSteps(m machine, s *spec.Spec) (each, replayed [][]int) {
	each = [][]int{{0, 1}, {1, 0}, {1, 1}, {3, 3}, {7, 64}, {128, 128}, {512, 500}}
	if !m.real {
		each = [][]int{{0, 1}, {1, 0}, {1, 1}, {3, 3}, {7, 24}, {32, 31}}
	}
	few := each[:5]
	replayed = append(replayed, each...)
	each = append(each, []int{s.MaxTokens + 9, 5})
	for len(replayed) < 50 {
		replayed = append(replayed, few[len(replayed)%len(few)])
	}
	return each, replayed
}

func testModel(t *testing.T, m machine, s *spec.Spec, p *moert.Program, run *modelRun) {
	each, replayed := modelSteps(m, s)
	eager := map[moert.Transport]*layer.Result{}
	for _, way := range []struct {
		transport moert.Transport
		protocol  gen.Protocol
		capacity  int
	}{{moert.P2P, gen.LL, pick(m, 512, 0)}, {moert.P2P, gen.Bulk, 0}, {moert.NCCL, gen.Auto, 0}} {
		if !slices.Contains(m.transports(), way.transport) {
			continue
		}
		layer.SetProtocol(p, s, way.protocol)
		name := fmt.Sprintf("%s %s", way.transport, way.protocol)
		c := layer.Config{
			Spec: s, Program: p, Devices: m.ranks(2), Share: m.oneGPU, Transport: way.transport, Layers: 2, Seed: 1,
			Capacity: way.capacity, Options: []moert.Option{moert.WithLogger(quiet)},
		}
		c.Tokens, c.Steps, c.Keep = each, len(each), true
		eager[way.transport] = runLayers(t, c, run, name+" eager")
		c.Tokens, c.Steps, c.Keep, c.Seed = replayed, 0, false, 2
		c.Replays = pick(m, 100, 8)
		runLayers(t, c, run, name+" graph")
	}
	a, b := eager[moert.P2P], eager[moert.NCCL]
	if a == nil || b == nil || !a.OK() || !b.OK() {
		return
	}
	c, err := layer.Compare(a, b, m.Name())
	if err != nil {
		t.Fatal(err)
	}
	run.Compared = c
	for _, f := range c.Faults {
		t.Errorf("p2p and nccl: %s", f)
	}
	// Two partial sums are rounded once over either transport.
	if c.MaxULP > 1 {
		t.Errorf("p2p and nccl differ by %v units in the last place", c.MaxULP)
	}
	t.Logf("p2p and nccl: %d of %d elements are the same, at most %.2f units in the last place apart", c.Equal, c.Elements, float64(c.MaxULP))
}

func runLayers(t *testing.T, c layer.Config, run *modelRun, what string) *layer.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	start := time.Now()
	result, err := layer.Run(ctx, c)
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return nil
	}
	if result.Transport != c.Transport {
		t.Errorf("%s: ran over %s", what, result.Transport)
	}
	for _, s := range result.Steps {
		for _, r := range s.Ranks {
			for _, f := range r.Faults {
				t.Errorf("%s step %d rank %d of %d tokens: %s", what, s.Index, r.Rank, r.Tokens, f)
			}
		}
	}
	run.MaxErrors[what], run.Images[what] = result.MaxError(), result.Image
	t.Logf("%s: %d steps in %v, kernels from %s, largest error %.3f of the bound", what, len(result.Steps),
		time.Since(start).Round(time.Millisecond), result.Image, result.MaxError())
	return result
}

var _ driver.Driver = machine{}
