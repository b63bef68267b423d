// The part of the CUDA driver API that moegen uses, declared here so that the
// package builds where there is no CUDA toolkit, and the shims that Go calls.
//
// Handles are uintptr_t instead of pointers to incomplete structs: the ABI is
// the same, and neither Go's garbage collector nor its pointer checks have any
// business with them.
#ifndef MOEGEN_RUNTIME_CUDA_MOECU_H_
#define MOEGEN_RUNTIME_CUDA_MOECU_H_

#include <stddef.h>
#include <stdint.h>

typedef int CUresult;
typedef int CUdevice;
typedef uintptr_t CUcontext;
typedef uintptr_t CUmodule;
typedef uintptr_t CUfunction;
typedef uintptr_t CUkernel;
typedef uintptr_t CUstream;
typedef uintptr_t CUevent;
typedef uintptr_t CUgraph;
typedef uintptr_t CUgraphExec;
typedef uintptr_t CUgraphNode;
typedef unsigned long long CUdeviceptr;
typedef unsigned long long CUmemHandle;

typedef struct {
  int type;  // CU_MEM_LOCATION_TYPE_DEVICE is 1
  int id;
} CUmemLocation;

typedef struct {
  int type;                  // CU_MEM_ALLOCATION_TYPE_PINNED is 1
  int requestedHandleTypes;  // a mask: 1 POSIX fd, 8 fabric
  CUmemLocation location;
  void* win32HandleMetaData;
  struct {
    unsigned char compressionType;
    unsigned char gpuDirectRDMACapable;
    unsigned short usage;
    unsigned char reserved[4];
  } allocFlags;
} CUmemAllocationProp;

typedef struct {
  CUmemLocation location;
  int flags;  // CU_MEM_ACCESS_FLAGS_PROT_READWRITE is 3
} CUmemAccessDesc;

typedef struct {
  int id;
  char pad[4];
  union {
    char pad[64];
    int programmaticStreamSerializationAllowed;
  } value;
} CUlaunchAttribute;

typedef struct {
  unsigned int gridDimX, gridDimY, gridDimZ;
  unsigned int blockDimX, blockDimY, blockDimZ;
  unsigned int sharedMemBytes;
  CUstream hStream;
  CUlaunchAttribute* attrs;
  unsigned int numAttrs;
} CUlaunchConfig;

typedef struct {
  CUfunction func;
  unsigned int gridDimX, gridDimY, gridDimZ;
  unsigned int blockDimX, blockDimY, blockDimZ;
  unsigned int sharedMemBytes;
  void** kernelParams;
  void** extra;
  CUkernel kern;
  CUcontext ctx;
} CUDA_KERNEL_NODE_PARAMS;

