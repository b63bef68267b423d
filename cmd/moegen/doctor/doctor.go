// Package doctor looks at a machine and says what moegen can use of it, what it
// cannot, why, and what to do: `moegen doctor`.
//
// It only asks. It allocates no memory, compiles nothing and makes no multicast
// call: on a machine whose fabric is shared, a failing one can harm others.
package doctor

// Verdict is what a check came to.
type Verdict string

const (
	OK         Verdict = "ok"
	Warning    Verdict = "warning"     // something does not work, or not well; moegen goes on without it
	Failure    Verdict = "failure"     // nothing can run on this
	NotChecked Verdict = "not_checked" // it could not be looked at, or there is no need to
)

// Used and NotUsed are what moegen does with what a check looked at.
const (
	Used    = "used"
	NotUsed = "not used"
)

// Finding is what a check found. Its JSON form is stable.
type Finding struct {
	Check   string   `json:"check"`   // the check's id
	Subject string   `json:"subject"` // what was looked at, for people
	Verdict Verdict  `json:"verdict"`
	Use     string   `json:"use,omitempty"`    // used, not used; nothing where that is no question
	Found   string   `json:"found,omitempty"`  // the facts, as they were probed
	Lines   []string `json:"lines,omitempty"`  // more of them
	Reason  string   `json:"reason,omitempty"` // the cause's id
	Cause   string   `json:"cause,omitempty"`
	Remedy  string   `json:"remedy,omitempty"`
}

// because gives the finding a cause.
func (f Finding) because(id string) Finding {
	c := causeOf(id)
	f.Verdict, f.Reason, f.Cause, f.Remedy = c.Verdict, c.ID, c.Cause, c.Remedy
	if f.Use != "" && c.Verdict != OK {
		f.Use = NotUsed
	}
	return f
}

// Report is all that was found.
type Report struct {
	Version  int       `json:"version"` // of this form: 1
	Backend  string    `json:"backend"` // cuda, emu
	Why      string    `json:"backend_reason"`
	Verdict  Verdict   `json:"verdict"` // the worst of the checks'
	CanRun   bool      `json:"can_run"` // anything at all, or all specs if any are given
	Findings []Finding `json:"checks"`
	Specs    []*Case   `json:"specs,omitempty"`
}

// worst is the worst verdict of findings.
func worst(findings []Finding) Verdict {
	v := OK
	for _, f := range findings {
		if f.Verdict == Failure || f.Verdict == Warning && v == OK {
			v = f.Verdict
		}
	}
	return v
}

// check is one thing to look at.
type check struct {
	id, subject, what string
	look              func(*exam) []Finding
}

// checks is in the order of the report. Each gives one finding or more, whatever
// the others found.
func checks() []check {
	return []check{
		{"driver", "driver", "libcuda loads and starts", examineDriver},
		{"device-files", "device files", "/dev/nvidia* and the kernel module", examineDeviceFiles},
		{"capability-files", "capabilities", "/dev/nvidia-caps", examineCapabilities},
		{"gpu", "GPU", "each GPU's compute capability", examineGPUs},
		{"peer-access", "peer access", "every GPU reaches the others' memory", examinePeers},
		{"links", "links", "what joins the GPUs", examineLinks},
		{"multicast", "multicast", "the GPUs' multicast attribute and what turns it off", examineMulticast},
		{"fabric-manager", "fabric manager", "nvidia-fabricmanager, where there are NVSwitches", examineFabricManager},
		{"posix-handles", "POSIX handles", "sharing memory between processes of a host", examinePosixHandles},
		{"fabric-handles", "fabric handles", "sharing memory between hosts, and IMEX channels", examineFabricHandles},
		{"nccl", "NCCL", "libnccl loads, its version and windows", examineNCCL},
		{"shared-memory", "/dev/shm", "its size, for NCCL between processes", examineSharedMemory},
		{"locked-memory", "locked memory", "the limit, for NCCL over InfiniBand", examineLockedMemory},
		{"open-files", "open files", "the limit on descriptors", examineOpenFiles},
		{"nvcc", "nvcc", "a CUDA compiler, and whether the driver takes what it makes", examineNVCC},
		{"host-compiler", "host compiler", "g++, which nvcc needs", examineHostCompiler},
		{"cache", "cache", "the directory of compiled kernels", examineCache},
		{"environment", "environment", "variables that change what is chosen", examineEnvironment},
	}
}
