// A pretended libnccl, for ranks of one process. It writes every call, with the
// thread that made it, to the file that FAKENCCL_LOG names.
//
//   FAKENCCL_FAIL=ncclAllGather=1,...  makes calls fail
//   FAKENCCL_ASYNC=1                   calls on communicators go on in the
//                                      background for a while
//   FAKENCCL_NO_WINDOW=1               registering makes no window
//   FAKENCCL_NO_MULTIMEM=1             windows have no multicast address
//   -DOLD_LIBRARY                      NCCL 2.28, without pointers to windows
//   -DBROKEN_LIBRARY                   lacks ncclAllGather
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../moenccl.h"

#define API __attribute__((visibility("default")))

typedef struct {
  int rank, size, pending;
} comm;

static __thread int depth;

static int enter(const char* name, const char* format, ...) {
  char args[500], line[700];
  va_list ap;
  va_start(ap, format);
  vsnprintf(args, sizeof args, format, ap);
  va_end(ap);
  const char* path = getenv("FAKENCCL_LOG");
  int fd = path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
  if (fd >= 0) {
    int n = snprintf(line, sizeof line, "%d %s %s\n", gettid(), name, args);
    if (write(fd, line, (size_t)n) < 0) abort();
    close(fd);
  }
  size_t n = strlen(name);
  for (const char* p = getenv("FAKENCCL_FAIL"); p && *p;) {
    if (strncmp(p, name, n) == 0 && p[n] == '=') return atoi(p + n + 1);
    p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL;
  }
  return 0;
}

#define ENTER(...)                \
  do {                            \
    int rc_ = enter(__VA_ARGS__); \
    if (rc_) return rc_;          \
  } while (0)

static ncclResult_t end(comm* c) {
  if (!getenv("FAKENCCL_ASYNC")) return 0;
  if (c) c->pending = 3;
  return 7;
}

API ncclResult_t ncclGetVersion(int* v) {
#ifdef OLD_LIBRARY
  *v = 22809;
#else
  *v = 22903;
#endif
  return 0;
}

API const char* ncclGetErrorString(ncclResult_t rc) { return rc == 1 ? "unhandled cuda error" : "some result"; }

API const char* ncclGetLastError(ncclComm_t c) { return c ? "" : "what NCCL said last\n"; }

API ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  ENTER("ncclGetUniqueId", "-");
  memset(id, 0x5a, sizeof *id);
  return 0;
}

API ncclResult_t ncclCommInitRankConfig(ncclComm_t* out, int size, ncclUniqueId id, int rank, void* config) {
  ENTER("ncclCommInitRankConfig", "%d of %d config=%p", rank, size, config);
  if (id.internal[0] != 0x5a || id.internal[127] != 0x5a) return 4;
  comm* c = calloc(1, sizeof *c);
  c->rank = rank;
  c->size = size;
  *out = (ncclComm_t)c;
  return end(c);
}

API ncclResult_t ncclCommGetAsyncError(ncclComm_t h, ncclResult_t* state) {
  comm* c = (comm*)h;
  if (c->pending > 0) c->pending--;
  *state = c->pending ? 7 : 0;
  return 0;
}

API ncclResult_t ncclCommDestroy(ncclComm_t h) {
  ENTER("ncclCommDestroy", "%d", ((comm*)h)->rank);
  free((comm*)h);
  return 0;
}

API ncclResult_t ncclCommAbort(ncclComm_t h) {
  ENTER("ncclCommAbort", "%d", ((comm*)h)->rank);
  free((comm*)h);
  return 0;
}

API ncclResult_t ncclGroupStart(void) {
  ENTER("ncclGroupStart", "-");
  depth++;
  return 0;
}

API ncclResult_t ncclGroupEnd(void) {
  if (depth == 0) return 5;  // on another thread than the start
  depth--;
  ENTER("ncclGroupEnd", "-");
  return depth ? 0 : end(NULL);
}

#ifndef BROKEN_LIBRARY
API ncclResult_t ncclAllGather(uintptr_t send, uintptr_t recv, size_t n, int type, ncclComm_t c, uintptr_t stream) {
  ENTER("ncclAllGather", "%lx %lx %zu type=%d rank=%d stream=%lx", send, recv, n, type, ((comm*)c)->rank, stream);
  return end((comm*)c);
}
#endif

API ncclResult_t ncclReduceScatter(uintptr_t send, uintptr_t recv, size_t n, int type, int op, ncclComm_t c,
                                   uintptr_t stream) {
  ENTER("ncclReduceScatter", "%lx %lx %zu type=%d op=%d rank=%d stream=%lx", send, recv, n, type, op, ((comm*)c)->rank,
        stream);
  return end((comm*)c);
}

API ncclResult_t ncclSend(uintptr_t send, size_t n, int type, int peer, ncclComm_t c, uintptr_t stream) {
  if (depth == 0) return 5;  // a send alone would wait for its receiver
  ENTER("ncclSend", "%lx %zu type=%d to=%d rank=%d stream=%lx", send, n, type, peer, ((comm*)c)->rank, stream);
  return end((comm*)c);
}

API ncclResult_t ncclRecv(uintptr_t recv, size_t n, int type, int peer, ncclComm_t c, uintptr_t stream) {
  if (depth == 0) return 5;
  ENTER("ncclRecv", "%lx %zu type=%d from=%d rank=%d stream=%lx", recv, n, type, peer, ((comm*)c)->rank, stream);
  return end((comm*)c);
}

API ncclResult_t ncclMemAlloc(void** p, size_t n) {
  ENTER("ncclMemAlloc", "%zu", n);
  *p = malloc(n);
  return 0;
}

API ncclResult_t ncclMemFree(uintptr_t p) {
  ENTER("ncclMemFree", "-");
  free((void*)p);
  return 0;
}

// A window is its memory's address here.
API ncclResult_t ncclCommWindowRegister(ncclComm_t c, uintptr_t p, size_t n, ncclWindow_t* w, int flags) {
  ENTER("ncclCommWindowRegister", "rank=%d %zu flags=%d", ((comm*)c)->rank, n, flags);
  *w = getenv("FAKENCCL_NO_WINDOW") ? 0 : p;
  return end((comm*)c);
}

API ncclResult_t ncclCommWindowDeregister(ncclComm_t c, ncclWindow_t w) {
  ENTER("ncclCommWindowDeregister", "rank=%d", ((comm*)c)->rank);
  return w ? end((comm*)c) : 4;
}

#ifndef OLD_LIBRARY
API ncclResult_t ncclGetPeerDevicePointer(ncclWindow_t w, size_t offset, int peer, void** out) {
  ENTER("ncclGetPeerDevicePointer", "%zu %d", offset, peer);
  *out = peer == 1 ? NULL : (void*)(w + offset);
  return 0;
}

API ncclResult_t ncclGetLsaMultimemDevicePointer(ncclWindow_t w, size_t offset, void** out) {
  ENTER("ncclGetLsaMultimemDevicePointer", "%zu", offset);
  *out = getenv("FAKENCCL_NO_MULTIMEM") ? NULL : (void*)(w + offset + 1);
  return 0;
}
#endif
