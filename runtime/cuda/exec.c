// clang-format off: it would detach the constraint
//go:build linux && cgo
// clang-format on

// Modules, launches, streams, events and graphs.

#include <stdlib.h>
#include <string.h>

#include "moecu.h"

// Attributes of functions, as in CUfunction_attribute.
enum { ATTR_NUM_REGS = 4, ATTR_MAX_DYNAMIC_SHARED = 8 };

// load_function brings a function's code to the device now. Where cuFuncLoad is
// not to be had, a query that needs the code does it.
static CUresult load_function(const moecu* t, CUfunction f) {
  if (t->cuFuncLoad) return t->cuFuncLoad(f);
  int v = 0;
  return t->cuFuncGetAttribute(&v, ATTR_NUM_REGS, f);
}

static CUresult load_functions(const moecu* t, CUmodule m) {
  if (!t->cuModuleGetFunctionCount || !t->cuModuleEnumerateFunctions) return 0;
  unsigned int n = 0;
  CUresult rc = t->cuModuleGetFunctionCount(&n, m);
  if (rc || n == 0) return rc;
  CUfunction* fs = calloc(n, sizeof *fs);
  if (!fs) return 2;  // CUDA_ERROR_OUT_OF_MEMORY
  rc = t->cuModuleEnumerateFunctions(fs, n, m);
  for (unsigned int i = 0; i < n && !rc; i++) rc = load_function(t, fs[i]);
  free(fs);
  return rc;
}

// failed names the call that failed. The driver's own name for a JIT message is
// the "error log"; log_size bytes of it go to log.
moecu_out moecu_module_load(const moecu* t, CUcontext ctx, const void* image, char* log, int log_size,
                            const char** failed) {
  int options[] = {5, 6};  // CU_JIT_ERROR_LOG_BUFFER and its _SIZE_BYTES
  void* values[] = {log, (void*)(uintptr_t)log_size};
  CUmodule m = 0;
  *failed = "cuModuleLoadDataEx";
  CUresult rc = moecu_enter(t, ctx);
  if (!rc) rc = t->cuModuleLoadDataEx(&m, image, 2, options, values);
  if (rc) return (moecu_out){rc, 0, 0};
  *failed = "cuFuncLoad";
  rc = load_functions(t, m);
  if (rc) {
    t->cuModuleUnload(m);
    return (moecu_out){rc, 0, 0};
  }
  return (moecu_out){0, m, 0};
}

CUresult moecu_module_unload(const moecu* t, CUcontext ctx, CUmodule m) {
  CUresult rc = moecu_enter(t, ctx);
  return rc ? rc : t->cuModuleUnload(m);
}

// moecu_function also answers how much dynamic shared memory a launch may ask
// for before the limit has to be raised.
moecu_out moecu_function(const moecu* t, CUcontext ctx, CUmodule m, const char* name) {
  CUfunction f = 0;
  int shared = 0;
  CUresult rc = moecu_enter(t, ctx);
  if (!rc) rc = t->cuModuleGetFunction(&f, m, name);
  if (!rc) rc = load_function(t, f);
  if (!rc) rc = t->cuFuncGetAttribute(&shared, ATTR_MAX_DYNAMIC_SHARED, f);
  return (moecu_out){rc, f, (uint64_t)(shared < 0 ? 0 : shared)};
}

CUresult moecu_function_shared(const moecu* t, CUcontext ctx, CUfunction f, int bytes) {
  CUresult rc = moecu_enter(t, ctx);
  return rc ? rc : t->cuFuncSetAttribute(f, ATTR_MAX_DYNAMIC_SHARED, bytes);
}

moecu_out moecu_occupancy(const moecu* t, CUcontext ctx, CUfunction f, int threads, uint64_t shared) {
  int n = 0;
  CUresult rc = moecu_enter(t, ctx);
  if (!rc) {
    rc = t->cuOccupancyMaxActiveBlocksPerMultiprocessor(&n, f, threads, shared);
  }
  return (moecu_out){rc, (uint64_t)n, 0};
}

