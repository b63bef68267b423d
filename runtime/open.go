package runtime

import (
	"fmt"
	"log/slog"

	"github.com/moegen/moegen/runtime/cuda"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/emu"
)

// Names that callers of generated code need without importing package driver.
type (
	DevicePtr = driver.DevicePtr
	Stream    = driver.Stream
	Graph     = driver.Graph
	GraphExec = driver.GraphExec
	Device    = driver.Device
	Driver    = driver.Driver
)

// Backend says what executes kernels. The zero value takes CUDA where there
// are GPUs and else emulates.
type Backend struct {
	Name    string // "", "auto", "cuda" or "emu"
	Devices int    // how many GPUs are needed; emulated machines have exactly that many; 0: 8 emulated ones
	Logger  *slog.Logger
	// Emulator changes the emulated machine; Devices is filled in.
	Emulator emu.Config
}

// Open returns a driver. With the name auto it uses CUDA if that finds at
// least Devices GPUs, else the emulator, and logs which and why.
func Open(b Backend) (Driver, error) {
	log := b.Logger
	if log == nil {
		log = slog.Default()
	}
	switch b.Name {
	case "cuda":
		return openCUDA(b.Devices)
	case "emu":
		return openEmulator(b)
	case "", "auto":
		d, err := openCUDA(b.Devices)
		if err == nil {
			log.Info("backend: cuda", "driver", d.Version(), "gpus", len(d.Devices()))
			return d, nil
		}
		log.Info("backend: emulator", "because", err.Error())
		return openEmulator(b)
	}
	return nil, fmt.Errorf("unknown backend %q: allowed are auto, cuda and emu", b.Name)
}

func openCUDA(devices int) (Driver, error) {
	d, err := cuda.Open()
	if err != nil {
		return nil, err
	}
	if n := len(d.Devices()); n < max(devices, 1) {
		_ = d.Close() // nothing was created on it
		return nil, fmt.Errorf("%d GPUs are needed and the driver has %d", max(devices, 1), n)
	}
	return d, nil
}

func openEmulator(b Backend) (Driver, error) {
	c := b.Emulator
	c.Devices = b.Devices
	if c.Devices == 0 {
		c.Devices = 8
	}
	return emu.New(c)
}
