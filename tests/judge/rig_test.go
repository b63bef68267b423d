package judge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/moegen/moegen/cmd/moegen/gen"
	"github.com/moegen/moegen/cmd/moegen/layer"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/emu"
	"github.com/moegen/moegen/spec"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// shape is a model that is small enough for many schedules.
func shape(ranks, tokens, sms int, more string) string {
	return fmt.Sprintf("hidden_dim: 64\ntopk: 2\ndtype: bf16\nep_size: %d\nmax_tokens: %d\nnum_experts: 24\nsm_limit: %d\n%s", ranks, tokens, sms, more)
}

// job is a layer to run and to judge.
type job struct {
	text      string
	spec      *spec.Spec     // if it is not text,
	prog      *moert.Program // and its program, planned
	transport moert.Transport
	config    emu.Config // Devices is set from the spec
	tokens    [][]int
	layers    int
	eager     bool // no replays of a graph
	partials  layer.Partials
	protocol  gen.Protocol // of a text's plan; "" is gen.Auto
	// capacity, if not 0, is that of steps in graphs, which have protocol LL then,
	// and those outside Bulk.
	capacity int
	// damage replaces text of the CUDA source.
	damage [2]string
}

// run drives the whole layer with its demonstration experts, which read what
// was gathered and write the partial sums, and verifies the results. The
// reports are those up to the end of the machine.
func (j job) run(t testing.TB) ([]emu.Report, error) {
	t.Helper()
	s, p := j.spec, j.prog
	if s == nil {
		var err error
		if s, err = spec.Parse("moe.yaml", []byte(j.text)); err != nil {
			t.Fatal(err)
		}
		if p, err = layer.Program(s); err != nil {
			t.Fatal(err)
		}
		layer.SetProtocol(p, s, j.protocol)
	}
	if j.capacity > 0 {
		low := gen.Plan(s, gen.LL)[0]
		low.Tokens = j.capacity
		p.Plan = append([]moert.PlanRow{moert.PlanRow(low)}, p.Plan[len(p.Plan)-1])
	}
	if from, to := j.damage[0], j.damage[1]; from != "" {
		if !strings.Contains(string(p.Source), from) {
			t.Fatalf("the source does not have %q", from)
		}
		p.Source = []byte(strings.ReplaceAll(string(p.Source), from, to))
	}
	j.config.Devices = s.EPSize
	drv, err := emu.New(j.config)
	if err != nil {
		t.Fatal(err)
	}
	replays := len(j.tokens)
	if j.eager {
		replays = 0
	}
	res, err := layer.Run(context.Background(), layer.Config{
		Spec: s, Program: p, Devices: drv.Devices(), Transport: j.transport, Tokens: j.tokens, Steps: len(j.tokens),
		Replays: replays, Capacity: j.capacity, Layers: j.layers, Partials: j.partials, Options: []moert.Option{moert.WithLogger(quiet)},
	})
	if err != nil {
		err = fmt.Errorf("run: %w", err)
	} else {
		for _, step := range res.Steps {
			for _, r := range step.Ranks {
				for _, f := range r.Faults {
					err = errors.Join(err, fmt.Errorf("step %d, rank %d: %s", step.Index, r.Rank, f))
				}
			}
		}
	}
	err = errors.Join(err, drv.Close())
	return drv.Reports(), err
}

// counts makes uneven token counts with zeros for some steps.
func counts(ranks, most, steps int) [][]int {
	out := make([][]int, steps)
	for i := range out {
		out[i] = make([]int, ranks)
		for r := range out[i] {
			out[i][r] = max((3*i+5*r+i*r)%(most+2)-1, 0)
		}
	}
	return out
}
