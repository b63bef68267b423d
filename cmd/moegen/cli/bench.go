package cli

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/moegen/moegen/cmd/moegen/bench"
	"github.com/moegen/moegen/cmd/moegen/gen"
	"github.com/moegen/moegen/cmd/moegen/layer"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/emu"
	"github.com/moegen/moegen/spec"
)

const benchHelp = `Usage: moegen bench [FLAGS] SPEC

Measures dispatch, combine and whole steps by token count, against NCCL and
against what the link can do, all in one run; results are verified before and
after. SPEC is a file, a directory with a moe.yaml, or preset:NAME.

  moegen bench -svg latency.svg -save before.json moe.yaml
  moegen bench -baseline before.json moe.yaml
  moegen bench -ranks 2 -max-tokens 1024 -sms 132 preset:qwen3-30b-a3b
  moegen bench -backend emu moe.yaml        does it work? (times mean nothing)

The floor of an exchange is an empty node of a graph, a word from GPU to GPU, and
the bytes at the speed of a peer copy. Without symmetric windows in NCCL (2.27)
its usual kernels are the baseline.
`

// measureFlags are the flags that bench and tune have in common.
type measureFlags struct {
	backend, transport, tokens string
	ranks, sms, maxTokens      int
	share, serial, verbose     bool
}

func (o *measureFlags) register(f *flag.FlagSet) {
	f.StringVar(&o.backend, "backend", "auto", "`WHERE` to run: auto (GPUs if there are enough), cuda, emu (a dry run)")
	f.StringVar(&o.transport, "transport", "auto", "`WHICH` transport: auto (the first that works), nvls, p2p, nccl")
	f.StringVar(&o.tokens, "tokens", "", "token counts a rank, an ascending `LIST` such as 1,8,64 (default: powers of two to 4096 or max_tokens)")
	f.IntVar(&o.ranks, "ranks", 0, "use `N` ranks instead of the spec's ep_size")
	f.IntVar(&o.sms, "sms", 0, "use `N` multiprocessors instead of the spec's sm_limit")
	f.IntVar(&o.maxTokens, "max-tokens", 0, "use `N` instead of the spec's max_tokens")
	f.BoolVar(&o.serial, "serial", false, serialHelp)
	f.BoolVar(&o.share, "share", false, "let ranks share GPUs, to try several where there are fewer (transport p2p; without NCCL)")
	f.BoolVar(&o.verbose, "v", false, "log what the runtime does")
}

func (o *measureFlags) check() error {
	if !slices.Contains([]string{"auto", "cuda", "emu"}, o.backend) {
		return fmt.Errorf("-backend %q: allowed are auto, cuda, emu", o.backend)
	}
	if !slices.Contains([]string{"auto", "nvls", "p2p", "nccl"}, o.transport) {
		return fmt.Errorf("-transport %q: allowed are auto, nvls, p2p, nccl", o.transport)
	}
	for name, value := range map[string]int{"ranks": o.ranks, "sms": o.sms, "max-tokens": o.maxTokens} {
		if value < 0 {
			return fmt.Errorf("-%s %d: at least 0", name, value)
		}
	}
	return nil
}

// override is the spec of an argument with what the flags change.
func (o *measureFlags) override(arg string, s *spec.Spec) (*spec.Spec, error) {
	c := *s
	if o.maxTokens != 0 {
		c.MaxTokens = o.maxTokens
	}
	s, err := override(&c, o.ranks, o.sms)
	if err != nil {
		return nil, err
	}
	if s.EPSize < 2 {
		return nil, &argumentError{fmt.Errorf("%s: with ep_size 1 nothing is exchanged, so there is nothing to measure: take -ranks 2", arg)}
	}
	if o.transport != "auto" && !slices.Contains(s.Transports, spec.Transport(o.transport)) {
		return nil, &argumentError{fmt.Errorf("-transport %s: the spec's transports are %v", o.transport, s.Transports)}
	}
	return s, nil
}

// counts are the token counts to measure.
func (o *measureFlags) counts(s *spec.Spec, emulated bool) ([]int, error) {
	var list []int
	if o.tokens == "" {
		most := min(4096, s.MaxTokens)
		if emulated {
			most = min(most, 4)
		}
		for n := 1; n <= most; n *= 2 {
			list = append(list, n)
		}
		return list, nil
	}
	for text := range strings.SplitSeq(o.tokens, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		switch {
		case err != nil || n < 1:
			return nil, &argumentError{fmt.Errorf("-tokens %s: %q is not a number of tokens, 1 or more", o.tokens, text)}
		case n > s.MaxTokens:
			return nil, &argumentError{fmt.Errorf("-tokens %s: %d is more than max_tokens %d: raise that with -max-tokens", o.tokens, n, s.MaxTokens)}
		case len(list) > 0 && n <= list[len(list)-1]:
			return nil, &argumentError{fmt.Errorf("-tokens %s: %d does not come after %d: list them in ascending order", o.tokens, n, list[len(list)-1])}
		}
		list = append(list, n)
	}
	return list, nil
}

