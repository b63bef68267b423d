package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/moegen/moegen/runtime/driver"
)

// examineDriver looks at the driver and its GPUs.
func (m *machine) examineDriver(d driver.Driver) []finding {
	gpus := d.Devices()
	all := []finding{{Name: "driver", Used: true, Detail: d.Version()}}
	for _, g := range gpus {
		all = append(all, examineGPU(g))
	}
	all = append(all, examinePeers(gpus), m.examineMulticast(d))
	return append(all, examineHandles(gpus)...)
}

// oldest is the compute capability that the kernels need.
const oldest = 9

func examineGPU(g driver.Device) finding {
	i := g.Info()
	f := finding{Name: fmt.Sprintf("GPU %d", g.Ordinal()), Used: i.Major >= oldest,
		Detail: fmt.Sprintf("%s, compute capability %d.%d, %d multiprocessors, %.1f GiB", i.Name, i.Major, i.Minor, i.SMs, float64(i.TotalMemory)/(1<<30))}
	id := "UUID " + i.UUID
	if i.PCI != "" {
		id += ", PCI " + i.PCI
	}
	f.More = []string{id}
	if !f.Used {
		f.Why = fmt.Sprintf("the kernels are for compute capability %d.0 and newer", oldest)
		f.Do = "leave it out with CUDA_VISIBLE_DEVICES"
	}
	return f
}

// examinePeers makes the matrix of who reaches whose memory.
func examinePeers(gpus []driver.Device) finding {
	f := finding{Name: "peer access"}
	if len(gpus) < 2 {
		f.Why = "there are no two GPUs"
		f.Do = "run on the emulator with moegen run -backend emu, or use ep_size 1"
		return f
	}
	head := "from\\to"
	for _, g := range gpus {
		head += fmt.Sprintf("%4d", g.Ordinal())
	}
	f.More = []string{head}
	f.Used = true
	missing := 0
	for _, a := range gpus {
		line := fmt.Sprintf("%7d", a.Ordinal())
		for _, b := range gpus {
			mark := "-"
			if a != b {
				ok, err := a.CanAccessPeer(b)
				switch {
				case err != nil:
					mark, missing, f.Why = "?", missing+1, err.Error()
				case ok:
					mark = "yes"
				default:
					mark, missing = "no", missing+1
				}
			}
			line += fmt.Sprintf("%4s", mark)
		}
		f.More = append(f.More, line)
	}
	switch {
	case missing == 0:
		f.Detail = "every GPU reaches every other: transport p2p works"
	default:
		f.Used = missing < len(gpus)*(len(gpus)-1)
		f.Detail = fmt.Sprintf("%s missing: groups over those GPUs use transport nccl", plural(missing, "path"))
		f.Do = "check nvidia-smi topo -m; ACS or IOMMU settings and virtual machines take peer access away"
	}
	return f
}

// examineMulticast says whether transport nvls works, and what turned it off.
func (m *machine) examineMulticast(d driver.Driver) finding {
	f := finding{Name: "multicast", Detail: "transport nvls: multicast stores and sums in the NVSwitch"}
	gpus := d.Devices()
	var without []string
	var failure error
	for _, g := range gpus {
		v, err := g.Attribute(driver.AttrMulticastSupported)
		if failure = errors.Join(failure, err); v == 0 {
			without = append(without, fmt.Sprint(g.Ordinal()))
		}
	}
	// A binary without the calls says so here, whatever the GPUs can do.
	_, _, built := d.MulticastGranularity(max(len(gpus), 1), 1<<21, driver.HandleNone)
	name := m.multicastOff()
	switch {
	case errors.Is(built, driver.ErrNoMulticast):
		f.Why, f.Do = "this binary was built with -tags nomulticast", "build it without the tag"
	case name != "" && d.Name() == "cuda":
		f.Why = fmt.Sprintf("%s=%s in the environment turns it off", name, m.getenv(name))
		f.Do = "unset it, if multicast works on this machine"
	case failure != nil:
		f.Why = "its attribute cannot be read: " + failure.Error()
	case len(without) > 0:
		f.Why = fmt.Sprintf("GPU %s does not support it", strings.Join(without, ", "))
		f.Do = "nothing: transport p2p is used. It takes NVSwitch, and a running nvidia-fabricmanager"
	case len(gpus) < 2:
		f.Why = "there are no two GPUs"
	default:
		f.Used = true
	}
	return f
}

// examineHandles looks at the ways to share memory between processes.
func examineHandles(gpus []driver.Device) []finding {
	var all []finding
	for _, h := range []struct {
		name string
		attr driver.Attribute
		what string
	}{
		{"POSIX handles", driver.AttrPosixFDSupported, "sharing memory between processes of a host"},
		{"fabric handles", driver.AttrFabricSupported, "sharing memory between hosts of an NVLink domain"},
	} {
		f := finding{Name: h.name, Detail: h.what}
		supported := 0
		for _, g := range gpus {
			if v, err := g.Attribute(h.attr); err == nil && v != 0 {
				supported++
			}
		}
		f.Detail += fmt.Sprintf(": supported by %d of %s", supported, plural(len(gpus), "GPU"))
		f.Why = "groups of ranks in one process share memory without handles"
		all = append(all, f)
	}
	return all
}