static CUresult launch(const moecu* t, CUfunction f, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx,
                       unsigned int by, unsigned int bz, unsigned int shared, CUstream s, void** extra, int dependent) {
  // Without cuLaunchKernelEx the kernel starts after its predecessor has
  // ended, which is what "may start earlier" allows.
  if (!dependent || !t->cuLaunchKernelEx) {
    return t->cuLaunchKernel(f, gx, gy, gz, bx, by, bz, shared, s, NULL, extra);
  }
  CUlaunchAttribute attr;
  memset(&attr, 0, sizeof attr);
  attr.id = 6;  // CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
  attr.value.programmaticStreamSerializationAllowed = 1;
  CUlaunchConfig cfg;
  memset(&cfg, 0, sizeof cfg);
  cfg.gridDimX = gx;
  cfg.gridDimY = gy;
  cfg.gridDimZ = gz;
  cfg.blockDimX = bx;
  cfg.blockDimY = by;
  cfg.blockDimZ = bz;
  cfg.sharedMemBytes = shared;
  cfg.hStream = s;
  cfg.attrs = &attr;
  cfg.numAttrs = 1;
  return t->cuLaunchKernelEx(&cfg, f, NULL, extra);
}

CUresult moecu_launch(const moecu* t, CUcontext ctx, CUfunction f, unsigned int gx, unsigned int gy, unsigned int gz,
                      unsigned int bx, unsigned int by, unsigned int bz, unsigned int shared, CUstream s,
                      const void* params, uint64_t size, int dependent) {
  CUresult rc = moecu_enter(t, ctx);
  if (rc) return rc;
  if (size == 0) {
    return launch(t, f, gx, gy, gz, bx, by, bz, shared, s, NULL, dependent);
  }
  // The driver copies the block before the call returns. It lies in C memory,
  // aligned for any parameter type.
  _Alignas(16) char small[4096];
  char* block = small;
  if (size > sizeof small) {
    block = malloc(size);
    if (!block) return 2;
  }
  memcpy(block, params, size);
  size_t n = size;
  // CU_LAUNCH_PARAM_BUFFER_POINTER, _BUFFER_SIZE, _END
  void* extra[] = {(void*)1, block, (void*)2, &n, (void*)0};
  rc = launch(t, f, gx, gy, gz, bx, by, bz, shared, s, extra, dependent);
  if (block != small) free(block);
  return rc;
}

moecu_out moecu_stream_create(const moecu* t, CUcontext ctx) {
  CUstream s = 0;
  CUresult rc = moecu_enter(t, ctx);
  if (!rc) rc = t->cuStreamCreate(&s, 1);  // CU_STREAM_NON_BLOCKING
  return (moecu_out){rc, s, 0};
}

CUresult moecu_stream_destroy(const moecu* t, CUcontext ctx, CUstream s) {
  CUresult rc = moecu_enter(t, ctx);
  return rc ? rc : t->cuStreamDestroy(s);
}

CUresult moecu_stream_sync(const moecu* t, CUcontext ctx, CUstream s) {
  CUresult rc = moecu_enter(t, ctx);
  return rc ? rc : t->cuStreamSynchronize(s);
}

CUresult moecu_stream_wait(const moecu* t, CUcontext ctx, CUstream s, CUevent e) {
  CUresult rc = moecu_enter(t, ctx);
  return rc ? rc : t->cuStreamWaitEvent(s, e, 0);
}

// cuMemcpyAsync finds out what its addresses are, so that page-locked host
// memory can be either end.
CUresult moecu_copy(const moecu* t, CUcontext ctx, CUdeviceptr dst, CUdeviceptr src, uint64_t size, CUstream s) {
  CUresult rc = moecu_enter(t, ctx);
  return rc ? rc : t->cuMemcpyAsync(dst, src, size, s);
}

CUresult moecu_memset(const moecu* t, CUcontext ctx, CUdeviceptr dst, int value, uint64_t size, CUstream s) {
  CUresult rc = moecu_enter(t, ctx);
  return rc ? rc : t->cuMemsetD8Async(dst, (unsigned char)value, size, s);
}

CUresult moecu_capture_begin(const moecu* t, CUcontext ctx, CUstream s) {
  CUresult rc = moecu_enter(t, ctx);
  // CU_STREAM_CAPTURE_MODE_RELAXED: the other modes tie the capture to this
  // thread, and goroutines move.
  return rc ? rc : t->cuStreamBeginCapture(s, 2);
}

moecu_out moecu_capture_end(const moecu* t, CUcontext ctx, CUstream s) {
  CUgraph g = 0;
  CUresult rc = moecu_enter(t, ctx);
  if (!rc) rc = t->cuStreamEndCapture(s, &g);
  return (moecu_out){rc, g, 0};
}

