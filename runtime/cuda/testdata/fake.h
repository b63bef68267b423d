// What the files of the pretended libcuda share. Device memory is host memory,
// streams run at once, and every call is written to the file that
// FAKECUDA_LOG names.
//
//   FAKECUDA_FAIL=cuMemCreate=2,...  makes calls fail
//   FAKECUDA_HEAL=1                  ends the effect of a kernel's fault
//   FAKECUDA_DEVICES=0               hides the devices
//   -DOLD_DRIVER                     is a driver from before CUDA 11.4
//   -DBROKEN_DRIVER                  lacks cuLaunchKernel
//   -DQUERY_DRIVER                   hides cuGraphLaunch behind
//                                    cuGetProcAddress_v2
#ifndef FAKE_H_
#define FAKE_H_

#include <stddef.h>
#include <stdint.h>

#include "../moecu.h"

#define API __attribute__((visibility("default")))
#define DEVICES 2

enum { STREAMS, EVENTS, MODULES, GRAPHS, EXECS, ALLOCS, HOSTS, HANDLES, RANGES };
extern int live[9];

// enter writes the call to the log and answers what it should return if that
// is not success: a fault asked for, or the sticky error.
int enter(const char* name, const char* format, ...) __attribute__((format(printf, 2, 3)));
extern int sticky;
extern _Thread_local CUcontext current;

// need_ctx answers CUDA_ERROR_INVALID_CONTEXT where ctx is not current.
int need_ctx(CUcontext ctx);
CUcontext ctx_of(int device);

#define ENTER(...)                \
  do {                            \
    int rc_ = enter(__VA_ARGS__); \
    if (rc_) return rc_;          \
  } while (0)
#define NEED_CTX(ctx)        \
  do {                       \
    int rc_ = need_ctx(ctx); \
    if (rc_) return rc_;     \
  } while (0)

#endif  // FAKE_H_
