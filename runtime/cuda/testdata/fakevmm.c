// A pretended libcuda: virtual memory management and multicast, over memfds.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../multicast.h"
#include "fake.h"

typedef struct {
  int fd, kind;
} handle;

#define H(h) ((handle*)(uintptr_t)(h))
#define GRANULARITY (2u << 20)

// What a multicast object's memfd holds, for all who imported it to share.
typedef struct {
  char magic[8];
  unsigned int devices, added, bound;
} team;

static CUmemHandle new_handle(int fd, int kind) {
  handle* h = malloc(sizeof *h);
  *h = (handle){fd, kind};
  live[HANDLES]++;
  return (CUmemHandle)(uintptr_t)h;
}

API CUresult cuMemGetAllocationGranularity(size_t* n, const CUmemAllocationProp* p, int which) {
  if (p->type != 1 || p->location.type != 1) return 1;
  ENTER("cuMemGetAllocationGranularity", "dev=%d kinds=%d which=%d", p->location.id, p->requestedHandleTypes, which);
  *n = GRANULARITY;
  return 0;
}

API CUresult cuMemCreate(CUmemHandle* out, size_t n, const CUmemAllocationProp* p, unsigned long long flags) {
  if (p->type != 1 || p->location.type != 1 || n % GRANULARITY) return 1;
  ENTER("cuMemCreate", "dev=%d kinds=%d size=%zu flags=%llu", p->location.id, p->requestedHandleTypes, n, flags);
  int fd = memfd_create("fakemem", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, (off_t)n)) return 2;
  *out = new_handle(fd, p->requestedHandleTypes);
  return 0;
}

API CUresult cuMemRelease(CUmemHandle h) {
  ENTER("cuMemRelease", "-");
  close(H(h)->fd);
  free(H(h));
  live[HANDLES]--;
  return 0;
}

