package gpu

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/emu"
	"github.com/moegen/moegen/spec"
)

var (
	rehearsal = os.Getenv("MOEGEN_GPU_REHEARSAL") == "1"
	// share lets both ranks use the one GPU of a machine: results count, times
	// say nothing about a link, and NCCL, which refuses this, is left out.
	share = os.Getenv("MOEGEN_GPU_SHARE") == "1"
	quiet = slog.New(slog.NewTextHandler(io.Discard, nil))
)

func TestMain(m *testing.M) {
	// A failing multicast call can harm others on a shared fabric. NCCL reads
	// the first when it is loaded; moegen obeys all three.
	for name, value := range map[string]string{
		"NCCL_NVLS_ENABLE": "0", "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1", "NVSHMEM_DISABLE_NVLS": "1",
	} {
		if err := os.Setenv(name, value); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	code := m.Run()
	if d, err := openCUDA(); err == nil {
		if err := d.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "close the CUDA driver:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// openCUDA opens the driver once: contexts are not made again for every test.
var openCUDA = sync.OnceValues(func() (driver.Driver, error) {
	if rehearsal {
		return nil, fmt.Errorf("MOEGEN_GPU_REHEARSAL=1")
	}
	return moert.Open(moert.Backend{Name: "cuda", Devices: 1})
})

// machine is what a test runs on.
type machine struct {
	driver.Driver
	real   bool // GPUs, not the emulator's rehearsal
	oneGPU bool // that both ranks share
}

// gpus returns a machine with n GPUs that reach each other, or skips the test.
func gpus(t testing.TB, n int) machine {
	t.Helper()
	if rehearsal {
		return emulated(t, n)
	}
	d, err := openCUDA()
	if err == nil && share && n == 2 && len(d.Devices()) == 1 {
		t.Log("SHARED: both ranks are on one GPU; without NCCL, and without limits on times")
		return machine{Driver: d, real: true, oneGPU: true}
	}
	if err == nil {
		err = suitable(d, n)
	}
	if err != nil {
		if n == 1 {
			t.Skipf("SKIPPED: needs a GPU: %v", err)
		}
		t.Skipf("SKIPPED: needs %d GPUs with peer access: %v", n, err)
	}
	return machine{Driver: d, real: true}
}

// emulated returns an emulated machine as the rehearsals and the comparisons
// with GPUs use it.
func emulated(t testing.TB, n int) machine {
	t.Helper()
	d, err := emu.New(emu.Config{Devices: n, NoMulticast: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return machine{Driver: d}
}

func suitable(d driver.Driver, n int) error {
	devices := d.Devices()
	if len(devices) < n {
		return fmt.Errorf("the driver has %d", len(devices))
	}
	for _, a := range devices[:n] {
		for _, b := range devices[:n] {
			if a == b {
				continue
			}
			if ok, err := a.CanAccessPeer(b); err != nil || !ok {
				return fmt.Errorf("GPU %d cannot access GPU %d (error: %v)", a.Ordinal(), b.Ordinal(), err)
			}
		}
	}
	return nil
}

// ranks are the devices that a test's ranks run on.
func (m machine) ranks(n int) []driver.Device {
	if m.oneGPU {
		return slices.Repeat(m.Devices()[:1], n)
	}
	return m.Devices()[:n]
}

// transports are those that the machine can use.
func (m machine) transports() []moert.Transport {
	if m.oneGPU {
		return []moert.Transport{moert.P2P}
	}
	return []moert.Transport{moert.P2P, moert.NCCL}
}

func (m machine) group() (*moert.LocalGroup, error) {
	if m.oneGPU {
		return moert.NewSharedGroup(m.ranks(2)...)
	}
	return moert.NewLocalGroup(m.ranks(2)...)
}

// pick returns what a test does on GPUs, or in a rehearsal.
func pick[T any](m machine, real, rehearsed T) T {
	if m.real {
		return real
	}
	return rehearsed
}

// specs loads the generated packages' specs, one for each model, changed to
// two ranks and to the transports that GPUs may use.
func specs(t testing.TB, change func(*spec.Spec)) map[string]*spec.Spec {
	t.Helper()
	var files []string
	for _, root := range []string{"../../generated", "generated"} { // a checkout, a bundle
		found, err := filepath.Glob(filepath.Join(root, "*", "moe.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	all := map[string]*spec.Spec{}
	for _, file := range files {
		s, err := spec.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		s.EPSize = 2
		s.Transports = []spec.Transport{spec.P2P, spec.NCCL}
		change(s)
		if err := s.Validate(); err != nil {
			t.Fatal(err)
		}
		all[s.Model] = s
	}
	if len(all) == 0 {
		t.Fatal("no specs: neither ../../generated nor generated has any")
	}
	return all
}

// writeResult leaves a result for whoever comes after the machine is gone.
func writeResult(t testing.TB, name string, v any) {
	t.Helper()
	text, ok := v.([]byte)
	if !ok {
		var err error
		if text, err = json.MarshalIndent(v, "", " "); err != nil {
			t.Fatal(err)
		}
	}
	dir := os.Getenv("MOEGEN_RESULTS")
	if dir == "" {
		t.Logf("%s (%d bytes) is not kept: MOEGEN_RESULTS names no folder", name, len(text))
		return
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
		t.Fatal(err)
	}
}
