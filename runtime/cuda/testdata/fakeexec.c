// A pretended libcuda: modules, launches and streams.
#include "fakeexec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// An image is text. "BAD" is refused, with a message; ".entry name" defines a
// kernel.
API CUresult cuModuleLoadDataEx(CUmodule* out, const void* image, unsigned int n, int* options, void** values) {
  NEED_CTX(0);
  ENTER("cuModuleLoadDataEx", "%zu bytes", strlen(image));
  if (n != 2 || options[0] != 5 || options[1] != 6) return 1;
  if (strstr(image, "BAD")) {
    snprintf(values[0], (size_t)(uintptr_t)values[1], "ptxas error : line 7; syntax error near 'BAD'\n");
    return 218;
  }
  module* m = calloc(1, sizeof *m);
  for (const char* p = image; (p = strstr(p, ".entry ")) && m->n < 8;) {
    p += 7;
    function* f = m->f[m->n++] = calloc(1, sizeof *f);
    sscanf(p, "%63[a-zA-Z0-9_]", f->name);
    f->ctx = current;
    f->shared = 49152;
  }
  live[MODULES]++;
  *out = (CUmodule)m;
  return 0;
}

API CUresult cuModuleUnload(CUmodule h) {
  NEED_CTX(0);
  ENTER("cuModuleUnload", "-");
  module* m = (module*)h;
  for (int i = 0; i < m->n; i++) free(m->f[i]);
  free(m);
  live[MODULES]--;
  return 0;
}

API CUresult cuModuleGetFunction(CUfunction* out, CUmodule h, const char* name) {
  NEED_CTX(0);
  ENTER("cuModuleGetFunction", "%s", name);
  module* m = (module*)h;
  for (int i = 0; i < m->n; i++) {
    if (strcmp(m->f[i]->name, name) == 0) {
      *out = (CUfunction)m->f[i];
      return 0;
    }
  }
  return 500;
}

API CUresult cuFuncGetAttribute(int* v, int a, CUfunction h) {
  function* f = (function*)h;
  ENTER("cuFuncGetAttribute", "%s %d", f->name, a);
  f->loaded = 1;
  *v = a == 8 ? f->shared : 32;
  return 0;
}

API CUresult cuFuncSetAttribute(CUfunction h, int a, int v) {
  function* f = (function*)h;
  ENTER("cuFuncSetAttribute", "%s %d=%d", f->name, a, v);
  if (a != 8 || v > 232448) return 1;
  f->shared = v;
  return 0;
}

#ifndef OLD_DRIVER
API CUresult cuModuleGetFunctionCount(unsigned int* n, CUmodule h) {
  *n = (unsigned int)((module*)h)->n;
  return 0;
}

API CUresult cuModuleEnumerateFunctions(CUfunction* out, unsigned int n, CUmodule h) {
  for (unsigned int i = 0; i < n; i++) out[i] = (CUfunction)((module*)h)->f[i];
  return 0;
}

API CUresult cuFuncLoad(CUfunction h) {
  ENTER("cuFuncLoad", "%s", ((function*)h)->name);
  ((function*)h)->loaded = 1;
  return 0;
}

API CUresult cuFuncGetName(const char** s, CUfunction h) {
  *s = ((function*)h)->name;
  return 0;
}
#endif

API CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* n, CUfunction h, int threads, size_t shared) {
  NEED_CTX(0);
  if ((int)shared > ((function*)h)->shared) return 1;
  *n = 2048 / threads;
  return 0;
}

// A kernel "store" has the parameters (u64 address, u32 value); "fault" makes
// an illegal access, which shows in the next call.
void run(const node* n) {
  if (n->type != 0) return;
  if (strcmp(n->f->name, "fault") == 0) sticky = 700;
  if (strcmp(n->f->name, "store") == 0) {
    uint64_t p;
    memcpy(&p, n->params, 8);
    memcpy((void*)(uintptr_t)p, n->params + 8, 4);
  }
}

static int submit(stream* s, const node* n) {
  if (!s->capture) {
    run(n);
    return 0;
  }
  if (s->capture->n == 16) return 2;
  s->capture->nodes[s->capture->n++] = *n;
  return 0;
}

static CUresult launch(const char* op, const CUlaunchConfig* c, function* f, void** extra) {
  static const char digits[] = "0123456789abcdef";
  node n = {0, f, 0, {0}};
  char hex[2 * sizeof n.params + 1];
  if (!c->hStream) return 400;
  NEED_CTX(S(c->hStream)->ctx);
  if (extra) {
    if (extra[0] != (void*)1 || extra[2] != (void*)2 || extra[4]) return 1;
    if ((uintptr_t)extra[1] % 16) return 716;
    n.size = *(size_t*)extra[3];
    memcpy(n.params, extra[1], n.size);
  }
  for (size_t i = 0; i < n.size; i++) {
    hex[2 * i] = digits[(n.params[i] >> 4) & 15];
    hex[2 * i + 1] = digits[n.params[i] & 15];
  }
  hex[2 * n.size] = 0;
  ENTER(op, "%s grid=%u,%u,%u block=%u,%u,%u shared=%u attrs=%u params=%s", f->name, c->gridDimX, c->gridDimY,
        c->gridDimZ, c->blockDimX, c->blockDimY, c->blockDimZ, c->sharedMemBytes, c->numAttrs, hex);
  if (!f->loaded) return 913;  // a lazy load at launch is what we must not see
  if (f->ctx != S(c->hStream)->ctx) return 400;
  if ((int)c->sharedMemBytes > f->shared) return 1;
  return submit(S(c->hStream), &n);
}

