// SPDX-License-Identifier: Apache-2.0
// Vectors of f32 as wide as a register of the instruction set that the including file is compiled
// for, and what rows and activations do with them. GCC's vector extension; wider vectors are taken
// apart into single elements where they are compared or converted. Everything is inlined and of the
// including file alone: a copy compiled for AVX-512 must not serve another.
#pragma once

#include <cstdint>
#include <cstring>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "moesmith/dtype.h"

#pragma GCC diagnostic ignored "-Wpsabi"  // no vector crosses a call: all of these are inlined

#define MOESMITH_INLINE inline __attribute__((always_inline))

namespace moesmith::kernels::vectors {
namespace {

#if defined(__AVX512F__)
constexpr std::int64_t kLanes = 16;
#elif defined(__AVX2__)
constexpr std::int64_t kLanes = 8;
#else
constexpr std::int64_t kLanes = 4;
#endif
typedef float V __attribute__((vector_size(kLanes * 4)));
typedef std::int32_t VI __attribute__((vector_size(kLanes * 4)));
typedef std::uint32_t VU __attribute__((vector_size(kLanes * 4)));
typedef std::uint16_t VH __attribute__((vector_size(kLanes * 2)));

MOESMITH_INLINE V splat(float x) { return V{} + x; }

MOESMITH_INLINE V load(const float* p) {
  V v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
MOESMITH_INLINE void store(float* p, const V& v) { std::memcpy(p, &v, sizeof v); }

MOESMITH_INLINE V load(const bf16* p) {
  VH h;
  std::memcpy(&h, p, sizeof h);
  return (V)(__builtin_convertvector(h, VU) << 16);
}
// Rounds to nearest even, as bf16's constructor; a NaN stays one.
#if defined(__AVX512BF16__)
// One instruction instead of nine. It makes 0 of a value below 2^-126.
MOESMITH_INLINE VH rounded(const V& v) { return (VH)_mm512_cvtneps_pbh((__m512)v); }
#elif defined(__AVX2__) && !defined(__AVX512F__)
MOESMITH_INLINE VH rounded(const V& v) {
  const __m256i u = (__m256i)v, quiet = _mm256_or_si256(u, _mm256_set1_epi32(0x400000));
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
  const __m256i nearest = _mm256_add_epi32(_mm256_add_epi32(u, odd), _mm256_set1_epi32(0x7fff));
  const __m256i nan = (__m256i)_mm256_cmp_ps((__m256)v, (__m256)v, _CMP_UNORD_Q);
  const __m256i high = _mm256_srli_epi32(_mm256_blendv_epi8(nearest, quiet, nan), 16);
  return (VH)_mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
}
#else
MOESMITH_INLINE VH rounded(const V& v) {
  const VU u = (VU)v;
  const VU nearest = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  const VU nan = (u >> 16) | 0x40u;
  const VU is_nan = (VU)((VI)(u & 0x7fffffffu) > 0x7f800000);
  return __builtin_convertvector((nearest & ~is_nan) | (nan & is_nan), VH);
}
#endif
MOESMITH_INLINE void store(bf16* p, const V& v) {
  const VH h = rounded(v);
  std::memcpy(p, &h, sizeof h);
}

// Cephes' polynomial for exp(r), |r| <= ln2/2, under 2 ulp.
MOESMITH_INLINE V exp_remainder(const V& r) {
  V p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  return p * (r * r) + r + 1.0f;
}

// exp by 2^k * p(r).
#if defined(__AVX512F__)
// vscalefps makes 0 and infinity of what lies beyond; half the instructions of the other. The
// lower bound keeps -inf - -inf away, and passes a NaN. The maskz forms silence GCC 12's false
// "uninitialised" in the plain ones.
MOESMITH_INLINE V exp(const V& value_at) {
  constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  const V x = (V)_mm512_maskz_max_ps(0xffff, (__m512)splat(-110.0f), (__m512)value_at);
  const V k = (V)_mm512_maskz_roundscale_ps(0xffff, (__m512)(x * 1.44269504088896341f), kNearest);
  const V r = (x - k * 0.693359375f) + k * 2.12194440e-4f;
  return (V)_mm512_maskz_scalef_ps(0xffff, (__m512)exp_remainder(r), (__m512)k);
}
#else
// 0 below -87.3.
MOESMITH_INLINE V exp(const V& value_at) {
  V x = value_at;
  const VI underflow = x < -87.3f;
  x = x > splat(88.3f) ? splat(88.3f) : x;
  x = underflow ? splat(-87.3f) : x;
  const V shifter = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const V k = (x * 1.44269504088896341f + shifter) - shifter;
  const V r = (x - k * 0.693359375f) + k * 2.12194440e-4f;
  const VI scale = (__builtin_convertvector(k, VI) + 127) << 23;
  const V value = exp_remainder(r) * (V)scale;
  return underflow ? V{} : value;
}
#endif

MOESMITH_INLINE V sigmoid(const V& x) { return 1.0f / (1.0f + exp(-x)); }

}  // namespace
}  // namespace moesmith::kernels::vectors