moecu_out moecu_capture_status(const moecu* t, CUcontext ctx, CUstream s) {
  int status = 0;
  CUresult rc = moecu_enter(t, ctx);
  if (!rc) rc = t->cuStreamIsCapturing(s, &status);
  return (moecu_out){rc, (uint64_t)status, 0};
}

moecu_out moecu_event_create(const moecu* t, CUcontext ctx) {
  CUevent e = 0;
  CUresult rc = moecu_enter(t, ctx);
  if (!rc) rc = t->cuEventCreate(&e, 0);  // with timing
  return (moecu_out){rc, e, 0};
}

CUresult moecu_event_destroy(const moecu* t, CUcontext ctx, CUevent e) {
  CUresult rc = moecu_enter(t, ctx);
  return rc ? rc : t->cuEventDestroy(e);
}

CUresult moecu_event_record(const moecu* t, CUcontext ctx, CUevent e, CUstream s) {
  CUresult rc = moecu_enter(t, ctx);
  return rc ? rc : t->cuEventRecord(e, s);
}

CUresult moecu_event_sync(const moecu* t, CUcontext ctx, CUevent e) {
  CUresult rc = moecu_enter(t, ctx);
  return rc ? rc : t->cuEventSynchronize(e);
}

CUresult moecu_event_elapsed(const moecu* t, CUcontext ctx, CUevent start, CUevent end, float* ms) {
  CUresult rc = moecu_enter(t, ctx);
  if (rc) return rc;
  if (t->cuEventElapsedTime_v2) return t->cuEventElapsedTime_v2(ms, start, end);
  return t->cuEventElapsedTime(ms, start, end);
}

// moecu_graph_nodes answers the number of nodes, and describes the first
// capacity of them.
moecu_out moecu_graph_nodes(const moecu* t, CUcontext ctx, CUgraph g, moecu_node* nodes, uint64_t capacity) {
  size_t n = 0;
  CUresult rc = moecu_enter(t, ctx);
  if (!rc) rc = t->cuGraphGetNodes(g, NULL, &n);
  if (rc || n == 0 || capacity == 0) return (moecu_out){rc, n, 0};
  CUgraphNode* hs = calloc(n, sizeof *hs);
  if (!hs) return (moecu_out){2, 0, 0};
  rc = t->cuGraphGetNodes(g, hs, &n);
  for (size_t i = 0; i < n && i < capacity && !rc; i++) {
    nodes[i] = (moecu_node){0, 0, NULL};
    rc = t->cuGraphNodeGetType(hs[i], &nodes[i].type);
    if (rc || nodes[i].type != 0 || !t->cuGraphKernelNodeGetParams) continue;
    CUDA_KERNEL_NODE_PARAMS p;
    memset(&p, 0, sizeof p);
    rc = t->cuGraphKernelNodeGetParams(hs[i], &p);
    if (rc) continue;
    nodes[i].func = p.func;
    // A name is a courtesy: no name is no error.
    if (p.func && t->cuFuncGetName) {
      if (t->cuFuncGetName(&nodes[i].name, p.func)) nodes[i].name = NULL;
    } else if (p.kern && t->cuKernelGetName) {
      if (t->cuKernelGetName(&nodes[i].name, p.kern)) nodes[i].name = NULL;
    }
  }
  free(hs);
  return (moecu_out){rc, n, 0};
}

moecu_out moecu_graph_instantiate(const moecu* t, CUcontext ctx, CUgraph g) {
  MOECU_NEED_OUT(t, cuGraphInstantiateWithFlags);
  CUgraphExec e = 0;
  CUresult rc = moecu_enter(t, ctx);
  if (!rc) rc = t->cuGraphInstantiateWithFlags(&e, g, 0);
  return (moecu_out){rc, e, 0};
}

CUresult moecu_graph_launch(const moecu* t, CUcontext ctx, CUgraphExec e, CUstream s) {
  CUresult rc = moecu_enter(t, ctx);
  return rc ? rc : t->cuGraphLaunch(e, s);
}

CUresult moecu_graph_destroy(const moecu* t, CUcontext ctx, CUgraph g) {
  CUresult rc = moecu_enter(t, ctx);
  return rc ? rc : t->cuGraphDestroy(g);
}

CUresult moecu_graph_exec_destroy(const moecu* t, CUcontext ctx, CUgraphExec e) {
  CUresult rc = moecu_enter(t, ctx);
  return rc ? rc : t->cuGraphExecDestroy(e);
}
