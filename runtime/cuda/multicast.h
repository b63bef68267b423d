// The multicast part of the driver API. Only files that the build tag
// nomulticast leaves out include it.
#ifndef MOEGEN_RUNTIME_CUDA_MULTICAST_H_
#define MOEGEN_RUNTIME_CUDA_MULTICAST_H_

#include "moecu.h"

typedef struct {
  unsigned int numDevices;
  size_t size;
  unsigned long long handleTypes;
  unsigned long long flags;
} CUmulticastObjectProp;

#define MOECU_MC_SYMBOLS(X)                                                                     \
  X(cuMulticastCreate, (CUmemHandle*, const CUmulticastObjectProp*))                            \
  X(cuMulticastAddDevice, (CUmemHandle, CUdevice))                                              \
  X(cuMulticastBindMem, (CUmemHandle, size_t, CUmemHandle, size_t, size_t, unsigned long long)) \
  X(cuMulticastUnbind, (CUmemHandle, CUdevice, size_t, size_t))                                 \
  X(cuMulticastGetGranularity, (size_t*, const CUmulticastObjectProp*, int))

#define MOECU_MC_FIELD(name, args) CUresult(*name) args;
typedef struct {
  MOECU_MC_SYMBOLS(MOECU_MC_FIELD)
} moecu_mc;
#undef MOECU_MC_FIELD

// The five came together with CUDA 12.1: all are there, or moecu_mc_open
// returns NULL.
moecu_mc* moecu_mc_open(const moecu* t);
void moecu_mc_discard(moecu_mc* mc);
moecu_out moecu_mc_granularity(const moecu_mc* mc, unsigned int devices, uint64_t size, int kind);
moecu_out moecu_mc_create(const moecu* t, const moecu_mc* mc, CUcontext ctx, unsigned int devices, uint64_t size,
                          int kind);
CUresult moecu_mc_add(const moecu* t, const moecu_mc* mc, CUcontext ctx, CUmemHandle h, CUdevice dev);
CUresult moecu_mc_bind(const moecu* t, const moecu_mc* mc, CUcontext ctx, CUmemHandle h, uint64_t offset,
                       CUmemHandle memory, uint64_t memory_offset, uint64_t size);
CUresult moecu_mc_unbind(const moecu* t, const moecu_mc* mc, CUcontext ctx, CUmemHandle h, CUdevice dev,
                         uint64_t offset, uint64_t size);

#endif  // MOEGEN_RUNTIME_CUDA_MULTICAST_H_
