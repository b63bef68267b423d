package cli

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/moegen/moegen/cmd/moegen/gen"
	"github.com/moegen/moegen/cmd/moegen/layer"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/spec"
)

const runHelp = `Usage: moegen run [FLAGS] SPEC...

Runs whole MoE layer exchanges, with demonstration experts, and verifies every
byte that is gathered and every element that is combined against a reference.
SPEC is a file, a directory with a moe.yaml, or preset:NAME. Without enough
GPUs the exchange runs on emulated ones.

  moegen run moe.yaml
  moegen run -ranks 2 -transport all -tokens 0/1,3,7/16 preset:gpt-oss-20b
  moegen run -backend cuda -graph only -replays 100 -json moe.yaml
  moegen run -mode explore -seeds 1000 -ranks 2 -sms 2 -tokens 1/0,2 moe.yaml

-tokens has one item for each step: a number for all ranks, or one for each
rank with slashes between. Steps beyond the list start it again. A step with
more tokens than fit into a captured one is a prefill, where the spec allows
max_prefill_tokens; it runs among the eager steps and between the replays.

The PTX that "moegen generate" left beside the spec is used where it fits;
otherwise the kernels are compiled, which takes nvcc. -ranks and -sms make
kernels of their own, which always have to be compiled.

-procs N runs each rank in a process of its own. Below torchrun, mpirun or srun
every process is one rank by itself (-procs 1 runs all ranks in one process all
the same):

  torchrun --no-python --nproc-per-node 2 moegen run moe.yaml

Emulated GPUs of several processes share memory, and have no multicast and no NCCL.

-mode check and explore run on the emulator. They are slow: use few tokens and
multiprocessors. A report names the seed that shows it again.
`

// runFlags are the flags of run.
type runFlags struct {
	backend, tokens, transport, graph, partial string
	ranks, sms, capacity, procs                int
	steps, layers, replays                     int
	share                                      bool
	mode, protocol                             string
	seed                                       uint64
	seeds                                      int
	serial, json, verbose                      bool
}

func (o *runFlags) register(f *flag.FlagSet) {
	f.StringVar(&o.backend, "backend", "auto", "`WHERE` to run: auto (GPUs if there are enough), cuda, emu")
	f.IntVar(&o.ranks, "ranks", 0, "use `N` ranks instead of the spec's ep_size")
	f.IntVar(&o.sms, "sms", 0, "use `N` multiprocessors instead of the spec's sm_limit")
	f.IntVar(&o.procs, "procs", 0, "run `N` ranks in a process each (default: one, or the launcher's)")
	f.BoolVar(&o.share, "share", false, "let ranks share GPUs, to try several where there are fewer (transport p2p)")
	f.StringVar(&o.tokens, "tokens", "", "token counts of the steps, a `LIST` such as 1,0/3,7 (default: small uneven ones)")
	f.StringVar(&o.transport, "transport", "auto", "`WHICH` transports: auto (the first that works), all, or some of nvls,p2p,nccl")
	f.StringVar(&o.protocol, "protocol", "auto", "`HOW` ranks learn that data has arrived: auto (by token count), ll (as far as it goes), bulk, mixed (ll or bulk, by each step's counts)")
	f.IntVar(&o.steps, "steps", 0, "run `N` eager steps (default: as many as -tokens has)")
	f.IntVar(&o.replays, "replays", 0, "replay the captured graph `N` times (default: as many as -tokens has)")
	f.IntVar(&o.layers, "layers", 2, "dispatch and combine `N` times a step")
	f.StringVar(&o.graph, "graph", "auto", "`HOW` to run: auto (eager steps, then replays), only (replays), off (eager)")
	f.StringVar(&o.partial, "partial", "both", "`WHERE` experts write: buffer (the dispatcher's), own, both (in turn by layer)")
	f.StringVar(&o.mode, "mode", "fast", "`HOW` the emulator runs: fast, check (reports races, missing fences and deadlocks), explore (check under random schedules and weak memory)")
	f.Uint64Var(&o.seed, "seed", 1, "`SEED` of tokens and routing, and of the schedule")
	f.IntVar(&o.seeds, "seeds", 1, "with -mode explore, run `N` schedules, from SEED on, until one is faulty")
	f.IntVar(&o.capacity, "capacity", 0, "launch for steps of up to `N` tokens a rank (default: the spec's max_tokens)")
	f.BoolVar(&o.serial, "serial", false, serialHelp)
	f.BoolVar(&o.json, "json", false, "print the results as JSON")
	f.BoolVar(&o.verbose, "v", false, "log what the runtime does, and print every rank")
}

