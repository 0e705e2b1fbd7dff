// SPDX-License-Identifier: Apache-2.0
// Gradients too large for the caches are written past them: the same numbers as when they are added
// to zeros, in which case they are not.
#include <gtest/gtest.h>

#include <vector>

#include "experts/gradients.h"
#include "experts_cases.h"
#include "problem.h"

namespace moesmith::experts::testing {
namespace {

Case small_case(std::int64_t num_experts, std::int64_t hidden, std::int64_t inter) {
  Case c = find_case("lora_ranks_3_17_bf16");
  ExpertsRequest& r = c.request;
  r.gate_up_lora = r.down_lora = {};
  r.num_experts = num_experts;
  r.hidden = hidden;
  r.inter = inter;
  r.top_k = 1;
  r.max_tokens = c.num_tokens = 6;
  r.wanted = {};
  return c;
}

// targets(wanted): the gradients that are asked for; values(results): what they became.
template <class Targets, class ValuesOf>
void expect_same_as_added(Case c, const Targets& targets, const ValuesOf& values) {
  ExpertsRequest& r = c.request;
  const std::vector<const char*> names = {"scattermoe", "batched_mm"};
  ThreadPool pool(2);
  const auto gradients = [&](GradMode mode) {
    for (GradSpec* one : targets(r.wanted)) *one = {mode, DType::kF32};
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
    EXPECT_TRUE(values(streamed[i].values) == values(added[i].values));
  }
}

TEST(streamed_gradients, of_weights_are_those_added_to_zeros) {
  const Case c = small_case(3, 1040, 424);
  ASSERT_TRUE(outgrows_caches(c.request.num_experts * c.request.gate_up_width() * c.request.hidden *
                              std::int64_t{sizeof(float)}));
  expect_same_as_added(
      c, [](WantedGradients& wanted) { return std::vector<GradSpec*>{&wanted.gate_up}; },
      [](const Results& r) { return r.w_1; });
}

TEST(streamed_gradients, of_factors_are_those_added_to_zeros) {
  Case c = small_case(64, 2064, 16);
  c.request.gate_up_lora =
      c.request.down_lora = {.lora_rank = 16, .lora_scale = 2.0f, .dtype = DType::kF32};
  ASSERT_TRUE(
      outgrows_caches(c.request.num_experts * 16 * c.request.hidden * std::int64_t{sizeof(float)}));
  expect_same_as_added(
      c,
      [](WantedGradients& wanted) {
        return std::vector<GradSpec*>{&wanted.gate_up_a, &wanted.down_b};
      },
      [](const Results& r) {
        Values both = r.a_1;
        both.insert(both.end(), r.b_2.begin(), r.b_2.end());
        return both;
      });
}

}  // namespace
}  // namespace moesmith::experts::testing
