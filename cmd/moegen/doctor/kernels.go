package doctor

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/nvcc"
)

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
