// Demonstration experts for `moegen run` and `moegen bench`: an expert e
// multiplies a token by scale(e), so that the result of a whole layer is known
// and cheap to compute on the host. Each rank adds up, for every gathered
// token, what its own experts contribute.
//
//   grid     any; a block takes rows blockIdx.x, blockIdx.x + gridDim.x, ...
//   reads    step[0] = number of gathered rows G; hidden [G][hidden_dim], with
//            scales [G][hidden_dim / scale_block] if it is quantised; routing
//            [G][topk]; probs [G][topk]; 16-byte aligned rows of hidden
//   writes   partial [G][hidden_dim]: sum over k with first <= routing[t][k] <
//            first + experts of probs[t][k] * scale(routing[t][k]) * hidden[t];
//            rows without such a k hold zeros
//   rounding the sum of coefficients and both products in fp32, then once to
//            the partial sums' type
//
// Compiled beside a model's C header, the shape is constant; compiled without
// one, for all models, it comes with the launch.

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <cstdint>

#include "moe_moegen.h"

struct Shape {
  int hidden_dim, topk, routing_bits, probs_bits;
  int scale_bits, scale_block;  // of quantised tokens: 32 is fp32, 8 e4m3, 0 ue8m0
  int first, experts;           // of this rank
};

#ifndef MOE_HIDDEN_DIM
#define MOE_HIDDEN_DIM shape.hidden_dim
#define MOE_TOPK shape.topk
#define MOE_ROUTING_BITS shape.routing_bits
#define MOE_PROBS_BITS shape.probs_bits
#define MOE_SCALE_BLOCK shape.scale_block
#endif

// Between -1.5 and 1.5 in steps of 1/8: exact in every type, and neighbours differ.
__device__ __forceinline__ float expert_scale(long long expert) {
  return static_cast<float>(static_cast<int>(expert * 7 % 25) - 12) * 0.125f;
}

__device__ __forceinline__ long long load_expert(const void* routing, long long i, int bits) {
  if (bits == 16) return static_cast<const int16_t*>(routing)[i];
  if (bits == 32) return static_cast<const int32_t*>(routing)[i];
  return static_cast<const int64_t*>(routing)[i];
}

__device__ __forceinline__ float load_prob(const void* probs, long long i, int bits) {
  if (bits == 16) return __bfloat162float(static_cast<const __nv_bfloat16*>(probs)[i]);
  return static_cast<const float*>(probs)[i];
}

// Four consecutive elements in memory.
template <typename T>
struct alignas(4 * sizeof(T)) Quad {
  T e[4];
};
struct Fp8 {};  // e4m3
struct Fp4 {};  // e2m1, two in a byte, the even one in its low half
template <>
struct Quad<Fp8> {
  uint32_t bits;
};
template <>
struct Quad<Fp4> {
  uint16_t bits;
};

__device__ __forceinline__ float to_float(float v) { return v; }
__device__ __forceinline__ float to_float(__half v) { return __half2float(v); }
__device__ __forceinline__ float to_float(__nv_bfloat16 v) { return __bfloat162float(v); }

template <typename T>
__device__ __forceinline__ float get(const Quad<T>& q, int e) {
  return to_float(q.e[e]);
}
__device__ __forceinline__ float get(const Quad<Fp8>& q, int e) {
  __nv_fp8_e4m3 v;
  v.__x = static_cast<__nv_fp8_storage_t>(q.bits >> (8 * e));
  return static_cast<float>(v);
}
__device__ __forceinline__ float get(const Quad<Fp4>& q, int e) {
  const uint32_t v = q.bits >> (4 * e);
  // 0, 0.5, 1, 1.5, 2, 3, 4, 6 in halves, four bits each.
  const float magnitude = static_cast<float>(0xc8643210u >> (4 * (v & 7)) & 15) * 0.5f;
  return v & 8 ? -magnitude : magnitude;
}

