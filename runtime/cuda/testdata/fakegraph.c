// A pretended libcuda: events and graphs.
#include <stdlib.h>
#include <string.h>

#include "fakeexec.h"

API CUresult cuEventCreate(CUevent* out, unsigned int flags) {
  NEED_CTX(0);
  ENTER("cuEventCreate", "flags=%u", flags);
  event* e = calloc(1, sizeof *e);
  e->ctx = current;
  live[EVENTS]++;
  *out = (CUevent)e;
  return 0;
}

API CUresult cuEventDestroy_v2(CUevent e) {
  live[EVENTS]--;
  free(E(e));
  return 0;
}

API CUresult cuEventRecord(CUevent e, CUstream s) {
  static int now;
  if (E(e)->ctx != S(s)->ctx) return 400;
  ENTER("cuEventRecord", "-");
  E(e)->time = ++now;
  E(e)->capture = S(s)->capture;
  return 0;
}

API CUresult cuEventSynchronize(CUevent e) {
  (void)e;
  ENTER("cuEventSynchronize", "-");
  return 0;
}

API CUresult cuEventElapsedTime(float* ms, CUevent a, CUevent b) {
  *ms = (float)(E(b)->time - E(a)->time) * 1.5f;
  return 0;
}

#ifndef OLD_DRIVER
API CUresult cuEventElapsedTime_v2(float* ms, CUevent a, CUevent b) { return cuEventElapsedTime(ms, a, b); }

API CUresult cuGraphInstantiateWithFlags(CUgraphExec* out, CUgraph g, unsigned long long flags) {
  NEED_CTX(0);
  ENTER("cuGraphInstantiateWithFlags", "%llu", flags);
  graph* e = malloc(sizeof *e);
  *e = *(graph*)g;
  live[EXECS]++;
  *out = (CUgraphExec)e;
  return 0;
}

API CUresult cuGraphKernelNodeGetParams_v2(CUgraphNode h, CUDA_KERNEL_NODE_PARAMS* p) {
  p->func = (CUfunction)((node*)h)->f;
  return 0;
}
#endif

#ifndef QUERY_DRIVER
API
#endif
    CUresult cuGraphLaunch(CUgraphExec h, CUstream s) {
  NEED_CTX(S(s)->ctx);
  graph* g = (graph*)h;
  ENTER("cuGraphLaunch", "%d nodes", g->n);
  for (int i = 0; i < g->n; i++) run(&g->nodes[i]);
  return 0;
}

API CUresult cuGraphDestroy(CUgraph g) {
  live[GRAPHS]--;
  free((void*)g);
  return 0;
}

API CUresult cuGraphExecDestroy(CUgraphExec e) {
  live[EXECS]--;
  free((void*)e);
  return 0;
}

API CUresult cuGraphGetNodes(CUgraph h, CUgraphNode* out, size_t* n) {
  graph* g = (graph*)h;
  for (size_t i = 0; out && i < *n; i++) out[i] = (CUgraphNode)&g->nodes[i];
  *n = (size_t)g->n;
  return 0;
}

API CUresult cuGraphNodeGetType(CUgraphNode n, int* type) {
  *type = ((node*)n)->type;
  return 0;
}

#ifdef QUERY_DRIVER
API CUresult cuGetProcAddress_v2(const char* name, void** out, int version, unsigned long long flags, int* status) {
  if (version < 2000 || flags) return 1;
  *status = strcmp(name, "cuGraphLaunch") == 0 ? 0 : 1;
  *out = *status ? NULL : (void*)cuGraphLaunch;
  return 0;
}
#endif
