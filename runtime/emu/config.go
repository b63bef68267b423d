package emu

import (
	"log/slog"
	"runtime"
	"time"

	"github.com/moegen/moegen/runtime/driver"
)

// Granularity is the multiple that sizes of shareable memory, reservations and
// multicast objects need.
const Granularity = 2 << 20

// Limits of one multiprocessor (Hopper's).
const (
	maxThreadsPerSM    = 2048
	maxBlocksPerSM     = 32
	maxThreadsPerBlock = 1024
	sharedPerSM        = 228 << 10
	sharedPerBlock     = 227 << 10
	sharedReserved     = 1 << 10 // the system's share of every block
)

// Mode selects how kernels are scheduled and what is checked.
type Mode int

const (
	// Fast runs blocks on several workers, for users and tests of results.
	Fast Mode = iota
	// Check interleaves warps deterministically from Config.Seed, one at a time,
	// and judges the execution: see Driver.Reports.
	Check
	// Explore is Check with weak memory, launch skew and other liberties that
	// hardware may take, chosen from Config.Seed.
	Explore
)

// Config describes the emulated machine. The zero value of every field but
// Devices is usable.
type Config struct {
	// Devices is the number of GPUs, 1 to MaxDevices.
	Devices int
	// SMs is the number of multiprocessors of each; default 132.
	SMs int
	// ResidentBlocksPerSM caps how many blocks a multiprocessor holds, below
	// what threads and shared memory allow; 0 means no extra cap.
	ResidentBlocksPerSM int
	// NoMulticast makes a machine without NVLink SHARP.
	NoMulticast bool
	// NoPeer, where set, says which pairs of devices cannot reach each other.
	NoPeer func(a, b int) bool
	// CC is the compute capability; default 9.0.
	CC [2]int
	// MemoryBytes is each device's memory; default 64 GiB. It is committed as
	// it is touched.
	MemoryBytes uint64
	// MulticastSlots is how many multicast objects can have memory bound at
	// once; default 128.
	MulticastSlots int
	// Workers is the number of goroutines that execute; default GOMAXPROCS.
	Workers int
	// Seed fixes the order of execution in Check and Explore; Fast has no say.
	Seed uint64
	Mode Mode
	// Judge is for the modes Check and Explore.
	Judge Judge
	// Inject, where set, is asked at the start of every driver call with its
	// CUDA name ("cuMulticastCreate") and the device's ordinal (-1 where the
	// call has none). A code other than 0 makes the call fail with it.
	Inject func(op string, device int) driver.Code
	// StallLimit bounds, in real time, how long a synchronising call watches a
	// system in which nothing makes progress; then the devices concerned fail
	// with CUDA_ERROR_LAUNCH_TIMEOUT and a list of what waits where. 0: no bound.
	StallLimit time.Duration
	// Observer, where set, sees every access, fence, barrier and launch.
	Observer Observer
	Logger   *slog.Logger
}

// MaxDevices is the largest Config.Devices.
const MaxDevices = 256

func (c Config) withDefaults() Config {
	if c.SMs == 0 {
		c.SMs = 132
	}
	if c.CC == [2]int{} {
		c.CC = [2]int{9, 0}
	}
	if c.MemoryBytes == 0 {
		c.MemoryBytes = 64 << 30
	}
	if c.MulticastSlots == 0 {
		c.MulticastSlots = 128
	}
	if c.Workers <= 0 {
		c.Workers = runtime.GOMAXPROCS(0)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}
