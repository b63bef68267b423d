package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/moegen/moegen/cmd/moegen/doctor"
	"github.com/moegen/moegen/cmd/moegen/layer"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/emu"
	"github.com/moegen/moegen/runtime/nvcc"
)

// runReport is what one spec's run came to.
type runReport struct {
	Model       string              `json:"model"`
	Ranks       int                 `json:"ranks"`
	Shape       string              `json:"shape"`
	Backend     string              `json:"backend"`
	Why         string              `json:"backend_reason"`
	Driver      string              `json:"driver"`
	Device      string              `json:"device"`
	Layers      int                 `json:"layers"`
	Runs        []*transportRun     `json:"runs"`
	Comparisons []*layer.Comparison `json:"comparisons,omitempty"`
	Mode        string              `json:"mode,omitempty"`  // of the emulator
	Seed        uint64              `json:"seed"`            // of the last schedule
	Seeds       int                 `json:"seeds,omitempty"` // how many schedules ran
	Error       string              `json:"error,omitempty"`
	OK          bool                `json:"ok"`
}

// transportRun is the run over one transport.
type transportRun struct {
	Asked   string        `json:"asked"` // "auto" for the first that works
	Skipped string        `json:"skipped,omitempty"`
	Error   string        `json:"error,omitempty"`
	Result  *layer.Result `json:"result,omitempty"`
	// Advice has the known causes of Error and of refusals.
	Advice  []*doctor.Cause `json:"advice,omitempty"`
	Seconds float64         `json:"seconds"`
}

var emulatorModes = map[string]emu.Mode{"fast": emu.Fast, "check": emu.Check, "explore": emu.Explore}

// runSeeds runs as many schedules as were asked for, each on a machine of its
// own, up to the first that goes wrong. The report is the last one's.
func (j *runJob) runSeeds(ctx context.Context, stderr io.Writer) *runReport {
	each, all := stderr, io.Discard // where progress goes: of one schedule, or of many
	if j.flags.seeds > 1 {
		each, all = all, each
	}
	p := newProgress(all, "exploring: schedule")
	defer p.end()
	for i := 0; ; i++ {
		seed := j.flags.seed + uint64(i)
		report := j.run(ctx, each, emu.Config{Mode: emulatorModes[j.flags.mode], Seed: seed})
		if report.Backend == "emu" {
			report.Mode, report.Seed, report.Seeds = j.flags.mode, seed, i+1
		}
		p.step(i+1, j.flags.seeds)
		if !report.OK || i+1 == j.flags.seeds || ctx.Err() != nil {
			return report
		}
	}
}

// complain prints what went wrong on a rank that prints no report.
func (r *runReport) complain(w io.Writer, rank int) {
	if r.Error != "" {
		fmt.Fprintf(w, "moegen run: rank %d: %s\n", rank, r.Error)
	}
	for _, x := range r.Runs {
		if x.Error != "" {
			fmt.Fprintf(w, "moegen run: rank %d: %s: %s\n", rank, x.Asked, x.Error)
		}
	}
}

// judged is a driver that judges what ran on it.
type judged interface{ Verdict() emu.Verdict }

func (j *runJob) run(ctx context.Context, stderr io.Writer, machine emu.Config) *runReport {
	s := j.spec
	report := &runReport{Model: s.Model, Ranks: s.EPSize, Layers: j.flags.layers,
		Shape: fmt.Sprintf("hidden %d %s, top %d of %d experts, wire %s", s.HiddenDim, s.DType, s.TopK, layer.Experts(s).NumExperts, s.Combine.Wire)}
	if j.place != nil {
		machine.Devices = s.EPSize
	}
	b, err := openBackend(j.flags.backend, j.gpus(), j.flags.share, machine)
	if err != nil {
		report.Error = errorText(err)
		return report
	}
	report.Backend, report.Why, report.Driver = b.driver.Name(), b.why, b.driver.Version()
	report.Device = b.driver.Devices()[0].Info().Name
	if err := j.compile(ctx, b, stderr); err != nil {
		report.Error = errorText(err)
	} else if j.place == nil {
		report.OK = j.runAll(ctx, b, report, stderr)
	} else if j.group, err = j.join(ctx, b, stderr); err != nil {
		report.Error = errorText(err)
	} else {
		report.Why += fmt.Sprintf(", one of %d processes", j.place.Size)
		report.OK = j.runAll(ctx, b, report, stderr)
		if err := j.group.Close(); err != nil {
			report.OK, report.Error = false, "close the group: "+err.Error()
		}
	}
	if d, ok := b.driver.(judged); ok && report.OK && d.Verdict() != emu.Clean {
		report.OK, report.Error = false, fmt.Sprintf("the emulator judges the execution %v", d.Verdict())
	}
	if err := b.driver.Close(); err != nil {
		report.OK, report.Error = false, "close the driver: "+err.Error()
	}
	return report
}

