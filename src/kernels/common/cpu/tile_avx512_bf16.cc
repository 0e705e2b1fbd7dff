// SPDX-License-Identifier: Apache-2.0
// Words of two bf16, multiplied and summed in f32 by vdpbf16ps (which takes denormals for zero).
#include "kernels/common/cpu/dot-inl.h"
#include "kernels/common/cpu/tile-inl.h"
#include "kernels/common/cpu/vectors_avx512.h"

namespace moesmith::kernels::cpu::avx512_bf16 {
namespace {

struct V : Avx512Base {
  using Word = __m512i;
  static constexpr int kUnit = 2;

  // vcvtneps2bf16 takes denormals for zero, as vdpbf16ps does.
  static __m256i narrow(Vec v) { return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v)); }
  static void store_bf16(std::uint16_t* p, Vec v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow(v));
  }
  static void store_bf16_n(std::uint16_t* p, Vec v, std::int64_t n) {
    _mm256_mask_storeu_epi16(p, first(n), narrow(v));
  }

  static Word zero_words() { return _mm512_setzero_si512(); }
  static Word load_words(const void* p) { return _mm512_loadu_si512(p); }
  static void store_words(void* p, Word w) { _mm512_storeu_si512(p, w); }
  static void store_words_n(void* p, Word w, std::int64_t n) {
    _mm512_mask_storeu_epi32(p, first(n), w);
  }
  static Word broadcast_word(const void* p) {
    int word;
    __builtin_memcpy(&word, p, sizeof word);
    return _mm512_set1_epi32(word);
  }
  static Vec multiply_add(Word a, Word b, Vec c) {
    return _mm512_dpbf16_ps(c, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }
  template <class T>
  static Word k_words(const T* p) {
    return _mm512_loadu_si512(p);
  }
  template <class T>
  static Word k_words_n(const T* p, std::int64_t n) {
    return _mm512_maskz_loadu_epi16(static_cast<__mmask32>((std::uint64_t{1} << n) - 1), p);
  }
  static Word pair(__m256i even, __m256i odd) {
    return _mm512_or_si512(
        _mm512_maskz_cvtepu16_epi32(0xffff, even),
        _mm512_maskz_slli_epi32(0xffff, _mm512_maskz_cvtepu16_epi32(0xffff, odd), 16));
  }
  template <class T>
  static Word outer_words(const T* row, const T* next) {
    return pair(load16(row), load16(next));
  }
  template <class T>
  static Word outer_words_n(const T* row, const T* next, std::int64_t n) {
    return pair(load16_n(row, n), next == nullptr ? _mm256_setzero_si256() : load16_n(next, n));
  }
  // 32 words of two rows.
  static void interleave(const std::uint16_t* row, const std::uint16_t* next, void* dst) {
    const Word a = _mm512_loadu_si512(row), b = _mm512_loadu_si512(next);
    store_words(dst, _mm512_permutex2var_epi16(a, load_words(kInterleaved), b));
    store_words(static_cast<char*>(dst) + 64,
                _mm512_permutex2var_epi16(a, load_words(kInterleaved + 32), b));
  }
  alignas(64) static constexpr std::uint16_t kInterleaved[64] = {
      0,  32, 1,  33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39, 8,  40, 9,  41, 10, 42,
      11, 43, 12, 44, 13, 45, 14, 46, 15, 47, 16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53,
      22, 54, 23, 55, 24, 56, 25, 57, 26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63};
  static inline __attribute__((always_inline)) void transpose(Word (&w)[16]) { transpose_words(w); }
};

}  // namespace

const Tile& bf16_tile() {
  static constexpr Tile kTile{IsaLevel::kAvx512Bf16,
                              DType::kBF16,
                              V::kLanes,
                              V::kVecs,
                              multiply<V>,
                              pack<V>,
                              widen<V>,
                              finish<V>,
                              dot<V>};
  return kTile;
}

}  // namespace moesmith::kernels::cpu::avx512_bf16
