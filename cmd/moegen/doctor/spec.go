package doctor

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/moegen/moegen/cmd/moegen/explain"
	"github.com/moegen/moegen/cmd/moegen/gen"
	"github.com/moegen/moegen/cmd/moegen/layer"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/nvcc"
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

var (
	ptxVersion = regexp.MustCompile(`(?m)^\.version (\d+)\.(\d+)`)
	// ptxSince is the release of CUDA that brought a version of PTX, where it is not
	// the one of the same minor number.
	ptxSince = map[string]int{"8.6": 12070, "8.7": 12080, "8.8": 12090}
)

// ptxNeeds is the CUDA version of the oldest driver that compiles PTX; 0: not known.
func ptxNeeds(ptx []byte) (version string, driver int) {
	m := ptxVersion.FindSubmatch(ptx)
	if m == nil {
		return "", 0
	}
	version = string(bytes.Join(m[1:], []byte(".")))
	if since, ok := ptxSince[version]; ok {
		return version, since
	}
	major, _ := strconv.Atoi(string(m[1]))
	minor, _ := strconv.Atoi(string(m[2]))
	return version, 1000*(major+4) + 10*minor // PTX 8.x came with CUDA 12, 9.x with 13
}

// runsOn says whether PTX for arch runs on a GPU: sm_90a on 9.0 alone, sm_100f on
// 10.x from there on, sm_90 on all that are newer.
func runsOn(arch string, i driver.DeviceInfo) bool {
	n, _ := strconv.Atoi(strings.TrimRight(strings.TrimPrefix(arch, "sm_"), "af"))
	have := 10*i.Major + i.Minor
	switch arch[len(arch)-1] {
	case 'a':
		return have == n
	case 'f':
		return have >= n && have/10 == n/10
	}
	return have >= n
}

// kernels goes through what loading would try, in its order.
func (c *Case) kernels(e *exam) Finding {
	src := nvcc.Source{Name: c.program.Name + ".cu", Text: c.program.Source}
	if e.emulated() {
		if len(c.program.PTX) > 0 {
			return Finding{Found: "generated PTX"}
		}
		return c.compiled(e, nvcc.Target{Arch: "sm_90a", PTX: true}, src, nil)
	}
	if len(c.gpus) == 0 {
		return Finding{}.because("no-gpus")
	}
	var f Finding
	for i, g := range c.gpus {
		info := g.Info()
		if i > 0 && info.Major == c.gpus[i-1].Info().Major && info.Minor == c.gpus[i-1].Info().Minor {
			continue
		}
		arch := fmt.Sprintf("sm_%d%d", info.Major, info.Minor)
		if info.Major >= oldest {
			arch += "a"
		}
		if f = c.compiled(e, nvcc.Target{Arch: arch}, src, g); f.Verdict != "" {
			break
		}
	}
	return f
}

// compiled says whether an image of the kernels can be had; g is nil for the
// emulator.
func (c *Case) compiled(e *exam, target nvcc.Target, src nvcc.Source, g driver.Device) Finding {
	compiles := e.compilerErr == nil && !e.jitDisabled()
	var p *problem
	if compiles && g != nil {
		p = e.compilerProblem(g)
	}
	if p != nil && p.id == "nvcc-newer-major" {
		return Finding{Found: p.found}.because("cubin-too-new")
	}
	if _, err := e.Cached(src, target); err == nil {
		return Finding{Found: "in the cache, for " + target.Arch}
	}
	if _, _, err := e.hostCompiler(); err != nil && compiles && p == nil {
		p = &problem{found: err.Error()}
	}
	switch {
	case p != nil:
		return Finding{Found: p.found}.because("compiler-fails")
	case compiles:
		return Finding{Found: fmt.Sprintf("nvcc %s compiles them for %s", e.compiler.Version, target.Arch)}
	case g == nil || len(c.program.PTX) == 0:
		return Finding{}.because("no-image")
	}
	return c.embedded(e, g)
}

// embedded is about PTX that the driver compiles.
func (c *Case) embedded(e *exam, g driver.Device) Finding {
	version, needs := ptxNeeds(c.program.PTX)
	i := g.Info()
	f := Finding{Found: fmt.Sprintf("PTX %s for %s, which the driver compiles", version, c.program.PTXArch)}
	switch {
	case !runsOn(c.program.PTXArch, i):
		f.Found = fmt.Sprintf("PTX for %s, and GPU %d has compute capability %d.%d", c.program.PTXArch, g.Ordinal(), i.Major, i.Minor)
		return f.because("ptx-other-gpu")
	case e.version != 0 && e.version < needs:
		f.Found = fmt.Sprintf("PTX %s takes a driver of CUDA %s, this one is of %s", version, versionText(needs), versionText(e.version))
		return f.because("ptx-too-new")
	}
	return f
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