// config opens the backend and makes what package bench needs.
func (o *measureFlags) config(s *spec.Spec, p *moert.Program, stderr io.Writer) (*backend, bench.Config, error) {
	level := slog.LevelWarn
	if o.verbose {
		level = slog.LevelDebug
	}
	c := bench.Config{Spec: s, Program: p, Share: o.share, Layers: 61,
		Options: []moert.Option{moert.WithLogger(slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level})))}}
	if o.serial {
		c.Options = append(c.Options, moert.WithSerialLaunch())
	}
	if o.transport != "auto" {
		c.Transport = moert.Transport(o.transport)
	}
	if _, err := o.counts(s, false); err != nil {
		return nil, c, err
	}
	b, err := openBackend(o.backend, s.EPSize, o.share, emu.Config{})
	if err != nil {
		return nil, c, err
	}
	c.Devices = b.devices(s.EPSize)
	emulated := b.driver.Name() == "emu"
	if emulated {
		c.Layers = 2
	}
	c.Tokens, err = o.counts(s, emulated)
	return b, c, err
}

type benchFlags struct {
	measureFlags
	protocol, svg, save, baseline string
	layers                        int
	json                          bool
}

func benchCommand(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	var o benchFlags
	f := newFlags("bench", benchHelp)
	o.register(f)
	f.StringVar(&o.protocol, "protocol", "auto", "`HOW` ranks learn that data has arrived: auto (by the plan), ll (as far as it goes), bulk, mixed (ll or bulk, by each step's counts)")
	f.IntVar(&o.layers, "layers", 0, "dispatch, compute and combine `N` times in a step (default: 61, emulated 2)")
	f.StringVar(&o.svg, "svg", "", "draw latency and the ratio to the floor to `FILE`")
	f.StringVar(&o.save, "save", "", "write the results as JSON to `FILE`, for -baseline")
	f.StringVar(&o.baseline, "baseline", "", "compare with the results in `FILE`")
	f.BoolVar(&o.json, "json", false, "print the results as JSON")
	if code, done := parseFlags(f, args, stdout, stderr); done {
		return code
	}
	if f.NArg() != 1 {
		return usageError(stderr, f, "takes one spec. For example: moegen bench moe.yaml")
	}
	if err := o.check(); err != nil {
		return usageError(stderr, f, "%v", err)
	}
	if !slices.Contains([]string{"auto", "ll", "bulk", "mixed"}, o.protocol) {
		return usageError(stderr, f, "-protocol %q: allowed are auto, ll, bulk, mixed", o.protocol)
	}
	if o.layers < 0 || o.layers > 1<<12 {
		return usageError(stderr, f, "-layers %d: allowed are 1 to %d", o.layers, 1<<12)
	}
	before, err := readBaseline(o.baseline)
	if err != nil {
		return usageError(stderr, f, "%v", err)
	}
	result, err := o.run(ctx, f.Arg(0), stderr)
	if result != nil { // what was measured before an error, if there was one
		err = errors.Join(err, o.show(result, before, stdout))
	}
	return failed(stderr, f, err)
}

// failed prints an error and returns its exit code.
func failed(stderr io.Writer, f *flag.FlagSet, err error) int {
	code := codeOf(err)
	switch code {
	case exitOK:
	case exitUsage:
		return usageError(stderr, f, "%v", err)
	case exitSpec:
		fmt.Fprintln(stderr, errorText(err))
	default:
		fmt.Fprintf(stderr, "%s: %s\n", f.Name(), errorText(err))
	}
	return code
}

func (o *benchFlags) run(ctx context.Context, arg string, stderr io.Writer) (result *bench.Result, err error) {
	s, path, err := loadSpec(arg)
	if err != nil {
		return nil, err
	}
	if s, err = o.override(arg, s); err != nil {
		return nil, err
	}
	p, err := layer.Program(s)
	if err != nil {
		return nil, err
	}
	layer.SetProtocol(p, s, gen.Protocol(o.protocol))
	if path != "" {
		layer.UsePTX(p, path)
	}
	b, c, err := o.config(s, p, stderr)
	if b != nil {
		defer func() { err = errors.Join(err, b.driver.Close()) }()
	}
	if err != nil {
		return nil, err
	}
	if o.layers > 0 {
		c.Layers = o.layers
	}
	progress := newProgress(stderr, "measuring "+s.Model)
	defer progress.end()
	c.Progress = progress.at
	return bench.Run(ctx, c)
}

// show prints and writes the result.
func (o *benchFlags) show(result, before *bench.Result, stdout io.Writer) error {
	var errs []error
	if o.json {
		errs = append(errs, printJSON(stdout, result))
	} else {
		result.Print(stdout)
	}
	if o.save != "" {
		text, err := json.MarshalIndent(result, "", "  ")
		errs = append(errs, err, writeFile(o.save, append(text, '\n')))
	}
	if o.svg != "" {
		errs = append(errs, writeFile(o.svg, result.SVG()))
	}
	if before != nil && !o.json {
		errs = append(errs, result.PrintChanges(stdout, before))
	}
	return errors.Join(errs...)
}

func writeFile(path string, data []byte) error {
	return renameio.WriteFile(path, data, 0o644, renameio.WithTempDir(filepath.Dir(path)))
}

// readBaseline reads an earlier result before anything is measured; nil for "".
func readBaseline(path string) (*bench.Result, error) {
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("-baseline: %w", err)
	}
	result := new(bench.Result)
	if err := json.Unmarshal(data, result); err != nil || len(result.Rows) == 0 {
		return nil, fmt.Errorf("-baseline %s holds no results of moegen bench; -save or -json writes some", path)
	}
	return result, nil
}
