// SPDX-License-Identifier: Apache-2.0
// f32 words, 6 x 16 tile: 12 sums, 2 columns and a row's word of the 16 registers.
#include <immintrin.h>

#include <cstdint>

#include "kernels/common/cpu/dot-inl.h"
#include "kernels/common/cpu/tile-inl.h"

namespace moesmith::kernels::cpu::avx2 {
namespace {

struct V {
  using Vec = __m256;
  using Word = __m256;
  static constexpr int kLanes = 8, kUnit = 1, kVecs = 2, kDotCols = 2;

  // All bits set in the first n lanes.
  static __m256i first(std::int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static Vec zero() { return _mm256_setzero_ps(); }
  static Vec broadcast(float x) { return _mm256_set1_ps(x); }
  static Vec load(const float* p) { return _mm256_loadu_ps(p); }
  static Vec load_n(const float* p, std::int64_t n) { return _mm256_maskload_ps(p, first(n)); }
  static void store(float* p, Vec v) { _mm256_storeu_ps(p, v); }
  static void store_n(float* p, Vec v, std::int64_t n) { _mm256_maskstore_ps(p, first(n), v); }
  static Vec widen8(__m128i v) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(v), 16));
  }
  static Vec load_bf16(const std::uint16_t* p) {
    return widen8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static Vec load_bf16_n(const std::uint16_t* p, std::int64_t n) {
    std::uint16_t part[8] = {};
    for (std::int64_t i = 0; i < n; ++i) part[i] = p[i];
    return load_bf16(part);
  }
  // Rounds to nearest even like bf16(float).
  static __m128i narrow(Vec v) {
    const __m256i bits = _mm256_castps_si256(v);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded =
        _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    const __m256i upper = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(upper), _mm256_extracti128_si256(upper, 1));
  }
  static void store_bf16(std::uint16_t* p, Vec v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow(v));
  }
  static void store_bf16_n(std::uint16_t* p, Vec v, std::int64_t n) {
    std::uint16_t part[8];
    store_bf16(part, v);
    for (std::int64_t i = 0; i < n; ++i) p[i] = part[i];
  }
  static Vec add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
  static Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
  static float sum(Vec v) {
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
  }

  static Word zero_words() { return zero(); }
  static Word load_words(const void* p) { return _mm256_loadu_ps(static_cast<const float*>(p)); }
  static void store_words(void* p, Word w) { _mm256_storeu_ps(static_cast<float*>(p), w); }
  static void store_words_n(void* p, Word w, std::int64_t n) {
    store_n(static_cast<float*>(p), w, n);
  }
  static Word broadcast_word(const void* p) {
    return _mm256_broadcast_ss(static_cast<const float*>(p));
  }
  static Vec multiply_add(Word a, Word b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
  static Word k_words_of(const float* p) { return load(p); }
  static Word k_words_of(const std::uint16_t* p) { return load_bf16(p); }
  static Word k_words_n_of(const float* p, std::int64_t n) { return load_n(p, n); }
  static Word k_words_n_of(const std::uint16_t* p, std::int64_t n) { return load_bf16_n(p, n); }
  template <class T>
  static Word k_words(const T* p) {
    return k_words_of(p);
  }
  template <class T>
  static Word k_words_n(const T* p, std::int64_t n) {
    return k_words_n_of(p, n);
  }
  template <class T>
  static Word outer_words(const T* p, const T*) {
    return k_words_of(p);
  }
  template <class T>
  static Word outer_words_n(const T* p, const T*, std::int64_t n) {
    return k_words_n_of(p, n);
  }
  static inline __attribute__((always_inline)) void transpose(Word (&w)[8]) {
    __m256 t[8];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      t[2 * i] = _mm256_unpacklo_ps(w[2 * i], w[2 * i + 1]);
      t[2 * i + 1] = _mm256_unpackhi_ps(w[2 * i], w[2 * i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
      w[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
      w[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
      w[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
      w[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      t[i] = _mm256_permute2f128_ps(w[i], w[4 + i], 0x20);
      t[4 + i] = _mm256_permute2f128_ps(w[i], w[4 + i], 0x31);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) w[i] = t[i];
  }
};

}  // namespace

const Tile& f32_tile() {
  static constexpr Tile kTile{IsaLevel::kAvx2, DType::kF32, V::kLanes, V::kVecs, multiply<V>,
                              pack<V>,         widen<V>,    finish<V>, dot<V>};
  return kTile;
}

}  // namespace moesmith::kernels::cpu::avx2
