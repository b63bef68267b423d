// ---- Quantisation to fp8 -----------------------------------------------------
//
// e4m3 with one fp32 scale for every 128 elements of a row: element = q * scale.
// The scale maps the block's largest magnitude to 448, the largest number of
// e4m3. Every operation rounds to nearest, so that the bits are the same on
// every GPU.

// Quantises a block of 128 elements that 16 neighbouring lanes hold, 8
// consecutive ones each, lane 16 n first. Those 16 lanes call it together. All
// get the scale; each gets its own 8 elements.
//
// A NaN stays one and does not count for the scale. An infinity becomes 448, and
// the numbers beside it 0.
__device__ __forceinline__ uint2 quantize_block(const float (&x)[8], float* scale) {
  float amax = 0.0f;
#pragma unroll
  for (int i = 0; i < 8; ++i) amax = fmaxf(amax, fabsf(x[i]));
  const uint32_t lanes = 0xffffu << (threadIdx.x & 16);
#pragma unroll
  for (int other = 8; other > 0; other /= 2) amax = fmaxf(amax, __shfl_xor_sync(lanes, amax, other));
  // Not 0, which a block of zeros would divide by, and not infinity.
  amax = fminf(fmaxf(amax, 1e-4f), 3.402823466e+38f);
  *scale = __fdiv_rn(amax, 448.0f);
  const float factor = __fdiv_rn(448.0f, amax);
  uint32_t q[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    uint16_t pair;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;"
        : "=h"(pair)
        : "f"(__fmul_rn(x[2 * i + 1], factor)), "f"(__fmul_rn(x[2 * i], factor)));
    q[i] = pair;
  }
  return make_uint2(q[0] | q[1] << 16, q[2] | q[3] << 16);
}