// MOECU_SYMBOLS lists every entry point: X(need, name, symbol, version, args).
// need is 1 where Open fails without it and 0 where only the feature does;
// name is the documented name, symbol the exported one (its _v2, _v3 suffix
// selects the ABI that the declaration here has), version the CUDA version
// (1000 * major + 10 * minor) that brought it.
#define MOECU_SYMBOLS(X)                                                                                               \
  X(1, cuGetErrorName, "cuGetErrorName", 6000, (CUresult, const char**))                                               \
  X(1, cuGetErrorString, "cuGetErrorString", 6000, (CUresult, const char**))                                           \
  X(1, cuInit, "cuInit", 2000, (unsigned int))                                                                         \
  X(1, cuDriverGetVersion, "cuDriverGetVersion", 2020, (int*))                                                         \
  X(1, cuDeviceGet, "cuDeviceGet", 2000, (CUdevice*, int))                                                             \
  X(1, cuDeviceGetCount, "cuDeviceGetCount", 2000, (int*))                                                             \
  X(1, cuDeviceGetName, "cuDeviceGetName", 2000, (char*, int, CUdevice))                                               \
  X(0, cuDeviceGetUuid, "cuDeviceGetUuid_v2", 11040, (void*, CUdevice))                                                \
  X(1, cuDeviceTotalMem, "cuDeviceTotalMem_v2", 3020, (size_t*, CUdevice))                                             \
  X(1, cuDeviceGetAttribute, "cuDeviceGetAttribute", 2000, (int*, int, CUdevice))                                      \
  X(1, cuDeviceGetPCIBusId, "cuDeviceGetPCIBusId", 4010, (char*, int, CUdevice))                                       \
  X(1, cuDeviceCanAccessPeer, "cuDeviceCanAccessPeer", 4000, (int*, CUdevice, CUdevice))                               \
  X(0, cuDeviceGetP2PAttribute, "cuDeviceGetP2PAttribute", 8000, (int*, int, CUdevice, CUdevice))                      \
  X(1, cuDevicePrimaryCtxRetain, "cuDevicePrimaryCtxRetain", 7000, (CUcontext*, CUdevice))                             \
  X(1, cuDevicePrimaryCtxRelease, "cuDevicePrimaryCtxRelease_v2", 11000, (CUdevice))                                   \
  X(1, cuCtxSetCurrent, "cuCtxSetCurrent", 4000, (CUcontext))                                                          \
  X(1, cuCtxSynchronize, "cuCtxSynchronize", 2000, (void))                                                             \
  X(1, cuMemGetInfo, "cuMemGetInfo_v2", 3020, (size_t*, size_t*))                                                      \
  X(1, cuMemAlloc, "cuMemAlloc_v2", 3020, (CUdeviceptr*, size_t))                                                      \
  X(1, cuMemFree, "cuMemFree_v2", 3020, (CUdeviceptr))                                                                 \
  X(1, cuMemHostAlloc, "cuMemHostAlloc", 2020, (void**, size_t, unsigned int))                                         \
  X(1, cuMemFreeHost, "cuMemFreeHost", 2000, (void*))                                                                  \
  X(1, cuMemHostGetDevicePointer, "cuMemHostGetDevicePointer_v2", 3020, (CUdeviceptr*, void*, unsigned int))           \
  X(1, cuMemcpyHtoDAsync, "cuMemcpyHtoDAsync_v2", 3020, (CUdeviceptr, const void*, size_t, CUstream))                  \
  X(1, cuMemcpyDtoHAsync, "cuMemcpyDtoHAsync_v2", 3020, (void*, CUdeviceptr, size_t, CUstream))                        \
  X(1, cuMemcpyAsync, "cuMemcpyAsync", 4000, (CUdeviceptr, CUdeviceptr, size_t, CUstream))                             \
  X(1, cuMemsetD8Async, "cuMemsetD8Async", 3020, (CUdeviceptr, unsigned char, size_t, CUstream))                       \
  X(1, cuModuleLoadDataEx, "cuModuleLoadDataEx", 2010, (CUmodule*, const void*, unsigned int, int*, void**))           \
  X(1, cuModuleUnload, "cuModuleUnload", 2000, (CUmodule))                                                             \
  X(1, cuModuleGetFunction, "cuModuleGetFunction", 2000, (CUfunction*, CUmodule, const char*))                         \
  X(0, cuModuleGetFunctionCount, "cuModuleGetFunctionCount", 12040, (unsigned int*, CUmodule))                         \
  X(0, cuModuleEnumerateFunctions, "cuModuleEnumerateFunctions", 12040, (CUfunction*, unsigned int, CUmodule))         \
  X(0, cuFuncLoad, "cuFuncLoad", 12040, (CUfunction))                                                                  \
  X(0, cuFuncGetName, "cuFuncGetName", 12030, (const char**, CUfunction))                                              \
  X(0, cuKernelGetName, "cuKernelGetName", 12030, (const char**, CUkernel))                                            \
  X(1, cuFuncGetAttribute, "cuFuncGetAttribute", 2020, (int*, int, CUfunction))                                        \
  X(1, cuFuncSetAttribute, "cuFuncSetAttribute", 9000, (CUfunction, int, int))                                         \
  X(1, cuOccupancyMaxActiveBlocksPerMultiprocessor, "cuOccupancyMaxActiveBlocksPerMultiprocessor", 6050,               \
    (int*, CUfunction, int, size_t))                                                                                   \
  X(1, cuLaunchKernel, "cuLaunchKernel", 4000,                                                                         \
    (CUfunction, unsigned int, unsigned int, unsigned int, unsigned int, unsigned int, unsigned int, unsigned int,     \
     CUstream, void**, void**))                                                                                        \
  X(0, cuLaunchKernelEx, "cuLaunchKernelEx", 11060, (const CUlaunchConfig*, CUfunction, void**, void**))               \
  X(1, cuStreamCreate, "cuStreamCreate", 2000, (CUstream*, unsigned int))                                              \
  X(1, cuStreamDestroy, "cuStreamDestroy_v2", 4000, (CUstream))                                                        \
  X(1, cuStreamSynchronize, "cuStreamSynchronize", 2000, (CUstream))                                                   \
  X(1, cuStreamWaitEvent, "cuStreamWaitEvent", 3020, (CUstream, CUevent, unsigned int))                                \
  X(1, cuStreamBeginCapture, "cuStreamBeginCapture_v2", 10010, (CUstream, int))                                        \
  X(1, cuStreamEndCapture, "cuStreamEndCapture", 10000, (CUstream, CUgraph*))                                          \
  X(1, cuStreamIsCapturing, "cuStreamIsCapturing", 10000, (CUstream, int*))                                            \
  X(1, cuEventCreate, "cuEventCreate", 2000, (CUevent*, unsigned int))                                                 \
  X(1, cuEventDestroy, "cuEventDestroy_v2", 4000, (CUevent))                                                           \
  X(1, cuEventRecord, "cuEventRecord", 2000, (CUevent, CUstream))                                                      \
  X(1, cuEventSynchronize, "cuEventSynchronize", 2000, (CUevent))                                                      \
  X(1, cuEventElapsedTime, "cuEventElapsedTime", 2000, (float*, CUevent, CUevent))                                     \
  X(0, cuEventElapsedTime_v2, "cuEventElapsedTime_v2", 12080, (float*, CUevent, CUevent))                              \
  X(0, cuGraphInstantiateWithFlags, "cuGraphInstantiateWithFlags", 11040, (CUgraphExec*, CUgraph, unsigned long long)) \
  X(1, cuGraphLaunch, "cuGraphLaunch", 10000, (CUgraphExec, CUstream))                                                 \
  X(1, cuGraphDestroy, "cuGraphDestroy", 10000, (CUgraph))                                                             \
  X(1, cuGraphExecDestroy, "cuGraphExecDestroy", 10000, (CUgraphExec))                                                 \
  X(1, cuGraphGetNodes, "cuGraphGetNodes", 10000, (CUgraph, CUgraphNode*, size_t*))                                    \
  X(1, cuGraphNodeGetType, "cuGraphNodeGetType", 10000, (CUgraphNode, int*))                                           \
  X(0, cuGraphKernelNodeGetParams, "cuGraphKernelNodeGetParams_v2", 12000, (CUgraphNode, CUDA_KERNEL_NODE_PARAMS*))    \
  X(0, cuMemAddressReserve, "cuMemAddressReserve", 10020,                                                              \
    (CUdeviceptr*, size_t, size_t, CUdeviceptr, unsigned long long))                                                   \
  X(0, cuMemAddressFree, "cuMemAddressFree", 10020, (CUdeviceptr, size_t))                                             \
  X(0, cuMemCreate, "cuMemCreate", 10020, (CUmemHandle*, size_t, const CUmemAllocationProp*, unsigned long long))      \
  X(0, cuMemRelease, "cuMemRelease", 10020, (CUmemHandle))                                                             \
  X(0, cuMemMap, "cuMemMap", 10020, (CUdeviceptr, size_t, size_t, CUmemHandle, unsigned long long))                    \
  X(0, cuMemUnmap, "cuMemUnmap", 10020, (CUdeviceptr, size_t))                                                         \
  X(0, cuMemSetAccess, "cuMemSetAccess", 10020, (CUdeviceptr, size_t, const CUmemAccessDesc*, size_t))                 \
  X(0, cuMemGetAllocationGranularity, "cuMemGetAllocationGranularity", 10020,                                          \
    (size_t*, const CUmemAllocationProp*, int))                                                                        \
  X(0, cuMemExportToShareableHandle, "cuMemExportToShareableHandle", 10020,                                            \
    (void*, CUmemHandle, int, unsigned long long))                                                                     \
  X(0, cuMemImportFromShareableHandle, "cuMemImportFromShareableHandle", 10020, (CUmemHandle*, void*, int))

