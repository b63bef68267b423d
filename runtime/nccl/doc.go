// Package nccl loads NVIDIA's libnccl at run time, for two purposes: its
// collectives, which are the fallback transport and, with symmetric windows too
// where the library has them (2.27), the baseline of benchmarks; and those
// windows as a source of peer and multicast pointers (2.29).
//
// The package builds without NCCL's headers. Where the library is not found,
// [Open] says where it looked.
//
// NCCL keeps the state of a group of calls per thread. [Comm.GroupStart]
// therefore locks the goroutine to its thread, and [Comm.GroupEnd], which the
// same goroutine has to call, unlocks it.
package nccl

import (
	"errors"
	"fmt"
)

// LibraryEnv is the environment variable that names the library to load.
const LibraryEnv = "MOEGEN_NCCL"

// UniqueID names a communicator that is being made: one rank gets it from
// [Library.UniqueID] and gives it to the others.
type UniqueID [128]byte

// Window is memory that all ranks of a communicator registered together. 0 is
// not a window.
type Window uintptr

// Error is a failed call of NCCL.
type Error struct {
	Op   string // the call, e.g. "ncclAllGather"
	Code int    // ncclResult_t
	Text string // ncclGetErrorString
	Last string // ncclGetLastError, "" if it says nothing
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s: %s (%d)", e.Op, e.Text, e.Code)
	if e.Last != "" {
		s += ": " + e.Last
	}
	return s
}

// Errors to compare with through errors.Is.
var (
	// ErrNoLibrary means that there is no libnccl that could be loaded.
	ErrNoLibrary = errors.New("no NCCL library")
	// ErrNoWindows means that the library, or the machine, has no symmetric
	// windows that hosts can get pointers from.
	ErrNoWindows = errors.New("no NCCL symmetric windows")
	// ErrClosed means that the communicator was closed or aborted.
	ErrClosed = errors.New("the NCCL communicator is closed")
)
