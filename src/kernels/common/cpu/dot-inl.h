// SPDX-License-Identifier: Apache-2.0
// Inner products of contiguous rows, nothing packed: for products whose B would be packed for too
// few rows of A. Over the description V of tile-inl.h.
#pragma once

#include <cstdint>

#include "kernels/common/cpu/tile.h"

namespace moesmith::kernels::cpu {

template <class V, class TA, class TB, int kRows, int kCols>
void dot_block(const TA* a, const TB* b, const DotCall& call, float* out) {
  constexpr std::int64_t kBlock = V::kLanes * V::kUnit;
  typename V::Vec sums[kRows][kCols];
#pragma GCC unroll 4
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kCols; ++j) sums[i][j] = V::zero();
  }
  std::int64_t k = 0;
  for (; k + kBlock <= call.k; k += kBlock) {
    typename V::Word columns[kCols];
#pragma GCC unroll 4
    for (int j = 0; j < kCols; ++j) columns[j] = V::template k_words<TB>(b + j * call.b_stride + k);
#pragma GCC unroll 4
    for (int i = 0; i < kRows; ++i) {
      const typename V::Word row = V::template k_words<TA>(a + i * call.a_stride + k);
#pragma GCC unroll 4
      for (int j = 0; j < kCols; ++j) sums[i][j] = V::multiply_add(row, columns[j], sums[i][j]);
    }
  }
  const std::int64_t left = call.k - k;
#pragma GCC unroll 4
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kCols; ++j) {
      typename V::Vec sum = sums[i][j];
      if (left > 0) {
        sum = V::multiply_add(V::template k_words_n<TA>(a + i * call.a_stride + k, left),
                              V::template k_words_n<TB>(b + j * call.b_stride + k, left), sum);
      }
      out[i * call.ld + j] = V::sum(sum);
    }
  }
}

template <class V, class TA, class TB, int kRows>
void dot_columns(const TA* a, const DotCall& call, float* out) {
  const TB* b = static_cast<const TB*>(call.b);
  std::int64_t j = 0;
  for (; j + V::kDotCols <= call.num_cols; j += V::kDotCols) {
    dot_block<V, TA, TB, kRows, V::kDotCols>(a, b + j * call.b_stride, call, out + j);
  }
  for (; j < call.num_cols; ++j) {
    dot_block<V, TA, TB, kRows, 1>(a, b + j * call.b_stride, call, out + j);
  }
}

// The same for one or two rows of A: rows of B are read one after the other, as one stream, which
// the hardware prefetches further than several side by side (1.7x on Zen 4).
template <class V, class TA, class TB, int kRows>
void dot_stream(const TA* a, const TB* b, const DotCall& call, float* out) {
  constexpr std::int64_t kBlock = V::kLanes * V::kUnit;
  constexpr int kChains = 8 / kRows;  // enough sums to hide the latency of one
  typename V::Vec sums[kRows][kChains];
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
    for (int c = 0; c < kChains; ++c) sums[i][c] = V::zero();
  }
  std::int64_t k = 0;
  for (; k + kChains * kBlock <= call.k; k += kChains * kBlock) {
#pragma GCC unroll 8
    for (int c = 0; c < kChains; ++c) {
      const typename V::Word column = V::template k_words<TB>(b + k + c * kBlock);
#pragma GCC unroll 8
      for (int i = 0; i < kRows; ++i) {
        const typename V::Word row =
            V::template k_words<TA>(a + i * call.a_stride + k + c * kBlock);
        sums[i][c] = V::multiply_add(row, column, sums[i][c]);
      }
    }
  }
  for (; k < call.k; k += kBlock) {
    const std::int64_t left = call.k - k < kBlock ? call.k - k : kBlock;
    const typename V::Word column = V::template k_words_n<TB>(b + k, left);
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      const typename V::Word row = V::template k_words_n<TA>(a + i * call.a_stride + k, left);
      sums[i][0] = V::multiply_add(row, column, sums[i][0]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
    typename V::Vec sum = sums[i][0];
#pragma GCC unroll 8
    for (int c = 1; c < kChains; ++c) sum = V::add(sum, sums[i][c]);
    out[i * call.ld] = V::sum(sum);
  }
}

template <class V, class TA, class TB>
void dot_rows(const DotCall& call) {
  const TA* a = static_cast<const TA*>(call.a);
  if (call.num_rows <= 2) {
    const TB* b = static_cast<const TB*>(call.b);
    for (std::int64_t j = 0; j < call.num_cols; ++j, b += call.b_stride) {
      if (call.num_rows == 2) {
        dot_stream<V, TA, TB, 2>(a, b, call, call.out + j);
      } else {
        dot_stream<V, TA, TB, 1>(a, b, call, call.out + j);
      }
    }
    return;
  }
  // Columns in the outer loop: each row of B is read from memory once, while A stays in cache.
  constexpr std::int64_t kColumns = 4 * V::kDotCols;
  for (std::int64_t j = 0; j < call.num_cols; j += kColumns) {
    DotCall part = call;
    part.b = static_cast<const TB*>(call.b) + j * call.b_stride;
    part.num_cols = call.num_cols - j > kColumns ? kColumns : call.num_cols - j;
    std::int64_t i = 0;
    for (; i + 4 <= call.num_rows; i += 4) {
      dot_columns<V, TA, TB, 4>(a + i * call.a_stride, part, call.out + i * call.ld + j);
    }
    for (; i + 2 <= call.num_rows; i += 2) {
      dot_columns<V, TA, TB, 2>(a + i * call.a_stride, part, call.out + i * call.ld + j);
    }
    if (i < call.num_rows) {
      dot_columns<V, TA, TB, 1>(a + i * call.a_stride, part, call.out + i * call.ld + j);
    }
  }
}

template <class V>
void dot(const DotCall& call) {
  using U16 = std::uint16_t;
  if constexpr (V::kUnit == 2) {
    return dot_rows<V, U16, U16>(call);
  } else {
    if (call.a_is_bf16) {
      return call.b_is_bf16 ? dot_rows<V, U16, U16>(call) : dot_rows<V, U16, float>(call);
    }
    return call.b_is_bf16 ? dot_rows<V, float, U16>(call) : dot_rows<V, float, float>(call);
  }
}

}  // namespace moesmith::kernels::cpu
