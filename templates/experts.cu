// Demonstration experts for `moegen run` and `moegen bench`: an expert e
// multiplies a token by scale(e), so that the result of a whole layer is known
// and cheap to compute on the host. Each rank adds up, for every gathered
// token, what its own experts contribute.
//
//   grid     any; a block takes rows blockIdx.x, blockIdx.x + gridDim.x, ...
//   reads    step[0] = number of gathered rows G; hidden [G][hidden_dim];
//            routing [G][topk]; probs [G][topk]; 16-byte aligned rows of hidden
//   writes   partial [G][hidden_dim]: sum over k with first <= routing[t][k] <
//            first + experts of probs[t][k] * scale(routing[t][k]) * hidden[t]
//   rounding the sum of coefficients and the product in fp32, then once to the
//            partial sums' type

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

// Between -1.5 and 1.5 in steps of 1/8: exact in every type, and neighbours differ.
__device__ __forceinline__ float expert_scale(long long expert) {
  return static_cast<float>(static_cast<int>(expert * 7 % 25) - 12) * 0.125f;
}

__device__ __forceinline__ long long load_expert(const void* routing, long long i, int bytes) {
  if (bytes == 2) return static_cast<const int16_t*>(routing)[i];
  if (bytes == 4) return static_cast<const int32_t*>(routing)[i];
  return static_cast<const int64_t*>(routing)[i];
}

__device__ __forceinline__ float load_prob(const void* probs, long long i, int bytes) {
  if (bytes == 2) return __bfloat162float(static_cast<const __nv_bfloat16*>(probs)[i]);
  return static_cast<const float*>(probs)[i];
}

__device__ __forceinline__ float to_float(float v) { return v; }
__device__ __forceinline__ float to_float(__half v) { return __half2float(v); }
__device__ __forceinline__ float to_float(__nv_bfloat16 v) { return __bfloat162float(v); }

__device__ __forceinline__ void from_float(float& to, float v) { to = v; }
__device__ __forceinline__ void from_float(__half& to, float v) { to = __float2half_rn(v); }
__device__ __forceinline__ void from_float(__nv_bfloat16& to, float v) { to = __float2bfloat16_rn(v); }

template <typename Hidden, typename Partial>
__device__ __forceinline__ void experts(const uint32_t* step, const Hidden* hidden, const void* routing,
                                        const void* probs, Partial* partial, int hidden_dim, int topk,
                                        int routing_bytes, int probs_bytes, int first, int experts) {
  struct alignas(4 * sizeof(Hidden)) Quad {
    Hidden e[4];
  };
  struct alignas(4 * sizeof(Partial)) PartialQuad {
    Partial e[4];
  };
  const uint32_t rows = *step;
  for (uint32_t row = blockIdx.x; row < rows; row += gridDim.x) {
    float weight = 0.0f;
    for (int k = 0; k < topk; ++k) {
      const long long i = static_cast<long long>(row) * topk + k;
      const long long expert = load_expert(routing, i, routing_bytes);
      if (expert >= first && expert < first + experts)
        weight += load_prob(probs, i, probs_bytes) * expert_scale(expert);
    }
    const Quad* const from = reinterpret_cast<const Quad*>(hidden + static_cast<size_t>(row) * hidden_dim);
    PartialQuad* const to = reinterpret_cast<PartialQuad*>(partial + static_cast<size_t>(row) * hidden_dim);
    for (int q = threadIdx.x; q < hidden_dim / 4; q += blockDim.x) {
      const Quad in = from[q];
      PartialQuad out;
#pragma unroll
      for (int e = 0; e < 4; ++e) from_float(out.e[e], weight * to_float(in.e[e]));
      to[q] = out;
    }
  }
}

#define MOEGEN_EXPERTS(name, Hidden, Partial)                                                                    \
  extern "C" __global__ void __launch_bounds__(256)                                                              \
      name(const uint32_t* step, const Hidden* hidden, const void* routing, const void* probs, Partial* partial, \
           int hidden_dim, int topk, int routing_bytes, int probs_bytes, int first, int count) {                 \
    experts(step, hidden, routing, probs, partial, hidden_dim, topk, routing_bytes, probs_bytes, first, count);  \
  }

MOEGEN_EXPERTS(moegen_experts_bf16_bf16, __nv_bfloat16, __nv_bfloat16)
MOEGEN_EXPERTS(moegen_experts_bf16_fp32, __nv_bfloat16, float)
MOEGEN_EXPERTS(moegen_experts_fp16_fp16, __half, __half)
MOEGEN_EXPERTS(moegen_experts_fp16_fp32, __half, float)
MOEGEN_EXPERTS(moegen_experts_fp32_fp32, float, float)
