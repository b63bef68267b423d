// clang-format off: it would detach the constraint
//go:build linux && cgo
// clang-format on

// Finding the driver's entry points at run time.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "moecu.h"

#define SYMBOL(need, name, symbol, version, args) {#name, symbol, version, need},
static const moecu_symbol symbols[] = {MOECU_SYMBOLS(SYMBOL)};
#undef SYMBOL

// The fields of moecu in the order of symbols, to fill them in a loop.
#define OFFSET(need, name, symbol, version, args) offsetof(moecu, name),
static const size_t offsets[] = {MOECU_SYMBOLS(OFFSET)};
#undef OFFSET

static void** slot(const moecu* t, int i) { return (void**)((char*)t + offsets[i]); }

// moecu_lookup prefers dlsym: the exported name pins the ABI. Libraries that
// stand in for libcuda may export only the query function.
void* moecu_lookup(void* library, const char* symbol, const char* name, int version) {
  void* p = dlsym(library, symbol);
  if (p) return p;
  CUresult (*get)(const char*, void**, int, unsigned long long, int*) = NULL;
  *(void**)&get = dlsym(library, "cuGetProcAddress_v2");
  int status = 0;
  if (!get || get(name, &p, version, 0, &status) != 0 || status != 0) {
    return NULL;
  }
  return p;
}

moecu* moecu_open(const char* path, char** message) {
  *message = NULL;
  // dlerror's text belongs to the thread: fetch it in the same crossing.
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char* text = dlerror();
    *message = strdup(text ? text : "dlopen failed");
    return NULL;
  }
  moecu* t = calloc(1, sizeof(moecu));
  if (!t) {
    dlclose(library);
    *message = strdup("out of memory");
    return NULL;
  }
  t->library = library;
  for (int i = 0; i < MOECU_SYM_COUNT; i++) {
    const char* name = symbols[i].name;
    // Only for this one do two ABIs share a documented name.
    if (i == MOECU_SYM_cuEventElapsedTime_v2) name = "cuEventElapsedTime";
    *slot(t, i) = moecu_lookup(library, symbols[i].symbol, name, symbols[i].version);
  }
  return t;
}

// moecu_discard frees the table only. The library stays: libcuda has threads
// and exit handlers of its own, and unloading it is not supported.
void moecu_discard(moecu* t) { free(t); }

const moecu_symbol* moecu_symbol_at(int i) { return &symbols[i]; }

int moecu_has(const moecu* t, int i) { return *slot(t, i) != NULL; }

const char* moecu_error_name(const moecu* t, CUresult rc) {
  const char* s = NULL;
  if (!t->cuGetErrorName || t->cuGetErrorName(rc, &s) != 0) return NULL;
  return s;
}

const char* moecu_error_string(const moecu* t, CUresult rc) {
  const char* s = NULL;
  if (!t->cuGetErrorString || t->cuGetErrorString(rc, &s) != 0) return NULL;
  return s;
}
