// A pretended libcuda: errors, devices, contexts, plain memory.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fake.h"

int live[9];
int sticky;
_Thread_local CUcontext current;
static int retained[DEVICES];

static void log_line(const char* line) {
  const char* path = getenv("FAKECUDA_LOG");
  if (!path) return;
  int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return;
  if (write(fd, line, strlen(line)) < 0) abort();
  close(fd);
}

int enter(const char* name, const char* format, ...) {
  char line[20000], args[19000];
  va_list ap;
  va_start(ap, format);
  vsnprintf(args, sizeof args, format, ap);
  va_end(ap);
  snprintf(line, sizeof line, "%s %s\n", name, args);
  log_line(line);
  // What no real driver does: a context comes back to life.
  if (getenv("FAKECUDA_HEAL")) sticky = 0;
  if (sticky) return sticky;
  const char* p = getenv("FAKECUDA_FAIL");
  size_t n = strlen(name);
  for (; p && *p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL) {
    if (strncmp(p, name, n) == 0 && p[n] == '=') return atoi(p + n + 1);
  }
  return 0;
}

CUcontext ctx_of(int device) { return 0x1000 + (CUcontext)device; }

int need_ctx(CUcontext ctx) {
  if (ctx == 0) return current ? 0 : 201;
  return current == ctx ? 0 : 201;
}

API CUresult cuGetErrorName(CUresult rc, const char** s) {
  *s = rc == 1     ? "CUDA_ERROR_INVALID_VALUE"
       : rc == 2   ? "CUDA_ERROR_OUT_OF_MEMORY"
       : rc == 100 ? "CUDA_ERROR_NO_DEVICE"
       : rc == 209 ? "CUDA_ERROR_NO_BINARY_FOR_GPU"
       : rc == 218 ? "CUDA_ERROR_INVALID_PTX"
       : rc == 500 ? "CUDA_ERROR_NOT_FOUND"
       : rc == 700 ? "CUDA_ERROR_ILLEGAL_ADDRESS"
                   : NULL;
  return *s ? 0 : 1;
}

API CUresult cuGetErrorString(CUresult rc, const char** s) {
  *s = rc == 2 ? "out of memory" : rc == 700 ? "an illegal memory access was encountered" : "some text";
  return 0;
}

API CUresult cuInit(unsigned int flags) {
  ENTER("cuInit", "%u", flags);
  return 0;
}

API CUresult cuDriverGetVersion(int* v) {
#ifdef OLD_DRIVER
  *v = 11030;
#else
  *v = 13000;
#endif
  return 0;
}

API CUresult cuDeviceGetCount(int* n) {
  const char* s = getenv("FAKECUDA_DEVICES");
  *n = s ? atoi(s) : DEVICES;
  return 0;
}

API CUresult cuDeviceGet(CUdevice* d, int i) {
  *d = i;
  return i < DEVICES ? 0 : 101;
}

API CUresult cuDeviceGetName(char* s, int n, CUdevice d) {
  snprintf(s, (size_t)n, "Fake GPU %d", d);
  return 0;
}

#ifndef OLD_DRIVER
API CUresult cuDeviceGetUuid_v2(void* out, CUdevice d) {
  for (int i = 0; i < 16; i++) ((char*)out)[i] = (char)(i * 16 + d);
  return 0;
}
#endif

API CUresult cuDeviceTotalMem_v2(size_t* n, CUdevice d) {
  *n = ((size_t)141 << 30) + (size_t)d;
  return 0;
}

API CUresult cuDeviceGetAttribute(int* v, int a, CUdevice d) {
  (void)d;
  switch (a) {
    case 75:
      *v = 9;
      return 0;
    case 76:
      *v = 0;
      return 0;
    case 16:
      *v = 132;
      return 0;
    case 1:
      *v = 1024;
      return 0;
    case 39:
      *v = 2048;
      return 0;
    case 102:
    case 103:
    case 132:
      *v = 1;
      return 0;
    case 13:
      *v = 1980000;
      return 0;
  }
  return 1;
}

API CUresult cuDeviceGetPCIBusId(char* s, int n, CUdevice d) {
  snprintf(s, (size_t)n, "0000:%02X:00.0", 0x3b + d);
  return 0;
}

API CUresult cuDeviceCanAccessPeer(int* v, CUdevice a, CUdevice b) {
  ENTER("cuDeviceCanAccessPeer", "%d %d", a, b);
  *v = a != b;
  return 0;
}

API CUresult cuDeviceGetP2PAttribute(int* v, int a, CUdevice d, CUdevice p) {
  if (d == p) return 101;
  *v = a == 1 ? 0 : 1;
  return 0;
}

API CUresult cuDevicePrimaryCtxRetain(CUcontext* ctx, CUdevice d) {
  ENTER("cuDevicePrimaryCtxRetain", "%d", d);
  retained[d]++;
  *ctx = ctx_of(d);
  return 0;
}

// Releasing the last context writes what is left in the process.
API CUresult cuDevicePrimaryCtxRelease_v2(CUdevice d) {
  int rc = enter("cuDevicePrimaryCtxRelease", "%d", d);
  if (--retained[d] < 0) abort();
  for (int i = 0; i < DEVICES; i++) {
    if (retained[i]) return rc;
  }
  char line[200] = "live";
  for (int i = 0; i < 9; i++) {
    snprintf(line + strlen(line), 20, " %d", live[i]);
    live[i] = 0;
  }
  log_line(strcat(line, "\n"));
  sticky = 0;
  return rc;
}

API CUresult cuCtxSetCurrent(CUcontext ctx) {
  if (ctx && (ctx < 0x1000 || ctx >= 0x1000 + DEVICES)) return 201;
  current = ctx;
  return 0;
}

API CUresult cuCtxSynchronize(void) {
  NEED_CTX(0);
  ENTER("cuCtxSynchronize", "%p", (void*)current);
  return 0;
}

API CUresult cuMemGetInfo_v2(size_t* available, size_t* total) {
  NEED_CTX(0);
  ENTER("cuMemGetInfo", "%p", (void*)current);
  *available = 1 << 20;
  *total = 2 << 20;
  return 0;
}

API CUresult cuMemAlloc_v2(CUdeviceptr* p, size_t n) {
  NEED_CTX(0);
  ENTER("cuMemAlloc", "%zu", n);
  *p = (CUdeviceptr)(uintptr_t)aligned_alloc(256, (n + 255) / 256 * 256);
  live[ALLOCS]++;
  return *p ? 0 : 2;
}

API CUresult cuMemFree_v2(CUdeviceptr p) {
  NEED_CTX(0);
  ENTER("cuMemFree", "%llx", p);
  free((void*)(uintptr_t)p);
  live[ALLOCS]--;
  return 0;
}

API CUresult cuMemHostAlloc(void** p, size_t n, unsigned int flags) {
  NEED_CTX(0);
  ENTER("cuMemHostAlloc", "%zu flags=%u", n, flags);
  *p = malloc(n);
  memset(*p, 0xcc, n);
  live[HOSTS]++;
  return 0;
}

API CUresult cuMemFreeHost(void* p) {
  NEED_CTX(0);
  ENTER("cuMemFreeHost", "%p", p);
  free(p);
  live[HOSTS]--;
  return 0;
}

API CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr* p, void* h, unsigned int flags) {
  ENTER("cuMemHostGetDevicePointer", "%p %u", h, flags);
  *p = (CUdeviceptr)(uintptr_t)h;
  return 0;
}
