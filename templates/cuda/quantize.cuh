// ---- Quantisation to fp8 -----------------------------------------------------
//
// e4m3 with one fp32 scale for every 128 elements of a row: element = q * scale.
// The scale maps the block's largest magnitude to 448, the largest number of
// e4m3. Every operation rounds to nearest, so that the bits are the same on
// every GPU.

// Two numbers times factor, the first one in the low byte.
__device__ __forceinline__ uint32_t e4m3x2(float low, float high, float factor) {
  uint16_t pair;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;"
      : "=h"(pair)
      : "f"(__fmul_rn(high, factor)), "f"(__fmul_rn(low, factor)));
  return pair;
}

// amax / 448 and 448 / amax, rounded as a division is, for amax from 1e-4 to the
// largest number: an approximation, and a step by its remainder, which is exact. A
// division of any two numbers would branch for those that are none of these.
__device__ __forceinline__ float over_448(float amax) {
  constexpr float kInverse = 1.0f / 448.0f;
  const float q = __fmul_rn(amax, kInverse);
  return __fmaf_rn(__fmaf_rn(-448.0f, q, amax), kInverse, q);
}
__device__ __forceinline__ float over_amax(float amax) {
  // Its power of two is set aside: the reciprocal of the largest number is
  // subnormal.
  const uint32_t power = (__float_as_uint(amax) & 0x7f800000u) - 0x3f800000u;
  const float x = __uint_as_float(__float_as_uint(amax) - power);  // 1 <= x < 2
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  y = __fmaf_rn(__fmaf_rn(-x, y, 1.0f), y, y);
  const float q = __fmul_rn(448.0f, y);
  return __uint_as_float(__float_as_uint(__fmaf_rn(__fmaf_rn(-x, q, 448.0f), y, q)) - power);
}

// Quantises a block of 128 elements that 128 / kEach neighbouring lanes hold,
// kEach consecutive ones each. Those lanes, from a multiple of their number on,
// call it together, or the whole warp does: a shuffle of lanes that differ from
// thread to thread costs more. All get the scale; each gets its own elements, four
// in a word.
//
// A NaN stays one and does not count for the scale. An infinity becomes 448, and
// the numbers beside it 0.
template <int kEach>
__device__ __forceinline__ void quantize_block(const float (&x)[kEach], uint32_t (&q)[kEach / 4], float* scale,
                                               bool whole_warp = false) {
  constexpr int kLanes = 128 / kEach;
  float amax = 0.0f;
#pragma unroll
  for (int i = 0; i < kEach; ++i) amax = fmaxf(amax, fabsf(x[i]));
  const uint32_t lanes = whole_warp ? 0xffffffffu : ((1u << kLanes) - 1) << (threadIdx.x & (32 - kLanes));
#pragma unroll
  for (int other = kLanes / 2; other > 0; other /= 2) amax = fmaxf(amax, __shfl_xor_sync(lanes, amax, other));
  // Not 0, which a block of zeros would divide by, and not infinity.
  amax = fminf(fmaxf(amax, 1e-4f), 3.402823466e+38f);
  *scale = over_448(amax);
  const float factor = over_amax(amax);
#pragma unroll
  for (int i = 0; i < kEach / 4; ++i) {
    q[i] = e4m3x2(x[4 * i], x[4 * i + 1], factor) | e4m3x2(x[4 * i + 2], x[4 * i + 3], factor) << 16;
  }
}
