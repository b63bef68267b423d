// The part of NCCL that moegen uses, declared here so that the package builds
// without NCCL's headers, and the shims that Go calls.
#ifndef MOEGEN_RUNTIME_NCCL_MOENCCL_H_
#define MOEGEN_RUNTIME_NCCL_MOENCCL_H_

#include <stddef.h>
#include <stdint.h>

typedef int ncclResult_t;
typedef uintptr_t ncclComm_t;
typedef uintptr_t ncclWindow_t;
typedef struct {
  char internal[128];
} ncclUniqueId;

// X(need, result, name, args): need is 1 where Open fails without it, 0 where
// only symmetric windows do.
#define MOENCCL_BASE_SYMBOLS(X)                                                                          \
  X(1, ncclResult_t, ncclGetVersion, (int*))                                                             \
  X(1, const char*, ncclGetErrorString, (ncclResult_t))                                                  \
  X(1, ncclResult_t, ncclGetUniqueId, (ncclUniqueId*))                                                   \
  X(1, ncclResult_t, ncclCommInitRankConfig, (ncclComm_t*, int, ncclUniqueId, int, void*))               \
  X(1, ncclResult_t, ncclCommGetAsyncError, (ncclComm_t, ncclResult_t*))                                 \
  X(1, ncclResult_t, ncclCommDestroy, (ncclComm_t))                                                      \
  X(1, ncclResult_t, ncclCommAbort, (ncclComm_t))                                                        \
  X(1, ncclResult_t, ncclGroupStart, (void))                                                             \
  X(1, ncclResult_t, ncclGroupEnd, (void))                                                               \
  X(1, ncclResult_t, ncclAllGather, (uintptr_t, uintptr_t, size_t, int, ncclComm_t, uintptr_t))          \
  X(1, ncclResult_t, ncclReduceScatter, (uintptr_t, uintptr_t, size_t, int, int, ncclComm_t, uintptr_t)) \
  X(1, ncclResult_t, ncclSend, (uintptr_t, size_t, int, int, ncclComm_t, uintptr_t))                     \
  X(1, ncclResult_t, ncclRecv, (uintptr_t, size_t, int, int, ncclComm_t, uintptr_t))                     \
  X(0, const char*, ncclGetLastError, (ncclComm_t))                                                      \
  X(0, ncclResult_t, ncclMemAlloc, (void**, size_t))                                                     \
  X(0, ncclResult_t, ncclMemFree, (uintptr_t))                                                           \
  X(0, ncclResult_t, ncclCommWindowRegister, (ncclComm_t, uintptr_t, size_t, ncclWindow_t*, int))        \
  X(0, ncclResult_t, ncclCommWindowDeregister, (ncclComm_t, ncclWindow_t))                               \
  X(0, ncclResult_t, ncclGetPeerDevicePointer, (ncclWindow_t, size_t, int, void**))

// The build tag nomulticast defines this, and takes the name out of the binary.
#ifdef MOENCCL_NO_MULTICAST
#define MOENCCL_SYMBOLS(X) MOENCCL_BASE_SYMBOLS(X)
#else
#define MOENCCL_SYMBOLS(X) \
  MOENCCL_BASE_SYMBOLS(X)  \
  X(0, ncclResult_t, ncclGetLsaMultimemDevicePointer, (ncclWindow_t, size_t, void**))
#endif

#define MOENCCL_ENUM(need, result, name, args) MOENCCL_SYM_##name,
enum { MOENCCL_SYMBOLS(MOENCCL_ENUM) MOENCCL_SYM_COUNT };
#undef MOENCCL_ENUM

// moenccl is one loaded library.
#define MOENCCL_FIELD(need, result, name, args) result(*name) args;
typedef struct {
  MOENCCL_SYMBOLS(MOENCCL_FIELD)
} moenccl;
#undef MOENCCL_FIELD

typedef struct {
  ncclResult_t rc;
  uint64_t v;
} moenccl_out;

moenccl* moenccl_open(const char* path, char** message);
void moenccl_discard(moenccl* t);
const char* moenccl_symbol(int i);
int moenccl_needed(int i);
int moenccl_has(const moenccl* t, int i);

moenccl_out moenccl_version(const moenccl* t);
const char* moenccl_error(const moenccl* t, ncclResult_t rc);
const char* moenccl_last_error(const moenccl* t);
ncclResult_t moenccl_unique_id(const moenccl* t, ncclUniqueId* id);
ncclResult_t moenccl_init(const moenccl* t, ncclComm_t* c, int size, const ncclUniqueId* id, int rank);
moenccl_out moenccl_async_error(const moenccl* t, ncclComm_t c);
ncclResult_t moenccl_destroy(const moenccl* t, ncclComm_t c);
ncclResult_t moenccl_abort(const moenccl* t, ncclComm_t c);
ncclResult_t moenccl_group_start(const moenccl* t);
ncclResult_t moenccl_group_end(const moenccl* t);
ncclResult_t moenccl_all_gather(const moenccl* t, uint64_t send, uint64_t recv, uint64_t bytes, ncclComm_t c,
                                uintptr_t stream);
ncclResult_t moenccl_send(const moenccl* t, uint64_t send, uint64_t bytes, int peer, ncclComm_t c, uintptr_t stream);
ncclResult_t moenccl_recv(const moenccl* t, uint64_t recv, uint64_t bytes, int peer, ncclComm_t c, uintptr_t stream);
ncclResult_t moenccl_reduce_scatter(const moenccl* t, uint64_t send, uint64_t recv, uint64_t count, int type,
                                    ncclComm_t c, uintptr_t stream);
moenccl_out moenccl_mem_alloc(const moenccl* t, uint64_t size);
ncclResult_t moenccl_mem_free(const moenccl* t, uint64_t p);
ncclResult_t moenccl_register(const moenccl* t, ncclComm_t c, uint64_t p, uint64_t size, ncclWindow_t* w);
ncclResult_t moenccl_deregister(const moenccl* t, ncclComm_t c, ncclWindow_t w);
moenccl_out moenccl_peer(const moenccl* t, ncclWindow_t w, uint64_t offset, int peer);
moenccl_out moenccl_multimem(const moenccl* t, ncclWindow_t w, uint64_t offset);

#endif  // MOEGEN_RUNTIME_NCCL_MOENCCL_H_
