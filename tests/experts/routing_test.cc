// SPDX-License-Identifier: Apache-2.0
#include "experts/routing.h"

#include <gtest/gtest.h>

#include <vector>

namespace moesmith::experts {
namespace {

struct Built {
  std::vector<std::byte> storage;
  RoutingIndex index;
};

Built build(std::int64_t num_experts, std::int64_t top_k, const std::vector<std::int64_t>& ids) {
  ExpertsRequest request;
  request.num_experts = num_experts;
  request.top_k = top_k;
  ExpertsInputs inputs;
  inputs.num_tokens = static_cast<std::int64_t>(ids.size()) / top_k;
  inputs.top_k_index = ids.data();
  Carver measure;
  carve_routing(measure, request, inputs.num_tokens);
  Built built;
  built.storage.resize(static_cast<std::size_t>(measure.used()) + 64);
  Carver carver(built.storage.data());
  built.index = carve_routing(carver, request, inputs.num_tokens);
  build_routing(inputs, DType::kI64, built.index);
  EXPECT_EQ(built.index.num_rows, count_rows(request, inputs));
  return built;
}

TEST(routing_index, sorts_slots_by_expert_and_keeps_their_order_within) {
  const Built built = build(4, 2, {3, 1, 1, 3, 0, 3, 1, 1});
  const RoutingIndex& index = built.index;
  EXPECT_EQ(std::vector(index.offsets, index.offsets + 5),
            (std::vector<std::int64_t>{0, 1, 5, 5, 8}));
  EXPECT_EQ(std::vector(index.slot_of, index.slot_of + 8),
            (std::vector<std::int64_t>{4, 1, 2, 6, 7, 0, 3, 5}));
  EXPECT_EQ(std::vector(index.row_of, index.row_of + 8),
            (std::vector<std::int64_t>{5, 1, 2, 6, 0, 7, 3, 4}));
  EXPECT_EQ(index.rows(2), 0);
}

TEST(routing_index, skips_indices_that_no_expert_here_owns) {
  const std::int64_t huge = std::int64_t{1} << 40;
  const Built built = build(2, 2, {-1, 0, 2, 1, huge, -huge});
  EXPECT_EQ(built.index.num_rows, 2);
  EXPECT_EQ(std::vector(built.index.row_of, built.index.row_of + 6),
            (std::vector<std::int64_t>{-1, 0, -1, 1, -1, -1}));
}

TEST(routing_index, is_empty_without_tokens) {
  const Built built = build(3, 2, {});
  EXPECT_EQ(built.index.num_rows, 0);
  EXPECT_EQ(std::vector(built.index.offsets, built.index.offsets + 4),
            (std::vector<std::int64_t>{0, 0, 0, 0}));
}

}  // namespace
}  // namespace moesmith::experts
