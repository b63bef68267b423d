package emu

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapShared is mapHost for memory that other processes can map too. The file
// cannot shrink any more: nobody who maps it can be made to fault.
func mapShared(size uint64) (p unsafe.Pointer, fd int, err error) {
	fd, err = unix.MemfdCreate("emu-memory", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, -1, err
	}
	if err = unix.Ftruncate(fd, int64(size)); err == nil {
		if _, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err == nil {
			p, err = mapFD(fd, size)
		}
	}
	if err != nil {
		_ = unix.Close(fd) // the first error is the one to report
		return nil, -1, err
	}
	return p, fd, nil
}

func mapFD(fd int, size uint64) (unsafe.Pointer, error) {
	p, err := unix.MmapPtr(fd, 0, nil, uintptr(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("mapping %d shared bytes: %w", size, err)
	}
	return p, nil
}

// openShared maps memory that another process's emulator has made, and keeps a
// descriptor of its own.
func openShared(fd int, size uint64) (unsafe.Pointer, int, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, -1, err
	}
	if seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0); err != nil || seals&unix.F_SEAL_SHRINK == 0 {
		return nil, -1, fmt.Errorf("it is not memory of an emulator")
	}
	if uint64(st.Size) != size {
		return nil, -1, fmt.Errorf("it has %d bytes, not %d", st.Size, size)
	}
	own, err := dupFD(fd)
	if err != nil {
		return nil, -1, err
	}
	p, err := mapFD(own, size)
	if err != nil {
		closeFD(own)
		return nil, -1, err
	}
	return p, own, nil
}

func dupFD(fd int) (int, error) { return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0) }

func closeFD(fd int) { _ = unix.Close(fd) }
