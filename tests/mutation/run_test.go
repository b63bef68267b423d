package mutation

import (
	"cmp"
	"flag"
	"fmt"
	"math/rand/v2"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/emu"
)

var (
	onlyOp  = flag.String("op", "", "run only mutants whose description matches this regular expression")
	workers = flag.Int("workers", 2, "how many mutants run at once, at most")
	full    = flag.Bool("full", false, "run all mutants, and spend the whole budget on those that are said to be equivalent, too")
	verbose = flag.Bool("verdicts", false, "log every mutant's verdict when it has one")
)

// job is a mutant to run, and then its result.
type job struct {
	*mutant
	target  *target
	verdict verdict
	where   string // the mode and scenario that killed it
	took    time.Duration
	missing string // what the judge should have said and did not
}

// budget is what a mutant is run under, one after another until it is dead.
// Check explores nothing, but most of what it finds it finds under any
// schedule; a starved warp is what PCT is good at.
type budget struct {
	name      string
	config    emu.Config
	runs      int // with seeds from the config's on
	scenarios []scenario
	// only, if set, says which mutants get this.
	only func(j *job) bool
}

// counting mutants are those of kernels that exchange counts.
func counting(j *job) bool { return j.target.accesses(j.kernel, countRole) }

// timing mutants are those of what waits are counted in.
func timing(j *job) bool { return j.target.roles.is(j.line, controlRole) }

// reporting mutants are those of accesses to a failure word or the host's, and of
// the loop around one.
func reporting(j *job) bool {
	for line := j.line; line > j.line-20; line-- {
		if len(j.target.roles[line]) > 0 {
			return j.target.roles.is(line, failureRole, statusRole)
		}
	}
	return false
}

var check = emu.Config{Mode: emu.Check, Seed: 1}

// budgets: the first two hold every scenario's check, which is also what tells
// the roles of lines.
func budgets() []budget {
	pct := emu.Config{Mode: emu.Explore, Seed: 1, Judge: emu.Judge{Schedule: emu.PCT, PCTLength: 600}}
	early, bulk, low := way{}, way{inBand: true}, way{low: true, inBand: true}
	mismatches := []scenario{grids(early), grids(bulk), grids(low)}
	steps := []scenario{bulkSteps, lowSteps, bothSteps}
	return []budget{
		{"check", check, 1, slices.Concat(steps, []scenario{likeAbsent}, absences(absent), absences(alone),
			[]scenario{tooMany(early), tooMany(bulk), tooMany(low), absentAt(signedWrap, moert.PhaseDispatch, way{low: true}),
				absentAt(signedWrap, moert.PhaseDispatch, low), absentAt(signedWrap, moert.PhaseCombine, way{low: true}),
			}, lacking(absentBut), []scenario{manySteps, lateSteps}), nil},
		{"check", check, 1, append(mismatches, countsOnly), counting},
		{"check", check, 1, absences(hastily), timing},
		{"explore", emu.Config{Mode: emu.Explore, Seed: 2}, 1, steps, nil},
		{"explore, PCT", emu.Config{Mode: emu.Explore, Seed: 3, Judge: emu.Judge{Schedule: emu.PCT}}, 1, steps, nil},
		// That a pack arrives in part takes luck.
		{"explore", emu.Config{Mode: emu.Explore, Seed: 4}, 12, []scenario{lowSteps}, nil},
		{"explore, PCT", pct, 40, []scenario{countsOnly}, counting},
		// That counts are there when a thread looks for the first time takes luck.
		{"explore", emu.Config{Mode: emu.Explore, Seed: 4}, 60, []scenario{bothSteps}, counting},
		// That two ranks give up at once, or that one is told before it notices,
		// takes luck.
		{"explore, PCT", pct, 400, mismatches, func(j *job) bool { return counting(j) && reporting(j) }},
		{"explore", emu.Config{Mode: emu.Explore, Seed: 1}, 16, slices.Concat(absences(together), lacking(togetherBut)), reporting},
	}
}

// run runs the mutant until it is killed.
func (j *job) run() {
	start := time.Now()
	defer func() { j.took = time.Since(start) }()
	x := j.target.trial.with(j.target.source.apply(j.edits))
	for _, b := range budgets() {
		if b.only != nil && !b.only(j) {
			continue
		}
		if j.equivalence() >= 0 && b.config.Mode == emu.Explore && !*full {
			break // saves time
		}
		for _, s := range b.scenarios {
			if j.idle(b, s) {
				continue
			}
			j.verdict = x.under(b, s, func(r *rig) {
				if j.want != nil { // that of the last run counts, which kills it
					j.missing = j.want.missing(r.drv.Reports(), j.kernel)
				}
			})
			if j.verdict.kind != "" {
				j.where = b.name + ": " + s.name
				return
			}
		}
	}
}

