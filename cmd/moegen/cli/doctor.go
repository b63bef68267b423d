package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/moegen/moegen/runtime/cuda"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/emu"
	"github.com/moegen/moegen/runtime/nccl"
	"github.com/moegen/moegen/runtime/nvcc"
)

const doctorHelp = `Usage: moegen doctor [-backend cuda|emu] [-json]

Tells what this machine offers, what moegen uses of it, and for everything that
it does not use why, and what to do. It needs no GPU and changes nothing.

  moegen doctor
  moegen doctor -json
  moegen doctor -backend emu      the emulated machine instead of this one
`

// finding is one thing that doctor looked at.
type finding struct {
	Name   string   `json:"name"`
	Used   bool     `json:"used"`
	Detail string   `json:"detail,omitempty"`
	Why    string   `json:"why,omitempty"` // it is not used, or is
	Do     string   `json:"do,omitempty"`
	More   []string `json:"more,omitempty"` // lines below
}

// machine is what doctor asks, so that tests can answer instead.
type machine struct {
	openDriver func() (driver.Driver, error)
	openNCCL   func() (ncclLibrary, error)
	findNVCC   func(context.Context) (*nvcc.Compiler, error)
	cacheDir   func() (string, error)
	lookPath   func(string) (string, error)
	getenv     func(string) string
	// multicastOff names the environment variable that turns multicast off.
	multicastOff func() string
}

// ncclLibrary is what doctor wants to know of a loaded NCCL.
type ncclLibrary interface {
	Path() string
	Version() string
	HasWindows() bool
}

func thisMachine() *machine {
	return &machine{
		openDriver: func() (driver.Driver, error) { return cuda.Open(cuda.WithLazyContexts()) },
		openNCCL: func() (ncclLibrary, error) {
			l, err := nccl.Open()
			if err != nil {
				return nil, err // a nil *Library is not a nil interface
			}
			return l, nil
		},
		findNVCC: nvcc.Find, cacheDir: nvcc.CacheDir, lookPath: exec.LookPath, getenv: os.Getenv,
		multicastOff: cuda.MulticastDisabledBy,
	}
}

func doctor(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	f := newFlags("doctor", doctorHelp)
	backend := f.String("backend", "cuda", "look at `WHAT`: cuda, emu")
	asJSON := f.Bool("json", false, "print JSON")
	devices := f.Int("devices", 8, "emulated GPUs, with -backend emu")
	if code, done := parseFlags(f, args, stdout, stderr); done {
		return code
	}
	if f.NArg() > 0 {
		return usageError(stderr, f, "takes no arguments")
	}
	m := thisMachine()
	switch *backend {
	case "cuda":
	case "emu":
		m.openDriver = func() (driver.Driver, error) { return openEmulator(emu.Config{Devices: *devices}) }
	default:
		return usageError(stderr, f, "-backend %q: allowed are cuda, emu", *backend)
	}
	findings := m.examine(ctx)
	if *asJSON {
		if err := printJSON(stdout, findings); err != nil {
			fmt.Fprintln(stderr, "moegen doctor:", err)
			return exitFailure
		}
		return exitOK
	}
	printFindings(stdout, findings)
	return exitOK
}

// examine looks at everything.
func (m *machine) examine(ctx context.Context) []finding {
	var all []finding
	d, err := m.openDriver()
	if err != nil {
		all = append(all, noDriver(err))
	} else {
		all = append(all, m.examineDriver(d)...)
	}
	if err == nil && d.Name() == "emu" {
		all = append(all, finding{Name: "NCCL", Used: true, Detail: "the emulator's own stand-in: transport nccl"})
	} else {
		all = append(all, m.examineNCCL())
	}
	all = append(all, m.examineNVCC(ctx), m.examineHostCompiler(), m.examineCache())
	all = append(all, m.examineEnvironment()...)
	if d != nil {
		if err := d.Close(); err != nil {
			all = append(all, finding{Name: "driver", Why: "closing it failed: " + err.Error()})
		}
	}
	return all
}

func noDriver(err error) finding {
	return finding{Name: "driver", Why: err.Error(), Do: "nothing, to run on the emulator: moegen run does that by itself"}
}

func printFindings(w io.Writer, findings []finding) {
	for _, f := range findings {
		mark := "not used"
		if f.Used {
			mark = "used"
		}
		fmt.Fprintf(w, "%-15s %-9s %s\n", f.Name, mark, f.Detail)
		for _, line := range f.More {
			fmt.Fprintf(w, "%26s%s\n", "", line)
		}
		printIndented(w, "why: ", f.Why)
		printIndented(w, "do:  ", f.Do)
	}
}

func printIndented(w io.Writer, label, text string) {
	if text == "" {
		return
	}
	for i, line := range strings.Split(text, "\n") {
		if i > 0 {
			label = "     "
		}
		fmt.Fprintf(w, "%26s%s%s\n", "", label, line)
	}
}
