package join

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/emu"
	"github.com/moegen/moegen/runtime/nccl"
)

// plain hides the emulator's own stand-in for NCCL: the group then takes
// libnccl, here a pretended one.
type plain struct{ driver.Driver }

type plainDevice struct {
	driver.Device
	drv driver.Driver
}

func (d plainDevice) Driver() driver.Driver { return d.drv }

func (p plain) Devices() []driver.Device {
	var out []driver.Device
	for _, d := range p.Driver.Devices() {
		out = append(out, plainDevice{d, p})
	}
	return out
}

// TestBootstrap: NCCL's communicator is made over the rendezvous, of one id that
// rank 0 gets; what one rank lacks is everybody's error.
func TestBootstrap(t *testing.T) {
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("NOT RUN: the pretended libnccl needs gcc:", err)
	}
	dir := t.TempDir()
	lib, log := filepath.Join(dir, "libnccl.so.2"), filepath.Join(dir, "calls")
	if out, err := exec.Command(gcc, "-shared", "-fPIC", "-fvisibility=hidden", "-o", lib, "../../runtime/nccl/testdata/fakenccl.c").CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	t.Setenv(nccl.LibraryEnv, lib)
	t.Setenv("FAKENCCL_LOG", log)
	drv := plain{machine(t, emu.Config{Devices: 3})}
	form := func() ([]*moert.ProcessGroup, []driver.Collective, []error) {
		privateDir(t)
		address := freeAddress(t)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		groups, comms := make([]*moert.ProcessGroup, 3), make([]driver.Collective, 3)
		return groups, comms, all(3, func(r int) (err error) {
			if groups[r], err = moert.Join(ctx, drv, options(address, r, 3)); err == nil {
				comms[r], err = groups[r].Collective(ctx, r)
			}
			return err
		})
	}

	groups, comms, errs := form()
	good(t, "bootstrap", errs)
	for r, c := range comms {
		if c.Rank() != r || c.Size() != 3 {
			t.Errorf("rank %d of %d, want %d of 3", c.Rank(), c.Size(), r)
		}
		if again, err := groups[r].Collective(t.Context(), r); err != nil || again != c {
			t.Errorf("rank %d: another communicator at the second call: %v", r, err)
		}
	}
	good(t, "close", all(3, func(r int) error { return groups[r].Close() }))
	calls, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for call, want := range map[string]int{"ncclGetUniqueId": 1, "ncclCommInitRankConfig": 3, "ncclCommDestroy": 3, "ncclCommAbort": 0} {
		if n := strings.Count(string(calls), call+" "); n != want {
			t.Errorf("%s was called %d times, want %d", call, n, want)
		}
	}

	t.Setenv("FAKENCCL_FAIL", "ncclGetUniqueId=1")
	groups, _, errs = form()
	for r, err := range errs {
		if err == nil || !strings.Contains(err.Error(), "NCCL on rank 0") {
			t.Errorf("rank %d: %v", r, err)
		}
	}
	good(t, "close", all(3, func(r int) error { return groups[r].Close() }))
}
