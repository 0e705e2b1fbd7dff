// SPDX-License-Identifier: Apache-2.0
// Gradients of weights too large for the caches are written past them: the same numbers as when
// they are added to zeros, in which case they are not.
#include <gtest/gtest.h>

#include <vector>

#include "experts/gradients.h"
#include "experts_cases.h"
#include "problem.h"

namespace moesmith::experts::testing {
namespace {

TEST(streamed_gradients, are_those_added_to_zeros) {
  Case c = find_case("lora_ranks_3_17_bf16");
  ExpertsRequest& r = c.request;
  r.gate_up_lora = r.down_lora = {};
  r.num_experts = 5;
  r.hidden = 2064;
  r.inter = 840;
  r.top_k = 1;
  r.max_tokens = c.num_tokens = 6;
  r.wanted = {};
  ASSERT_TRUE(outgrows_caches(r.num_experts * r.gate_up_width() * r.hidden * 4));
  ThreadPool pool(2);
  const std::vector<const char*> names = {"scattermoe", "batched_mm"};
  const auto gradients = [&](GradMode mode) {
    r.wanted.gate_up = {mode, DType::kF32};
    const Problem problem(c);
    std::vector<Outcome> outcomes;
    for (const char* name : names) {
      r.implementation = name;
      outcomes.push_back(problem.run(plan_experts(r), pool, 0.0));
    }
    return outcomes;
  };
  const std::vector<Outcome> streamed = gradients(GradMode::kOverwrite);
  const std::vector<Outcome> added = gradients(GradMode::kAccumulate);
  for (std::size_t i = 0; i < names.size(); ++i) {
    SCOPED_TRACE(names[i]);
    EXPECT_EQ(streamed[i].broken_band, "");
    EXPECT_TRUE(streamed[i].values.w_1 == added[i].values.w_1);
  }
}

}  // namespace
}  // namespace moesmith::experts::testing