#ifndef BROKEN_DRIVER
API CUresult cuLaunchKernel(CUfunction f, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx,
                            unsigned int by, unsigned int bz, unsigned int shared, CUstream s, void** params,
                            void** extra) {
  if (params) return 1;
  CUlaunchConfig c = {gx, gy, gz, bx, by, bz, shared, s, NULL, 0};
  return launch("cuLaunchKernel", &c, (function*)f, extra);
}
#endif

#ifndef OLD_DRIVER
API CUresult cuLaunchKernelEx(const CUlaunchConfig* c, CUfunction f, void** params, void** extra) {
  if (params || c->numAttrs != 1 || c->attrs[0].id != 6 ||
      c->attrs[0].value.programmaticStreamSerializationAllowed != 1) {
    return 1;
  }
  return launch("cuLaunchKernelEx", c, (function*)f, extra);
}
#endif

API CUresult cuStreamCreate(CUstream* out, unsigned int flags) {
  NEED_CTX(0);
  ENTER("cuStreamCreate", "flags=%u", flags);
  stream* s = calloc(1, sizeof *s);
  s->ctx = current;
  live[STREAMS]++;
  *out = (CUstream)s;
  return 0;
}

API CUresult cuStreamDestroy_v2(CUstream s) {
  NEED_CTX(S(s)->ctx);
  live[STREAMS]--;
  free(S(s));
  ENTER("cuStreamDestroy", "-");
  return 0;
}

API CUresult cuStreamSynchronize(CUstream s) {
  NEED_CTX(S(s)->ctx);
  ENTER("cuStreamSynchronize", "-");
  return S(s)->capture ? 900 : 0;
}

API CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr d, const void* src, size_t n, CUstream s) {
  NEED_CTX(S(s)->ctx);
  ENTER("cuMemcpyHtoDAsync", "%zu", n);
  memcpy((void*)(uintptr_t)d, src, n);
  return 0;
}

API CUresult cuMemcpyDtoHAsync_v2(void* d, CUdeviceptr src, size_t n, CUstream s) {
  NEED_CTX(S(s)->ctx);
  ENTER("cuMemcpyDtoHAsync", "%zu", n);
  memcpy(d, (void*)(uintptr_t)src, n);
  return 0;
}

API CUresult cuMemcpyAsync(CUdeviceptr d, CUdeviceptr src, size_t n, CUstream s) {
  NEED_CTX(S(s)->ctx);
  ENTER("cuMemcpyAsync", "%zu", n);
  node x = {1, NULL, 0, {0}};
  if (!S(s)->capture) memcpy((void*)(uintptr_t)d, (void*)(uintptr_t)src, n);
  return submit(S(s), &x);
}

API CUresult cuMemsetD8Async(CUdeviceptr d, unsigned char v, size_t n, CUstream s) {
  NEED_CTX(S(s)->ctx);
  ENTER("cuMemsetD8Async", "%d %zu", v, n);
  node x = {2, NULL, 0, {0}};
  if (!S(s)->capture) memset((void*)(uintptr_t)d, v, n);
  return submit(S(s), &x);
}

API CUresult cuStreamWaitEvent(CUstream s, CUevent e, unsigned int flags) {
  NEED_CTX(S(s)->ctx);
  ENTER("cuStreamWaitEvent", "%u", flags);
  if (E(e)->capture) S(s)->capture = E(e)->capture;
  return 0;
}

API CUresult cuStreamBeginCapture_v2(CUstream s, int mode) {
  NEED_CTX(S(s)->ctx);
  ENTER("cuStreamBeginCapture", "mode=%d", mode);
  if (S(s)->capture) return 401;
  S(s)->capture = calloc(1, sizeof(graph));
  live[GRAPHS]++;
  return 0;
}

API CUresult cuStreamEndCapture(CUstream s, CUgraph* out) {
  NEED_CTX(S(s)->ctx);
  ENTER("cuStreamEndCapture", "-");
  if (!S(s)->capture) return 401;
  *out = (CUgraph)S(s)->capture;
  S(s)->capture = NULL;
  return 0;
}

API CUresult cuStreamIsCapturing(CUstream s, int* status) {
  *status = S(s)->capture != NULL;
  return 0;
}
