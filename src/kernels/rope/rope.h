// SPDX-License-Identifier: Apache-2.0
// Rotary position embedding: rotates the pairs (x[i], x[i + dim/2]) of each head by
// position * inv_freq[i]. Cosines and sines come from a table over positions.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/thread_pool.h"
#include "moesmith/dtype.h"

namespace moesmith::kernels::rope {

// [positions, half] cosines and sines, both times `magnitude` (YaRN's attention factor).
class Table {
 public:
  Table() = default;
  Table(std::vector<float> inv_freq, float magnitude);

  // Extends the table to `num_positions` rows if it has fewer.
  void reserve(std::int64_t num_positions);
  std::int64_t half() const noexcept { return static_cast<std::int64_t>(inv_freq_.size()); }
  const float* cosine(std::int64_t position) const { return cosine_.data() + position * half(); }
  const float* sine(std::int64_t position) const { return sine_.data() + position * half(); }

 private:
  std::vector<float> inv_freq_;
  float magnitude_ = 1.0f;
  std::int64_t num_positions_ = 0;
  std::vector<float> cosine_, sine_;
};

// y = rotated x, heads of 2 * half elements; x and y may be the same. `sign` -1 is the transposed
// rotation, which is the backward pass.
template <class T>
void apply(const Table& table,
           std::span<const std::int32_t> positions,
           std::int64_t heads,
           const T* x,
           std::int64_t x_stride,
           T* y,
           std::int64_t y_stride,
           float sign,
           ThreadPool& pool);

}  // namespace moesmith::kernels::rope
