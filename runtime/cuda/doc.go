// Package cuda implements package driver over NVIDIA's libcuda.
//
// The library is looked for when [Open] is called, with dlopen and dlsym: the
// package builds without a CUDA toolkit, and a program that imports it starts
// on a machine without a driver and gets an error that wraps
// [driver.ErrNoDriver]. Entry points that came with later drivers are optional;
// a call that needs an absent one fails with an error that names it and
// matches [driver.ErrNotSupported].
//
// Every call makes the device's primary context current and does its work in
// one crossing into C, so that callers need not lock goroutines to threads.
// Captures are of the relaxed mode for the same reason.
//
// Built with -tags nomulticast, the package does not contain the multicast
// entry points at all, not even their names.
package cuda

import "github.com/moegen/moegen/runtime/driver"

// LibraryEnv is the environment variable that names the driver library to
// load in place of the system's.
const LibraryEnv = "MOEGEN_LIBCUDA"

type config struct {
	file string
	lazy bool
}

// Option changes what Open does.
type Option func(*config)

// WithLibrary makes Open load the driver library from path, and nowhere else.
// It goes before [LibraryEnv].
func WithLibrary(path string) Option {
	return func(c *config) { c.file = path }
}

// WithLazyContexts makes Open leave the primary contexts, which take hundreds
// of megabytes of device memory each, until a device is first used. Without
// it they are made in Open, where nothing spins yet that could be waited for.
func WithLazyContexts() Option {
	return func(c *config) { c.lazy = true }
}

// P2PAttributes describes the link from one device to another.
type P2PAttributes struct {
	// PerformanceRank orders links, 0 being the fastest kind in the machine.
	PerformanceRank int
	AccessSupported bool
	// NativeAtomics says that all atomic operations work over the link.
	NativeAtomics bool
}

// P2P is implemented by the devices of this package.
type P2P interface {
	P2PAttributes(peer driver.Device) (P2PAttributes, error)
}
