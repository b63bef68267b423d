package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moegen/moegen/runtime/cuda"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/emu"
	"github.com/moegen/moegen/runtime/nccl"
	"github.com/moegen/moegen/runtime/nvcc"
)

var update = flag.Bool("update", false, "write the golden files and the table in docs/doctor.md")

// failing makes calls of one name fail.
func failing(call string, code driver.Code) func(string, int) driver.Code {
	return func(op string, _ int) driver.Code {
		if op == call {
			return code
		}
		return 0
	}
}

func initFails(code driver.Code) func(*fake) {
	return func(f *fake) {
		f.noDriver(fmt.Errorf("cuda: libcuda.so.1: %w", &driver.Error{Op: "cuInit", Code: code, Name: "CUDA_ERROR", Text: "the driver's text"}))
	}
}

// situations brings about each cause that can be seen without a run.
var situations = []struct {
	reason string
	change func(*fake)
}{
	{"emulated", func(f *fake) { f.emulated = true }},
	{"no-gpus", initFails(100)},
	{"not-readable", func(f *fake) { f.remove("proc/self/limits") }},
	{"driver-missing", func(f *fake) { f.noDriver(fmt.Errorf("%w: tried libcuda.so.1", driver.ErrNoDriver)) }},
	{"driver-stub", initFails(34)},
	{"driver-no-device", initFails(100)},
	{"fabric-not-ready", initFails(802)},
	{"driver-mismatch", initFails(803)},
	{"driver-kernel", initFails(999)},
	{"driver-too-old", func(f *fake) {
		f.noDriver(&driver.Error{Op: "dlsym", Code: 801, Name: "CUDA_ERROR_NOT_SUPPORTED", Text: "libcuda.so.1 (CUDA driver 10.1) lacks cuLaunchKernel"})
	}},
	{"driver-fails", initFails(46)},
	{"module-not-loaded", func(f *fake) { f.remove("proc/driver") }},
	{"device-files-missing", func(f *fake) { f.remove("dev/nvidia-uvm") }},
	{"capability-files-missing", func(f *fake) { f.remove("dev/nvidia-caps/") }},
	{"gpu-too-old", func(f *fake) { f.config.CC = [2]int{8, 0} }},
	{"one-gpu", func(f *fake) { f.config.Devices = 1 }},
	{"peer-none", func(f *fake) { f.config.NoPeer = func(a, b int) bool { return true } }},
	{"peer-some", func(f *fake) {
		f.config.Devices, f.config.NoPeer = 3, func(a, b int) bool { return a == 0 && b == 2 }
	}},
	{"peer-unreadable", func(f *fake) { f.config.Inject = failing("cuDeviceCanAccessPeer", driver.CodeUnknown) }},
	{"link-slow", func(f *fake) { f.link = cuda.P2PAttributes{PerformanceRank: 1, AccessSupported: true} }},
	{"link-unreadable", func(f *fake) {
		f.Link = func(a, b driver.Device) (cuda.P2PAttributes, bool, error) {
			return cuda.P2PAttributes{}, true, errors.New("cuDeviceGetP2PAttribute: refused")
		}
	}},
	{"multicast-compiled-out", func(f *fake) { f.MulticastBuilt = false }},
	{"multicast-turned-off", func(f *fake) {
		f.env["NCCL_NVLS_ENABLE"], f.MulticastOff = "0", func() string { return "NCCL_NVLS_ENABLE" }
	}},
	{"multicast-driver-old", func(f *fake) { f.version = "12.0" }},
	{"multicast-unsupported", func(f *fake) { f.config.NoMulticast = true }},
	{"multicast-unreadable", func(f *fake) { f.config.Inject = failing("cuDeviceGetAttribute", driver.CodeIllegalState) }},
	{"no-switches", func(f *fake) { f.remove("dev/nvidia-nvswitch") }},
	{"fabric-manager-not-seen", func(f *fake) { f.write("proc/77/comm", "bash\n") }},
	{"posix-unsupported", func(f *fake) { f.without = []driver.Attribute{driver.AttrPosixFDSupported} }},
	{"attribute-unreadable", func(f *fake) { f.config.Inject = failing("cuDeviceGetAttribute", driver.CodeUnknown) }},
	{"fabric-unsupported", func(f *fake) { f.without = []driver.Attribute{driver.AttrFabricSupported} }},
	{"imex-missing", func(f *fake) { f.remove("dev/nvidia-caps-imex-channels") }},
	{"nccl-missing", func(f *fake) {
		f.OpenNCCL = func() (NCCL, error) { return nil, fmt.Errorf("nccl: %w: tried libnccl.so.2", nccl.ErrNoLibrary) }
	}},
	{"nccl-too-old", func(f *fake) {
		f.OpenNCCL = func() (NCCL, error) {
			return nil, fmt.Errorf("nccl: %w: libnccl.so.2 lacks ncclCommInitRankConfig", nccl.ErrNoLibrary)
		}
	}},
	{"nccl-fails", func(f *fake) {
		f.OpenNCCL = func() (NCCL, error) {
			return nil, &nccl.Error{Op: "ncclGetVersion", Code: 2, Text: "unhandled system error"}
		}
	}},
	{"nccl-no-windows", func(f *fake) { f.OpenNCCL = func() (NCCL, error) { return fakeNCCL{}, nil } }},
	{"shm-small", func(f *fake) { f.write("proc/self/mounts", "shm /dev/shm tmpfs rw,size=65536k 0 0\n") }},
	{"shm-missing", func(f *fake) { f.write("proc/self/mounts", "proc /proc proc rw 0 0\n") }},
	{"memlock-small", func(f *fake) {
		f.write("dev/infiniband/uverbs0", "")
		f.write("proc/self/limits", "Max open files  1024  1024  files\nMax locked memory  65536  65536  bytes\n")
	}},
	{"memlock-not-needed", func(f *fake) {
		f.write("proc/self/limits", "Max open files  1024  1024  files\nMax locked memory  65536  65536  bytes\n")
	}},
	{"files-few", func(f *fake) {
		f.write("proc/self/limits", "Max open files  256  4096  files\nMax locked memory  unlimited  unlimited  bytes\n")
	}},
	{"nvcc-missing", (*fake).noNVCC},
	{"nvcc-fails", func(f *fake) {
		f.FindNVCC = func(context.Context) (*nvcc.Compiler, error) {
			return nil, errors.New("MOEGEN_NVCC=/x: nvcc is too old")
		}
	}},
	{"nvcc-newer-major", func(f *fake) { f.version = "12.4" }},
	{"nvcc-newer", func(f *fake) { f.nvcc("13.1.20") }},
	{"nvcc-unknown-arch", func(f *fake) { f.config.CC = [2]int{10, 3}; f.nvcc("12.8.93") }},
	{"host-compiler-missing", func(f *fake) { f.LookPath = func(string) (string, error) { return "", errNotThere } }},
	{"cache-none", func(f *fake) { f.CacheDir = func() (string, error) { return "", errors.New("$HOME is not defined") } }},
	{"cache-unreadable", func(f *fake) { f.CacheDir = func() (string, error) { return "/dev/null/cache", nil } }},
	{"cache-not-writable", notWritable},
	{"jit-disabled", func(f *fake) { f.env[noJIT] = "1" }},
	{"too-few-gpus", func(f *fake) { f.spec = plain; f.config.Devices = 1 }},
	{"no-ranks", func(f *fake) { f.spec = plain; f.config.Devices = 1 }},
	{"rank-gpu-too-old", func(f *fake) { f.spec = plain; f.config.CC = [2]int{8, 9} }},
	{"blocks-not-resident", func(f *fake) { f.spec = plain + "sm_limit: 132\n"; f.config.SMs = 16 }},
	{"memory-short", func(f *fake) { f.spec = plain + "max_tokens: 65536\n"; f.config.MemoryBytes = 1 << 30 }},
	{"memory-unknown", func(f *fake) { f.spec = plain; f.config.Inject = failing("cuMemGetInfo", driver.CodeOutOfMemory) }},
	{"no-image", func(f *fake) { f.spec = plain; f.noNVCC() }},
	{"compiler-fails", func(f *fake) {
		f.spec, f.ptx, f.LookPath = plain, "9.0", func(string) (string, error) { return "", errNotThere }
	}},
	{"cubin-too-new", func(f *fake) { f.spec = plain; f.version = "12.8"; f.ptx = "8.7" }},
	{"ptx-too-new", func(f *fake) { f.spec = plain; f.noNVCC(); f.version = "12.8"; f.ptx = "9.0" }},
	{"ptx-other-gpu", func(f *fake) { f.spec = plain; f.noNVCC(); f.config.CC = [2]int{10, 0}; f.ptx = "9.0" }},
	{"transport-not-asked", func(f *fake) { f.spec = plain; f.env["MOEGEN_TRANSPORT"] = "nccl" }},
	{"transport-not-generated", func(f *fake) { f.spec = plain + "transports: [p2p]\n"; f.env["MOEGEN_TRANSPORT"] = "nvls" }},
	{"no-vmm", func(f *fake) { f.spec = plain; f.without = []driver.Attribute{driver.AttrVMMSupported} }},
}

