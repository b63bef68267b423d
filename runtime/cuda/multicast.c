// clang-format off: it would detach the constraint
//go:build linux && cgo && !nomulticast
// clang-format on

#include "multicast.h"

#include <stdlib.h>
#include <string.h>

moecu_mc* moecu_mc_open(const moecu* t) {
  moecu_mc* mc = calloc(1, sizeof *mc);
  if (!mc) return NULL;
  int missing = 0;
#define LOOKUP(name, args)                                            \
  *(void**)&mc->name = moecu_lookup(t->library, #name, #name, 12010); \
  if (!mc->name) missing = 1;
  MOECU_MC_SYMBOLS(LOOKUP)
#undef LOOKUP
  if (missing) {
    free(mc);
    return NULL;
  }
  return mc;
}

void moecu_mc_discard(moecu_mc* mc) { free(mc); }

static CUmulticastObjectProp properties(unsigned int devices, uint64_t size, int kind) {
  CUmulticastObjectProp p;
  memset(&p, 0, sizeof p);
  p.numDevices = devices;
  p.size = size;
  p.handleTypes = (unsigned long long)kind;
  return p;
}

moecu_out moecu_mc_granularity(const moecu_mc* mc, unsigned int devices, uint64_t size, int kind) {
  CUmulticastObjectProp p = properties(devices, size, kind);
  size_t minimum = 0, recommended = 0;
  CUresult rc = mc->cuMulticastGetGranularity(&minimum, &p, 0);
  if (!rc) rc = mc->cuMulticastGetGranularity(&recommended, &p, 1);
  return (moecu_out){rc, minimum, recommended};
}

moecu_out moecu_mc_create(const moecu* t, const moecu_mc* mc, CUcontext ctx, unsigned int devices, uint64_t size,
                          int kind) {
  CUmulticastObjectProp p = properties(devices, size, kind);
  CUmemHandle h = 0;
  CUresult rc = moecu_enter(t, ctx);
  if (!rc) rc = mc->cuMulticastCreate(&h, &p);
  return (moecu_out){rc, h, 0};
}

CUresult moecu_mc_add(const moecu* t, const moecu_mc* mc, CUcontext ctx, CUmemHandle h, CUdevice dev) {
  CUresult rc = moecu_enter(t, ctx);
  return rc ? rc : mc->cuMulticastAddDevice(h, dev);
}

CUresult moecu_mc_bind(const moecu* t, const moecu_mc* mc, CUcontext ctx, CUmemHandle h, uint64_t offset,
                       CUmemHandle memory, uint64_t memory_offset, uint64_t size) {
  CUresult rc = moecu_enter(t, ctx);
  if (rc) return rc;
  return mc->cuMulticastBindMem(h, offset, memory, memory_offset, size, 0);
}

CUresult moecu_mc_unbind(const moecu* t, const moecu_mc* mc, CUcontext ctx, CUmemHandle h, CUdevice dev,
                         uint64_t offset, uint64_t size) {
  CUresult rc = moecu_enter(t, ctx);
  return rc ? rc : mc->cuMulticastUnbind(h, dev, offset, size);
}
