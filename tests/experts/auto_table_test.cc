// SPDX-License-Identifier: Apache-2.0
// What `auto` prefers is a pure function of the problem: tested without timing anything.
#include "experts/auto_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "experts/implementation.h"

namespace moesmith::experts {
namespace {

ExpertsRequest sized(std::int64_t num_experts,
                     std::int64_t top_k,
                     std::int64_t hidden,
                     std::int64_t inter,
                     std::int64_t max_tokens,
                     DType dtype) {
  ExpertsRequest r;
  r.num_experts = num_experts;
  r.top_k = top_k;
  r.hidden = hidden;
  r.inter = inter;
  r.max_tokens = max_tokens;
  r.compute_dtype = r.weight_dtype = r.d_output_dtype = dtype;
  return r;
}
ExpertsRequest qwen3(std::int64_t max_tokens, DType dtype = DType::kBF16) {
  return sized(128, 8, 2048, 768, max_tokens, dtype);
}
ExpertsRequest mixtral(std::int64_t max_tokens, DType dtype = DType::kBF16) {
  return sized(8, 2, 4096, 14336, max_tokens, dtype);
}

TEST(auto_table, reads_weights_in_place_for_few_tokens_and_packs_them_for_many) {
  for (const DType dtype : {DType::kBF16, DType::kF32}) {
    for (const std::int64_t tokens : {0, 1, 2, 4, 8, 16}) {
      EXPECT_EQ(plan_experts(qwen3(tokens, dtype)).implementation(), "batched_mm") << tokens;
    }
    for (const std::int64_t tokens : {17, 64, 1024, 1 << 20}) {
      EXPECT_EQ(plan_experts(qwen3(tokens, dtype)).implementation(), "scattermoe") << tokens;
    }
  }
}

TEST(auto_table, goes_by_rows_per_expert_where_rows_are_wide) {
  EXPECT_EQ(plan_experts(mixtral(1)).implementation(), "batched_mm");
  EXPECT_EQ(plan_experts(mixtral(8)).implementation(), "batched_mm");
  EXPECT_EQ(plan_experts(mixtral(16)).implementation(), "scattermoe");
  EXPECT_EQ(plan_experts(mixtral(16, DType::kF32)).implementation(), "scattermoe");
  // One token, however few experts there are.
  EXPECT_EQ(plan_experts(sized(1, 8, 4096, 14336, 1, DType::kBF16)).implementation(), "batched_mm");
}

TEST(auto_table, says_why) {
  EXPECT_EQ(auto_choice(qwen3(1024)).why, "max_tokens 1024 > 16");
  EXPECT_EQ(auto_choice(qwen3(1)).why, "decoding: max_tokens 1 <= 16");
  EXPECT_EQ(auto_choice(mixtral(16)).why, "more than 2 rows per expert: 32 for 8");
}

TEST(auto_table, asks_every_implementation_once) {
  for (const std::int64_t tokens : {1, 1024}) {
    const AutoChoice choice = auto_choice(qwen3(tokens));
    const std::set<std::string> asked(choice.order.begin(), choice.order.end());
    EXPECT_EQ(asked.size(), choice.order.size());
    for (const Implementation& one : implementations()) EXPECT_TRUE(asked.count(one.name));
    EXPECT_EQ(asked.size(), implementations().size());
  }
}

TEST(auto_table, still_takes_only_what_accepts) {
  ExpertsRequest r = qwen3(1);
  r.double_sums = true;
  EXPECT_EQ(plan_experts(r).implementation(), "eager");
}

TEST(batched_mm, refuses_more_tokens_than_it_decodes) {
  ExpertsRequest r = qwen3(1024);
  const auto verdicts = explain_experts(r);
  const auto at = std::find_if(verdicts.begin(), verdicts.end(),
                               [](const Verdict& v) { return v.name == "batched_mm"; });
  ASSERT_NE(at, verdicts.end());
  EXPECT_FALSE(at->accepted);
  EXPECT_EQ(at->text, "max_tokens 1024 > 16: it is for decoding");
  r.max_tokens = 16;
  r.implementation = "batched_mm";
  EXPECT_THAT(plan_experts(r).to_string(), ::testing::HasSubstr("read once"));
}

}  // namespace
}  // namespace moesmith::experts
