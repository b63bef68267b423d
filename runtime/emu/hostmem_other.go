//go:build !linux

package emu

import (
	"errors"
	"unsafe"
)

// mapHost returns zeroed memory from the Go heap: correct, but committed at
// once and visible to the race detector.
func mapHost(size uint64) (unsafe.Pointer, error) {
	b := make([]uint64, (size+7)/8)
	return unsafe.Pointer(unsafe.SliceData(b)), nil
}

func unmapHost(unsafe.Pointer, uint64) {}

var errNoFD = errors.New("file descriptor handles need Linux")

func newFD() (int, fdID, error) { return -1, fdID{}, errNoFD }

func identifyFD(int) (fdID, error) { return fdID{}, errNoFD }

func mapShared(size uint64) (unsafe.Pointer, int, error) {
	p, err := mapHost(size)
	return p, -1, err
}

func openShared(int, uint64) (unsafe.Pointer, int, error) { return nil, -1, errNoFD }

func dupFD(int) (int, error) { return -1, errNoFD }

func closeFD(int) {}
