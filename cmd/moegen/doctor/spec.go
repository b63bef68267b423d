package doctor

import (
	"fmt"
	"slices"

	"github.com/moegen/moegen/cmd/moegen/explain"
	"github.com/moegen/moegen/cmd/moegen/gen"
	"github.com/moegen/moegen/cmd/moegen/layer"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/spec"
)

// Case is a spec, and whether it can run here: all ranks in this machine, rank i
// on GPU i.
type Case struct {
	Name       string    `json:"spec"` // as it was given
	Model      string    `json:"model"`
	Ranks      int       `json:"ranks"`
	CanRun     bool      `json:"can_run"`
	Transport  string    `json:"transport,omitempty"` // the one that would be used
	Findings   []Finding `json:"checks"`
	Transports []Finding `json:"transports"` // of the spec, in the order in which they are tried

	spec    *spec.Spec
	program *moert.Program
	gpus    []driver.Device // of the ranks
}

// NewCase takes a spec as it was given on the command line, and the path of its
// file, beside which PTX is looked for; "" for none.
func NewCase(name, path string, s *spec.Spec) (*Case, error) {
	p, err := layer.Program(s)
	if err != nil {
		return nil, err
	}
	if path != "" {
		layer.UsePTX(p, path)
	}
	return &Case{Name: name, Model: s.Model, Ranks: s.EPSize, spec: s, program: p}, nil
}

func (c *Case) examine(e *exam) {
	c.gpus = e.gpus[:min(c.Ranks, len(e.gpus))]
	add := func(subject string, look func(*exam) Finding) {
		f := look(e)
		f.Check, f.Subject = "spec", subject
		if f.Verdict == "" {
			f.Verdict = OK
		}
		c.Findings = append(c.Findings, f)
	}
	add("ranks", c.ranks)
	add("kernels", c.kernels)
	add("blocks", c.blocks)
	c.transports(e)
	add("memory", c.memory)
	c.CanRun = c.Transport != "" && worst(c.Findings) != Failure
}

func (c *Case) ranks(e *exam) Finding {
	f := Finding{Found: fmt.Sprintf("%s, %s", plural(c.Ranks, "rank"), plural(len(e.gpus), "GPU"))}
	if len(e.gpus) < c.Ranks {
		return f.because("too-few-gpus")
	}
	for _, g := range c.gpus {
		if i := g.Info(); i.Major < oldest {
			f.Found = fmt.Sprintf("rank %d is on GPU %d of compute capability %d.%d", g.Ordinal(), g.Ordinal(), i.Major, i.Minor)
			return f.because("rank-gpu-too-old")
		}
	}
	return f
}

// blocks looks whether a grid fits, as the dispatcher does once the kernels are
// loaded; registers may still allow fewer.
func (c *Case) blocks(*exam) Finding {
	f := Finding{Found: fmt.Sprintf("sm_limit %d", c.spec.SMLimit)}
	if len(c.gpus) == 0 {
		return Finding{}.because("no-gpus")
	}
	threads := c.program.Threads
	for _, row := range c.program.Plan {
		threads = max(threads, row.Threads)
	}
	for _, g := range c.gpus {
		perSM, err := g.Attribute(driver.AttrMaxThreadsPerSM)
		if err != nil {
			p := unreadable("attribute-unreadable", err)
			f.Found = p.found
			return f.because(p.id)
		}
		if holds := perSM / threads * g.Info().SMs; holds < c.program.MaxBlocks {
			f.Found = fmt.Sprintf("sm_limit %d is more than the %d blocks of %d threads that GPU %d holds (%d multiprocessors)",
				c.program.MaxBlocks, holds, threads, g.Ordinal(), g.Info().SMs)
			return f.because("blocks-not-resident")
		}
	}
	return f
}

