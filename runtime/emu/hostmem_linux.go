package emu

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapHost returns size bytes of zeroed memory outside the Go heap. It is not
// reserved: pages cost nothing until they are touched.
func mapHost(size uint64) (unsafe.Pointer, error) {
	p, err := unix.MmapPtr(-1, 0, nil, uintptr(size), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("mapping %d bytes: %w", size, err)
	}
	return p, nil
}

func unmapHost(p unsafe.Pointer, size uint64) {
	// Failing to unmap our own mapping can only mean a bug, and costs a leak.
	_ = unix.MunmapPtr(p, uintptr(size))
}

// newFD makes a file descriptor that stands for exported memory, with the
// identity by which it can be recognised again after a dup.
func newFD() (fd int, id fdID, err error) {
	fd, err = unix.MemfdCreate("emu-memory", unix.MFD_CLOEXEC)
	if err != nil {
		return -1, fdID{}, err
	}
	id, err = identifyFD(fd)
	if err != nil {
		_ = unix.Close(fd)
		return -1, fdID{}, err
	}
	return fd, id, nil
}

func identifyFD(fd int) (fdID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fdID{}, err
	}
	return fdID{uint64(st.Dev), st.Ino}, nil
}
