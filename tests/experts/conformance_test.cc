// SPDX-License-Identifier: Apache-2.0
// Every implementation of the table on every case, against the slot-by-slot oracle.
#include <gtest/gtest.h>

#include <tuple>

#include "core/cpu_features.h"
#include "expectations.h"
#include "experts/implementation.h"
#include "experts_cases.h"
#include "problem.h"

namespace moesmith::experts::testing {
namespace {

// Those that can run somewhere; the refusals of the others are tested in plan_test.cc.
std::vector<std::string> built_names() {
  std::vector<std::string> names;
  for (const Implementation& one : implementations()) {
    if (one.forward != nullptr) names.emplace_back(one.name);
  }
  return names;
}

// Those whose kernels are this project's own run on every instruction set of this processor; the
// others are the reference and a library's.
std::vector<IsaLevel> levels_of(const std::string& name) {
  if (name != "scattermoe" && name != "batched_mm") return {active_isa()};
  std::vector<IsaLevel> levels;
  for (int level = 0; level <= static_cast<int>(detected_isa()); ++level) {
    levels.push_back(static_cast<IsaLevel>(level));
  }
  return levels;
}

void expect_bitwise_repeatable(const Problem& problem,
                               const ExpertsPlan& plan,
                               const Outcome& on_two) {
  static ThreadPool one(1);
  EXPECT_EQ(on_two.raw, problem.run(plan, one).raw) << "two threads and one";
}

class conformance : public ::testing::TestWithParam<std::tuple<std::string, Case>> {};

TEST_P(conformance, matches_the_oracle_and_repeats) {
  Case c = std::get<1>(GetParam());
  c.request.implementation = std::get<0>(GetParam());
  for (const Verdict& verdict : explain_experts(c.request)) {
    if (verdict.name == c.request.implementation && !verdict.accepted) {
      GTEST_SKIP() << verdict.name << " refuses: " << verdict.text;
    }
  }
  const Problem problem(c);
  const ExpertsPlan plan = plan_experts(c.request);
  ASSERT_EQ(plan.implementation(), c.request.implementation);
  const Results want = run_oracle(c.request, c.num_tokens, problem.data(), no_rounding);
  Results naive = want;
  if (c.request.compute_dtype == DType::kBF16) {
    naive = run_oracle(c.request, c.num_tokens, problem.data(), round_to_bf16);
  }
  const IsaLevel before = active_isa();
  static ThreadPool pool(2);
  for (const IsaLevel isa : levels_of(c.request.implementation)) {
    SCOPED_TRACE(isa_name(isa));
    set_isa(isa);
    const Outcome outcome = problem.run(plan, pool);
    expect_results(c, outcome, want, naive);
    expect_exact_zeros(c, problem.data(), outcome);
    expect_bitwise_repeatable(problem, plan, outcome);
  }
  set_isa(before);
  expect_little_saved(c, plan.sizes(c.num_tokens, 2));
}

INSTANTIATE_TEST_SUITE_P(table,
                         conformance,
                         ::testing::Combine(::testing::ValuesIn(built_names()),
                                            ::testing::ValuesIn(all_cases())),
                         [](const auto& info) {
                           return std::get<0>(info.param) + "_" + std::get<1>(info.param).name;
                         });

}  // namespace
}  // namespace moesmith::experts::testing
