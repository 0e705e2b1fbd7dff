// SPDX-License-Identifier: Apache-2.0
#include "train/schedule.h"

#include <gtest/gtest.h>

#include <vector>

namespace moesmith::train {
namespace {

TrainOptions options(LrSchedule schedule, double floor = 0.0) {
  TrainOptions o;
  o.learning_rate = 1.0;
  o.lr_scheduler = schedule;
  o.cosine_min_lr_ratio = floor;
  return o;
}

std::vector<double> rates(const TrainOptions& o, std::int64_t warmup, std::int64_t total) {
  std::vector<double> values;
  for (std::int64_t step = 0; step < total; ++step) {
    values.push_back(learning_rate(o, step, warmup, total));
  }
  return values;
}

void expect_near(const std::vector<double>& got, const std::vector<double>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], want[i], 1e-12) << i;
}

// The tables are the formulas of transformers' get_*_schedule_with_warmup and of Axolotl's
// get_cosine_schedule_with_min_lr, written out by hand for 10 steps, 2 of them warm-up.
TEST(schedule, linear_rises_then_falls_to_zero) {
  expect_near(rates(options(LrSchedule::kLinear), 2, 10),
              {0, 0.5, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125});
}

TEST(schedule, cosine_follows_half_a_period) {
  expect_near(rates(options(LrSchedule::kCosine), 2, 10),
              {0, 0.5, 1, 0.9619397662556434, 0.8535533905932737, 0.6913417161825449, 0.5,
               0.3086582838174551, 0.14644660940672627, 0.03806023374435663});
}

TEST(schedule, cosine_ends_at_its_floor) {
  const auto got = rates(options(LrSchedule::kCosine, 0.1), 0, 4);
  expect_near(got, {1, 0.9 * 0.8535533905932737 + 0.1, 0.55, 0.9 * 0.14644660940672627 + 0.1});
  EXPECT_NEAR(learning_rate(options(LrSchedule::kCosine, 0.1), 4, 0, 4), 0.1, 1e-12);
}

TEST(schedule, constant_has_no_warmup_unless_named) {
  expect_near(rates(options(LrSchedule::kConstant), 2, 4), {1, 1, 1, 1});
  expect_near(rates(options(LrSchedule::kConstantWithWarmup), 2, 4), {0, 0.5, 1, 1});
}

TEST(schedule, scales_with_the_rate) {
  TrainOptions o = options(LrSchedule::kLinear);
  o.learning_rate = 2e-4;
  EXPECT_DOUBLE_EQ(learning_rate(o, 5, 0, 10), 1e-4);
}

TEST(schedule, warmup_defaults_to_three_percent_at_most_100) {
  const TrainOptions o;
  EXPECT_EQ(warmup_steps(o, 1000), 30);
  EXPECT_EQ(warmup_steps(o, 100000), 100);
  EXPECT_EQ(warmup_steps(o, 20), 0);
  EXPECT_EQ(warmup_steps(o, 40), 2);  // one step becomes two
}

TEST(schedule, warmup_obeys_steps_then_ratio) {
  TrainOptions o;
  o.warmup_ratio = 0.1;
  EXPECT_EQ(warmup_steps(o, 55), 5);
  EXPECT_EQ(warmup_steps(o, 15), 2);
  o.warmup_ratio = 0.0;
  EXPECT_EQ(warmup_steps(o, 1000), 0);
  o.warmup_steps = 7;
  EXPECT_EQ(warmup_steps(o, 1000), 7);
}

TEST(schedule, logs_each_half_percent_at_most_every_ten_steps) {
  TrainOptions o;
  EXPECT_EQ(logging_steps(o, 100), 1);
  EXPECT_EQ(logging_steps(o, 1000), 5);
  EXPECT_EQ(logging_steps(o, 100000), 10);
  o.logging_steps = 3;
  EXPECT_EQ(logging_steps(o, 100000), 3);
}

}  // namespace
}  // namespace moesmith::train
