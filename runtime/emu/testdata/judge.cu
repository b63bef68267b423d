// Kernels, right and wrong, for the tests of the modes Check and Explore.
#include <cstdint>

#define KERNEL extern "C" __global__ void __launch_bounds__(64)

__device__ __forceinline__ void store_release(uint32_t* p, uint32_t v) {
  asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}
__device__ __forceinline__ void store_release_gpu(uint32_t* p, uint32_t v) {
  asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}
__device__ __forceinline__ void store_relaxed(uint32_t* p, uint32_t v) {
  asm volatile("st.relaxed.sys.global.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}
__device__ __forceinline__ uint32_t load_acquire(const uint32_t* p) {
  uint32_t v;
  asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
  return v;
}
__device__ __forceinline__ uint32_t load_relaxed(const uint32_t* p) {
  uint32_t v;
  asm volatile("ld.relaxed.sys.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
  return v;
}
__device__ __forceinline__ uint64_t now() {
  uint64_t t;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t));
  return t;
}
__device__ __forceinline__ void multimem_store(uint32_t* p, uint32_t v) {
  asm volatile("multimem.st.weak.global.b32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}
__device__ __forceinline__ void alias_fence() { asm volatile("fence.proxy.alias;" ::: "memory"); }

// ---- Message passing: 64 words of data, then a flag ---------------------------

KERNEL send_right(uint32_t* data, uint32_t* flag) {
  data[threadIdx.x] = threadIdx.x + 1;
  __syncthreads();
  if (threadIdx.x == 0) store_release(flag, 1);
}
KERNEL send_relaxed(uint32_t* data, uint32_t* flag) {
  data[threadIdx.x] = threadIdx.x + 1;
  __syncthreads();
  if (threadIdx.x == 0) store_relaxed(flag, 1);
}
KERNEL send_gpu_scope(uint32_t* data, uint32_t* flag) {
  data[threadIdx.x] = threadIdx.x + 1;
  __syncthreads();
  if (threadIdx.x == 0) store_release_gpu(flag, 1);
}
KERNEL send_no_barrier(uint32_t* data, uint32_t* flag) {
  data[threadIdx.x] = threadIdx.x + 1;
  if (threadIdx.x == 0) store_release(flag, 1);
}
KERNEL send_fence(uint32_t* data, uint32_t* flag) {
  data[threadIdx.x] = threadIdx.x + 1;
  __syncthreads();
  __threadfence_system();
  if (threadIdx.x == 0) store_relaxed(flag, 1);
}
KERNEL receive(const uint32_t* data, uint32_t* flag, uint32_t* out) {
  if (threadIdx.x == 0) {
    while (load_acquire(flag) != 1) {
    }
  }
  __syncthreads();
  out[threadIdx.x] = data[threadIdx.x];
}

// ---- The same through a multicast address ---------------------------------------

KERNEL send_multicast(uint32_t* multicast, uint32_t* flag) {
  multimem_store(multicast + threadIdx.x, threadIdx.x + 1);
  __syncthreads();
  if (threadIdx.x == 0) {
    alias_fence();
    store_release(flag, 1);
  }
}
KERNEL send_no_alias_fence(uint32_t* multicast, uint32_t* flag) {
  multimem_store(multicast + threadIdx.x, threadIdx.x + 1);
  __syncthreads();
  if (threadIdx.x == 0) store_release(flag, 1);
}
KERNEL send_plain_store(uint32_t* multicast, uint32_t* flag) {
  multicast[threadIdx.x] = threadIdx.x + 1;
  __syncthreads();
  if (threadIdx.x == 0) store_release(flag, 1);
}
KERNEL send_multimem_on_unicast(uint32_t* data, uint32_t* flag) {
  multimem_store(data + threadIdx.x, threadIdx.x + 1);
  __syncthreads();
  if (threadIdx.x == 0) store_release(flag, 1);
}

// ---- Reuse of a buffer: three epochs, with and without an answer -------------------

KERNEL produce(uint32_t* data, uint32_t* flag, uint32_t* answer) {
  for (uint32_t e = 1; e <= 3; ++e) {
    if (answer != nullptr && threadIdx.x == 0) {
      while (load_acquire(answer) != e - 1) {
      }
    }
    __syncthreads();
    data[threadIdx.x] = 100 * e + threadIdx.x;
    __syncthreads();
    if (threadIdx.x == 0) store_release(flag, e);
  }
}
KERNEL consume(const uint32_t* data, uint32_t* flag, uint32_t* answer, uint32_t* out) {
  for (uint32_t e = 1; e <= 3; ++e) {
    if (threadIdx.x == 0) {
      while (int32_t(load_acquire(flag) - e) < 0) {
      }
    }
    __syncthreads();
    out[64 * e + threadIdx.x] = data[threadIdx.x];
    __syncthreads();
    if (answer != nullptr && threadIdx.x == 0) store_release(answer, e);
  }
}

// ---- Waits -------------------------------------------------------------------------

KERNEL wait_for(uint32_t* flag, uint32_t value, uint32_t* then) {
  if (threadIdx.x == 0) {
    while (load_acquire(flag) != value) {
    }
    store_release(then, value);
  }
}
KERNEL wait_deadline(uint32_t* flag, uint32_t value, uint64_t timeout, uint32_t* out) {
  if (threadIdx.x == 0) {
    const uint64_t start = now();
    uint32_t late = 0;
    while (load_acquire(flag) != value) {
      if (now() - start > timeout) {
        late = 1;
        break;
      }
    }
    *out = late;
  }
}
KERNEL delay(uint64_t ns, uint32_t* flag) {
  if (threadIdx.x == 0) {
    const uint64_t end = now() + ns;
    while (now() < end) {
    }
    store_release(flag, 1);
  }
}
KERNEL spin_forever(uint32_t* p) {
  while (atomicAdd(p, 1) != 0xffffffff) {
  }
}

// ---- Other faults ----------------------------------------------------------------------

KERNEL uninitialised(const uint32_t* p, uint32_t* out) { out[threadIdx.x] = p[threadIdx.x]; }
KERNEL read_only(const uint32_t* __restrict__ p, uint32_t* flag, uint32_t* __restrict__ out) {
  out[threadIdx.x] = __ldg(p + threadIdx.x);
}
KERNEL shared_race(uint32_t* out) {
  __shared__ uint32_t s[64];
  s[threadIdx.x] = threadIdx.x;
  out[threadIdx.x] = s[63 - threadIdx.x];
}
KERNEL shared_right(uint32_t* out) {
  __shared__ uint32_t s[64];
  s[threadIdx.x] = threadIdx.x;
  __syncthreads();
  uint32_t v = s[63 - threadIdx.x];
  v += __shfl_xor_sync(0xffffffff, v, 1);
  out[threadIdx.x] = v;
}
KERNEL divergent(uint32_t* out) {
  if (threadIdx.x % 2 == 0) {
    asm volatile("bar.sync 0;" ::: "memory");
    out[threadIdx.x] = 1;
  } else {
    asm volatile("bar.sync 0;" ::: "memory");
    out[threadIdx.x] = 2;
  }
}
KERNEL misaligned(char* p) { *reinterpret_cast<uint32_t*>(p + 1) = 7; }

// Relaxed data and a relaxed flag: no data race, and no order either.
KERNEL relaxed_send(uint32_t* data, uint32_t* flag) {
  if (threadIdx.x == 0) {
    store_relaxed(data, 7);
    store_relaxed(flag, 1);
  }
}
KERNEL relaxed_receive(uint32_t* data, uint32_t* flag, uint32_t* out) {
  if (threadIdx.x == 0) {
    while (load_relaxed(flag) != 1) {
    }
    *out = load_relaxed(data);
  }
}

// ---- Asynchronous copies ----------------------------------------------------------------

template <bool kWait>
__device__ void copy(const uint4* in, uint4* out) {
  __shared__ uint4 s[64];
  const uint32_t to = uint32_t(__cvta_generic_to_shared(s + threadIdx.x));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(in + threadIdx.x) : "memory");
  asm volatile("cp.async.commit_group;" ::: "memory");
  if (kWait) asm volatile("cp.async.wait_group 0;" ::: "memory");
  __syncthreads();
  out[threadIdx.x] = s[63 - threadIdx.x];
  asm volatile("cp.async.wait_all;" ::: "memory");
}
KERNEL copy_right(const uint4* in, uint4* out) { copy<true>(in, out); }
KERNEL copy_no_wait(const uint4* in, uint4* out) { copy<false>(in, out); }

template <bool kWait>
__device__ void bulk(const uint4* in, uint4* out) {
  __shared__ alignas(128) uint4 s[64];
  __shared__ uint64_t bar;
  const uint32_t b = uint32_t(__cvta_generic_to_shared(&bar));
  const uint32_t to = uint32_t(__cvta_generic_to_shared(s));
  if (threadIdx.x == 0) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(b) : "memory");
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], 1024;" ::"r"(b) : "memory");
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], 1024, [%2];" ::"r"(to),
                 "l"(in), "r"(b)
                 : "memory");
  }
  if (kWait) {
    uint32_t done = 0;
    while (!done) {
      asm volatile("{.reg .pred p;\n mbarrier.try_wait.parity.shared::cta.b64 p, [%1], 0;\n selp.b32 %0, 1, 0, p;}"
                   : "=r"(done)
                   : "r"(b)
                   : "memory");
    }
  }
  out[threadIdx.x] = s[63 - threadIdx.x];
}
KERNEL bulk_right(const uint4* in, uint4* out) { bulk<true>(in, out); }
KERNEL bulk_no_wait(const uint4* in, uint4* out) { bulk<false>(in, out); }

// ---- Programmatic dependent launch ---------------------------------------------------------

KERNEL first(uint32_t* data) {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
  data[threadIdx.x] = threadIdx.x;
}
KERNEL second_waits(const uint32_t* data, uint32_t* out) {
  asm volatile("griddepcontrol.wait;" ::: "memory");
  out[threadIdx.x] = *reinterpret_cast<const volatile uint32_t*>(data + threadIdx.x);
}
KERNEL second_does_not(const uint32_t* data, uint32_t* out) {
  out[threadIdx.x] = *reinterpret_cast<const volatile uint32_t*>(data + threadIdx.x);
}
