// SPDX-License-Identifier: Apache-2.0
// The bodies behind tile.h, written once over a description V of one instruction set. Each ISA file
// defines V in its own anonymous namespace and includes nothing of std with inline code: a shared
// inline function compiled for AVX-512 could be the copy that the linker keeps.
//
// V has: Vec (f32 lanes), Word (32-bit words), kLanes, kUnit, kVecs and
//   zero() load(p) load_n(p, n) store(p, v) store_n(p, v, n)         f32 in memory
//   load_bf16(p) load_bf16_n(p, n) store_bf16(p, v) store_bf16_n(p, v, n)
//   fma(a, b, c) sum(v)
//   load_words(p) store_words(p, w) store_words_n(p, w, n) broadcast_word(p)
//   multiply_add(words, words, vec)
//   k_words<T>(p) k_words_n<T>(p, num_elements)                      words of a row, widened if
//   need be outer_words_n<T>(row of k, row of k + 1 or nullptr, n)           n words side by side
//   transpose(Word (&)[kLanes])
#pragma once

#include <cstdint>

#include "kernels/common/cpu/tile.h"

namespace moesmith::kernels::cpu {

template <class V, int kRows, int kVecs>
void multiply_tile(const TileCall& call) {
  typename V::Vec sums[kRows][kVecs];
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < kVecs; ++j) sums[i][j] = V::zero();
  }
  const char* rows[kRows];
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) rows[i] = static_cast<const char*>(call.rows[i]);
  const char* b = static_cast<const char*>(call.b);
  const std::int64_t k_step = call.k_step;
  const std::int64_t end = call.num_steps * k_step;
  for (std::int64_t at = 0; at != end; at += k_step) {
    typename V::Word columns[kVecs];
#pragma GCC unroll 8
    for (int j = 0; j < kVecs; ++j) columns[j] = V::load_words(b + j * V::kLanes * 4);
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      const typename V::Word row = V::broadcast_word(rows[i] + at);
#pragma GCC unroll 8
      for (int j = 0; j < kVecs; ++j) sums[i][j] = V::multiply_add(row, columns[j], sums[i][j]);
    }
    b += kVecs * V::kLanes * 4;
  }
  float* out = call.out;
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < kVecs; ++j) {
      float* at = out + j * V::kLanes;
      V::store(at, call.add ? V::add(V::load(at), sums[i][j]) : sums[i][j]);
    }
    out += call.ld;
  }
}

template <class V, int kVecs>
void multiply_rows(int num_rows, const TileCall& call) {
  switch (num_rows) {
    case 1:
      return multiply_tile<V, 1, kVecs>(call);
    case 2:
      return multiply_tile<V, 2, kVecs>(call);
    case 3:
      return multiply_tile<V, 3, kVecs>(call);
    case 4:
      return multiply_tile<V, 4, kVecs>(call);
    case 5:
      return multiply_tile<V, 5, kVecs>(call);
    default:
      return multiply_tile<V, 6, kVecs>(call);
  }
}

template <class V>
void multiply(int num_rows, int vecs, const TileCall& call) {
  if constexpr (V::kVecs == 4) {
    if (vecs == 4) return multiply_rows<V, 4>(num_rows, call);
    if (vecs == 3) return multiply_rows<V, 3>(num_rows, call);
  }
  if (vecs == 2) return multiply_rows<V, 2>(num_rows, call);
  return multiply_rows<V, 1>(num_rows, call);
}

// Neighbours along k lie together: kLanes rows at a time, transposed as words.
template <class V, class T>
void pack_along_k(const PackCall& call) {
  const T* src = static_cast<const T*>(call.src);
  constexpr std::int64_t kBlock = V::kLanes * V::kUnit;  // elements of k per transposed block
  for (std::int64_t first = 0; first < call.width; first += V::kLanes) {
    std::int64_t count = call.num_outer - first;
    count = count < 0 ? 0 : count > V::kLanes ? V::kLanes : count;
    const std::int64_t stored = call.width - first > V::kLanes ? V::kLanes : call.width - first;
    const T* rows = src + first * call.outer_stride;
    for (std::int64_t k = 0; k < call.num_k; k += kBlock) {
      const std::int64_t left = call.num_k - k;
      typename V::Word words[V::kLanes];
      if (count == V::kLanes && left >= kBlock) {
#pragma GCC unroll 16
        for (int i = 0; i < V::kLanes; ++i) {
          words[i] = V::template k_words<T>(rows + i * call.outer_stride + k);
        }
      } else {
        for (int i = 0; i < V::kLanes; ++i) {
          words[i] = i < count ? V::template k_words_n<T>(rows + i * call.outer_stride + k,
                                                          left < kBlock ? left : kBlock)
                               : V::zero_words();
        }
      }
      V::transpose(words);
      char* dst = static_cast<char*>(call.dst) + (k / V::kUnit * call.width + first) * 4;
      const std::int64_t steps = left >= kBlock ? V::kLanes : (left + V::kUnit - 1) / V::kUnit;
      for (std::int64_t s = 0; s < steps; ++s, dst += call.width * 4) {
        if (stored == V::kLanes) {
          V::store_words(dst, words[s]);
        } else {
          V::store_words_n(dst, words[s], stored);
        }
      }
    }
  }
}