// compile loads the kernels once before all ranks do: a compiler that is
// missing, or a source that it refuses, is then told of once.
func (j *runJob) compile(ctx context.Context, b *backend, stderr io.Writer) error {
	p := newProgress(stderr, "compiling the kernels of "+j.spec.Model)
	module, _, err := moert.LoadSource(ctx, b.driver.Devices()[0], j.program.Name+".cu", j.program.Source, j.program.PTX)
	p.end()
	switch {
	case errors.Is(err, nvcc.ErrNotFound):
		return fmt.Errorf("%w\nor run \"moegen generate\" where there is one: the PTX that it leaves beside the spec needs no compiler", err)
	case err != nil:
		return err
	}
	return module.Unload()
}

// runAll runs every transport and compares those that can be compared.
func (j *runJob) runAll(ctx context.Context, b *backend, report *runReport, stderr io.Writer) bool {
	ok, ran := true, 0
	var p2p, nccl *layer.Result
	for _, t := range j.transports {
		r := j.runOne(ctx, b, t, stderr)
		report.Runs = append(report.Runs, r)
		if r.Result != nil {
			ran++
			ok = ok && r.Result.OK()
			switch t {
			case moert.P2P:
				p2p = r.Result
			case moert.NCCL:
				nccl = r.Result
			}
		}
		ok = ok && r.Error == ""
		if ctx.Err() != nil {
			return false
		}
	}
	// What is wrong in itself is not worth comparing.
	if p2p != nil && nccl != nil && p2p.OK() && nccl.OK() && j.group == nil {
		c, err := layer.Compare(p2p, nccl, b.driver.Name())
		if err != nil {
			report.Error = err.Error()
			return false
		}
		report.Comparisons = append(report.Comparisons, c)
		ok = ok && c.OK()
	}
	if ran == 0 && ok {
		report.Error = "no transport could be used"
		return false
	}
	return ok
}

func (j *runJob) runOne(ctx context.Context, b *backend, t moert.Transport, stderr io.Writer) *transportRun {
	r := &transportRun{Asked: string(t)}
	if t == "" {
		r.Asked = "auto"
	}
	p := newProgress(stderr, fmt.Sprintf("%s over %s: step", j.spec.Model, r.Asked))
	start := time.Now()
	c := layer.Config{
		Spec: j.spec, Program: j.program, Devices: b.devices(j.spec.EPSize), Share: j.flags.share, Joined: j.group, Transport: t,
		Tokens: j.tokens, Layers: j.flags.layers, Capacity: j.capacity, Seed: j.flags.seed,
		Partials: partials[j.flags.partial], Keep: len(j.transports) > 1 && j.group == nil, Progress: p.step,
		Options: []moert.Option{moert.WithLogger(j.flags.logger(stderr))},
	}
	if j.flags.serial {
		c.Options = append(c.Options, moert.WithSerialLaunch())
	}
	if j.group != nil && b.driver.Name() == "emu" {
		// A peer that is slow to emulate is not missing; one that ends is noticed.
		c.Options = append(c.Options, moert.WithTimeout(time.Minute))
	}
	if j.flags.graph != "only" {
		c.Steps = j.counted(j.flags.steps)
	}
	if j.flags.graph != "off" {
		c.Replays = j.counted(j.flags.replays)
	}
	result, err := layer.Run(ctx, c)
	p.end()
	r.Result, r.Seconds = result, time.Since(start).Seconds()
	switch {
	case err == nil:
	case j.all && errors.Is(err, moert.ErrNoTransport):
		r.Skipped = errorText(err)
	default:
		r.Error = errorText(err)
	}
	r.advise()
	return r
}
