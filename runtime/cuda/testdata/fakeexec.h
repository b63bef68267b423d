// What streams, launches and graphs of the pretended libcuda share.
#ifndef FAKEEXEC_H_
#define FAKEEXEC_H_

#include "fake.h"

typedef struct {
  char name[64];
  CUcontext ctx;
  int loaded, shared;
} function;

typedef struct {
  int n;
  function* f[8];
} module;

typedef struct {
  int type;  // 0 kernel, 1 memcpy, 2 memset
  function* f;
  size_t size;
  char params[4500];
} node;

typedef struct {
  int n;
  node nodes[16];
} graph;

typedef struct {
  CUcontext ctx;
  graph* capture;
} stream;

typedef struct {
  CUcontext ctx;
  int time;
  graph* capture;
} event;

#define S(h) ((stream*)(h))
#define E(h) ((event*)(h))

void run(const node* n);

#endif  // FAKEEXEC_H_
