//go:build linux && cgo

package nccl

/*
#cgo CFLAGS: -std=gnu11 -Wall -Wextra
#cgo LDFLAGS: -ldl
#include <stdlib.h>
#include "moenccl.h"
*/
import "C"

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"unsafe"

	"github.com/moegen/moegen/runtime/driver"
)

// Library is a loaded libnccl.
type Library struct {
	t       *C.moenccl
	path    string
	version int
}

// opened keeps libraries by path: every rank of a process opens its own.
var opened struct {
	sync.Mutex
	libraries map[string]*Library
}

// Open loads NCCL: the library that [LibraryEnv] names, or else the one that
// the loader finds, or else one that belongs to the Python environment in use.
// Opening it again returns the same Library; it stays loaded.
func Open() (*Library, error) {
	var tried []string
	for _, path := range candidates() {
		l, text, err := open(path)
		if l != nil || err != nil {
			return l, err
		}
		tried = append(tried, fmt.Sprintf("%s (%s)", path, text))
	}
	return nil, fmt.Errorf("nccl: %w: tried %s; %s", ErrNoLibrary, strings.Join(tried, ", "), advice())
}

// open returns the library at path, dlopen's text where it cannot be loaded,
// or an error where it can and will not do.
func open(path string) (*Library, string, error) {
	opened.Lock()
	defer opened.Unlock()
	if l := opened.libraries[path]; l != nil {
		return l, "", nil
	}
	p := C.CString(path)
	defer C.free(unsafe.Pointer(p))
	var message *C.char
	t := C.moenccl_open(p, &message)
	if t == nil {
		defer C.free(unsafe.Pointer(message))
		return nil, strings.TrimPrefix(C.GoString(message), path+": "), nil
	}
	var missing []string
	for i := range C.int(C.MOENCCL_SYM_COUNT) {
		if C.moenccl_needed(i) != 0 && C.moenccl_has(t, i) == 0 {
			missing = append(missing, C.GoString(C.moenccl_symbol(i)))
		}
	}
	if missing != nil {
		C.moenccl_discard(t)
		return nil, "", fmt.Errorf("nccl: %w: %s lacks %s; moegen needs NCCL 2.14 or newer", ErrNoLibrary, path, strings.Join(missing, ", "))
	}
	l := &Library{t: t, path: path}
	out := C.moenccl_version(t)
	if err := l.err("ncclGetVersion", out.rc); err != nil {
		C.moenccl_discard(t)
		return nil, "", err
	}
	l.version = int(out.v)
	if opened.libraries == nil {
		opened.libraries = make(map[string]*Library)
	}
	opened.libraries[path] = l
	return l, "", nil
}

// Version returns the library's version, e.g. "2.29.3".
func (l *Library) Version() string {
	v := l.version
	if v < 10000 { // before 2.9
		return fmt.Sprintf("%d.%d.%d", v/1000, v%1000/100, v%100)
	}
	return fmt.Sprintf("%d.%d.%d", v/10000, v%10000/100, v%100)
}

// Path is what the library was loaded as.
func (l *Library) Path() string { return l.path }

// HasWindows says whether the library has symmetric windows and the functions
// with which a host gets pointers from them.
func (l *Library) HasWindows() bool {
	return l.missing(C.MOENCCL_SYM_ncclMemAlloc, C.MOENCCL_SYM_COUNT-1) == ""
}

// missing lists the functions, from first to last, that the library lacks.
func (l *Library) missing(first, last C.int) string {
	var missing []string
	for i := first; i <= last; i++ {
		if C.moenccl_has(l.t, i) == 0 {
			missing = append(missing, C.GoString(C.moenccl_symbol(i)))
		}
	}
	return strings.Join(missing, ", ")
}

// The results that the package tells apart.
const (
	success    = 0
	inProgress = 7
)

func (l *Library) err(op string, rc C.ncclResult_t) error {
	if rc == success {
		return nil
	}
	e := &Error{Op: op, Code: int(rc), Text: C.GoString(C.moenccl_error(l.t, rc))}
	if last := C.moenccl_last_error(l.t); last != nil {
		e.Last = strings.TrimSpace(C.GoString(last))
	}
	return e
}

// UniqueID returns a name for a new communicator.
func (l *Library) UniqueID() (UniqueID, error) {
	var id UniqueID
	rc := C.moenccl_unique_id(l.t, (*C.ncclUniqueId)(unsafe.Pointer(&id)))
	return id, l.err("ncclGetUniqueId", rc)
}

// NewCollectives makes a communicator of all devices, which are of this
// process, and returns each rank's end of it.
func (l *Library) NewCollectives(devices []driver.Device) ([]driver.Collective, error) {
	if len(devices) == 0 {
		return nil, fmt.Errorf("nccl: a communicator needs at least one device")
	}
	id, err := l.UniqueID()
	if err != nil {
		return nil, err
	}
	comms, err := l.initRanks(id, 0, len(devices), devices)
	if err != nil {
		return nil, err
	}
	collectives := make([]driver.Collective, len(comms))
	for i, c := range comms {
		collectives[i] = c
	}
	return collectives, nil
}

// InitRank joins the communicator that id names, as one rank of size. It waits
// for all ranks to do so.
func (l *Library) InitRank(id UniqueID, rank, size int, device driver.Device) (*Comm, error) {
	if rank < 0 || rank >= size {
		return nil, fmt.Errorf("nccl: rank %d of %d", rank, size)
	}
	comms, err := l.initRanks(id, rank, size, []driver.Device{device})
	if err != nil {
		return nil, err
	}
	return comms[0], nil
}

// initRanks joins with consecutive ranks from first on, from one thread and
// hence in one group.
func (l *Library) initRanks(id UniqueID, first, size int, devices []driver.Device) ([]*Comm, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// NCCL writes the handles when the group ends: not to a stack.
	slots := unsafe.Slice((*C.ncclComm_t)(C.calloc(C.size_t(len(devices)), C.sizeof_ncclComm_t)), len(devices))
	defer C.free(unsafe.Pointer(&slots[0]))
	const op = "ncclCommInitRankConfig"
	if err := l.err("ncclGroupStart", C.moenccl_group_start(l.t)); err != nil {
		return nil, err
	}
	var failure error
	for i, d := range devices {
		if failure = d.SetContext(); failure != nil {
			break
		}
		rc := C.moenccl_init(l.t, &slots[i], C.int(size), (*C.ncclUniqueId)(unsafe.Pointer(&id)), C.int(first+i))
		if rc != inProgress {
			if failure = l.err(op, rc); failure != nil {
				break
			}
		}
	}
	rc := C.moenccl_group_end(l.t)
	comms := make([]*Comm, len(devices))
	for i, d := range devices {
		comms[i] = &Comm{lib: l, dev: d, rank: first + i, size: size}
		comms[i].handle.Store(uint64(slots[i]))
		if failure == nil {
			failure = comms[i].settle(op, rc)
		}
	}
	if failure == nil {
		return comms, nil
	}
	for _, c := range comms {
		_ = c.Abort() // the failure that led here is the one to report
	}
	return nil, failure
}
