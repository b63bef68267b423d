//go:build !linux || !cgo

package nccl

import (
	"fmt"

	"github.com/moegen/moegen/runtime/driver"
)

// Library is a loaded libnccl. This binary cannot have one.
type Library struct{}

func unavailable() error {
	return fmt.Errorf("nccl: %w: this binary was built without cgo, or not for Linux", ErrNoLibrary)
}

// Open fails: this binary cannot load NCCL.
func Open() (*Library, error) { return nil, unavailable() }

// Version returns "".
func (*Library) Version() string { return "" }

// Path returns "".
func (*Library) Path() string { return "" }

// HasWindows returns false.
func (*Library) HasWindows() bool { return false }

// UniqueID fails.
func (*Library) UniqueID() (UniqueID, error) { return UniqueID{}, unavailable() }

// NewCollectives fails.
func (*Library) NewCollectives([]driver.Device) ([]driver.Collective, error) {
	return nil, unavailable()
}

// InitRank fails.
func (*Library) InitRank(UniqueID, int, int, driver.Device) (*Comm, error) {
	return nil, unavailable()
}

// Comm is one rank of a communicator. This binary cannot have one.
type Comm struct{ driver.Collective }

// MemAlloc fails.
func (*Comm) MemAlloc(uint64) (driver.DevicePtr, error) { return 0, unavailable() }

// MemFree fails.
func (*Comm) MemFree(driver.DevicePtr) error { return unavailable() }

// RegisterWindow fails.
func (*Comm) RegisterWindow(driver.DevicePtr, uint64) (Window, error) { return 0, unavailable() }

// Deregister fails.
func (*Comm) Deregister(Window) error { return unavailable() }

// PeerPointer fails.
func (*Comm) PeerPointer(Window, uint64, int) (driver.DevicePtr, error) { return 0, unavailable() }

// MultimemPointer fails.
func (*Comm) MultimemPointer(Window, uint64) (driver.DevicePtr, error) { return 0, unavailable() }
