// Package soak runs verified steps of every kind in random order for as long as
// one likes, on GPUs or emulated ones, and looks for what only time shows:
// a mismatch in some odd sequence, something that leaks, something that slows down.
package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/moegen/moegen/cmd/moegen/gen"
	"github.com/moegen/moegen/cmd/moegen/layer"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/spec"
)

// Config says what to run.
type Config struct {
	Spec      *spec.Spec // with max_prefill_tokens, for there are prefills
	Devices   []driver.Device
	Share     bool // ranks share a device
	Transport moert.Transport
	Seed      uint64 // of the steps' order, counts and inputs
	// For is how long it takes after the warm-up, but at least Least steps.
	For   time.Duration
	Least int
	// MemorySlack is how many bytes of free memory a device's driver may lose to
	// heaps of its own.
	MemorySlack uint64
	Options     []moert.Option

	// damage and meanwhile are for tests of whether faults are noticed: a change
	// to the kernels, and something to do after every step.
	damage    func(*moert.Program)
	meanwhile func(*layer.Session)
}

// Kinds of steps.
const (
	eager = iota
	replay
	prefill
	kinds
)

var kindNames = [kinds]string{"eager", "replay", "prefill"}

// warm is how many steps of each kind go before the first look at resources:
// what is loaded, or allocated once, is there then.
const warm = 8

// mostReplays is how often a graph is replayed at most: so often that a capture is
// the exception, and seldom enough that an hour has thousands of them.
const mostReplays = 12

// Report is what a run found. It is well if there are no Faults.
type Report struct {
	Seed          uint64         `json:"seed"`
	Steps         map[string]int `json:"steps"`
	Low           int            `json:"steps_of_ll"` // the others were of bulk
	Captures      int            `json:"captures"`
	Before, After Resources
	Seconds       float64 `json:"seconds"`
	Drift         []Drift `json:"drift"`
	Faults        []string
}

// Run soaks. The error is for what kept it from running to its end: a step that
// failed, or that could not be verified.
func Run(ctx context.Context, c Config) (report *Report, err error) {
	p, err := layer.Program(c.Spec)
	if err != nil {
		return nil, err
	}
	bothProtocols(p, c.Spec)
	if c.damage != nil {
		c.damage(p)
	}
	most := make([]int, c.Spec.EPSize)
	for i := range most {
		most[i] = c.Spec.MaxPrefillTokens
	}
	session, err := layer.Open(ctx, layer.Config{
		Spec: c.Spec, Program: p, Devices: c.Devices, Share: c.Share, Transport: c.Transport,
		Tokens: [][]int{most}, Layers: 2, Seed: c.Seed, Options: c.Options,
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, session.Close()) }()
	s := &soak{Config: c, Session: session, rng: rand.New(rand.NewPCG(c.Seed, 1)), report: &Report{Seed: c.Seed, Steps: map[string]int{}}}
	if got := session.Member(0).Dispatcher.Transport(); got != c.Transport {
		return s.report, fmt.Errorf("soak: %s was asked for and %s is used", c.Transport, got)
	}
	return s.report, s.run(ctx)
}

// bothProtocols plans ll for up to half of max_tokens and bulk for more, so that
// steps of one follow steps of the other.
func bothProtocols(p *moert.Program, s *spec.Spec) {
	half := (s.MaxTokens + 1) / 2
	p.Plan = nil
	for _, row := range gen.Plan(s, gen.LL) {
		last := row.Tokens >= half
		row.Tokens = min(row.Tokens, half)
		p.Plan = append(p.Plan, moert.PlanRow(row))
		if last {
			break
		}
	}
	for _, row := range gen.Plan(s, gen.Bulk) {
		if row.Tokens > half {
			p.Plan = append(p.Plan, moert.PlanRow(row))
		}
	}
}

type soak struct {
	Config
	*layer.Session
	rng      *rand.Rand
	report   *Report
	captured int // the capacity of the graph
	left     int // replays until it is captured anew
	times    [2][kinds][]time.Duration
}

