// SPDX-License-Identifier: Apache-2.0
#include "kernels/rope/rope.h"

#include <cmath>

#include "kernels/rows/rows.h"

namespace moesmith::kernels::rope {

Table::Table(std::vector<float> inv_freq, float magnitude)
    : inv_freq_(std::move(inv_freq)), magnitude_(magnitude) {}

void Table::reserve(std::int64_t num_positions) {
  if (num_positions <= num_positions_) return;
  const auto n = static_cast<std::size_t>(num_positions * half());
  cosine_.resize(n);
  sine_.resize(n);
  for (std::int64_t p = num_positions_; p < num_positions; ++p) {
    for (std::int64_t i = 0; i < half(); ++i) {
      // The angle is rounded to f32 as transformers rounds it; its sine is then taken in double.
      const float angle = static_cast<float>(p) * inv_freq_[static_cast<std::size_t>(i)];
      const auto at = static_cast<std::size_t>(p * half() + i);
      cosine_[at] = static_cast<float>(std::cos(static_cast<double>(angle))) * magnitude_;
      sine_[at] = static_cast<float>(std::sin(static_cast<double>(angle))) * magnitude_;
    }
  }
  num_positions_ = num_positions;
}

template <class T>
void apply(const Table& table,
           std::span<const std::int32_t> positions,
           std::int64_t heads,
           const T* x,
           std::int64_t x_stride,
           T* y,
           std::int64_t y_stride,
           float sign,
           ThreadPool& pool) {
  constexpr std::int64_t kChunk = 32;
  const auto& op = rows::ops<T>();
  const std::int64_t half = table.half();
  pool.for_chunks(static_cast<std::int64_t>(positions.size()), kChunk,
                  [&](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t t = begin; t < end; ++t) {
                      const std::int64_t p = positions[static_cast<std::size_t>(t)];
                      for (std::int64_t h = 0; h < heads; ++h) {
                        op.rotate(y + t * y_stride + h * 2 * half, x + t * x_stride + h * 2 * half,
                                  table.cosine(p), table.sine(p), sign, half);
                      }
                    }
                  });
}

template void apply<float>(const Table&,
                           std::span<const std::int32_t>,
                           std::int64_t,
                           const float*,
                           std::int64_t,
                           float*,
                           std::int64_t,
                           float,
                           ThreadPool&);
template void apply<bf16>(const Table&,
                          std::span<const std::int32_t>,
                          std::int64_t,
                          const bf16*,
                          std::int64_t,
                          bf16*,
                          std::int64_t,
                          float,
                          ThreadPool&);

}  // namespace moesmith::kernels::rope