const serialHelp = "launch each kernel only when what is before it has ended, not programmatically"

var partials = map[string]layer.Partials{"both": layer.PartialsBoth, "buffer": layer.PartialsBuffer, "own": layer.PartialsOwn}

// check finds what is wrong whatever the spec says.
func (o *runFlags) check() error {
	for _, c := range []struct {
		name, value string
		allowed     []string
	}{
		{"backend", o.backend, []string{"auto", "cuda", "emu"}},
		{"graph", o.graph, []string{"auto", "only", "off"}},
		{"partial", o.partial, []string{"both", "buffer", "own"}},
		{"mode", o.mode, []string{"fast", "check", "explore"}},
		{"protocol", o.protocol, []string{"auto", "ll", "bulk", "mixed"}},
	} {
		if !slices.Contains(c.allowed, c.value) {
			return fmt.Errorf("-%s %q: allowed are %s", c.name, c.value, strings.Join(c.allowed, ", "))
		}
	}
	for _, c := range []struct {
		name       string
		value, min int
	}{{"ranks", o.ranks, 0}, {"procs", o.procs, 0}, {"sms", o.sms, 0}, {"steps", o.steps, 0}, {"replays", o.replays, 0}, {"layers", o.layers, 1}, {"capacity", o.capacity, 0}, {"seeds", o.seeds, 1}} {
		if c.value < c.min {
			return fmt.Errorf("-%s %d: at least %d", c.name, c.value, c.min)
		}
	}
	if o.mode != "fast" && o.backend == "cuda" {
		return fmt.Errorf("-mode %s is the emulator's: use it with -backend emu", o.mode)
	}
	if o.procs > 1 && o.mode != "fast" {
		return fmt.Errorf("-procs %d: -mode %s judges one process with all ranks", o.procs, o.mode)
	}
	if o.procs > 1 && o.ranks != 0 && o.ranks != o.procs {
		return fmt.Errorf("-procs %d and -ranks %d: each process is one rank", o.procs, o.ranks)
	}
	if o.seeds > 1 && o.mode != "explore" {
		return fmt.Errorf("-seeds %d: only -mode explore runs other schedules with other seeds", o.seeds)
	}
	if o.layers > 1<<16 || o.steps > 1<<20 || o.replays > 1<<20 {
		return fmt.Errorf("-layers goes to %d, -steps and -replays to %d", 1<<16, 1<<20)
	}
	return nil
}

func runCommand(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	var o runFlags
	f := newFlags("run", runHelp)
	o.register(f)
	if code, done := parseFlags(f, args, stdout, stderr); done {
		return code
	}
	if f.NArg() == 0 {
		return usageError(stderr, f, "which spec? For example: moegen run moe.yaml, or moegen run -ranks 2 %sqwen3-30b-a3b", presetPrefix)
	}
	if err := o.check(); err != nil {
		return usageError(stderr, f, "%v", err)
	}
	place, err := o.place()
	if err != nil {
		return usageError(stderr, f, "%v", err)
	}
	if o.procs > 1 {
		o.ranks = o.procs
	}
	if place != nil && place.Rank != 0 {
		stdout = io.Discard // rank 0 says it for all
	}
	// All specs are looked at before any of them runs.
	jobs, code := make([]*runJob, f.NArg()), exitOK
	for i, arg := range f.Args() {
		j, err := newRunJob(&o, arg)
		if err != nil {
			c := codeOf(err)
			if c == exitUsage {
				usageError(stderr, f, "%v", err)
			} else {
				fmt.Fprintln(stderr, errorText(err)) // a spec's begins with its place
			}
			code = max(code, c)
		}
		if jobs[i] = j; j != nil {
			j.place, j.index = place, i
		}
	}
	if code != exitOK {
		return code
	}
	if o.procs > 1 && place == nil {
		return spawn(ctx, o.procs, args, stdout, stderr)
	}
	var reports []*runReport
	for _, j := range jobs {
		report := j.runSeeds(ctx, stderr)
		if reports = append(reports, report); !report.OK {
			code = exitFailure
			if place != nil && place.Rank != 0 {
				report.complain(stderr, place.Rank)
			}
		}
		if !o.json {
			report.print(stdout, o.verbose)
		}
		if ctx.Err() != nil {
			break
		}
	}
	if o.json {
		if err := printJSON(stdout, reports); err != nil {
			fmt.Fprintln(stderr, "moegen run:", err)
			return exitFailure
		}
	}
	return code
}

