package litmus

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/moegen/moegen/runtime/emu"
)

// shape is a litmus test: accesses per thread and the outcome that it asks
// about.
type shape struct {
	name, text, outcome string
	// verdicts are our own, by hand, for the orders weak, relaxed, acq-rel,
	// fence.acq_rel and fence.sc with a scope that includes all threads: A
	// allowed, F forbidden. With a narrower scope all is as with weak, unless
	// always says that the outcome is forbidden whatever the scope.
	verdicts string
	always   bool
	// reason says why Explore cannot show the outcome; "" says that it must
	// where it is allowed.
	reason string
}

var distance = map[string]string{cta: "threads of one block", gpu: "blocks of one GPU", sys: "GPUs"}

const (
	future   = "a load would have to return a store that has not been executed"
	reversed = "stores of one location would have to take effect in another order than that of execution"
	newest   = "weak loads return what memory holds: that they race is reported instead, see TestWeak"
	atomic   = "atoms are atomic here for all scopes"
)

var shapes = []shape{
	{name: "MP", text: "Wx1 Wy1|Ry Rx", outcome: "r0=1 r1=0", verdicts: "AAFFF"},
	{name: "SB", text: "Wx1 Ry|Wy1 Rx", outcome: "r0=0 r1=0", verdicts: "AAAAF"},
	{name: "LB", text: "Rx Wy1|Ry Wx1", outcome: "r0=1 r1=1", verdicts: "AAFFF", reason: future},
	{name: "IRIW", text: "Wx1|Wy1|Rx Ry|Ry Rx", outcome: "r0=1 r1=0 r2=1 r3=0", verdicts: "AAAAF"},
	{name: "2+2W", text: "Wx1 Wy2|Wy1 Wx2", outcome: "x=1 y=1", verdicts: "AAAAF", reason: reversed},
	{name: "CoRR", text: "Wx1|Rx Rx", outcome: "r0=1 r1=0", verdicts: "AFFFF"},
	{name: "CoWW", text: "Wx1 Wx2", outcome: "x=1", verdicts: "FFFFF", always: true},
	{name: "CoRW1", text: "Rx Wx1", outcome: "r0=1", verdicts: "FFFFF", always: true},
	{name: "CoRW2", text: "Rx Wx1|Wx2", outcome: "r0=2 x=2", verdicts: "AFFFF", reason: reversed},
	{name: "CoWR", text: "Wx1 Rx|Wx2", outcome: "r0=2 x=1", verdicts: "FFFFF", always: true},
	{name: "WRC", text: "Wx1|Rx Wy1|Ry Rx", outcome: "r0=1 r1=1 r2=0", verdicts: "AAFFF"},
	{name: "ISA2", text: "Wx1 Wy1|Ry Wz1|Rz Rx", outcome: "r0=1 r1=1 r2=0", verdicts: "AAFFF"},
	{name: "S", text: "Wx2 Wy1|Ry Wx1", outcome: "r0=1 x=2", verdicts: "AAFFF", reason: reversed},
	{name: "R", text: "Wx1 Wy1|Wy2 Rx", outcome: "r0=0 y=2", verdicts: "AAAAF"},
	{name: "MP+atom", text: "Wx1 Wy1|Ay1|Ry Rx", outcome: "r0=1 r1=2 r2=0", verdicts: "AAFFF"},
	{name: "2 atoms", text: "Ax1|Ax1", outcome: "r0=0 r1=0", verdicts: "FFFFF", reason: atomic},
}

// Each program runs so often, and where an outcome has to be reached and does
// not come, up to patience times as often.
const (
	runs     = 100
	patience = 30
)

// TestLitmus runs every shape with every order, scope and distance.
func TestLitmus(t *testing.T) {
	var log strings.Builder
	for _, where := range places() {
		for seed, schedule := range []emu.Schedule{emu.RandomWalk, emu.PCT} {
			b := newBench(t, 4, emu.Config{Mode: emu.Explore, Seed: uint64(seed) + 1,
				Judge: emu.Judge{Schedule: schedule, PCTLength: 60}})
			for _, s := range shapes {
				for n, o := range orders {
					for _, scope := range []string{cta, gpu, sys} {
						if o.name == "weak" && scope != sys {
							continue
						}
						s.try(t, b, n, o, scope, where, &log)
					}
				}
			}
		}
	}
	t.Log(log.String())
}