// memory compares what a dispatcher takes with what is free. Asking makes a
// context, which takes memory itself, and gives it back.
func (c *Case) memory(*exam) Finding {
	need := c.bytes()
	f := Finding{Found: sizeText(need) + " of each GPU"}
	if len(c.gpus) == 0 {
		return Finding{}.because("no-gpus")
	}
	least := unlimited
	for _, g := range c.gpus {
		free, _, err := g.MemInfo()
		if err != nil {
			f.Found = fmt.Sprintf("GPU %d: %s", g.Ordinal(), firstLine(err))
			return f.because("memory-unknown")
		}
		if least = min(least, free); free < need {
			f.Found = fmt.Sprintf("%s of each GPU, and GPU %d has %s free", sizeText(need), g.Ordinal(), sizeText(free))
			return f.because("memory-short")
		}
	}
	f.Found += ", of at least " + sizeText(least) + " free"
	if c.Transport == string(spec.NVLS) {
		f.Found += "; nvls rounds the buffers up to a granularity that only a run asks for"
	}
	return f
}

// granularity is what CUDA allocates shareable memory in multiples of.
const granularity = 2 << 20

// bytes is what a dispatcher allocates for the transport.
func (c *Case) bytes() uint64 {
	l, x := gen.LaunchOf(c.spec).Layout, explain.Of(c.spec, nil)
	total := x.Total - l.Bytes + (l.Bytes+granularity-1)/granularity*granularity
	if c.Transport == string(spec.NCCL) {
		// What it sends and receives: tokens of this rank and of all, and sums for
		// all and of all.
		rows := uint64(c.spec.MaxTokens)
		all := rows * uint64(c.Ranks)
		total += (rows+all)*uint64(x.Wire.Gather) + 2*all*uint64(x.Wire.Reduce)
	}
	return total
}

// transports asks of each transport what a rank's ballot would say.
func (c *Case) transports(e *exam) {
	asked := e.Getenv(moert.TransportEnv)
	list := c.spec.Transports
	if c.Ranks == 1 {
		list, asked = nil, "" // nothing to transport
		c.Transport = string(moert.Local)
	}
	var usable []string
	for _, t := range list {
		f := Finding{Check: "spec", Subject: string(t), Verdict: OK}
		p := e.transportProblem(t, c.gpus)
		switch {
		case len(c.gpus) < c.Ranks:
			f = f.because("no-ranks")
		case p != nil:
			f.Found = p.found
			f = f.because(p.id)
			f.Verdict = Warning // another may do
		case asked != "" && asked != string(t):
			f.Found = moert.TransportEnv + "=" + asked
			f = f.because("transport-not-asked")
		default:
			usable = append(usable, string(t))
			f.Found = "can run"
		}
		c.Transports = append(c.Transports, f)
	}
	if asked != "" && !slices.Contains(list, spec.Transport(asked)) {
		c.Findings = append(c.Findings, Finding{Check: "spec", Subject: "transport", Found: fmt.Sprintf("%s=%s, the spec has %v", moert.TransportEnv, asked, list)}.because("transport-not-generated"))
		return
	}
	if len(usable) > 0 {
		c.Transport = usable[0]
	}
	for i := range c.Transports {
		f := &c.Transports[i]
		f.Use = NotUsed
		if f.Subject == c.Transport {
			f.Use = Used
		}
		if c.Transport == "" && f.Verdict == Warning {
			f.Verdict = Failure
		}
	}
}

// transportProblem says why the ranks' GPUs cannot use a transport.
func (e *exam) transportProblem(t spec.Transport, gpus []driver.Device) *problem {
	if t == spec.NCCL {
		if e.emulated() {
			return nil
		}
		return e.ncclProblem()
	}
	if t == spec.NVLS {
		if p := e.multicastProblem(gpus); p != nil {
			return p
		}
	}
	if without, err := lacking(gpus, driver.AttrVMMSupported); err != nil {
		return unreadable("attribute-unreadable", err)
	} else if without != nil {
		return &problem{"no-vmm", "GPU " + few(without)}
	}
	p, _ := peerProblem(gpus) // flags of nvls go to each peer by unicast, too
	return p
}
