package cli

import (
	"errors"
	"fmt"

	"github.com/moegen/moegen/runtime/cuda"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/emu"
)

// backend is the driver that a command uses.
type backend struct {
	driver driver.Driver
	why    string // it was chosen
}

// openCUDA and openEmulator open the two drivers. Tests replace them.
var (
	openCUDA     = func() (driver.Driver, error) { return cuda.Open() }
	openEmulator = func(c emu.Config) (driver.Driver, error) { return emu.New(c) }
)

// devices gives each rank a GPU, in turn where there are fewer than ranks.
func (b *backend) devices(ranks int) []driver.Device {
	have := b.driver.Devices()
	out := make([]driver.Device, ranks)
	for i := range out {
		out[i] = have[i%len(have)]
	}
	return out
}

// openBackend opens the named backend with at least ranks devices, or where
// the ranks may share one, with at least one: auto is CUDA where that has
// enough of them, else the emulator, configured by c, which
// may ask for more devices than ranks.
func openBackend(name string, ranks int, share bool, c emu.Config) (*backend, error) {
	if share {
		ranks = 1
	}
	c.Devices = max(c.Devices, ranks)
	if name == "emu" {
		d, err := openEmulator(c)
		return &backend{d, "asked for"}, err
	}
	d, err := openCUDA()
	if err == nil {
		have := len(d.Devices())
		if have >= ranks {
			why := "asked for"
			if name == "auto" {
				why = fmt.Sprintf("%s for %s", plural(have, "GPU"), plural(ranks, "rank"))
			}
			return &backend{d, why}, nil
		}
		err = fmt.Errorf("%s for %s", plural(have, "GPU"), plural(ranks, "rank"))
		if cerr := d.Close(); cerr != nil {
			err = fmt.Errorf("%w (and closing the driver: %v)", err, cerr)
		}
	}
	if name == "cuda" {
		return nil, fmt.Errorf("%w; -backend emu runs without GPUs", err)
	}
	why := err.Error()
	if errors.Is(err, driver.ErrNoDriver) {
		why = "no CUDA driver; moegen doctor tells more" // the error lists every place looked at
	}
	e, err := openEmulator(c)
	return &backend{e, why}, err
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