// TestCauses: each situation has its cause among the findings. What is found of it
// is in the golden files.
func TestCauses(t *testing.T) {
	var printed strings.Builder
	var found []Finding
	seen := map[string]bool{}
	for _, s := range situations {
		f := newFake(t)
		s.change(f)
		x, ok := find(f.report(t), s.reason)
		if !ok {
			t.Errorf("%s is not found", s.reason)
			continue
		}
		if x.Cause == "" || x.Remedy == "" {
			t.Errorf("%s has no cause, or no remedy", s.reason)
		}
		seen[s.reason] = true
		x.Found, _, _ = strings.Cut(x.Found, "; open /proc")
		found = append(found, x)
		printFindings(&printed, []Finding{x})
	}
	for _, c := range causes {
		if c.Check != "run" && !seen[c.ID] {
			t.Errorf("no test brings about %s", c.ID)
		}
	}
	golden(t, "causes.txt", printed.String())
	golden(t, "causes.json", asJSON(t, found))
}

// notWritable has a cache where nobody can make files, not even root. What the
// error says is the system's; golden files have the beginning.
func notWritable(f *fake) { f.CacheDir = func() (string, error) { return "/proc/self/attr", nil } }

// find returns the first finding with that cause.
func find(r *Report, reason string) (Finding, bool) {
	all := r.Findings
	for _, c := range r.Specs {
		all = append(append(all, c.Findings...), c.Transports...)
	}
	for _, f := range all {
		if f.Reason == reason {
			return f, true
		}
	}
	return Finding{}, false
}

