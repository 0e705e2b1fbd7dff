// SPDX-License-Identifier: Apache-2.0
#include "kernels/embedding/embedding.h"

#include <gtest/gtest.h>

#include "decoder_kernels.h"

namespace moesmith::kernels::embedding {
namespace {

TEST(embedding, gathers_rows_and_adds_their_gradients) {
  ThreadPool pool(3);
  const std::int64_t dim = 70;
  const std::vector<std::int32_t> ids = {2, 0, 2, 2};
  const auto table = normals(3 * dim, 1), d_out = normals(4 * dim, 2);
  std::vector<float> out(d_out.size()), grad(table.size(), 1.0f);
  forward<float>(ids, table.data(), dim, out.data(), pool);
  backward<float>(ids, d_out.data(), dim, grad.data(), pool);
  for (std::size_t d = 0; d < 70; ++d) {
    for (std::size_t i = 0; i < 4; ++i) {
      EXPECT_EQ(out[i * 70 + d], table[static_cast<std::size_t>(ids[i]) * 70 + d]);
    }
    EXPECT_NEAR(grad[140 + d], 1.0f + d_out[d] + d_out[140 + d] + d_out[210 + d], 1e-5);
    EXPECT_EQ(grad[70 + d], 1.0f) << "a row that no id names";
    EXPECT_NEAR(grad[d], 1.0f + d_out[70 + d], 1e-6);
  }
}

}  // namespace
}  // namespace moesmith::kernels::embedding
