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
//   interleave(row of k, row of k + 1, dst)                2 kLanes words, where kUnit is 2
//   transpose(Word (&)[kLanes])
#pragma once

#include <cstdint>

#include "kernels/common/cpu/tile.h"

namespace moesmith::kernels::cpu {

// sums += rows[at] x b for the bytes [at, end) of the rows; returns where b went on.
template <class V, int kRows, int kVecs>
inline __attribute__((always_inline)) const char* multiply_steps(
    const char* const (&rows)[kRows],
    std::int64_t k_step,
    const char* b,
    std::int64_t at,
    std::int64_t end,
    typename V::Vec (&sums)[kRows][kVecs]) {
  for (; at != end; at += k_step) {
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
  return b;
}

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
  const std::int64_t k_step = call.k_step, end = call.num_steps * k_step;
  std::int64_t at = 0;
  if (call.ahead.count != 0) {
    Ahead ahead = call.ahead;
    const std::int64_t stretch = ahead.every * k_step;
    for (; ahead.count > 0 && at + stretch <= end; --ahead.count, at += stretch) {
      __builtin_prefetch(ahead.line, 0, 2);
      ahead.line += ahead.step;
      if (--ahead.left == 0) {
        ahead.left = ahead.run;
        ahead.line += ahead.jump;
      }
      b = multiply_steps<V, kRows, kVecs>(rows, k_step, b, at, at + stretch, sums);
    }
  }
  b = multiply_steps<V, kRows, kVecs>(rows, k_step, b, at, end, sums);
  if (call.more_steps != 0) {
    if (call.more_b != nullptr) b = static_cast<const char*>(call.more_b);
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) rows[i] = static_cast<const char*>(call.more_rows[i]);
    multiply_steps<V, kRows, kVecs>(rows, k_step, b, 0, call.more_steps * k_step, sums);
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

// Bytes from dst to a column of the first step.
inline std::int64_t column_offset(const PackCall& call,
                                  std::int64_t dst_width,
                                  std::int64_t column) {
  if (call.panel_stride == 0) return column * 4;
  return column / dst_width * call.panel_stride + column % dst_width * 4;
}

// Neighbours along k lie together: kLanes rows at a time, transposed as words.
template <class V, class T>
void pack_along_k(const PackCall& call) {
  const T* src = static_cast<const T*>(call.src);
  constexpr std::int64_t kBlock = V::kLanes * V::kUnit;  // elements of k per transposed block
  const std::int64_t dst_width = call.dst_width == 0 ? call.width : call.dst_width;
  for (std::int64_t first = 0; first < call.width; first += V::kLanes) {
    char* column = static_cast<char*>(call.dst) + column_offset(call, dst_width, first);
    std::int64_t count = call.num_outer - first;
    count = count < 0 ? 0 : count > V::kLanes ? V::kLanes : count;
    const std::int64_t stored = call.width - first > V::kLanes ? V::kLanes : call.width - first;
    const T* rows = src + first * call.outer_stride;
    std::int64_t k = 0;
    if (count == V::kLanes && stored == V::kLanes) {
      // Whole blocks stay in registers: no loop below may have a variable bound.
      for (; k + kBlock <= call.num_k; k += kBlock) {
        typename V::Word words[V::kLanes];
#pragma GCC unroll 16
        for (int i = 0; i < V::kLanes; ++i) {
          words[i] = V::template k_words<T>(rows + i * call.outer_stride + k);
        }
        V::transpose(words);
        char* dst = column + k / V::kUnit * dst_width * 4;
#pragma GCC unroll 16
        for (int s = 0; s < V::kLanes; ++s) V::store_words(dst + s * dst_width * 4, words[s]);
      }
    }
    for (; k < call.num_k; k += kBlock) {
      const std::int64_t left = call.num_k - k < kBlock ? call.num_k - k : kBlock;
      typename V::Word words[V::kLanes];
      for (int i = 0; i < V::kLanes; ++i) {
        words[i] = i < count ? V::template k_words_n<T>(rows + i * call.outer_stride + k, left)
                             : V::zero_words();
      }
      V::transpose(words);
      char* dst = column + k / V::kUnit * dst_width * 4;
      const std::int64_t steps = (left + V::kUnit - 1) / V::kUnit;
      for (std::int64_t s = 0; s < steps; ++s, dst += dst_width * 4) {
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

// Columns [first, end) of one step, side by side at dst.
template <class V, class T>
void pack_step(const T* row, const T* next, std::int64_t num_cols, std::int64_t width, char* dst) {
  if (num_cols > width) num_cols = width;
  std::int64_t first = 0;
  if constexpr (V::kUnit == 2) {
    if (next != nullptr) {
      for (; first + 2 * V::kLanes <= num_cols; first += 2 * V::kLanes) {
        V::interleave(row + first, next + first, dst + first * 4);
      }
    }
  }
  for (; first < width; first += V::kLanes) {
    std::int64_t count = num_cols - first;
    count = count < 0 ? 0 : count > V::kLanes ? V::kLanes : count;
    const typename V::Word words =
        count == V::kLanes && next != nullptr
            ? V::template outer_words<T>(row + first, next + first)
            : V::template outer_words_n<T>(row + first, next == nullptr ? next : next + first,
                                           count);
    if (width - first >= V::kLanes) {
      V::store_words(dst + first * 4, words);
    } else {
      V::store_words_n(dst + first * 4, words, width - first);
    }
  }
}

// Neighbours along the outer index lie together: words are made from kUnit rows of k, each read
// from its first column to its last.
template <class V, class T>
void pack_along_outer(const PackCall& call) {
  char* dst = static_cast<char*>(call.dst);
  // Gathered rows form no stream that the hardware sees.
  constexpr std::int64_t kAhead = 16;
  const std::int64_t valid = call.num_outer < call.width ? call.num_outer : call.width;
  const std::int64_t strip = valid * static_cast<std::int64_t>(sizeof(T));
  const std::int64_t dst_width = call.dst_width == 0 ? call.width : call.dst_width;
  const std::int64_t panel = call.panel_stride == 0 ? call.width : dst_width;
  for (std::int64_t k = 0; k < call.num_k; k += V::kUnit, dst += dst_width * 4) {
    const T* row = row_at<T>(call, k);
    const T* next = V::kUnit == 1 ? row : k + 1 < call.num_k ? row_at<T>(call, k + 1) : nullptr;
    if (call.k_rows != nullptr && k + kAhead + 1 < call.num_k) {
      for (int u = 0; u < V::kUnit; ++u) {
        const char* ahead = reinterpret_cast<const char*>(row_at<T>(call, k + kAhead + u));
        for (std::int64_t at = 0; at < strip; at += 64) __builtin_prefetch(ahead + at);
      }
    }
    char* to = dst;
    for (std::int64_t first = 0; first < call.width; first += panel, to += call.panel_stride) {
      const std::int64_t width = call.width - first < panel ? call.width - first : panel;
      pack_step<V, T>(row + first, next == nullptr ? next : next + first, valid - first, width, to);
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
