// Package driver is the seam between moegen's runtime and whatever executes
// kernels. Its types mirror the CUDA driver API (streams are ordered queues,
// captured work becomes a graph, memory handles are mapped into reserved
// addresses, multicast objects collect devices before they accept memory), so
// that the implementation over libcuda (package cuda) is thin and the emulator
// (package emu) has to obey the same rules.
//
// All methods are safe for concurrent use unless they say otherwise. Methods
// whose name ends in Async, and Stream.Launch, only enqueue; everything else
// completes before it returns. A failing call returns an *Error.
package driver

import "time"

// DevicePtr is an address that kernels can use. Addresses are unique in the
// process: the same DevicePtr means the same memory on every device that has
// been given access to it. 0 is never valid.
type DevicePtr uint64

// Driver is one implementation with its devices and its address space.
type Driver interface {
	// Name is "cuda" or "emu".
	Name() string
	// Version describes the implementation for people, e.g. "CUDA driver 13.0".
	Version() string
	// Devices lists the devices in ordinal order.
	Devices() []Device
	AddressSpace
	// MulticastGranularity returns the sizes that a multicast object over
	// devices and its bindings must be a multiple of (minimum) and should be a
	// multiple of (recommended).
	MulticastGranularity(devices int, size uint64, kind HandleKind) (minimum, recommended uint64, err error)
	// CreateMulticast creates an object that will span exactly devices devices.
	// Binding memory to it, and mapping it, fail until all of them were added.
	CreateMulticast(devices int, size uint64, kind HandleKind) (Multicast, error)
	// Close releases what the driver itself holds. Devices must be idle.
	Close() error
}

// AddressSpace is the virtual memory management (VMM) part of a driver.
// Sizes and offsets are in bytes and multiples of the granularity.
type AddressSpace interface {
	// Reserve sets a range of addresses aside without memory behind it.
	Reserve(size, align uint64) (DevicePtr, error)
	// Unreserve gives a range back; nothing may be mapped in it.
	Unreserve(p DevicePtr, size uint64) error
	// Map puts size bytes of m, from offset on, behind p. No device has access yet.
	Map(p DevicePtr, size uint64, m Memory, offset uint64) error
	// Unmap removes a mapping made by Map, of exactly that size.
	Unmap(p DevicePtr, size uint64) error
	// SetAccess lets the devices read and write a mapped range.
	SetAccess(p DevicePtr, size uint64, devices ...Device) error
	// Import opens a handle that another process exported. For Fabric and
	// PosixFD handles alike the caller keeps ownership of s.
	Import(dev Device, s Shareable, size uint64) (Memory, error)
}

// Device is one GPU with its primary context.
type Device interface {
	Driver() Driver
	// Ordinal is the device's index in Driver.Devices.
	Ordinal() int
	Info() DeviceInfo
	// Attribute returns a capability or limit.
	Attribute(a Attribute) (int, error)
	// CanAccessPeer says whether kernels on this device can load and store
	// memory that lives on peer.
	CanAccessPeer(peer Device) (bool, error)
	// MemInfo returns free and total device memory in bytes.
	MemInfo() (free, total uint64, err error)

	// Granularity returns the multiple that sizes given to CreateMemory need.
	Granularity(kind HandleKind) (uint64, error)
	// CreateMemory allocates physical memory on the device, not yet mapped.
	CreateMemory(size uint64, kind HandleKind) (Memory, error)
	// Alloc allocates mapped memory, aligned to at least 256 bytes, that only
	// this device (and the host, by copies) uses. Its contents are undefined.
	Alloc(size uint64) (DevicePtr, error)
	Free(p DevicePtr) error
	// AllocHost allocates page-locked host memory that kernels can access.
	AllocHost(size uint64) (HostMemory, error)

	// Write copies host bytes to the device and Read the other way; both
	// complete before they return but do not wait for streams.
	Write(dst DevicePtr, src []byte) error
	Read(dst []byte, src DevicePtr) error

	// LoadModule loads an image, and every function in it, right away: a lazy
	// load at first launch can deadlock with kernels that spin on peers.
	LoadModule(im Image) (Module, error)
	NewStream() (Stream, error)
	NewEvent() (Event, error)
	// Synchronize waits for all streams of the device.
	Synchronize() error
	// SetContext makes the device current for the calling OS thread; only code
	// that hands the thread to another CUDA library (NCCL) needs it, with the
	// goroutine locked to its thread. The emulator does nothing.
	SetContext() error
}

// DeviceInfo identifies a device.
type DeviceInfo struct {
	Name        string
	UUID        string // lower-case hex with dashes
	PCI         string // domain:bus:device, "" if there is none
	Major       int    // compute capability
	Minor       int
	SMs         int    // number of multiprocessors
	TotalMemory uint64 // bytes
}

// Attribute names a device capability or limit; values as cuDeviceGetAttribute.
type Attribute int

const (
	AttrMulticastSupported Attribute = iota + 1
	AttrPosixFDSupported
	AttrFabricSupported
	AttrVMMSupported
	AttrMaxThreadsPerBlock
	AttrMaxThreadsPerSM
	AttrClockRateKHz
)

// HandleKind says how memory can be shared with other processes.
type HandleKind int

const (
	HandleNone HandleKind = iota
	HandlePosixFD
	HandleFabric
)