func (s *soak) run(ctx context.Context) error {
	for i := 0; !s.warmedUp() && len(s.report.Faults) == 0; i++ {
		if _, err := s.step(ctx, i%kinds); err != nil {
			return err
		}
	}
	if len(s.report.Faults) > 0 {
		return nil
	}
	for part := range s.times { // now, so that they are no leak
		for kind := range kinds {
			s.times[part][kind] = make([]time.Duration, 0, kept)
		}
	}
	before, err := resources(s.Devices)
	if err != nil {
		return err
	}
	s.report.Before = before
	start := time.Now()
	for n := 0; n < s.Least || time.Since(start) < s.For; n++ {
		kind := []int{eager, eager, replay, replay, replay, prefill}[s.rng.IntN(6)]
		took, err := s.step(ctx, kind)
		if err != nil {
			return err
		}
		s.keep(kind, float64(time.Since(start))/float64(s.For+1), took)
		if len(s.report.Faults) > 0 {
			return nil // later steps may be wrong because this one was
		}
	}
	s.report.Seconds = time.Since(start).Seconds()
	s.report.Drift = s.drift()
	return s.compare(before)
}

func (s *soak) warmedUp() bool {
	for _, name := range kindNames {
		if s.report.Steps[name] < warm {
			return false
		}
	}
	return true
}

// step runs a step of one kind with random counts, and before a replay captures
// anew now and then.
func (s *soak) step(ctx context.Context, kind int) (time.Duration, error) {
	capacity, early := 1+s.rng.IntN(s.Spec.MaxTokens), s.rng.IntN(2) == 0
	what := ""
	var counts []int
	var done *layer.Step
	var err error
	switch kind {
	case replay:
		if s.left == 0 {
			if err := s.Capture(capacity, early); err != nil {
				return 0, s.failed(fmt.Sprintf("capture for %d tokens", capacity), err)
			}
			s.captured, s.left = capacity, 1+s.rng.IntN(mostReplays)
			s.report.Captures++
		}
		s.left--
		capacity = s.captured
		counts = s.counts(capacity)
		what = fmt.Sprintf("a replay of %d tokens, captured for %d", counts, capacity)
		done, err = s.Replay(ctx, counts)
	case prefill:
		counts = s.counts(s.Spec.MaxPrefillTokens)
		// One brings more than the capacity, or it is no prefill.
		counts[s.rng.IntN(len(counts))] = capacity + 1 + s.rng.IntN(s.Spec.MaxPrefillTokens-capacity)
		what = fmt.Sprintf("a prefill of %d tokens", counts)
		done, err = s.Eager(ctx, counts, capacity, false)
	default:
		counts = s.counts(capacity)
		what = fmt.Sprintf("an eager step of %d tokens for up to %d, counts early: %t", counts, capacity, early)
		done, err = s.Eager(ctx, counts, capacity, early)
	}
	if err != nil {
		return 0, s.failed(what, err)
	}
	s.report.Steps[kindNames[kind]]++
	if kind != prefill && capacity <= (s.Spec.MaxTokens+1)/2 {
		s.report.Low++
	}
	for _, r := range done.Ranks {
		for _, fault := range r.Faults {
			s.fault("step %d, %s: rank %d: %s", done.Index, what, r.Rank, fault)
		}
	}
	if s.meanwhile != nil {
		s.meanwhile(s.Session)
	}
	return done.Took, nil
}

// counts are uneven, and often none or the most.
func (s *soak) counts(most int) []int {
	counts := make([]int, s.Spec.EPSize)
	for i := range counts {
		switch s.rng.IntN(6) {
		case 0: // none
		case 1:
			counts[i] = most
		default:
			counts[i] = s.rng.IntN(most + 1)
		}
	}
	return counts
}

func (s *soak) failed(what string, err error) error {
	return fmt.Errorf("soak from seed %d, after steps %v, %s: %w", s.Seed, s.report.Steps, what, err)
}

func (s *soak) fault(format string, args ...any) {
	s.report.Faults = append(s.report.Faults, fmt.Sprintf("soak from seed %d: ", s.Seed)+fmt.Sprintf(format, args...))
}
