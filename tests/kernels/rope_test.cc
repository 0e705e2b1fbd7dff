// SPDX-License-Identifier: Apache-2.0
#include "kernels/rope/rope.h"

#include <gtest/gtest.h>

#include "decoder_kernels.h"

namespace moesmith::kernels::rope {
namespace {

TEST(rope, rotates_each_pair_by_position_times_frequency) {
  ThreadPool pool(2);
  const std::vector<float> inv_freq = {1.0f, 0.1f, 0.01f};
  Table table(inv_freq, 1.5f);
  table.reserve(3);
  table.reserve(50);  // grows: the first rows stay
  const std::vector<std::int32_t> positions = {0, 2, 49, 0, 1};
  const std::int64_t heads = 2, dim = 6;
  const auto x = normals(5 * heads * dim, 1);
  std::vector<float> y(x.size());
  apply(table, positions, heads, x.data(), heads * dim, y.data(), heads * dim, 1.0f, pool);
  for (std::size_t t = 0; t < 5; ++t) {
    for (std::size_t h = 0; h < 2; ++h) {
      for (std::size_t i = 0; i < 3; ++i) {
        const std::size_t at = (t * 2 + h) * 6 + i;
        const double angle = positions[t] * static_cast<double>(inv_freq[i]);
        const double a = as_double(x[at]), b = as_double(x[at + 3]);
        EXPECT_NEAR(y[at], 1.5 * (a * std::cos(angle) - b * std::sin(angle)), 1e-5);
        EXPECT_NEAR(y[at + 3], 1.5 * (b * std::cos(angle) + a * std::sin(angle)), 1e-5);
      }
    }
  }
}

}  // namespace
}  // namespace moesmith::kernels::rope
