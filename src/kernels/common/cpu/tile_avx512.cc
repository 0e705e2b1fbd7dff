// SPDX-License-Identifier: Apache-2.0
// f32 words, 6 x 64 tile: 24 sums, 4 columns and a row's word of the 32 registers.
#include "kernels/common/cpu/dot-inl.h"
#include "kernels/common/cpu/tile-inl.h"
#include "kernels/common/cpu/vectors_avx512.h"

namespace moesmith::kernels::cpu::avx512 {
namespace {

struct V : Avx512Base {
  using Word = __m512;
  static constexpr int kUnit = 1;

  static void store_bf16(std::uint16_t* p, Vec v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow(v));
  }
  static void store_bf16_n(std::uint16_t* p, Vec v, std::int64_t n) {
    _mm256_mask_storeu_epi16(p, first(n), narrow(v));
  }

  static Word zero_words() { return _mm512_setzero_ps(); }
  static Word load_words(const void* p) { return _mm512_loadu_ps(p); }
  static void store_words(void* p, Word w) { _mm512_storeu_ps(p, w); }
  static void store_words_n(void* p, Word w, std::int64_t n) {
    _mm512_mask_storeu_ps(p, first(n), w);
  }
  static Word broadcast_word(const void* p) {
    return _mm512_set1_ps(*static_cast<const float*>(p));
  }
  static Vec multiply_add(Word a, Word b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
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
  static inline __attribute__((always_inline)) void transpose(Word (&w)[16]) {
    __m512i words[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) words[i] = _mm512_castps_si512(w[i]);
    transpose_words(words);
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) w[i] = _mm512_castsi512_ps(words[i]);
  }
};

}  // namespace

const Tile& f32_tile() {
  static constexpr Tile kTile{IsaLevel::kAvx512, DType::kF32, V::kLanes, V::kVecs, multiply<V>,
                              pack<V>,           widen<V>,    finish<V>, dot<V>};
  return kTile;
}

}  // namespace moesmith::kernels::cpu::avx512
