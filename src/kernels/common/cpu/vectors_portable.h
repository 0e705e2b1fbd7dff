// SPDX-License-Identifier: Apache-2.0
// Four f32 lanes in GCC's vector extension: SSE2, NEON or plain registers, whatever the compiler
// targets. The description V of tile-inl.h with f32 words.
#pragma once

#include <cstdint>
#include <cstring>

namespace moesmith::kernels::cpu {
namespace {

struct PortableVectors {
  typedef float Vec __attribute__((vector_size(16)));
  using Word = Vec;
  static constexpr int kLanes = 4, kUnit = 1, kVecs = 2, kDotCols = 2;

  static Vec zero() { return Vec{}; }
  static Vec zero_words() { return Vec{}; }
  static Vec broadcast(float x) { return Vec{x, x, x, x}; }
  static Vec load(const float* p) {
    Vec v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
  static Vec load_n(const float* p, std::int64_t n) {
    Vec v{};
    for (std::int64_t i = 0; i < n; ++i) v[i] = p[i];
    return v;
  }
  static void store(float* p, Vec v) { std::memcpy(p, &v, sizeof v); }
  static void store_n(float* p, Vec v, std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) p[i] = v[i];
  }
  static float widen_one(std::uint16_t x) {
    const std::uint32_t bits = static_cast<std::uint32_t>(x) << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  }
  static std::uint16_t narrow_one(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>((bits >> 16) | 0x40u);
    return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
  }
  static Vec load_bf16(const std::uint16_t* p) {
    return Vec{widen_one(p[0]), widen_one(p[1]), widen_one(p[2]), widen_one(p[3])};
  }
  static Vec load_bf16_n(const std::uint16_t* p, std::int64_t n) {
    Vec v{};
    for (std::int64_t i = 0; i < n; ++i) v[i] = widen_one(p[i]);
    return v;
  }
  static void store_bf16_n(std::uint16_t* p, Vec v, std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) p[i] = narrow_one(v[i]);
  }
  static void store_bf16(std::uint16_t* p, Vec v) { store_bf16_n(p, v, kLanes); }
  static Vec add(Vec a, Vec b) { return a + b; }
  static Vec fma(Vec a, Vec b, Vec c) { return a * b + c; }
  static float sum(Vec v) { return (v[0] + v[2]) + (v[1] + v[3]); }

  static Vec load_words(const void* p) { return load(static_cast<const float*>(p)); }
  static void store_words(void* p, Vec v) { store(static_cast<float*>(p), v); }
  static void store_words_n(void* p, Vec v, std::int64_t n) {
    store_n(static_cast<float*>(p), v, n);
  }
  static Vec broadcast_word(const void* p) { return broadcast(*static_cast<const float*>(p)); }
  static Vec multiply_add(Vec a, Vec b, Vec c) { return a * b + c; }
  template <class T>
  static Vec k_words(const T* p) {
    if constexpr (sizeof(T) == 2) {
      return load_bf16(p);
    } else {
      return load(p);
    }
  }
  template <class T>
  static Vec k_words_n(const T* p, std::int64_t n) {
    if constexpr (sizeof(T) == 2) {
      return load_bf16_n(p, n);
    } else {
      return load_n(p, n);
    }
  }
  template <class T>
  static Vec outer_words(const T* p, const T*) {
    return k_words<T>(p);
  }
  template <class T>
  static Vec outer_words_n(const T* p, const T*, std::int64_t n) {
    return k_words_n<T>(p, n);
  }
  static void transpose(Vec (&w)[kLanes]) {
    for (int i = 0; i < kLanes; ++i) {
      for (int j = 0; j < i; ++j) {
        const float t = w[i][j];
        w[i][j] = w[j][i];
        w[j][i] = t;
      }
    }
  }
};

}  // namespace
}  // namespace moesmith::kernels::cpu
