package doctor

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/moegen/moegen/runtime/driver"
)

// oldest is the compute capability that the kernels need.
const oldest = 9

var cudaInText = regexp.MustCompile(`CUDA driver (\d+)\.(\d+)`)

// cudaVersion reads driver.Driver.Version.
func cudaVersion(text string) int {
	m := cudaInText.FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	major, _ := strconv.Atoi(m[1])
	minor, _ := strconv.Atoi(m[2])
	return 1000*major + 10*minor
}

func versionText(v int) string { return fmt.Sprintf("%d.%d", v/1000, v%1000/10) }

func examineDriver(e *exam) []Finding {
	f := Finding{Use: Used}
	if e.driverErr == nil {
		f.Found = e.drv.Version()
		return []Finding{f}
	}
	f.Found = e.driverErr.Error()
	switch cause := OfError(f.Found); {
	case errors.Is(e.driverErr, driver.ErrNoDriver):
		f = f.because("driver-missing")
	case cause != nil:
		f = f.because(cause.ID)
	default:
		f = f.because("driver-fails")
	}
	return []Finding{f}
}

func examineGPUs(e *exam) []Finding {
	if len(e.gpus) == 0 {
		return []Finding{Finding{}.because("no-gpus")}
	}
	var all []Finding
	for _, g := range e.gpus {
		i := g.Info()
		f := Finding{Subject: fmt.Sprintf("GPU %d", g.Ordinal()), Use: Used, Lines: []string{"UUID " + i.UUID},
			Found: fmt.Sprintf("%s, compute capability %d.%d, %d multiprocessors, %.1f GiB", i.Name, i.Major, i.Minor, i.SMs, float64(i.TotalMemory)/(1<<30))}
		if i.PCI != "" {
			f.Lines[0] += ", PCI " + i.PCI
		}
		if i.Major < oldest {
			f = f.because("gpu-too-old")
		}
		all = append(all, f)
	}
	return all
}

// problem is why something does not work: a cause, and the facts of this machine.
type problem struct{ id, found string }

// unreadable is the problem that the driver does not answer: for the reason that
// its error tells, or the one with that id.
func unreadable(id string, err error) *problem {
	if c := OfError(err.Error()); c != nil {
		id = c.ID
	}
	return &problem{id, firstLine(err)}
}

// peerProblem looks for pairs that do not reach each other; used says that some do.
func peerProblem(gpus []driver.Device) (p *problem, used bool) {
	var missing []string
	var failure error
	pairs := 0
	for _, a := range gpus {
		for _, b := range gpus {
			if a == b {
				continue
			}
			pairs++
			if ok, err := a.CanAccessPeer(b); err != nil || !ok {
				missing = append(missing, fmt.Sprintf("%d to %d", a.Ordinal(), b.Ordinal()))
				failure = errors.Join(failure, err)
			}
		}
	}
	used = len(missing) < pairs
	switch {
	case failure != nil:
		return unreadable("peer-unreadable", failure), used
	case missing == nil:
		return nil, used
	}
	found := plural(len(missing), "path") + " missing: GPU " + few(missing)
	if !used {
		return &problem{"peer-none", found}, false
	}
	return &problem{"peer-some", found}, true
}

// few lists some of many.
func few(list []string) string {
	const most = 8
	if len(list) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
	}
	return strings.Join(list, ", ")
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// examinePeers makes the matrix of who reaches whose memory.
func examinePeers(e *exam) []Finding {
	f := Finding{Use: Used}
	switch len(e.gpus) {
	case 0:
		return []Finding{Finding{}.because("no-gpus")}
	case 1:
		return []Finding{Finding{}.because("one-gpu")}
	}
	f.Lines = matrix(e.gpus, func(a, b driver.Device) string {
		switch ok, err := a.CanAccessPeer(b); {
		case err != nil:
			return "?"
		case ok:
			return "yes"
		}
		return "no"
	})
	f.Found = "every GPU reaches every other: transport p2p works"
	if p, used := peerProblem(e.gpus); p != nil {
		f.Found = p.found
		f = f.because(p.id)
		if used {
			f.Use = Used
		}
	}
	return []Finding{f}
}

func matrix(gpus []driver.Device, cell func(a, b driver.Device) string) []string {
	head := "from\\to"
	for _, g := range gpus {
		head += fmt.Sprintf("%4d", g.Ordinal())
	}
	lines := []string{head}
	for _, a := range gpus {
		line := fmt.Sprintf("%7d", a.Ordinal())
		for _, b := range gpus {
			text := "-"
			if a != b {
				text = cell(a, b)
			}
			line += fmt.Sprintf("%4s", text)
		}
		lines = append(lines, line)
	}
	return lines
}

// examineLinks tells NVLink from PCIe: over PCIe there are no native atomics.
func examineLinks(e *exam) []Finding {
	switch {
	case len(e.gpus) == 0:
		return []Finding{Finding{}.because("no-gpus")}
	case e.emulated():
		return []Finding{Finding{}.because("emulated")}
	case len(e.gpus) == 1:
		return []Finding{Finding{}.because("one-gpu")}
	}
	var slow []string
	for i, a := range e.gpus {
		for _, b := range e.gpus[i+1:] {
			link, ok, err := e.Link(a, b)
			if err != nil || !ok {
				f := Finding{Found: fmt.Sprintf("GPU %d to %d", a.Ordinal(), b.Ordinal())}
				if err != nil {
					f.Found += ": " + firstLine(err)
				}
				return []Finding{f.because("link-unreadable")}
			}
			if !link.NativeAtomics || link.PerformanceRank > 0 {
				slow = append(slow, fmt.Sprintf("%d to %d (rank %d, native atomics: %v)", a.Ordinal(), b.Ordinal(), link.PerformanceRank, link.NativeAtomics))
			}
		}
	}
	if slow != nil {
		return []Finding{Finding{Found: "GPU " + few(slow)}.because("link-slow")}
	}
	return []Finding{{Found: "all of the fastest rank, with native atomics, as over NVLink"}}
}
