package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/moegen/moegen/cmd/moegen/bench"
	"github.com/moegen/moegen/cmd/moegen/layer"
	"github.com/moegen/moegen/spec"
)

const tuneHelp = `Usage: moegen tune [FLAGS] SPEC

Measures how to launch dispatch and combine best on this machine: by token count
the protocol, the blocks and their threads. The plan goes to a file beside the
spec, NAME_plan.yaml, from where moegen generate bakes it into the package; all
ranks have to have the same. Its results are verified. Without such a file the
built-in plan is used.

  moegen tune moe.yaml && moegen generate moe.yaml

A plan for ranks or limits other than the spec's, and one from the emulator, is
written only where -o says; -o - prints it.
`

func tune(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	var o measureFlags
	f := newFlags("tune", tuneHelp)
	o.register(f)
	out := f.String("o", "", "write the plan to `FILE` (default: beside the spec)")
	if code, done := parseFlags(f, args, stdout, stderr); done {
		return code
	}
	if f.NArg() != 1 {
		return usageError(stderr, f, "takes one spec. For example: moegen tune moe.yaml")
	}
	if err := o.check(); err != nil {
		return usageError(stderr, f, "%v", err)
	}
	switch {
	case o.share:
		return usageError(stderr, f, "-share: what is fastest on a shared GPU says nothing about GPUs of their own")
	case o.transport == "nccl":
		return usageError(stderr, f, "-transport nccl: NCCL launches its own kernels, so there is nothing to choose")
	}
	return failed(stderr, f, o.tune(ctx, f.Arg(0), *out, stdout, stderr))
}

func (o *measureFlags) tune(ctx context.Context, arg, out string, stdout, stderr io.Writer) (err error) {
	s, path, err := loadSpecWith(arg, spec.LoadUnplanned)
	if err != nil {
		return err
	}
	if s, err = o.override(arg, s); err != nil {
		return err
	}
	beside := out == ""
	if beside {
		if path == "" || o.ranks != 0 || o.sms != 0 || o.maxTokens != 0 {
			return &argumentError{fmt.Errorf("the plan would not be for the spec in a file: say with -o where to write it, - to print it")}
		}
		out = spec.PlanFile(path)
	}
	p, err := layer.Program(s)
	if err != nil {
		return err
	}
	if path != "" {
		layer.UsePTX(p, path)
	}
	b, c, err := o.config(s, p, stderr)
	if b != nil {
		defer func() { err = errors.Join(err, b.driver.Close()) }()
	}
	if err != nil {
		return err
	}
	if b.driver.Name() == "emu" && beside {
		return &argumentError{fmt.Errorf("on the emulator times mean nothing (%s): -o - tries it without writing a plan beside the spec", b.why)}
	}
	progress := newProgress(stderr, "tuning "+s.Model)
	c.Progress = progress.at
	start := time.Now()
	tuned, err := bench.Tune(ctx, c)
	progress.end()
	if err != nil {
		return err
	}
	tuned.Plan.Measured = fmt.Sprintf("%s on %s, transport %s", start.UTC().Format(time.DateOnly), tuned.Machine, tuned.Transport)
	if out == "-" {
		_, err := stdout.Write(tuned.Plan.YAML())
		return err
	}
	printPlan(stdout, tuned)
	if err := writeFile(out, tuned.Plan.YAML()); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "wrote %s after %d measurements in %.0f s\n", out, tuned.Tries, time.Since(start).Seconds())
	return nil
}

func printPlan(w io.Writer, t *bench.Tuned) {
	fmt.Fprintf(w, "%s\n%s\n", t.Plan.Shape, t.Plan.Measured)
	if t.Emulated {
		fmt.Fprintln(w, "EMULATED: no time below means anything")
	}
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tab, "tokens\tprotocol\tblocks\tthreads\tpair, us\tbuilt-in plan\t\t")
	for _, r := range t.Plan.Rows {
		fmt.Fprintf(tab, "%d\t%s\t%d\t%d\t%.2f\t%.2f\t%.2fx\t\n", r.Tokens, r.Protocol, r.Blocks, r.Threads, r.Pair, r.BuiltIn, r.BuiltIn/r.Pair)
	}
	tab.Flush()
}
