// Kernels for the emulator's tests; basic.ptx is compiled from this file by
//   nvcc -ptx -gencode arch=compute_90a,code=compute_90a -lineinfo
#include <cstdint>

extern "C" __global__ void vadd(const float* a, const float* b, float* c, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) c[i] = a[i] + b[i];
}

// Collatz steps: divergent loop lengths.
extern "C" __global__ void collatz(const uint32_t* in, uint32_t* out, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  uint32_t x = in[i], s = 0;
  while (x != 1) {
    x = x & 1 ? 3 * x + 1 : x / 2;
    s++;
  }
  out[i] = s;
}

// Lane 0 waits for lane 1 of its own warp: needs independent thread scheduling.
extern "C" __global__ void lanespin(volatile int* flag, int* out) {
  if (threadIdx.x == 0) {
    while (flag[0] == 0) {
    }
    out[0] = 7;
  } else if (threadIdx.x == 1) {
    flag[0] = 1;
    out[1] = 8;
  }
}

// Both wait in a loop below the producer's code, whatever its order.
extern "C" __global__ void lanelock(int* lock, int* sum) {
  bool done = false;
  while (!done) {
    if (atomicCAS(lock, 0, 1) == 0) {
      __threadfence();
      *(volatile int*)sum = *(volatile int*)sum + 1;
      __threadfence();
      atomicExch(lock, 0);
      done = true;
    }
  }
}

// Block b waits for block b-1.
extern "C" __global__ void chain(int* flags, int* out) {
  __shared__ int got;
  if (threadIdx.x == 0) {
    if (blockIdx.x > 0) {
      int v;
      do {
        asm volatile("ld.acquire.gpu.s32 %0, [%1];" : "=r"(v) : "l"(flags + blockIdx.x - 1) : "memory");
      } while (v == 0);
      got = v;
    } else
      got = 0;
  }
  __syncthreads();
  if (threadIdx.x == 31) {
    out[blockIdx.x] = got;
    asm volatile("st.release.gpu.s32 [%0], %1;" ::"l"(flags + blockIdx.x), "r"(got + 1) : "memory");
  }
}

// Waits for its predecessor in the reverse order: deadlocks unless resident together.
extern "C" __global__ void gridbar(unsigned* ctr, unsigned* out) {
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    atomicAdd(ctr, 1);
    while (*(volatile unsigned*)ctr < gridDim.x) {
    }
    out[blockIdx.x] = *(volatile unsigned*)ctr;
  }
}

extern "C" __global__ void pingpong(int* mine, int* peer, int me, int rounds) {
  for (int i = 1; i <= rounds; i++) {
    if (me == 0) {
      asm volatile("st.release.sys.s32 [%0], %1;" ::"l"(peer), "r"(i) : "memory");
      int v;
      do {
        asm volatile("ld.acquire.sys.s32 %0, [%1];" : "=r"(v) : "l"(mine) : "memory");
      } while (v != i);
    } else {
      int v;
      do {
        asm volatile("ld.acquire.sys.s32 %0, [%1];" : "=r"(v) : "l"(mine) : "memory");
      } while (v != i);
      asm volatile("st.release.sys.s32 [%0], %1;" ::"l"(peer), "r"(i) : "memory");
    }
  }
}

// Gives up after tmo nanoseconds of %globaltimer.
extern "C" __global__ void timeout(volatile int* flag, long long tmo, long long* out) {
  unsigned long long t0, t;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t0));
  do {
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t));
  } while (*flag == 0 && (long long)(t - t0) < tmo);
  out[0] = *flag ? -1 : (long long)(t - t0);
}

extern "C" __global__ void first(int* flag, int* out) {
  asm volatile("griddepcontrol.launch_dependents;");
  int v;
  do {
    v = *(volatile int*)flag;
  } while (v == 0);
  out[0] = 5;
}
// Starts while first still runs, and releases it; then waits for its end.
extern "C" __global__ void second(int* flag, int* out) {
  *(volatile int*)flag = 1;
  asm volatile("griddepcontrol.wait;" ::: "memory");
  out[1] = *(volatile int*)out + 1;
}

extern "C" __global__ void oob(int* p, long long i) { p[i] = 1; }
extern "C" __global__ void misalign(char* p) { *(int*)(p + 2) = 1; }
extern "C" __global__ void trapper() { __trap(); }
extern "C" __global__ void spinner(volatile int* p) {
  while (*p == 0) {
  }
}
extern "C" __global__ void halfbar(int* out) {
  if (threadIdx.x < 32) {
    while (*(volatile int*)out == 0) {
    }
  }
  __syncthreads();
}

__device__ int counter = 41;
__constant__ int table[4] = {1, 2, 3, 4};
extern "C" __global__ void vars(int* out) {
  int i = threadIdx.x;
  if (i == 0) counter++;
  __syncthreads();
  out[i] = counter + table[i & 3];
}

extern "C" __global__ void locals(const int* in, int* out, int k) {
  int a[16];
  for (int i = 0; i < 16; i++) a[i] = in[i] * (int)threadIdx.x;
  for (int i = 0; i < 16; i++) a[(i * k) & 15] += i;
  int s = 0;
  for (int i = 0; i < 16; i++) s = s * 31 + a[(i + k) & 15];
  out[threadIdx.x] = s;
}

extern "C" __global__ void reduce(const float* in, float* out, int n) {
  extern __shared__ float sh[];
  float s = 0;
  for (int i = threadIdx.x; i < n; i += blockDim.x) s += in[i];
  sh[threadIdx.x] = s;
  for (int d = blockDim.x / 2; d >= 32; d >>= 1) {
    __syncthreads();
    if (threadIdx.x < d) sh[threadIdx.x] += sh[threadIdx.x + d];
  }
  __syncthreads();
  if (threadIdx.x < 32) {
    float v = sh[threadIdx.x];
    for (int d = 16; d; d >>= 1) v += __shfl_down_sync(~0u, v, d);
    if (threadIdx.x == 0) out[0] = v;
  }
}

// A loop of arithmetic, for the benchmark.
extern "C" __global__ void alu(uint32_t* out, int n) {
  uint32_t x = threadIdx.x, y = blockIdx.x + 1, z = 3;
#pragma unroll 1
  for (int i = 0; i < n; i++) {
    x = x * y + z;
    z = (z ^ x) + (y << 3);
    y = y + (x >> 5);
  }
  out[blockIdx.x * blockDim.x + threadIdx.x] = x + y + z;
}
extern "C" __global__ void copy16(const uint4* in, uint4* out, int n) {
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) out[i] = in[i];
}