// Shareable is an exported handle: a file descriptor that the receiver of the
// value must close, or 64 bytes that can travel between hosts.
type Shareable struct {
	Kind   HandleKind
	FD     int
	Fabric [64]byte
}

// Memory is physical memory behind a handle. Release drops the handle; the
// memory lives on while it is mapped or bound.
type Memory interface {
	Size() uint64
	Export(kind HandleKind) (Shareable, error)
	Release() error
}

// Multicast is an object that replicates stores to, and reduces loads from,
// one range of memory on each of its devices. It is a Memory: mapping it
// gives multicast addresses, on which only multimem instructions are legal.
type Multicast interface {
	Memory
	AddDevice(d Device) error
	// Bind puts size bytes of m (which lives on d) at offset of the object.
	Bind(d Device, offset uint64, m Memory, memOffset, size uint64) error
	Unbind(d Device, offset, size uint64) error
}

// HostMemory is page-locked host memory. Bytes stays valid until Free.
type HostMemory interface {
	Bytes() []byte
	// Ptr is the address kernels use.
	Ptr() DevicePtr
	Free() error
}

// Image is what LoadModule takes: exactly one of PTX and Cubin is set.
type Image struct {
	Name  string // for messages
	PTX   []byte
	Cubin []byte
	// Keep says that the code has no state of its own (no variable that a kernel
	// writes), so that modules of the same image may share it. The driver then
	// loads an image once for each device, and keeps it until the driver is
	// closed: CUDA does not give back all memory of a module that is unloaded.
	// The emulator, which does, ignores this.
	Keep bool
}

// Module is loaded code. Its functions must not be launched after Unload, even
// where the driver keeps the code.
type Module interface {
	Function(name string) (Function, error)
	Unload() error
}

// Function is a kernel that is loaded and ready to launch.
type Function interface {
	Name() string
	// MaxActiveBlocks returns how many blocks of that many threads fit on one
	// multiprocessor at once.
	MaxActiveBlocks(threads int, sharedBytes uint64) (int, error)
}

// LaunchConfig is the shape of a launch.
type LaunchConfig struct {
	Grid        Dim3
	Block       Dim3
	SharedBytes uint64 // dynamic shared memory per block
	// Dependent allows the kernel to start before its predecessor in the
	// stream has ended (programmatic dependent launch).
	Dependent bool
}

// Dim3 is an extent; zero components count as 1.
type Dim3 struct{ X, Y, Z int }

// Stream is an ordered queue of work on one device. A Stream may be used by
// one goroutine at a time.
type Stream interface {
	Device() Device
	// Launch enqueues a kernel. params is the packed parameter block: each
	// parameter at its natural alignment, in declaration order. It is copied.
	Launch(f Function, cfg LaunchConfig, params []byte) error
	CopyAsync(dst, src DevicePtr, size uint64) error
	MemsetAsync(dst DevicePtr, value byte, size uint64) error
	Record(e Event) error
	Wait(e Event) error
	// BeginCapture makes later calls build a graph instead of running. Streams
	// that wait for an event recorded in the capture join it.
	BeginCapture() error
	EndCapture() (Graph, error)
	Capturing() (bool, error)
	// Synchronize waits for everything enqueued so far.
	Synchronize() error
	// Handle is the CUstream for interoperation, 0 on the emulator.
	Handle() uintptr
	Close() error
}

// Event marks a point in a stream.
type Event interface {
	Synchronize() error
	// Since returns the time from an earlier event to this one.
	Since(earlier Event) (time.Duration, error)
	Close() error
}

// Graph is captured work.
type Graph interface {
	Nodes() ([]GraphNode, error)
	Instantiate() (GraphExec, error)
	Close() error
}

// GraphNode describes one node of a graph.
type GraphNode struct {
	Kind string // "kernel", "memcpy", "memset", "host", "event", "other"
	Name string // the kernel's name, if it is one
}

// GraphExec is a graph ready to run.
type GraphExec interface {
	Launch(s Stream) error
	Close() error
}

// Collective is a communicator of a library of collectives (NCCL): the
// fallback transport and the baseline. Calls enqueue on the stream; calls
// between GroupStart and GroupEnd form one launch.
type Collective interface {
	Rank() int
	Size() int
	GroupStart() error
	GroupEnd() error
	// AllGather sends bytes bytes from send and places rank r's at recv+r*bytes.
	AllGather(s Stream, send, recv DevicePtr, bytes uint64) error
	// AllToAll sends bytes bytes from send+r*bytes to rank r, itself included, and
	// places what rank r sent it at recv+r*bytes. The two must not overlap.
	AllToAll(s Stream, send, recv DevicePtr, bytes uint64) error
	// ReduceScatter sums count elements per rank over all ranks' send+r*count
	// and places rank r's sum at r's recv.
	ReduceScatter(s Stream, send, recv DevicePtr, count uint64, t ElementType) error
	// Close destroys the communicator, Abort does so without waiting for peers.
	Close() error
	Abort() error
}

// ElementType is a type that Collective can add.
type ElementType int

const (
	Float32 ElementType = iota
	Float16
	BFloat16
)

// Size returns the element's size in bytes.
func (t ElementType) Size() int {
	if t == Float32 {
		return 4
	}
	return 2
}
