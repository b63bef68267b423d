// clang-format off: it would detach the constraint
//go:build linux && cgo
// clang-format on

// Virtual memory management: handles, reservations, mappings, sharing.

#include <fcntl.h>
#include <string.h>

#include "moecu.h"

// kind is a CUmemAllocationHandleType.
static CUmemAllocationProp properties(CUdevice dev, int kind) {
  CUmemAllocationProp p;
  memset(&p, 0, sizeof p);
  p.type = 1;  // CU_MEM_ALLOCATION_TYPE_PINNED
  p.requestedHandleTypes = kind;
  p.location.type = 1;  // CU_MEM_LOCATION_TYPE_DEVICE
  p.location.id = dev;
  return p;
}

moecu_out moecu_reserve(const moecu* t, CUcontext ctx, uint64_t size, uint64_t align) {
  MOECU_NEED_OUT(t, cuMemAddressReserve);
  CUdeviceptr p = 0;
  CUresult rc = moecu_enter(t, ctx);
  if (!rc) rc = t->cuMemAddressReserve(&p, size, align, 0, 0);
  return (moecu_out){rc, p, 0};
}

CUresult moecu_unreserve(const moecu* t, CUcontext ctx, CUdeviceptr p, uint64_t size) {
  MOECU_NEED(t, cuMemAddressFree);
  CUresult rc = moecu_enter(t, ctx);
  return rc ? rc : t->cuMemAddressFree(p, size);
}

CUresult moecu_map(const moecu* t, CUcontext ctx, CUdeviceptr p, uint64_t size, uint64_t offset, CUmemHandle h) {
  MOECU_NEED(t, cuMemMap);
  CUresult rc = moecu_enter(t, ctx);
  return rc ? rc : t->cuMemMap(p, size, offset, h, 0);
}

CUresult moecu_unmap(const moecu* t, CUcontext ctx, CUdeviceptr p, uint64_t size) {
  MOECU_NEED(t, cuMemUnmap);
  CUresult rc = moecu_enter(t, ctx);
  return rc ? rc : t->cuMemUnmap(p, size);
}

CUresult moecu_set_access(const moecu* t, CUcontext ctx, CUdeviceptr p, uint64_t size, const CUmemAccessDesc* descs,
                          uint64_t count) {
  MOECU_NEED(t, cuMemSetAccess);
  CUresult rc = moecu_enter(t, ctx);
  return rc ? rc : t->cuMemSetAccess(p, size, descs, count);
}

moecu_out moecu_granularity(const moecu* t, CUcontext ctx, CUdevice dev, int kind) {
  MOECU_NEED_OUT(t, cuMemGetAllocationGranularity);
  CUmemAllocationProp p = properties(dev, kind);
  size_t n = 0;
  CUresult rc = moecu_enter(t, ctx);
  if (!rc) rc = t->cuMemGetAllocationGranularity(&n, &p, 0);  // the minimum
  return (moecu_out){rc, n, 0};
}

moecu_out moecu_create(const moecu* t, CUcontext ctx, CUdevice dev, uint64_t size, int kind) {
  MOECU_NEED_OUT(t, cuMemCreate);
  CUmemAllocationProp p = properties(dev, kind);
  CUmemHandle h = 0;
  CUresult rc = moecu_enter(t, ctx);
  if (!rc) rc = t->cuMemCreate(&h, size, &p, 0);
  return (moecu_out){rc, h, 0};
}

CUresult moecu_release(const moecu* t, CUcontext ctx, CUmemHandle h) {
  MOECU_NEED(t, cuMemRelease);
  CUresult rc = moecu_enter(t, ctx);
  return rc ? rc : t->cuMemRelease(h);
}

moecu_out moecu_export_fd(const moecu* t, CUcontext ctx, CUmemHandle h) {
  MOECU_NEED_OUT(t, cuMemExportToShareableHandle);
  int fd = -1;
  CUresult rc = moecu_enter(t, ctx);
  if (!rc) rc = t->cuMemExportToShareableHandle(&fd, h, 1, 0);
  // A child process (nvcc, say) that inherited it would keep the memory alive.
  if (!rc && fd >= 0) (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
  return (moecu_out){rc, (uint64_t)fd, 0};
}

CUresult moecu_export_fabric(const moecu* t, CUcontext ctx, CUmemHandle h, void* out64) {
  MOECU_NEED(t, cuMemExportToShareableHandle);
  CUresult rc = moecu_enter(t, ctx);
  return rc ? rc : t->cuMemExportToShareableHandle(out64, h, 8, 0);
}

moecu_out moecu_import_fd(const moecu* t, CUcontext ctx, int fd) {
  MOECU_NEED_OUT(t, cuMemImportFromShareableHandle);
  CUmemHandle h = 0;
  CUresult rc = moecu_enter(t, ctx);
  // The descriptor travels in the pointer, and stays the caller's.
  if (!rc) {
    rc = t->cuMemImportFromShareableHandle(&h, (void*)(uintptr_t)fd, 1);
  }
  return (moecu_out){rc, h, 0};
}

moecu_out moecu_import_fabric(const moecu* t, CUcontext ctx, void* in64) {
  MOECU_NEED_OUT(t, cuMemImportFromShareableHandle);
  CUmemHandle h = 0;
  CUresult rc = moecu_enter(t, ctx);
  if (!rc) rc = t->cuMemImportFromShareableHandle(&h, in64, 8);
  return (moecu_out){rc, h, 0};
}