API CUresult cuMemAddressReserve(CUdeviceptr* p, size_t n, size_t align, CUdeviceptr hint, unsigned long long flags) {
  ENTER("cuMemAddressReserve", "size=%zu align=%zu %llu %llu", n, align, hint, flags);
  // Twice the size leaves room to align; the rest is given back.
  if (align < GRANULARITY) align = GRANULARITY;
  char* m = mmap(NULL, n + align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (m == MAP_FAILED) return 2;
  char* a = (char*)(((uintptr_t)m + align - 1) / align * align);
  if (a > m) munmap(m, (size_t)(a - m));
  if (a < m + align) munmap(a + n, (size_t)(m + align - a));
  live[RANGES]++;
  *p = (CUdeviceptr)(uintptr_t)a;
  return 0;
}

API CUresult cuMemAddressFree(CUdeviceptr p, size_t n) {
  ENTER("cuMemAddressFree", "size=%zu", n);
  munmap((void*)(uintptr_t)p, n);
  live[RANGES]--;
  return 0;
}

API CUresult cuMemMap(CUdeviceptr p, size_t n, size_t offset, CUmemHandle h, unsigned long long flags) {
  ENTER("cuMemMap", "size=%zu offset=%zu flags=%llu", n, offset, flags);
  void* m = mmap((void*)(uintptr_t)p, n, PROT_NONE, MAP_SHARED | MAP_FIXED, H(h)->fd, (off_t)offset);
  return m == MAP_FAILED ? 1 : 0;
}

API CUresult cuMemUnmap(CUdeviceptr p, size_t n) {
  ENTER("cuMemUnmap", "size=%zu", n);
  void* m = mmap((void*)(uintptr_t)p, n, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  return m == MAP_FAILED ? 1 : 0;
}

API CUresult cuMemSetAccess(CUdeviceptr p, size_t n, const CUmemAccessDesc* d, size_t count) {
  char who[100] = "";
  for (size_t i = 0; i < count; i++) {
    if (d[i].location.type != 1 || d[i].flags != 3) return 1;
    snprintf(who + strlen(who), 8, " %d", d[i].location.id);
  }
  ENTER("cuMemSetAccess", "size=%zu devices=%s", n, who);
  return mprotect((void*)(uintptr_t)p, n, PROT_READ | PROT_WRITE) ? 1 : 0;
}

API CUresult cuMemExportToShareableHandle(void* out, CUmemHandle h, int kind, unsigned long long flags) {
  ENTER("cuMemExportToShareableHandle", "kind=%d flags=%llu", kind, flags);
  if (!(H(h)->kind & kind)) return 1;
  if (kind == 1) {
    *(int*)out = dup(H(h)->fd);  // without CLOEXEC
    return 0;
  }
  memset(out, 0xfa, 64);
  memcpy(out, &H(h)->fd, sizeof(int));
  return 0;
}

API CUresult cuMemImportFromShareableHandle(CUmemHandle* out, void* os, int kind) {
  NEED_CTX(0);
  ENTER("cuMemImportFromShareableHandle", "kind=%d", kind);
  int fd = (int)(uintptr_t)os;
  if (kind == 8) {
    if (((unsigned char*)os)[63] != 0xfa) return 1;
    memcpy(&fd, os, sizeof fd);
  }
  int mine = dup(fd);
  if (mine < 0) return 1;
  *out = new_handle(mine, kind);
  return 0;
}

#ifndef OLD_DRIVER
static int team_read(CUmemHandle h, team* x) {
  if (pread(H(h)->fd, x, sizeof *x, 0) != sizeof *x) return 1;
  return memcmp(x->magic, "fakemc", 7) ? 1 : 0;
}

static int team_write(CUmemHandle h, const team* x) { return pwrite(H(h)->fd, x, sizeof *x, 0) == sizeof *x ? 0 : 1; }

API CUresult cuMulticastGetGranularity(size_t* n, const CUmulticastObjectProp* p, int which) {
  ENTER("cuMulticastGetGranularity", "devices=%u size=%zu kinds=%llu which=%d", p->numDevices, p->size, p->handleTypes,
        which);
  *n = which ? 512u << 20 : GRANULARITY;
  return 0;
}

API CUresult cuMulticastCreate(CUmemHandle* out, const CUmulticastObjectProp* p) {
  ENTER("cuMulticastCreate", "devices=%u size=%zu kinds=%llu flags=%llu", p->numDevices, p->size, p->handleTypes,
        p->flags);
  int fd = memfd_create("fakemc", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, (off_t)p->size)) return 2;
  *out = new_handle(fd, (int)p->handleTypes);
  team x = {"fakemc", p->numDevices, 0, 0};
  return team_write(*out, &x);
}

API CUresult cuMulticastAddDevice(CUmemHandle h, CUdevice d) {
  team x;
  NEED_CTX(ctx_of(d));
  ENTER("cuMulticastAddDevice", "%d", d);
  if (team_read(h, &x)) return 400;
  if (++x.added > x.devices) return 1;
  return team_write(h, &x);
}

API CUresult cuMulticastBindMem(CUmemHandle h, size_t offset, CUmemHandle m, size_t m_offset, size_t n,
                                unsigned long long flags) {
  team x;
  NEED_CTX(0);
  ENTER("cuMulticastBindMem", "offset=%zu memory=%zu size=%zu flags=%llu", offset, m_offset, n, flags);
  if (team_read(h, &x) || !team_read(m, &(team){0})) return 400;
  if (x.added != x.devices) return 401;  // the real one waits
  x.bound++;
  return team_write(h, &x);
}

API CUresult cuMulticastUnbind(CUmemHandle h, CUdevice d, size_t offset, size_t n) {
  team x;
  ENTER("cuMulticastUnbind", "dev=%d offset=%zu size=%zu", d, offset, n);
  if (team_read(h, &x) || x.bound == 0) return 400;
  x.bound--;
  return team_write(h, &x);
}
#endif
