// clang-format off: it would detach the constraint
//go:build linux && cgo
// clang-format on

// Devices, contexts and plain memory.

#include <string.h>

#include "moecu.h"

CUresult moecu_init(const moecu* t) { return t->cuInit(0); }

moecu_out moecu_version(const moecu* t) {
  int v = 0;
  CUresult rc = t->cuDriverGetVersion(&v);
  return (moecu_out){rc, (uint64_t)v, 0};
}

moecu_out moecu_device_count(const moecu* t) {
  int n = 0;
  CUresult rc = t->cuDeviceGetCount(&n);
  return (moecu_out){rc, (uint64_t)n, 0};
}

moecu_out moecu_device_get(const moecu* t, int ordinal) {
  CUdevice d = 0;
  CUresult rc = t->cuDeviceGet(&d, ordinal);
  return (moecu_out){rc, (uint64_t)d, 0};
}

CUresult moecu_device_name(const moecu* t, CUdevice dev, char* out, int size) {
  return t->cuDeviceGetName(out, size, dev);
}

CUresult moecu_device_uuid(const moecu* t, CUdevice dev, char* out16) {
  MOECU_NEED(t, cuDeviceGetUuid);
  return t->cuDeviceGetUuid(out16, dev);
}

CUresult moecu_device_pci(const moecu* t, CUdevice dev, char* out, int size) {
  return t->cuDeviceGetPCIBusId(out, size, dev);
}

moecu_out moecu_device_memory(const moecu* t, CUdevice dev) {
  size_t n = 0;
  CUresult rc = t->cuDeviceTotalMem(&n, dev);
  return (moecu_out){rc, n, 0};
}

moecu_out moecu_device_attribute(const moecu* t, CUdevice dev, int attribute) {
  int v = 0;
  CUresult rc = t->cuDeviceGetAttribute(&v, attribute, dev);
  return (moecu_out){rc, (uint64_t)(int64_t)v, 0};
}

moecu_out moecu_can_access(const moecu* t, CUdevice dev, CUdevice peer) {
  int v = 0;
  CUresult rc = t->cuDeviceCanAccessPeer(&v, dev, peer);
  return (moecu_out){rc, (uint64_t)v, 0};
}

moecu_out moecu_p2p(const moecu* t, int attribute, CUdevice dev, CUdevice peer) {
  MOECU_NEED_OUT(t, cuDeviceGetP2PAttribute);
  int v = 0;
  CUresult rc = t->cuDeviceGetP2PAttribute(&v, attribute, dev, peer);
  return (moecu_out){rc, (uint64_t)(int64_t)v, 0};
}

moecu_out moecu_ctx_retain(const moecu* t, CUdevice dev) {
  CUcontext ctx = 0;
  CUresult rc = t->cuDevicePrimaryCtxRetain(&ctx, dev);
  return (moecu_out){rc, ctx, 0};
}

CUresult moecu_ctx_release(const moecu* t, CUdevice dev) { return t->cuDevicePrimaryCtxRelease(dev); }

CUresult moecu_ctx_set(const moecu* t, CUcontext ctx) { return t->cuCtxSetCurrent(ctx); }

CUresult moecu_ctx_sync(const moecu* t, CUcontext ctx) {
  CUresult rc = moecu_enter(t, ctx);
  return rc ? rc : t->cuCtxSynchronize();
}

moecu_out moecu_mem_info(const moecu* t, CUcontext ctx) {
  size_t available = 0, total = 0;
  CUresult rc = moecu_enter(t, ctx);
  if (!rc) rc = t->cuMemGetInfo(&available, &total);
  return (moecu_out){rc, available, total};
}

moecu_out moecu_alloc(const moecu* t, CUcontext ctx, uint64_t size) {
  CUdeviceptr p = 0;
  CUresult rc = moecu_enter(t, ctx);
  if (!rc) rc = t->cuMemAlloc(&p, size);
  return (moecu_out){rc, p, 0};
}

CUresult moecu_free(const moecu* t, CUcontext ctx, CUdeviceptr p) {
  CUresult rc = moecu_enter(t, ctx);
  return rc ? rc : t->cuMemFree(p);
}

moecu_out moecu_host_alloc(const moecu* t, CUcontext ctx, uint64_t size, void** host) {
  // CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP: pinned for every
  // context, and mapped.
  const unsigned int flags = 0x01 | 0x02;
  CUdeviceptr p = 0;
  void* h = NULL;
  *host = NULL;
  CUresult rc = moecu_enter(t, ctx);
  if (rc) return (moecu_out){rc, 0, 0};
  rc = t->cuMemHostAlloc(&h, size, flags);
  if (rc) return (moecu_out){rc, 0, 0};
  rc = t->cuMemHostGetDevicePointer(&p, h, 0);
  if (rc) {
    t->cuMemFreeHost(h);
    return (moecu_out){rc, 0, 1};
  }
  // Status words start at zero on the emulator too.
  memset(h, 0, size);
  *host = h;
  return (moecu_out){0, p, 0};
}

CUresult moecu_host_free(const moecu* t, CUcontext ctx, void* host) {
  CUresult rc = moecu_enter(t, ctx);
  return rc ? rc : t->cuMemFreeHost(host);
}

// Copies use a stream of their own and wait for it. cuMemcpyHtoD would not do:
// from pageable memory it may return before the data is on the device, and no
// non-blocking stream waits for it; and it works on the legacy stream, which
// may not be touched while some captures run.
CUresult moecu_write(const moecu* t, CUcontext ctx, CUstream s, CUdeviceptr dst, const void* src, uint64_t size) {
  CUresult rc = moecu_enter(t, ctx);
  if (!rc) rc = t->cuMemcpyHtoDAsync(dst, src, size, s);
  return rc ? rc : t->cuStreamSynchronize(s);
}

CUresult moecu_read(const moecu* t, CUcontext ctx, CUstream s, void* dst, CUdeviceptr src, uint64_t size) {
  CUresult rc = moecu_enter(t, ctx);
  if (!rc) rc = t->cuMemcpyDtoHAsync(dst, src, size, s);
  return rc ? rc : t->cuStreamSynchronize(s);
}