#define MOECU_ENUM(need, name, symbol, version, args) MOECU_SYM_##name,
enum { MOECU_SYMBOLS(MOECU_ENUM) MOECU_SYM_COUNT };
#undef MOECU_ENUM

// moecu is one loaded driver library.
#define MOECU_FIELD(need, name, symbol, version, args) CUresult(*name) args;
typedef struct {
  MOECU_SYMBOLS(MOECU_FIELD)
  void* library;
} moecu;
#undef MOECU_FIELD

typedef struct {
  const char* name;    // documented name
  const char* symbol;  // exported name
  int version;         // CUDA version that brought it
  int need;            // 1: Open fails without it
} moecu_symbol;

// moecu_out is a result code with up to two values. Returned by value, it
// costs no heap allocation on the Go side.
typedef struct {
  CUresult rc;
  uint64_t a;
  uint64_t b;
} moecu_out;

// A result of MOECU_MISSING - i says that symbol i is not in the library.
// CUDA's own codes are not negative.
#define MOECU_MISSING (-1)

// MOECU_NEED is for shims that return a CUresult, the macros below for both
// kinds: they make ctx current on whatever thread the goroutine happens to be,
// so that nobody has to lock threads. A ctx of 0 leaves the thread's as it is.
#define MOECU_NEED(t, fn) \
  if (!(t)->fn) return MOECU_MISSING - MOECU_SYM_##fn
