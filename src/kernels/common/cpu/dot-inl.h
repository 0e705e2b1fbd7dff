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

template <class V, class TA, class TB>
void dot_rows(const DotCall& call) {
  const TA* a = static_cast<const TA*>(call.a);
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