// idle says whether nothing that the mutant changed runs in the scenario: in
// none of its schedules, or as check executes it. Then it passes as the original
// does.
func (j *job) idle(b budget, s scenario) bool {
	ran, ok := j.target.ran[s.name]
	if ok && !ran[j.kernel] {
		return true
	}
	if !ok || b.config.Mode != emu.Check {
		return false
	}
	for _, e := range j.edits {
		if len(j.target.roles[e.line]) == 0 || j.target.accessed[s.name][e.line] {
			return false // it runs, or may run
		}
	}
	return true
}

// under runs a scenario as often as the budget says, until something is wrong.
func (x *trial) under(b budget, s scenario, done func(r *rig)) verdict {
	c := b.config
	for range b.runs {
		v, r := s.run(x, c, nil)
		if r != nil {
			done(r)
			r.close()
		}
		if v.kind != "" {
			return v
		}
		c.Seed++
	}
	return verdict{}
}

// work runs all jobs, some at a time.
func work(jobs []*job, done func(j *job)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(*workers, runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(jobs); i = int(next.Add(1)) - 1 {
				jobs[i].run()
				done(jobs[i])
			}
		})
	}
	wg.Wait()
}

// TestMutants: every mutant is killed, or its survival has been explained.
func TestMutants(t *testing.T) {
	only, err := regexp.Compile(*onlyOp)
	if err != nil {
		t.Fatal(err)
	}
	var jobs []*job
	for _, tg := range targets(t) {
		for _, m := range tg.mutants() {
			if only.MatchString(tg.name() + " " + m.String()) {
				jobs = append(jobs, &job{mutant: m, target: tg})
			}
		}
	}
	all := len(jobs)
	if !*full && *onlyOp == "" {
		jobs = sample(jobs)
	}
	start := time.Now()
	work(jobs, func(j *job) {
		if *verbose {
			t.Logf("%s %v: %s by %s: %v: %v", j.target.name(), j.mutant, j.verdict.kind, j.where, j.took.Round(time.Millisecond), j.verdict.text)
		}
	})
	t.Logf("%d of %d mutants in %v\n%s", len(jobs), all, time.Since(start).Round(time.Millisecond), table(jobs))
	asserted := 0
	for _, j := range jobs {
		if j.want != nil {
			asserted++
		}
		if j.verdict.kind == byLoad {
			t.Errorf("%s %v: not PTX: %s", j.target.name(), j.mutant, j.verdict.text)
		}
		if j.missing != "" && j.verdict.kind != "" {
			t.Errorf("%s %v: killed by %s (%s), but %s", j.target.name(), j.mutant, j.where, j.verdict.text, j.missing)
		}
	}
	checkSurvivors(t, jobs, *full && *onlyOp == "")
	t.Logf("the judge's words were checked for %d mutants", asserted)
}

// sampled is how many mutants CI has the time for, which are always the same.
const sampled = 120

// sample draws mutants, none of those that are said to be equivalent: that they
// survive a run tells little.
func sample(jobs []*job) []*job {
	jobs = slices.DeleteFunc(jobs, func(j *job) bool { return j.equivalence() >= 0 })
	rng := rand.New(rand.NewPCG(1, 1))
	rng.Shuffle(len(jobs), func(i, k int) { jobs[i], jobs[k] = jobs[k], jobs[i] })
	return jobs[:min(sampled, len(jobs))]
}

// table says how the mutants of each operator died.
func table(jobs []*job) string {
	columns := []string{byRace, byData, byStall, byFault, byLoad, ""}
	rows := map[string]map[string]int{}
	for _, j := range jobs {
		for _, row := range []string{j.op, "~ all"} {
			if rows[row] == nil {
				rows[row] = map[string]int{}
			}
			rows[row][j.verdict.kind]++
			rows[row]["all"]++
		}
	}
	names := make([]string, 0, len(rows))
	for n := range rows {
		names = append(names, n)
	}
	slices.SortFunc(names, cmp.Compare[string])
	var b strings.Builder
	fmt.Fprintf(&b, "%-38s %8s %6s %6s %6s %6s %6s %9s\n", "operator", "mutants", "race", "data", "stall", "fault", "load", "survivors")
	for _, n := range names {
		fmt.Fprintf(&b, "%-38s %8d", n, rows[n]["all"])
		for i, c := range columns {
			fmt.Fprintf(&b, " %*d", []int{6, 6, 6, 6, 6, 9}[i], rows[n][c])
		}
		b.WriteByte('\n')
	}
	return b.String()
}
