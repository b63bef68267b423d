package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
)

var errNoRoot = errors.New("this system has no /dev and /proc as Linux has them")

func (e *exam) read(path string) (string, error) {
	if e.Root == nil {
		return "", errNoRoot
	}
	text, err := fs.ReadFile(e.Root, path)
	return string(text), err
}

func (e *exam) glob(pattern string) ([]string, error) {
	if e.Root == nil {
		return nil, errNoRoot
	}
	return fs.Glob(e.Root, pattern)
}

func (e *exam) exists(path string) bool {
	if e.Root == nil {
		return false
	}
	_, err := fs.Stat(e.Root, path)
	return err == nil
}

// ofSystem is a check of the machine's files, which an emulated one has not.
func (e *exam) ofSystem(look func() (Finding, error)) []Finding {
	if e.emulated() {
		return []Finding{Finding{}.because("emulated")}
	}
	f, err := look()
	if err != nil {
		return []Finding{Finding{Found: err.Error()}.because("not-readable")}
	}
	return []Finding{f}
}

const moduleVersionFile = "proc/driver/nvidia/version"

var moduleVersion = regexp.MustCompile(`\b\d{3,}\.\d+(\.\d+)?\b`)

func examineDeviceFiles(e *exam) []Finding {
	return e.ofSystem(func() (Finding, error) {
		text, err := e.read(moduleVersionFile)
		switch {
		case errors.Is(err, fs.ErrNotExist) && e.exists("dev/dxg"):
			return Finding{Found: "/dev/dxg: Windows' driver, below WSL"}, nil
		case errors.Is(err, fs.ErrNotExist):
			return Finding{Found: "/" + moduleVersionFile + " is missing"}.because("module-not-loaded"), nil
		case err != nil:
			return Finding{}, err
		}
		f := Finding{Found: "kernel module " + moduleVersion.FindString(text)}
		var missing []string
		for _, name := range []string{"nvidiactl", "nvidia-uvm"} {
			if !e.exists("dev/" + name) {
				missing = append(missing, "/dev/"+name)
			}
		}
		gpus, err := e.glob("dev/nvidia[0-9]*")
		if err != nil {
			return f, err
		}
		if len(gpus) == 0 {
			missing = append(missing, "/dev/nvidia0")
		}
		f.Found += ", device files of " + plural(len(gpus), "GPU")
		if missing != nil {
			f.Found += "; missing: " + strings.Join(missing, ", ")
			f = f.because("device-files-missing")
		}
		return f, nil
	})
}

func examineCapabilities(e *exam) []Finding {
	return e.ofSystem(func() (Finding, error) {
		files, err := e.glob("dev/nvidia-caps/nvidia-cap*")
		switch {
		case err != nil:
			return Finding{}, err
		case !e.exists(moduleVersionFile):
			return Finding{}.because("no-gpus"), nil
		case files == nil:
			return Finding{Found: "/dev/nvidia-caps has no files"}.because("capability-files-missing"), nil
		}
		return Finding{Found: plural(len(files), "file") + " in /dev/nvidia-caps"}, nil
	})
}

// examineFabricManager looks for it only where switches are to be seen: a
// container sees neither them nor the host's processes.
func examineFabricManager(e *exam) []Finding {
	return e.ofSystem(func() (Finding, error) {
		switches, err := e.glob("dev/nvidia-nvswitch[0-9]*")
		if err != nil {
			return Finding{}, err
		}
		if switches == nil {
			return Finding{}.because("no-switches"), nil
		}
		f := Finding{Found: plural(len(switches), "NVSwitch device")}
		names, err := e.glob("proc/[0-9]*/comm")
		if err != nil {
			return f, err
		}
		for _, path := range names {
			// The kernel keeps 15 characters. Processes end while we look.
			if text, err := e.read(path); err == nil && strings.HasPrefix(text, "nv-fabricmanage") {
				f.Found += ", nv-fabricmanager runs"
				return f, nil
			}
		}
		return f.because("fabric-manager-not-seen"), nil
	})
}

// leastShared is what NCCL's manual advises for containers.
const leastShared = 1 << 30

func examineSharedMemory(e *exam) []Finding {
	return e.ofSystem(func() (Finding, error) {
		mounts, err := e.read("proc/self/mounts")
		if err != nil {
			return Finding{}, err
		}
		options, mounted := "", false
		for line := range strings.Lines(mounts) {
			if f := strings.Fields(line); len(f) > 3 && f[1] == "/dev/shm" {
				options, mounted = f[3], true // the last one is on top
			}
		}
		if !mounted {
			return Finding{}.because("shm-missing"), nil
		}
		size, err := e.tmpfsSize(options)
		if err != nil {
			return Finding{}, err
		}
		f := Finding{Found: sizeText(size)}
		if size < leastShared {
			f = f.because("shm-small")
		}
		return f, nil
	})
}

// tmpfsSize reads a tmpfs's size from its mount options; without one it is half
// of the memory.
func (e *exam) tmpfsSize(options string) (uint64, error) {
	size := "50%"
	for o := range strings.SplitSeq(options, ",") {
		if v, ok := strings.CutPrefix(o, "size="); ok {
			size = v
		}
	}
	digits := strings.TrimRight(size, "kKmMgG%")
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("/proc/self/mounts: size=%s of /dev/shm is no number", size)
	}
	switch strings.ToLower(size[len(digits):]) {
	case "k":
		n <<= 10
	case "m":
		n <<= 20
	case "g":
		n <<= 30
	case "%":
		memory, err := e.read("proc/meminfo")
		if err != nil {
			return 0, err
		}
		var total uint64
		if _, err := fmt.Sscanf(memory, "MemTotal: %d kB", &total); err != nil {
			return 0, errors.New("/proc/meminfo does not begin with MemTotal")
		}
		n = total << 10 * n / 100
	}
	return n, nil
}

func sizeText(bytes uint64) string {
	if bytes < 1<<20 {
		return fmt.Sprintf("%.1f KiB", float64(bytes)/(1<<10))
	}
	if bytes < 1<<30 {
		return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30))
}

const unlimited = ^uint64(0)

// limit reads a soft limit of this process.
func (e *exam) limit(name string) (uint64, error) {
	text, err := e.read("proc/self/limits")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok {
			continue
		}
		fields := strings.Fields(rest)
		if len(fields) > 0 && fields[0] == "unlimited" {
			return unlimited, nil
		}
		if len(fields) > 0 {
			return strconv.ParseUint(fields[0], 10, 64)
		}
	}
	return 0, fmt.Errorf("/proc/self/limits has no %q", name)
}

func examineLockedMemory(e *exam) []Finding {
	return e.ofSystem(func() (Finding, error) {
		n, err := e.limit("Max locked memory")
		if err != nil {
			return Finding{}, err
		}
		f := Finding{Found: "unlimited"}
		if n != unlimited {
			f.Found = "at most " + sizeText(n)
			if cards, err := e.glob("dev/infiniband/uverbs*"); err == nil && cards != nil {
				return f.because("memlock-small"), nil
			}
			f = f.because("memlock-not-needed")
		}
		return f, nil
	})
}

// fewFiles is the usual limit, which is enough for the largest group.
const fewFiles = 1024

func examineOpenFiles(e *exam) []Finding {
	return e.ofSystem(func() (Finding, error) {
		n, err := e.limit("Max open files")
		if err != nil {
			return Finding{}, err
		}
		f := Finding{Found: fmt.Sprintf("at most %d", n)}
		if n == unlimited {
			f.Found = "unlimited"
		}
		if n < fewFiles {
			f = f.because("files-few")
		}
		return f, nil
	})
}