func (s shape) try(t *testing.T, b *bench, n int, o order, scope, where string, log *strings.Builder) {
	p := parse(s.text, o, scope, where)
	may := allowed(p)
	name := fmt.Sprintf("%s %s.%s, %s", s.name, o.name, scope, distance[where])
	interesting := false
	for outcome := range may {
		interesting = interesting || matches(outcome, s.outcome)
	}
	column := n
	if !s.always && !p.includes(&event{scope: scope}) {
		column = 0 // no access is strong with those of the other threads
	}
	if want := s.verdicts[column] == 'A' || s.name == "2 atoms" && !p.includes(&event{scope: scope}); interesting != want {
		t.Errorf("%s: the axioms say that %s may be: %v; by hand: %v", name, s.outcome, interesting, want)
	}
	reason := s.reason
	if o.load == weak && reason == "" {
		reason = newest
	}
	seen := map[string]int{}
	shown, total := 0, 0
	for batch := 0; batch == 0 || batch < patience && shown == 0 && interesting && reason == ""; batch++ {
		total += runs
		for outcome, count := range b.run(t, p, runs) {
			seen[outcome] += count
			if !may[outcome] {
				t.Errorf("%s: %s is forbidden and came %d times", name, outcome, count)
			}
			if matches(outcome, s.outcome) {
				shown += count
			}
		}
	}
	switch {
	case !interesting:
	case reason != "" && shown > 0:
		t.Errorf("%s: %s came, but was thought to be out of reach: %s", name, s.outcome, reason)
	case reason != "":
		fmt.Fprintf(log, "%s: %s is allowed and out of reach: %s\n", name, s.outcome, reason)
	case shown == 0:
		t.Errorf("%s: %s is allowed and did not come in %d runs", name, s.outcome, total)
	default:
		fmt.Fprintf(log, "%s: %s came in %d of %d runs; %d of %d allowed outcomes\n", name, s.outcome, shown, total, len(seen), len(may))
	}
}

// places are how far apart threads may be.
func places() []string {
	if testing.Short() {
		return []string{gpu}
	}
	return []string{cta, gpu, sys}
}

// TestWeak: programs whose threads have nothing but weak accesses race, unless
// there is only one thread; the judge says so in every run, and nothing else.
func TestWeak(t *testing.T) {
	for _, where := range places() {
		for _, s := range shapes {
			p := parse(s.text, orders[0], sys, where)
			b := newBench(t, 4, emu.Config{Mode: emu.Check, Seed: 1})
			b.run(t, p, 1)
			raced := false
			for _, r := range b.drv.Reports() {
				raced = raced || r.Race != nil && (r.Kind == emu.DataRace || r.Kind == emu.WeakRaceWithStrong)
				if r.Race == nil {
					t.Errorf("%s, %s: %s", s.name, distance[where], r.Text)
				}
			}
			if want := len(p.threads) > 1 && s.name != "2 atoms"; raced != want {
				t.Errorf("%s weak, %s: a race is reported: %v; want %v", s.name, distance[where], raced, want)
			}
		}
	}
}

// TestStrong: programs whose accesses are all strong in scopes that include all
// threads have no race, whatever their outcome.
func TestStrong(t *testing.T) {
	for _, where := range places() {
		for _, s := range shapes {
			for _, o := range orders[1:] {
				b := newBench(t, 4, emu.Config{Mode: emu.Check, Seed: 1})
				b.run(t, parse(s.text, o, where, where), 1)
				for _, r := range b.drv.Reports() {
					t.Errorf("%s %s, %s: %s", s.name, o.name, distance[where], r.Text)
				}
				if len(parse(s.text, o, where, where).threads) == 1 || where == cta {
					continue
				}
				narrow := newBench(t, 4, emu.Config{Mode: emu.Check, Seed: 1})
				narrow.run(t, parse(s.text, o, cta, where), 1)
				found := false
				for _, r := range narrow.drv.Reports() {
					found = found || r.Kind == emu.ScopeTooNarrow
				}
				if !found {
					t.Errorf("%s %s.cta, %s: no report of a scope too narrow", s.name, o.name, distance[where])
				}
			}
		}
	}
}

// TestModel: the axioms give what is known of the plainest programs.
func TestModel(t *testing.T) {
	p := parse("Wx1 Wy1|Ry Rx", orders[2], sys, sys)
	var got []string
	for o := range allowed(p) {
		got = append(got, o)
	}
	slices.Sort(got)
	want := "[r0=0 r1=0 x=1 y=1 r0=0 r1=1 x=1 y=1 r0=1 r1=1 x=1 y=1]"
	if fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}
