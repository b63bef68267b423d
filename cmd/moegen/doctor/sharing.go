package doctor

import (
	"errors"
	"fmt"
	"strings"

	"github.com/moegen/moegen/runtime/driver"
)

// multicastSince is the version of CUDA that brought multicast.
const multicastSince = 12010

// multicastProblem says why the GPUs cannot use multicast. It reads attributes:
// whether an object can be made, only making one would show, and that is for a
// run, in which all ranks take part.
func (e *exam) multicastProblem(gpus []driver.Device) *problem {
	if !e.emulated() {
		switch name := e.MulticastOff(); {
		case !e.MulticastBuilt:
			return &problem{"multicast-compiled-out", ""}
		case name != "":
			return &problem{"multicast-turned-off", name + "=" + e.Getenv(name)}
		case e.version != 0 && e.version < multicastSince:
			return &problem{"multicast-driver-old", "CUDA driver " + versionText(e.version)}
		}
	}
	without, err := lacking(gpus, driver.AttrMulticastSupported)
	switch {
	case err != nil:
		return unreadable("multicast-unreadable", err)
	case without != nil:
		return &problem{"multicast-unsupported", "the attribute is 0 for GPU " + few(without)}
	}
	return nil
}

// lacking lists the GPUs for which an attribute is 0.
func lacking(gpus []driver.Device, a driver.Attribute) (without []string, failure error) {
	for _, g := range gpus {
		v, err := g.Attribute(a)
		failure = errors.Join(failure, err)
		if v == 0 {
			without = append(without, fmt.Sprint(g.Ordinal()))
		}
	}
	return without, failure
}

func examineMulticast(e *exam) []Finding {
	f := Finding{Use: Used}
	if len(e.gpus) == 0 {
		return []Finding{Finding{}.because("no-gpus")}
	}
	if p := e.multicastProblem(e.gpus); p != nil {
		f.Found = p.found
		return []Finding{f.because(p.id)}
	}
	if len(e.gpus) == 1 {
		return []Finding{Finding{}.because("one-gpu")}
	}
	f.Found = "all GPUs have it: transport nvls; that objects can be made, only a run shows"
	return []Finding{f}
}

// handles looks at one way to share memory between processes.
func (e *exam) handles(a driver.Attribute, unsupported string) Finding {
	f := Finding{Use: Used}
	if len(e.gpus) == 0 {
		return Finding{}.because("no-gpus")
	}
	without, err := lacking(e.gpus, a)
	f.Found = fmt.Sprintf("supported by %d of %s", len(e.gpus)-len(without), plural(len(e.gpus), "GPU"))
	switch {
	case err != nil:
		p := unreadable("attribute-unreadable", err)
		f.Found = p.found
		return f.because(p.id)
	case without != nil:
		f.Use = NotUsed
		return f.because(unsupported)
	}
	return f
}

func examinePosixHandles(e *exam) []Finding {
	f := e.handles(driver.AttrPosixFDSupported, "posix-unsupported")
	if f.Reason == "" {
		f.Found += "; used by groups of processes"
	}
	return []Finding{f}
}

func examineFabricHandles(e *exam) []Finding {
	f := e.handles(driver.AttrFabricSupported, "fabric-unsupported")
	if f.Reason != "" {
		return []Finding{f}
	}
	f.Found += "; used by groups over several hosts"
	if e.emulated() {
		return []Finding{f}
	}
	channels, err := e.glob("dev/nvidia-caps-imex-channels/channel*")
	switch {
	case err != nil:
		f.Found += "; IMEX channels: " + err.Error()
	case channels == nil:
		f.Found = strings.Replace(f.Found, "used by", "not usable by", 1)
		f = f.because("imex-missing")
	default:
		f.Found += fmt.Sprintf("; %s", plural(len(channels), "IMEX channel"))
	}
	return []Finding{f}
}
