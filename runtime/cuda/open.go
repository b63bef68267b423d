//go:build linux && cgo

package cuda

// #include "moecu.h"
import "C"

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/moegen/moegen/runtime/driver"
)

// cudaDriver is libcuda with its devices.
type cudaDriver struct {
	lib     *library
	devices []*device
	// names has the functions handed out, for drivers that cannot name a
	// graph's nodes themselves: C.CUfunction -> string.
	names sync.Map

	closing sync.Once
	failure error
}

var _ driver.Driver = (*cudaDriver)(nil)

// Open loads the driver library, initialises it and retains the primary
// context of every visible device (CUDA_VISIBLE_DEVICES limits them). Where
// there is no library, the error wraps [driver.ErrNoDriver].
func Open(options ...Option) (driver.Driver, error) {
	var c config
	for _, o := range options {
		o(&c)
	}
	lib, err := openLibrary(c)
	if err != nil {
		return nil, err
	}
	d := &cudaDriver{lib: lib}
	if err := d.open(c); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// queuesEnv is how many hardware queues CUDA makes for streams. Streams that
// share a queue run one after the other: a kernel that waits for a peer would
// keep those behind it from running, and these may be what the peer waits for.
const queuesEnv = "CUDA_DEVICE_MAX_CONNECTIONS"

func (d *cudaDriver) open(c config) error {
	if os.Getenv(queuesEnv) == "" {
		os.Setenv(queuesEnv, "32") // all that there are; cgo passes it on to the driver
	}
	if err := d.lib.err("cuInit", C.moecu_init(d.lib.t)); err != nil {
		return fmt.Errorf("cuda: %s: %w%s", d.lib.path, err, initAdvice(driver.CodeOf(err)))
	}
	out := C.moecu_device_count(d.lib.t)
	if err := d.lib.err("cuDeviceGetCount", out.rc); err != nil {
		return fmt.Errorf("cuda: %w", err)
	}
	if out.a == 0 {
		err := usageError("cuDeviceGetCount", driver.CodeNoDevice, "the driver sees no GPU")
		return fmt.Errorf("cuda: %w%s", err, initAdvice(driver.CodeNoDevice))
	}
	for i := range int(out.a) {
		dev, err := newDevice(d, i)
		if err != nil {
			return fmt.Errorf("cuda: GPU %d: %w", i, err)
		}
		d.devices = append(d.devices, dev)
	}
	if c.lazy {
		return nil
	}
	for _, dev := range d.devices {
		if _, err := dev.context("cuDevicePrimaryCtxRetain"); err != nil {
			return fmt.Errorf("cuda: GPU %d: %w", dev.ordinal, err)
		}
	}
	return nil
}

// initAdvice says what to do about a driver that is there but does not start.
func initAdvice(code driver.Code) string {
	switch int(code) {
	case 34:
		return "; this is the toolkit's link stub, not a driver: remove the toolkit's stubs directory from the library path"
	case 100:
		return "; check nvidia-smi, CUDA_VISIBLE_DEVICES, and that the container was given a GPU"
	case 802:
		return "; the NVSwitch fabric is not up yet: check that nvidia-fabricmanager runs"
	case 803, 804:
		return "; the user-mode library and the kernel module differ: reboot after a driver update, or remove the compatibility library"
	case 999:
		return "; the kernel module may not be loaded: check nvidia-smi and /dev/nvidia*"
	}
	return ""
}

func (d *cudaDriver) Name() string { return "cuda" }

func (d *cudaDriver) Version() string { return versionText(d.lib.version) }

func (d *cudaDriver) Devices() []driver.Device {
	devices := make([]driver.Device, len(d.devices))
	for i, dev := range d.devices {
		devices[i] = dev
	}
	return devices
}

// Close unloads the images that were kept and releases the primary contexts.
// What lives in them, and was not closed, goes with them where nobody else in the
// process holds the contexts; closing it later does nothing.
func (d *cudaDriver) Close() error {
	d.closing.Do(func() {
		var errs []error
		for _, dev := range d.devices {
			errs = append(errs, dev.release())
		}
		// The table stays: a late Close of an object may still look at it.
		d.failure = errors.Join(errs...)
	})
	return d.failure
}

// context is a context to be current for calls that belong to no device.
// Address space calls work without one, too, so a lazy device is left alone.
func (d *cudaDriver) context() C.CUcontext {
	for _, dev := range d.devices {
		if ctx := dev.ctx.Load(); ctx != 0 {
			return C.CUcontext(ctx)
		}
	}
	return 0
}

// ours returns the device of this driver behind dev.
func (d *cudaDriver) ours(op string, dev driver.Device) (*device, error) {
	if x, ok := dev.(*device); ok && x.drv == d {
		return x, nil
	}
	return nil, usageError(op, driver.CodeInvalidDevice, "the device is not one of this driver")
}
