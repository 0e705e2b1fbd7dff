// SPDX-License-Identifier: Apache-2.0
// Sixteen f32 lanes: the part of the description V of tile-inl.h that f32 and bf16 words share, and
// f32 words. The maskz forms silence GCC 12's false "uninitialised" in the plain ones.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace moesmith::kernels::cpu {
namespace {

struct Avx512Base {
  using Vec = __m512;
  static constexpr int kLanes = 16, kVecs = 4, kDotCols = 4;

  static __mmask16 first(std::int64_t n) {
    return static_cast<__mmask16>((std::uint32_t{1} << n) - 1);
  }
  static Vec zero() { return _mm512_setzero_ps(); }
  static Vec broadcast(float x) { return _mm512_set1_ps(x); }
  static Vec load(const float* p) { return _mm512_loadu_ps(p); }
  static Vec load_n(const float* p, std::int64_t n) { return _mm512_maskz_loadu_ps(first(n), p); }
  static void store(float* p, Vec v) { _mm512_storeu_ps(p, v); }
  static void store_n(float* p, Vec v, std::int64_t n) { _mm512_mask_storeu_ps(p, first(n), v); }
  static Vec widen16(__m256i v) {
    return _mm512_castsi512_ps(
        _mm512_maskz_slli_epi32(0xffff, _mm512_maskz_cvtepu16_epi32(0xffff, v), 16));
  }
  static __m256i load16_n(const std::uint16_t* p, std::int64_t n) {
    return _mm256_maskz_loadu_epi16(first(n), p);
  }
  static __m256i load16(const std::uint16_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  static Vec load_bf16(const std::uint16_t* p) { return widen16(load16(p)); }
  static Vec load_bf16_n(const std::uint16_t* p, std::int64_t n) { return widen16(load16_n(p, n)); }
  // Rounds to nearest even like bf16(float).
  static __m256i narrow(Vec v) {
    const __m512i bits = _mm512_castps_si512(v);
    const __m512i odd =
        _mm512_and_si512(_mm512_maskz_srli_epi32(0xffff, bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    rounded = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
    return _mm512_maskz_cvtepi32_epi16(0xffff, _mm512_maskz_srli_epi32(0xffff, rounded, 16));
  }
  static Vec add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
  static Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
  static float sum(Vec v) {
    const __m256 eight = _mm256_add_ps(_mm512_maskz_extractf32x8_ps(0xff, v, 0),
                                       _mm512_maskz_extractf32x8_ps(0xff, v, 1));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
  }

  // 16 x 16 words: pairs, then quads within each 128-bit lane, then the lanes themselves.
  static inline __attribute__((always_inline)) void transpose_words(__m512i (&w)[16]) {
    __m512i t[16];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      t[2 * i] = _mm512_maskz_unpacklo_epi32(0xffff, w[2 * i], w[2 * i + 1]);
      t[2 * i + 1] = _mm512_maskz_unpackhi_epi32(0xffff, w[2 * i], w[2 * i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      w[4 * i] = _mm512_maskz_unpacklo_epi64(0xff, t[4 * i], t[4 * i + 2]);
      w[4 * i + 1] = _mm512_maskz_unpackhi_epi64(0xff, t[4 * i], t[4 * i + 2]);
      w[4 * i + 2] = _mm512_maskz_unpacklo_epi64(0xff, t[4 * i + 1], t[4 * i + 3]);
      w[4 * i + 3] = _mm512_maskz_unpackhi_epi64(0xff, t[4 * i + 1], t[4 * i + 3]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      t[i] = _mm512_maskz_shuffle_i32x4(0xffff, w[i], w[4 + i], 0x88);
      t[4 + i] = _mm512_maskz_shuffle_i32x4(0xffff, w[i], w[4 + i], 0xdd);
      t[8 + i] = _mm512_maskz_shuffle_i32x4(0xffff, w[8 + i], w[12 + i], 0x88);
      t[12 + i] = _mm512_maskz_shuffle_i32x4(0xffff, w[8 + i], w[12 + i], 0xdd);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      w[i] = _mm512_maskz_shuffle_i32x4(0xffff, t[i], t[8 + i], 0x88);
      w[8 + i] = _mm512_maskz_shuffle_i32x4(0xffff, t[i], t[8 + i], 0xdd);
      w[4 + i] = _mm512_maskz_shuffle_i32x4(0xffff, t[4 + i], t[12 + i], 0x88);
      w[12 + i] = _mm512_maskz_shuffle_i32x4(0xffff, t[4 + i], t[12 + i], 0xdd);
    }
  }
};

}  // namespace
}  // namespace moesmith::kernels::cpu