// Row k of the matrix to pack.
template <class T>
const T* row_at(const PackCall& call, std::int64_t k) {
  if (call.k_rows != nullptr) return static_cast<const T*>(call.k_rows[k]) + call.src_offset;
  return static_cast<const T*>(call.src) + k * call.k_stride;
}

// Neighbours along the outer index lie together: words are made from kUnit rows of k.
template <class V, class T>
void pack_along_outer(const PackCall& call) {
  char* dst = static_cast<char*>(call.dst);
  // A strip of a few lines per row: the hardware sees no stream in it. 1.05x for dx = dy W, 1.3x
  // for 16 columns.
  constexpr std::int64_t kAhead = 16;
  const std::int64_t valid = call.num_outer < call.width ? call.num_outer : call.width;
  const std::int64_t strip = valid * static_cast<std::int64_t>(sizeof(T));
  for (std::int64_t k = 0; k < call.num_k; k += V::kUnit, dst += call.width * 4) {
    const T* row = row_at<T>(call, k);
    const T* next = k + 1 < call.num_k ? row_at<T>(call, k + 1) : nullptr;
    if (k + kAhead + 1 < call.num_k) {
      for (int u = 0; u < V::kUnit; ++u) {
        const char* ahead = reinterpret_cast<const char*>(row_at<T>(call, k + kAhead + u));
        for (std::int64_t at = 0; at < strip; at += 64) __builtin_prefetch(ahead + at);
      }
    }
    for (std::int64_t first = 0; first < call.width; first += V::kLanes) {
      std::int64_t count = call.num_outer - first;
      count = count < 0 ? 0 : count > V::kLanes ? V::kLanes : count;
      const std::int64_t stored = call.width - first;
      const typename V::Word words =
          count == V::kLanes && next != nullptr
              ? V::template outer_words<T>(row + first, next + first)
              : V::template outer_words_n<T>(row + first, next == nullptr ? next : next + first,
                                             count);
      if (stored >= V::kLanes) {
        V::store_words(dst + first * 4, words);
      } else {
        V::store_words_n(dst + first * 4, words, stored);
      }
    }
  }
}

template <class V>
void pack(const PackCall& call) {
  const bool along_k = call.k_rows == nullptr && call.k_stride == 1;
  if constexpr (V::kUnit == 2) {
    if (along_k) return pack_along_k<V, std::uint16_t>(call);
    return pack_along_outer<V, std::uint16_t>(call);
  } else {
    if (along_k) {
      return call.src_is_bf16 ? pack_along_k<V, std::uint16_t>(call) : pack_along_k<V, float>(call);
    }
    return call.src_is_bf16 ? pack_along_outer<V, std::uint16_t>(call)
                            : pack_along_outer<V, float>(call);
  }
}

template <class V>
void widen(const void* src, float* dst, std::int64_t count) {
  const std::uint16_t* from = static_cast<const std::uint16_t*>(src);
  std::int64_t i = 0;
  for (; i + V::kLanes <= count; i += V::kLanes) V::store(dst + i, V::load_bf16(from + i));
  if (i < count) V::store_n(dst + i, V::load_bf16_n(from + i, count - i), count - i);
}

template <class V, bool kBf16>
void finish_rows(const FinishCall& call) {
  const typename V::Vec alpha = V::broadcast(call.alpha);
  for (std::int64_t i = 0; i < call.num_rows; ++i) {
    const float* sums = call.sums + i * call.ld;
    float* c = static_cast<float*>(call.c) + (kBf16 ? 0 : i * call.ldc);
    std::uint16_t* c16 = static_cast<std::uint16_t*>(call.c) + (kBf16 ? i * call.ldc : 0);
    for (std::int64_t j = 0; j < call.num_cols; j += V::kLanes) {
      const std::int64_t left = call.num_cols - j;
      const bool whole = left >= V::kLanes;
      typename V::Vec value = V::zero();
      if (call.bias != nullptr) {
        value = whole ? V::load(call.bias + j) : V::load_n(call.bias + j, left);
      }
      if (call.accumulate) {
        if constexpr (kBf16) {
          value = V::add(value, whole ? V::load_bf16(c16 + j) : V::load_bf16_n(c16 + j, left));
        } else {
          value = V::add(value, whole ? V::load(c + j) : V::load_n(c + j, left));
        }
      }
      value = V::fma(alpha, whole ? V::load(sums + j) : V::load_n(sums + j, left), value);
      if constexpr (kBf16) {
        if (whole) {
          V::store_bf16(c16 + j, value);
        } else {
          V::store_bf16_n(c16 + j, value, left);
        }
      } else {
        if (whole) {
          V::store(c + j, value);
        } else {
          V::store_n(c + j, value, left);
        }
      }
    }
  }
}

template <class V>
void finish(const FinishCall& call) {
  return call.c_is_bf16 ? finish_rows<V, true>(call) : finish_rows<V, false>(call);
}

}  // namespace moesmith::kernels::cpu
