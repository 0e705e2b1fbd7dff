// SPDX-License-Identifier: Apache-2.0
// Where the time of a step went: every part of a real run, and nothing when it is off.
#include "train/step_profile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "model/parts.h"
#include "tiny_run.h"

namespace moesmith::train {
namespace {

namespace part = model::part;

double sum_of_shares(const std::vector<ProfilePart>& parts) {
  double sum = 0;
  for (const ProfilePart& p : parts) sum += p.share;
  return sum;
}

std::set<std::string> names_of(const std::vector<ProfilePart>& parts) {
  std::set<std::string> names;
  for (const ProfilePart& p : parts) names.insert(p.name);
  return names;
}

TEST(step_profile, parts_are_per_step_and_sum_to_the_whole) {
  const auto parts = profile_parts({{"a", 6.0, 12e9, 4}, {"b", 2.0, 0.0, 2}}, 2);
  ASSERT_EQ(parts.size(), 2u);
  EXPECT_DOUBLE_EQ(parts[0].seconds, 3.0);
  EXPECT_DOUBLE_EQ(parts[0].share, 0.75);
  EXPECT_DOUBLE_EQ(*parts[0].gflops, 2.0);
  EXPECT_DOUBLE_EQ(parts[1].share, 0.25);
  EXPECT_FALSE(parts[1].gflops);
}

TEST(step_profile, a_run_accounts_for_all_of_its_steps) {
  TinyRun tiny;
  tiny.make_base();
  TrainJob job = tiny.expert_lora_job("out");
  job.train.profile = true;
  const TrainResult result = run(job);
  EXPECT_EQ(result.profiled_steps, result.steps - 1);
  EXPECT_NEAR(sum_of_shares(result.profile), 1.0, 1e-9);
  EXPECT_THAT(names_of(result.profile),
              testing::IsSupersetOf({part::kExperts, part::kDense, part::kLora, part::kAttention,
                                     part::kNorms, part::kRope, part::kRouter, part::kElementwise,
                                     part::kEmbedding, part::kLoss, part::kOptimiser, part::kData,
                                     part::kOther}));
  double seconds = 0;
  for (const ProfilePart& p : result.profile) {
    seconds += p.seconds;
    const bool products =
        p.name == part::kExperts || p.name == part::kDense || p.name == part::kLora;
    EXPECT_EQ(p.gflops.has_value(), products) << p.name;
  }
  EXPECT_GT(seconds, 0.0);
  EXPECT_LT(seconds * static_cast<double>(result.profiled_steps), result.seconds);
}

TEST(step_profile, a_run_of_one_step_has_that_step) {
  TinyRun tiny;
  TrainJob job = tiny.full_job("out");
  job.train.profile = true;
  job.train.max_steps = 1;
  const TrainResult result = run(job);
  EXPECT_EQ(result.profiled_steps, 1);
  EXPECT_NEAR(sum_of_shares(result.profile), 1.0, 1e-9);
}

TEST(step_profile, off_it_measures_nothing) {
  TinyRun tiny;
  profile::take();
  const TrainResult result = run(tiny.full_job("out"));
  EXPECT_TRUE(result.profile.empty());
  EXPECT_TRUE(profile::take().empty());
}

}  // namespace
}  // namespace moesmith::train