#define MOECU_NEED_OUT(t, fn) \
  if (!(t)->fn) return (moecu_out){MOECU_MISSING - MOECU_SYM_##fn, 0, 0}

static inline CUresult moecu_enter(const moecu* t, CUcontext ctx) { return ctx ? t->cuCtxSetCurrent(ctx) : 0; }

// Loading (load.c). moecu_open returns NULL and a message for the caller to
// free where dlopen fails.
moecu* moecu_open(const char* path, char** message);
void moecu_discard(moecu* t);
void* moecu_lookup(void* library, const char* symbol, const char* name, int version);
const moecu_symbol* moecu_symbol_at(int i);
int moecu_has(const moecu* t, int i);
const char* moecu_error_name(const moecu* t, CUresult rc);
const char* moecu_error_string(const moecu* t, CUresult rc);

// Devices, contexts and plain memory (device.c).
CUresult moecu_init(const moecu* t);
moecu_out moecu_version(const moecu* t);
moecu_out moecu_device_count(const moecu* t);
moecu_out moecu_device_get(const moecu* t, int ordinal);
CUresult moecu_device_name(const moecu* t, CUdevice dev, char* out, int size);
CUresult moecu_device_uuid(const moecu* t, CUdevice dev, char* out16);
CUresult moecu_device_pci(const moecu* t, CUdevice dev, char* out, int size);
moecu_out moecu_device_memory(const moecu* t, CUdevice dev);
moecu_out moecu_device_attribute(const moecu* t, CUdevice dev, int attribute);
moecu_out moecu_can_access(const moecu* t, CUdevice dev, CUdevice peer);
moecu_out moecu_p2p(const moecu* t, int attribute, CUdevice dev, CUdevice peer);
moecu_out moecu_ctx_retain(const moecu* t, CUdevice dev);
CUresult moecu_ctx_release(const moecu* t, CUdevice dev);
CUresult moecu_ctx_set(const moecu* t, CUcontext ctx);
CUresult moecu_ctx_sync(const moecu* t, CUcontext ctx);
moecu_out moecu_mem_info(const moecu* t, CUcontext ctx);
moecu_out moecu_alloc(const moecu* t, CUcontext ctx, uint64_t size);
CUresult moecu_free(const moecu* t, CUcontext ctx, CUdeviceptr p);
moecu_out moecu_host_alloc(const moecu* t, CUcontext ctx, uint64_t size, void** host);
CUresult moecu_host_free(const moecu* t, CUcontext ctx, void* host);
CUresult moecu_write(const moecu* t, CUcontext ctx, CUstream s, CUdeviceptr dst, const void* src, uint64_t size);
CUresult moecu_read(const moecu* t, CUcontext ctx, CUstream s, void* dst, CUdeviceptr src, uint64_t size);

// Virtual memory management (vmm.c).
moecu_out moecu_reserve(const moecu* t, CUcontext ctx, uint64_t size, uint64_t align);
CUresult moecu_unreserve(const moecu* t, CUcontext ctx, CUdeviceptr p, uint64_t size);
CUresult moecu_map(const moecu* t, CUcontext ctx, CUdeviceptr p, uint64_t size, uint64_t offset, CUmemHandle h);
CUresult moecu_unmap(const moecu* t, CUcontext ctx, CUdeviceptr p, uint64_t size);
CUresult moecu_set_access(const moecu* t, CUcontext ctx, CUdeviceptr p, uint64_t size, const CUmemAccessDesc* descs,
                          uint64_t count);
moecu_out moecu_granularity(const moecu* t, CUcontext ctx, CUdevice dev, int kind);
moecu_out moecu_create(const moecu* t, CUcontext ctx, CUdevice dev, uint64_t size, int kind);
CUresult moecu_release(const moecu* t, CUcontext ctx, CUmemHandle h);
moecu_out moecu_export_fd(const moecu* t, CUcontext ctx, CUmemHandle h);
CUresult moecu_export_fabric(const moecu* t, CUcontext ctx, CUmemHandle h, void* out64);
moecu_out moecu_import_fd(const moecu* t, CUcontext ctx, int fd);
moecu_out moecu_import_fabric(const moecu* t, CUcontext ctx, void* in64);

// Modules, launches, streams, events and graphs (exec.c).
moecu_out moecu_module_load(const moecu* t, CUcontext ctx, const void* image, char* log, int log_size,
                            const char** failed);
CUresult moecu_module_unload(const moecu* t, CUcontext ctx, CUmodule m);
moecu_out moecu_function(const moecu* t, CUcontext ctx, CUmodule m, const char* name);
CUresult moecu_function_shared(const moecu* t, CUcontext ctx, CUfunction f, int bytes);
moecu_out moecu_occupancy(const moecu* t, CUcontext ctx, CUfunction f, int threads, uint64_t shared);
CUresult moecu_launch(const moecu* t, CUcontext ctx, CUfunction f, unsigned int gx, unsigned int gy, unsigned int gz,
                      unsigned int bx, unsigned int by, unsigned int bz, unsigned int shared, CUstream s,
                      const void* params, uint64_t size, int dependent);
moecu_out moecu_stream_create(const moecu* t, CUcontext ctx);
CUresult moecu_stream_destroy(const moecu* t, CUcontext ctx, CUstream s);
CUresult moecu_stream_sync(const moecu* t, CUcontext ctx, CUstream s);
CUresult moecu_stream_wait(const moecu* t, CUcontext ctx, CUstream s, CUevent e);
CUresult moecu_copy(const moecu* t, CUcontext ctx, CUdeviceptr dst, CUdeviceptr src, uint64_t size, CUstream s);
CUresult moecu_memset(const moecu* t, CUcontext ctx, CUdeviceptr dst, int value, uint64_t size, CUstream s);
CUresult moecu_capture_begin(const moecu* t, CUcontext ctx, CUstream s);
moecu_out moecu_capture_end(const moecu* t, CUcontext ctx, CUstream s);
moecu_out moecu_capture_status(const moecu* t, CUcontext ctx, CUstream s);
moecu_out moecu_event_create(const moecu* t, CUcontext ctx);
CUresult moecu_event_destroy(const moecu* t, CUcontext ctx, CUevent e);
CUresult moecu_event_record(const moecu* t, CUcontext ctx, CUevent e, CUstream s);
CUresult moecu_event_sync(const moecu* t, CUcontext ctx, CUevent e);
CUresult moecu_event_elapsed(const moecu* t, CUcontext ctx, CUevent start, CUevent end, float* ms);

typedef struct {
  int type;
  CUfunction func;
  const char* name;  // NULL where the driver does not tell
} moecu_node;

moecu_out moecu_graph_nodes(const moecu* t, CUcontext ctx, CUgraph g, moecu_node* nodes, uint64_t capacity);
moecu_out moecu_graph_instantiate(const moecu* t, CUcontext ctx, CUgraph g);
CUresult moecu_graph_launch(const moecu* t, CUcontext ctx, CUgraphExec e, CUstream s);
CUresult moecu_graph_destroy(const moecu* t, CUcontext ctx, CUgraph g);
CUresult moecu_graph_exec_destroy(const moecu* t, CUcontext ctx, CUgraphExec e);

#endif  // MOEGEN_RUNTIME_CUDA_MOECU_H_