func asJSON(t *testing.T, v any) string {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + "\n"
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs; if that is right, run go test ./cmd/moegen/doctor -update:\n%s", name, diff)
	}
}

// TestRunCauses: errors as the emulator makes them, of calls that doctor never
// makes, lead to their causes.
func TestRunCauses(t *testing.T) {
	for _, c := range []struct {
		call   string
		code   driver.Code
		reason string
	}{
		{"Create", 401, "multicast-refused"}, {"AddDevice", 401, "multicast-refused"}, {"AddDevice", 802, "fabric-not-ready"},
		{"AddDevice", 101, "multicast-other-domain"}, {"BindMem", 2, "multicast-slots"}, {"Create", 800, "multicast-not-supported"},
		{"", 2, "memory-short"}, {"", 800, "imex-missing"},
	} {
		call := "cuMemCreate"
		if c.call != "" {
			call = "cuMulti" + "cast" + c.call
		}
		d, err := emu.New(emu.Config{Devices: 1, Inject: failing(call, c.code)})
		if err != nil {
			t.Fatal(err)
		}
		err = setUp(d)
		if got := OfError(fmt.Sprint("rank 1: nvls: ", err)); got == nil || got.ID != c.reason {
			t.Errorf("%v: %v, not %s", err, got, c.reason)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	for text, reason := range map[string]string{
		"load moe.cu (embedded PTX): cuModuleLoadDataEx: CUDA_ERROR_UNSUPPORTED_PTX_VERSION (222): x":  "ptx-too-new",
		"cuModuleLoadDataEx: CUDA_ERROR_NO_BINARY_FOR_GPU (209): x":                                    "nvcc-newer-major",
		"cuMemSetAccess: CUDA_ERROR_PEER_ACCESS_UNSUPPORTED (217): x":                                  "peer-unsupported",
		"Dispatch 7: rank 0: rank 1 did not come before the timeout":                                   "rank-late",
		"rank 1 runs the step with another token capacity: all ranks must use the same":                "capacity-differs",
		"rank 0: nvls: GPU 0 (X) does not support multicast, or this binary was built without it":      "multicast-unsupported",
		"rank 0: nvls: NCCL_NVLS_ENABLE=0 turns multicast off":                                         "multicast-turned-off",
		"GPU 0 cannot access the memory of rank 1's GPU 1":                                             "peer-some",
		"moegen_dispatch_p2p needs 132 blocks resident at once, for 2 ranks, and GPU 0 holds 64 (...)": "blocks-not-resident",
		"cuMemCreate: CUDA_ERROR_UNKNOWN (999): x":                                                     "",
		"cuMemCreate: CUDA_ERROR_X (22): x":                                                            "",
	} {
		got := ""
		if c := OfError(text); c != nil {
			got = c.ID
		}
		if got != reason {
			t.Errorf("%s: %q, not %q", text, got, reason)
		}
	}
}

// setUp does what a rank with multicast does, to the first error.
func setUp(d *emu.Driver) error {
	dev := d.Devices()[0]
	m, err := dev.CreateMemory(emu.Granularity, driver.HandleNone)
	if err != nil {
		return err
	}
	object, err := d.CreateMulticast(1, emu.Granularity, driver.HandleNone)
	if err != nil {
		return err
	}
	if err := object.AddDevice(dev); err != nil {
		return err
	}
	return object.Bind(dev, 0, m, 0, emu.Granularity)
}

// TestTable holds docs/doctor.md to the list.
func TestTable(t *testing.T) {
	const path, begin, end = "../../../docs/doctor.md", "<!-- causes -->\n", "<!-- end -->"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no %s and %s", path, begin, end)
	}
	want := before + begin + "\n" + Tables() + end + after
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Errorf("%s differs; run go test ./cmd/moegen/doctor -update:\n%s", path, diff)
	}
}