// runJob is one spec to run.
type runJob struct {
	flags      *runFlags
	spec       *spec.Spec
	program    *moert.Program
	tokens     [][]int
	capacity   int
	transports []moert.Transport // "" for the first that works
	all        bool              // transports that cannot be had are no failure

	place *moert.Place // of this process in a group of processes, nil if it is alone
	index int          // of the job among those of the command
	group *moert.ProcessGroup
}

func newRunJob(o *runFlags, arg string) (*runJob, error) {
	s, path, err := loadSpec(arg)
	if err != nil {
		return nil, err
	}
	if s, err = override(s, o.ranks, o.sms); err != nil {
		return nil, err
	}
	j := &runJob{flags: o, spec: s, capacity: s.MaxTokens}
	limit := "max_tokens"
	if o.capacity > 0 {
		if o.capacity > s.MaxTokens {
			return nil, &argumentError{fmt.Errorf("-capacity %d is more than max_tokens %d", o.capacity, s.MaxTokens)}
		}
		j.capacity, limit = o.capacity, "-capacity"
	}
	most := j.capacity
	if s.MaxPrefillTokens > 0 {
		most, limit = s.MaxPrefillTokens, "max_prefill_tokens"
	}
	if o.tokens == "" {
		j.tokens = defaultTokens(s.EPSize, j.capacity, most)
	} else if j.tokens, err = parseTokens(o.tokens, s.EPSize, most, limit); err != nil {
		return nil, &argumentError{fmt.Errorf("-tokens %s: %w", o.tokens, err)}
	}
	if err := j.chooseTransports(); err != nil {
		return nil, &argumentError{err}
	}
	if j.program, err = layer.Program(s); err != nil {
		return nil, err
	}
	layer.SetProtocol(j.program, s, gen.Protocol(o.protocol))
	if path != "" {
		layer.UsePTX(j.program, path)
	}
	return j, nil
}

func (j *runJob) chooseTransports() error {
	have := j.programTransports()
	switch j.flags.transport {
	case "auto":
		j.transports = []moert.Transport{""}
	case "all":
		j.transports, j.all = have, true
	default:
		for name := range strings.SplitSeq(j.flags.transport, ",") {
			t := moert.Transport(name)
			if !slices.Contains([]moert.Transport{moert.NVLS, moert.P2P, moert.NCCL}, t) {
				return fmt.Errorf("-transport %q: allowed are auto, all, or some of nvls,p2p,nccl", name)
			}
			if !slices.Contains(have, t) {
				return fmt.Errorf("-transport %s: the spec's transports are %v", name, have)
			}
			if !slices.Contains(j.transports, t) {
				j.transports = append(j.transports, t)
			}
		}
	}
	if j.spec.EPSize == 1 {
		j.transports = []moert.Transport{""} // there is nothing to transport
	}
	return nil
}

func (j *runJob) programTransports() []moert.Transport {
	var ts []moert.Transport
	for _, t := range j.spec.Transports {
		ts = append(ts, moert.Transport(t))
	}
	return ts
}

// counted is a number of steps: what was asked for, or one for each of the
// token counts.
func (j *runJob) counted(asked int) int {
	if asked == 0 {
		return len(j.tokens)
	}
	return asked
}

// logger is the runtime's log: only what goes wrong, unless -v.
func (o *runFlags) logger(stderr io.Writer) *slog.Logger {
	level := slog.LevelWarn
	if o.verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
}
