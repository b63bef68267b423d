//go:build linux && cgo && nomulticast

package cuda

import "github.com/moegen/moegen/runtime/driver"

// multicastBuilt says that the binary has the multicast calls. Without them
// devices report that they do not support multicast.
const multicastBuilt = false

type multicastTable struct{}

func openMulticast(*library) multicastTable { return multicastTable{} }

func closeMulticast(multicastTable) {}

func (d *cudaDriver) MulticastGranularity(int, uint64, driver.HandleKind) (minimum, recommended uint64, err error) {
	return 0, 0, driver.ErrNoMulticast
}

func (d *cudaDriver) CreateMulticast(int, uint64, driver.HandleKind) (driver.Multicast, error) {
	return nil, driver.ErrNoMulticast
}

// multicast is memory of another process.
type multicast struct{ *memory }

var _ driver.Multicast = (*multicast)(nil)

func (*multicast) AddDevice(driver.Device) error { return driver.ErrNoMulticast }

func (*multicast) Bind(driver.Device, uint64, driver.Memory, uint64, uint64) error {
	return driver.ErrNoMulticast
}

func (*multicast) Unbind(driver.Device, uint64, uint64) error { return driver.ErrNoMulticast }
