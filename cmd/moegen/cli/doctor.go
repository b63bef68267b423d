package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/moegen/moegen/cmd/moegen/doctor"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/emu"
)

const doctorHelp = `Usage: moegen doctor [-json] [-backend cuda|emu|auto] [SPEC...]
       moegen doctor [-json] -error TEXT

Tells what this machine offers, what moegen uses of it, and for everything that
it does not use the cause, and a remedy. With specs, also whether each can run
here, all ranks on this machine's GPUs, and over which transports. It needs no
GPU, allocates no GPU memory (asking how much is free makes a context for a
moment, with specs only), compiles nothing and makes no multicast call. "moegen
help causes" lists all causes.

  moegen doctor
  moegen doctor -json moe.yaml
  moegen doctor -backend emu      the emulated machine instead of this one
  moegen doctor -error "$(tail -1 log)"   the cause of an error that was logged

Exit code 1: a spec cannot run here; without specs, nothing can: there is no GPU
that the kernels are for, no nvcc, and no cached kernels for the emulator.
`

// thisMachine is the machine that is looked at. Tests replace it.
var thisMachine = doctor.This

func doctorCommand(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	f := newFlags("doctor", doctorHelp)
	backend := f.String("backend", "cuda", "look at `WHAT`: cuda, emu, or auto for what moegen run would take")
	asJSON := f.Bool("json", false, "print JSON")
	devices := f.Int("devices", 0, "emulated GPUs (default: 8, or as many as a spec has ranks)")
	text := f.String("error", "", "look at nothing: tell the cause of the error `TEXT`")
	if code, done := parseFlags(f, args, stdout, stderr); done {
		return code
	}
	if !slices.Contains([]string{"cuda", "emu", "auto"}, *backend) {
		return usageError(stderr, f, "-backend %q: allowed are auto, cuda, emu", *backend)
	}
	if *devices < 0 || *devices > emu.MaxDevices {
		return usageError(stderr, f, "-devices %d: allowed are 1 to %d", *devices, emu.MaxDevices)
	}
	if *text != "" {
		if f.NArg() > 0 {
			return usageError(stderr, f, "-error takes no specs")
		}
		return explainError(*text, *asJSON, stdout, stderr)
	}
	var cases []*doctor.Case
	code, ranks := exitOK, 1
	for _, arg := range f.Args() {
		s, path, err := loadSpec(arg)
		var c *doctor.Case
		if err == nil {
			c, err = doctor.NewCase(arg, path, s)
		}
		if err != nil {
			code = max(code, failed(stderr, f, err))
			continue
		}
		cases, ranks = append(cases, c), max(ranks, s.EPSize)
	}
	if code != exitOK {
		return code
	}
	if *devices == 0 {
		*devices = max(8, ranks)
	}
	m := thisMachine()
	why := chooseBackend(m, *backend, ranks, *devices)
	report := m.Examine(ctx, why, cases)
	if *asJSON {
		if err := printJSON(stdout, report); err != nil {
			fmt.Fprintln(stderr, "moegen doctor:", err)
			return exitFailure
		}
	} else {
		report.Print(stdout)
	}
	if !report.CanRun {
		return exitFailure
	}
	return exitOK
}

// chooseBackend opens the driver that is to be looked at, and returns why it is
// this one.
func chooseBackend(m *doctor.Machine, backend string, ranks, devices int) string {
	emulator := func() (driver.Driver, error) { return openEmulator(emu.Config{Devices: devices}) }
	switch backend {
	case "cuda":
		return "this machine's GPUs"
	case "emu":
		m.OpenDriver = emulator
		return "asked for"
	}
	d, err := m.OpenDriver()
	m.OpenDriver = func() (driver.Driver, error) { return d, err }
	switch {
	case err == nil && len(d.Devices()) >= ranks:
		return fmt.Sprintf("%s for %s", plural(len(d.Devices()), "GPU"), plural(ranks, "rank"))
	case err == nil:
		why := fmt.Sprintf("%s for %s", plural(len(d.Devices()), "GPU"), plural(ranks, "rank"))
		if err := d.Close(); err != nil {
			why += "; closing the driver failed: " + err.Error()
		}
		m.OpenDriver = emulator
		return why
	}
	m.OpenDriver = emulator
	why, _, _ := strings.Cut(err.Error(), ": tried")
	return why
}

// explainError prints what is known about an error.
func explainError(text string, asJSON bool, stdout, stderr io.Writer) int {
	c := doctor.OfError(text)
	if c == nil {
		fmt.Fprintln(stderr, "moegen doctor: the cause of that error is not known; moegen doctor looks at the machine")
		return exitFailure
	}
	if asJSON {
		if err := printJSON(stdout, c); err != nil {
			fmt.Fprintln(stderr, "moegen doctor:", err)
			return exitFailure
		}
		return exitOK
	}
	fmt.Fprintf(stdout, "%s\ncause:  %s\nremedy: %s\n", c.ID, c.Cause, c.Remedy)
	return exitOK
}
