package exchange

import (
	"errors"
	"testing"

	"github.com/moegen/moegen/runtime/emu"
	"github.com/moegen/moegen/runtime/nvcc"
)

// TestNoCompiler: where nvcc may not run and nothing is cached, the embedded
// PTX serves; without it all ranks fail, and say what is forbidden.
func TestNoCompiler(t *testing.T) {
	p := program(t, small)
	t.Setenv("MOEGEN_DISABLE_JIT", "1")
	t.Setenv("MOEGEN_CACHE_DIR", t.TempDir())
	r := newRig(t, machine(t, emu.Config{Devices: 2}), p)
	r.good(t, 1)
	if got := r.d[0].Image(); got != "embedded PTX" {
		t.Errorf("kernels from %s", got)
	}

	bare := *p
	bare.PTX = nil
	drv := machine(t, emu.Config{Devices: 2})
	before := free(t, drv)
	if _, _, err := dispatchers(drv, &bare); !errors.Is(err, nvcc.ErrDisabled) {
		t.Errorf("without PTX: %v, want %v", err, nvcc.ErrDisabled)
	}
	same(t, "after that", before, free(t, drv))
}