__device__ __forceinline__ void from_float(float& to, float v) { to = v; }
__device__ __forceinline__ void from_float(__half& to, float v) { to = __float2half_rn(v); }
__device__ __forceinline__ void from_float(__nv_bfloat16& to, float v) { to = __float2bfloat16_rn(v); }

// The factor of a quantised token's elements.
__device__ __forceinline__ float load_scale(const void* scales, size_t i, const Shape& shape) {
  if (shape.scale_bits == 32) return static_cast<const float*>(scales)[i];
  const uint8_t byte = static_cast<const uint8_t*>(scales)[i];
  if (shape.scale_bits == 0) return __uint_as_float(uint32_t(byte) << 23);  // ue8m0 of a normal number
  __nv_fp8_e4m3 v;
  v.__x = byte;
  return static_cast<float>(v);
}

template <typename Hidden, typename Partial>
__device__ __forceinline__ void experts(const uint32_t* step, const Quad<Hidden>* hidden, const void* scales,
                                        const void* routing, const void* probs, Quad<Partial>* partial,
                                        const Shape& shape) {
  const uint32_t rows = *step;
  for (uint32_t row = blockIdx.x; row < rows; row += gridDim.x) {
    float weight = 0.0f;
    for (int k = 0; k < MOE_TOPK; ++k) {
      const long long i = static_cast<long long>(row) * MOE_TOPK + k;
      const long long expert = load_expert(routing, i, MOE_ROUTING_BITS);
      if (expert >= shape.first && expert < shape.first + shape.experts)
        weight += load_prob(probs, i, MOE_PROBS_BITS) * expert_scale(expert);
    }
    for (int q = threadIdx.x; q < MOE_HIDDEN_DIM / 4; q += blockDim.x) {
      const size_t at = static_cast<size_t>(row) * (MOE_HIDDEN_DIM / 4) + q;
      Quad<Partial> out = {};
      if (weight != 0.0f) {  // else the row may hold anything
        const Quad<Hidden> in = hidden[at];
        const float scale = scales == nullptr ? 1.0f : load_scale(scales, 4 * at / max(MOE_SCALE_BLOCK, 1), shape);
#pragma unroll
        for (int e = 0; e < 4; ++e) from_float(out.e[e], weight * (get(in, e) * scale));
      }
      partial[at] = out;
    }
  }
}

#define MOEGEN_EXPERTS(name, Hidden, Partial)                                                         \
  extern "C" __global__ void __launch_bounds__(256)                                                   \
      name(const uint32_t* step, const Quad<Hidden>* hidden, const void* scales, const void* routing, \
           const void* probs, Quad<Partial>* partial, const __grid_constant__ Shape shape) {          \
    experts(step, hidden, scales, routing, probs, partial, shape);                                    \
  }

MOEGEN_EXPERTS(moegen_experts_bf16_bf16, __nv_bfloat16, __nv_bfloat16)
MOEGEN_EXPERTS(moegen_experts_bf16_fp32, __nv_bfloat16, float)
MOEGEN_EXPERTS(moegen_experts_fp16_fp16, __half, __half)
MOEGEN_EXPERTS(moegen_experts_fp16_fp32, __half, float)
MOEGEN_EXPERTS(moegen_experts_fp32_fp32, float, float)
MOEGEN_EXPERTS(moegen_experts_fp8_e4m3_bf16, Fp8, __nv_bfloat16)
MOEGEN_EXPERTS(moegen_experts_fp8_e4m3_fp16, Fp8, __half)
MOEGEN_EXPERTS(moegen_experts_fp8_e4m3_fp32, Fp8, float)
MOEGEN_EXPERTS(moegen_experts_fp4_e2m1_bf16, Fp4, __nv_bfloat16)
MOEGEN_EXPERTS(moegen_experts_fp4_e2m1_fp16, Fp4, __half)
MOEGEN_EXPERTS(moegen_experts_fp4_e2m1_fp32, Fp4, float)
