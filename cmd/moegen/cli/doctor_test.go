package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moegen/moegen/cmd/moegen/doctor"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/emu"
)

// asCUDA is the emulator under the name of the real thing.
type asCUDA struct{ driver.Driver }

func (asCUDA) Name() string { return "cuda" }

// TestDoctorMakesNoMulticastCall looks at a pretended libcuda, which writes down
// every call: with specs, too, doctor leaves multicast and memory alone.
func TestDoctorMakesNoMulticastCall(t *testing.T) {
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("the pretended driver needs gcc:", err)
	}
	dir := t.TempDir()
	lib, log := filepath.Join(dir, "libcuda.so.1"), filepath.Join(dir, "calls")
	sources, _ := filepath.Glob("../../../runtime/cuda/testdata/*.c")
	if out, err := exec.Command(gcc, append([]string{"-shared", "-fPIC", "-fvisibility=hidden", "-o", lib}, sources...)...).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	for _, name := range []string{"NCCL_NVLS_ENABLE", "TORCH_SYMM_MEM_DISABLE_MULTICAST", "NVSHMEM_DISABLE_NVLS", "MOEGEN_TRANSPORT"} {
		t.Setenv(name, "") // set by no one
	}
	t.Setenv("MOEGEN_LIBCUDA", lib)
	t.Setenv("FAKECUDA_LOG", log)
	var stdout, stderr bytes.Buffer
	Run([]string{"doctor", "-json", "../../../generated/deepseekv3ep2"}, nil, &stdout, &stderr)
	var report doctor.Report
	if err := json.Unmarshal(stdout.Bytes(), &report); err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	i := slices.IndexFunc(report.Findings, func(f doctor.Finding) bool { return f.Check == "multicast" })
	if f := report.Findings[i]; f.Use != doctor.Used && f.Reason != "multicast-compiled-out" {
		t.Errorf("the attribute is not told: %+v", f)
	}
	calls, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(calls), "cuDevicePrimaryCtxRetain") {
		t.Errorf("the log is not of doctor:\n%s", calls)
	}
	for _, part := range []string{"Multi", "cuMemCreate", "cuMemAlloc", "cuMemHost", "cuMemAddress", "cuModule", "cuLaunch"} {
		for line := range strings.Lines(string(calls)) {
			if strings.Contains(line, part) {
				t.Errorf("doctor called %s", line)
			}
		}
	}
}

// TestRunAdvises: what a run was refused comes with its cause.
func TestRunAdvises(t *testing.T) {
	defer func(f func(emu.Config) (driver.Driver, error)) { openEmulator = f }(openEmulator)
	openEmulator = func(c emu.Config) (driver.Driver, error) {
		c.Inject = func(op string, device int) driver.Code {
			if strings.HasSuffix(op, "AddDevice") && device == 1 {
				return driver.CodeIllegalState
			}
			return 0
		}
		return emu.New(c)
	}
	var stdout, stderr bytes.Buffer
	code := Run([]string{"run", "-backend", "emu", "-tokens", "1", "-graph", "off", "../../../generated/nemotron3nanoep2"}, nil, &stdout, &stderr)
	if code != exitOK {
		t.Fatalf("exit code %d:\n%s%s", code, &stdout, &stderr)
	}
	for _, want := range []string{"refused    rank 0: nvls: ", "(401)", "\ncause      The fabric manager refused", "\nremedy     Restart nvidia-fabricmanager"} {
		if n := strings.Count(stdout.String(), want); n == 0 || strings.HasPrefix(want, "\n") && n != 1 {
			t.Errorf("%q is there %d times:\n%s", want, n, &stdout)
		}
	}
}
