package doctor

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"

	"github.com/moegen/moegen/runtime/cuda"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/nccl"
	"github.com/moegen/moegen/runtime/nvcc"
)

// Machine is what doctor asks, so that tests can answer instead.
type Machine struct {
	OpenDriver func() (driver.Driver, error)
	OpenNCCL   func() (NCCL, error)
	FindNVCC   func(context.Context) (*nvcc.Compiler, error)
	Cached     func(nvcc.Source, nvcc.Target) (nvcc.Image, error)
	CacheDir   func() (string, error)
	LookPath   func(string) (string, error)
	Getenv     func(string) string
	// Root has /dev, /proc and /sys; nil where the system has no such files.
	Root fs.FS
	// MulticastBuilt says that the binary has the multicast calls, MulticastOff
	// names the environment variable that turns them off.
	MulticastBuilt bool
	MulticastOff   func() string
	// Link describes what joins two GPUs; ok is false where the driver cannot.
	Link func(a, b driver.Device) (link cuda.P2PAttributes, ok bool, err error)
}

// NCCL is what doctor wants to know of a loaded NCCL.
type NCCL interface {
	Path() string
	Version() string
	HasWindows() bool
}

// This is the machine that the program runs on. Contexts are made late: they
// take memory.
func This() *Machine {
	m := &Machine{
		OpenDriver: func() (driver.Driver, error) { return cuda.Open(cuda.WithLazyContexts()) },
		OpenNCCL: func() (NCCL, error) {
			l, err := nccl.Open()
			if err != nil {
				return nil, err // a nil *Library is not a nil interface
			}
			return l, nil
		},
		FindNVCC: nvcc.Find, Cached: nvcc.Cached, CacheDir: nvcc.CacheDir, LookPath: exec.LookPath, Getenv: os.Getenv,
		MulticastBuilt: cuda.MulticastBuilt(), MulticastOff: cuda.MulticastDisabledBy,
		Link: func(a, b driver.Device) (cuda.P2PAttributes, bool, error) {
			x, ok := a.(cuda.P2P)
			if !ok {
				return cuda.P2PAttributes{}, false, nil
			}
			link, err := x.P2PAttributes(b)
			return link, true, err
		},
	}
	if runtime.GOOS == "linux" {
		m.Root = os.DirFS("/")
	}
	return m
}

// exam is one look at a machine.
type exam struct {
	*Machine
	ctx       context.Context
	drv       driver.Driver // nil: it does not start
	driverErr error
	gpus      []driver.Device
	version   int // of CUDA, of the driver: 1000 * major + 10 * minor; 0: not known

	nccl        NCCL
	ncclErr     error
	compiler    *nvcc.Compiler
	compilerErr error
}

func (m *Machine) begin(ctx context.Context) *exam {
	e := &exam{Machine: m, ctx: ctx}
	if e.drv, e.driverErr = m.OpenDriver(); e.driverErr == nil {
		e.gpus = e.drv.Devices()
		e.version = cudaVersion(e.drv.Version())
	} else {
		e.drv = nil
	}
	if !e.emulated() {
		e.nccl, e.ncclErr = m.OpenNCCL()
	}
	e.compiler, e.compilerErr = m.FindNVCC(ctx)
	return e
}

func (e *exam) emulated() bool { return e.drv != nil && e.drv.Name() == "emu" }

// Examine looks at everything, and whether the specs can run. why says how the
// backend was chosen.
func (m *Machine) Examine(ctx context.Context, why string, specs []*Case) *Report {
	e := m.begin(ctx)
	r := &Report{Version: 1, Backend: "cuda", Why: why, Specs: specs}
	if e.emulated() {
		r.Backend = "emu"
	}
	for _, c := range checks() {
		for _, f := range c.look(e) {
			f.Check = c.id
			if f.Subject == "" {
				f.Subject = c.subject
			}
			if f.Verdict == "" {
				f.Verdict = OK
			}
			r.Findings = append(r.Findings, f)
		}
	}
	r.CanRun = e.canRunAnything()
	for i, c := range specs {
		c.examine(e)
		r.CanRun = c.CanRun && (i == 0 || r.CanRun)
	}
	if e.drv != nil {
		if err := e.drv.Close(); err != nil {
			r.Findings = append(r.Findings, Finding{Check: "driver", Subject: "driver", Found: "closing it failed: " + err.Error()}.because("driver-fails"))
		}
	}
	r.Verdict = worst(r.Findings)
	for _, c := range specs {
		if v := worst(append(c.Findings, c.Transports...)); v == Failure || r.Verdict == OK {
			r.Verdict = v
		}
	}
	return r
}

// canRunAnything: on a GPU kernels are compiled by nvcc or, from PTX, by the
// driver; the emulator needs what nvcc has made, now or before.
func (e *exam) canRunAnything() bool {
	if !e.emulated() {
		for _, g := range e.gpus {
			if g.Info().Major >= oldest {
				return true
			}
		}
	}
	if e.compilerErr == nil {
		return true
	}
	images, _, err := e.cacheContents()
	return err == nil && images > 0
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
