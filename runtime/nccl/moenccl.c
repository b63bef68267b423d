// clang-format off: it would detach the constraint
//go:build linux && cgo
// clang-format on

#define _GNU_SOURCE
#include "moenccl.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#define NAME(need, result, name, args) #name,
static const char* const names[] = {MOENCCL_SYMBOLS(NAME)};
#undef NAME

#define NEEDED(need, result, name, args) need,
static const int needed[] = {MOENCCL_SYMBOLS(NEEDED)};
#undef NEEDED

#define OFFSET(need, result, name, args) offsetof(moenccl, name),
static const size_t offsets[] = {MOENCCL_SYMBOLS(OFFSET)};
#undef OFFSET

static void** slot(const moenccl* t, int i) { return (void**)((char*)t + offsets[i]); }

moenccl* moenccl_open(const char* path, char** message) {
  *message = NULL;
  // dlerror's text belongs to the thread: fetch it in the same crossing.
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char* text = dlerror();
    *message = strdup(text ? text : "dlopen failed");
    return NULL;
  }
  moenccl* t = calloc(1, sizeof *t);
  if (!t) {
    dlclose(library);
    *message = strdup("out of memory");
    return NULL;
  }
  for (int i = 0; i < MOENCCL_SYM_COUNT; i++) {
    *slot(t, i) = dlsym(library, names[i]);
  }
  return t;
}

// moenccl_discard leaves the library loaded: it may have started threads.
void moenccl_discard(moenccl* t) { free(t); }

const char* moenccl_symbol(int i) { return names[i]; }

int moenccl_needed(int i) { return needed[i]; }

int moenccl_has(const moenccl* t, int i) { return *slot(t, i) != NULL; }

moenccl_out moenccl_version(const moenccl* t) {
  int v = 0;
  ncclResult_t rc = t->ncclGetVersion(&v);
  return (moenccl_out){rc, (uint64_t)v};
}

const char* moenccl_error(const moenccl* t, ncclResult_t rc) { return t->ncclGetErrorString(rc); }

const char* moenccl_last_error(const moenccl* t) { return t->ncclGetLastError ? t->ncclGetLastError(0) : NULL; }

ncclResult_t moenccl_unique_id(const moenccl* t, ncclUniqueId* id) { return t->ncclGetUniqueId(id); }

ncclResult_t moenccl_init(const moenccl* t, ncclComm_t* c, int size, const ncclUniqueId* id, int rank) {
  // No configuration is the default one, which blocks, in every version.
  return t->ncclCommInitRankConfig(c, size, *id, rank, NULL);
}

moenccl_out moenccl_async_error(const moenccl* t, ncclComm_t c) {
  ncclResult_t state = 0;
  ncclResult_t rc = t->ncclCommGetAsyncError(c, &state);
  return (moenccl_out){rc, (uint64_t)state};
}

ncclResult_t moenccl_destroy(const moenccl* t, ncclComm_t c) { return t->ncclCommDestroy(c); }

ncclResult_t moenccl_abort(const moenccl* t, ncclComm_t c) { return t->ncclCommAbort(c); }

ncclResult_t moenccl_group_start(const moenccl* t) { return t->ncclGroupStart(); }

ncclResult_t moenccl_group_end(const moenccl* t) { return t->ncclGroupEnd(); }

ncclResult_t moenccl_all_gather(const moenccl* t, uint64_t send, uint64_t recv, uint64_t bytes, ncclComm_t c,
                                uintptr_t stream) {
  return t->ncclAllGather(send, recv, bytes, 0, c, stream);  // ncclInt8
}

ncclResult_t moenccl_send(const moenccl* t, uint64_t send, uint64_t bytes, int peer, ncclComm_t c, uintptr_t stream) {
  return t->ncclSend(send, bytes, 0, peer, c, stream);  // ncclInt8
}

ncclResult_t moenccl_recv(const moenccl* t, uint64_t recv, uint64_t bytes, int peer, ncclComm_t c, uintptr_t stream) {
  return t->ncclRecv(recv, bytes, 0, peer, c, stream);
}

ncclResult_t moenccl_reduce_scatter(const moenccl* t, uint64_t send, uint64_t recv, uint64_t count, int type,
                                    ncclComm_t c, uintptr_t stream) {
  return t->ncclReduceScatter(send, recv, count, type, 0, c, stream);  // sum
}

moenccl_out moenccl_mem_alloc(const moenccl* t, uint64_t size) {
  void* p = NULL;
  ncclResult_t rc = t->ncclMemAlloc(&p, size);
  return (moenccl_out){rc, (uint64_t)(uintptr_t)p};
}

ncclResult_t moenccl_mem_free(const moenccl* t, uint64_t p) { return t->ncclMemFree(p); }

ncclResult_t moenccl_register(const moenccl* t, ncclComm_t c, uint64_t p, uint64_t size, ncclWindow_t* w) {
  const int symmetric = 0x01;  // NCCL_WIN_COLL_SYMMETRIC
  return t->ncclCommWindowRegister(c, p, size, w, symmetric);
}

ncclResult_t moenccl_deregister(const moenccl* t, ncclComm_t c, ncclWindow_t w) {
  return t->ncclCommWindowDeregister(c, w);
}

moenccl_out moenccl_peer(const moenccl* t, ncclWindow_t w, uint64_t offset, int peer) {
  void* p = NULL;
  ncclResult_t rc = t->ncclGetPeerDevicePointer(w, offset, peer, &p);
  return (moenccl_out){rc, (uint64_t)(uintptr_t)p};
}

moenccl_out moenccl_multimem(const moenccl* t, ncclWindow_t w, uint64_t offset) {
#ifdef MOENCCL_NO_MULTICAST
  (void)t, (void)w, (void)offset;
  return (moenccl_out){0, 0};
#else
  void* p = NULL;
  ncclResult_t rc = t->ncclGetLsaMultimemDevicePointer(w, offset, &p);
  return (moenccl_out){rc, (uint64_t)(uintptr_t)p};
#endif
}
