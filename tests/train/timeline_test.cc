// SPDX-License-Identifier: Apache-2.0
#include "train/timeline.h"

#include <gtest/gtest.h>

#include <vector>

#include "moesmith/error.h"

namespace moesmith::train {
namespace {

TrainOptions options(double epochs, std::int64_t accumulation) {
  TrainOptions o;
  o.num_epochs = epochs;
  o.gradient_accumulation_steps = accumulation;
  return o;
}

Timeline timeline(const TrainOptions& o, std::int64_t batches) {
  return Timeline(o, [=](std::int64_t) { return batches; });
}

std::vector<std::int64_t> steps_where(const Cadence& cadence,
                                      const Timeline& timeline,
                                      bool StepActions::*action) {
  std::vector<std::int64_t> steps;
  for (std::int64_t step = 1; step <= timeline.total_steps(); ++step) {
    if (cadence.after(step, timeline.slice(step - 1)).*action) steps.push_back(step);
  }
  return steps;
}

using Steps = std::vector<std::int64_t>;

TEST(timeline, gives_the_rest_of_an_epoch_a_step_of_its_own) {
  const Timeline t = timeline(options(2, 4), 10);
  EXPECT_EQ(t.total_steps(), 6);
  EXPECT_DOUBLE_EQ(t.num_epochs(), 2.0);
  const StepSlice last = t.slice(2);
  EXPECT_EQ(last.epoch, 0);
  EXPECT_EQ(last.first_batch, 8);
  EXPECT_EQ(last.num_batches, 2);
  EXPECT_TRUE(last.ends_epoch);
  EXPECT_DOUBLE_EQ(last.epoch_after, 1.0);
  const StepSlice next = t.slice(3);
  EXPECT_EQ(next.epoch, 1);
  EXPECT_EQ(next.first_batch, 0);
  EXPECT_EQ(next.num_batches, 4);
  EXPECT_DOUBLE_EQ(next.epoch_after, 1.0 + 1.0 / 3.0);
}

TEST(timeline, rounds_a_share_of_an_epoch_up) {
  EXPECT_EQ(timeline(options(0.5, 1), 5).total_steps(), 3);
  EXPECT_EQ(timeline(options(1.3, 1), 10).total_steps(), 13);  // 0.3 * 10 is not 4 steps
  EXPECT_EQ(timeline(options(0.001, 1), 10).total_steps(), 1);
}

TEST(timeline, lets_max_steps_win_and_repeats_epochs_for_it) {
  TrainOptions o = options(1, 1);
  o.max_steps = 7;
  const Timeline t = timeline(o, 3);
  EXPECT_EQ(t.total_steps(), 7);
  EXPECT_EQ(t.slice(6).epoch, 2);
  EXPECT_DOUBLE_EQ(t.num_epochs(), 2.0 + 1.0 / 3.0);
}

TEST(timeline, follows_epochs_of_different_lengths) {
  const std::vector<std::int64_t> batches = {3, 5, 2};
  const Timeline t(options(3, 2), [&](std::int64_t e) { return batches.at(std::size_t(e)); });
  EXPECT_EQ(t.total_steps(), 2 + 3 + 1);
  EXPECT_EQ(t.slice(4).epoch, 1);
  EXPECT_EQ(t.slice(4).first_batch, 4);
  EXPECT_EQ(t.slice(4).num_batches, 1);
  EXPECT_EQ(t.slice(5).epoch, 2);
}

TEST(timeline, uses_every_batch_once) {
  const Timeline t = timeline(options(3, 4), 11);
  std::vector<int> seen(33);
  for (std::int64_t step = 0; step < t.total_steps(); ++step) {
    const StepSlice s = t.slice(step);
    for (std::int64_t i = 0; i < s.num_batches; ++i) {
      ++seen.at(std::size_t(s.epoch * 11 + s.first_batch + i));
    }
  }
  for (const int count : seen) EXPECT_EQ(count, 1);
}

TEST(timeline, refuses_an_epoch_without_batches) {
  EXPECT_THROW(timeline(options(1, 1), 0), Error);
  TrainOptions o = options(1, 1);
  o.max_steps = 0;
  EXPECT_THROW(timeline(o, 3), Error);
}

TEST(cadence, follows_epochs_by_default_and_the_last_step_always) {
  const TrainOptions o = options(2.5, 1);
  const Timeline t = timeline(o, 4);
  const Cadence c(o, t, true);
  EXPECT_EQ(steps_where(c, t, &StepActions::save), (Steps{4, 8, 10}));
  EXPECT_EQ(steps_where(c, t, &StepActions::evaluate), (Steps{4, 8, 10}));
  EXPECT_EQ(steps_where(c, t, &StepActions::log).size(), 10u);
}

TEST(cadence, counts_steps_and_shares) {
  TrainOptions o = options(1, 1);
  o.save_steps = 4;
  o.eval_steps = 0.3;
  o.logging_steps = 6;
  const Timeline t = timeline(o, 10);
  const Cadence c(o, t, true);
  EXPECT_EQ(steps_where(c, t, &StepActions::save), (Steps{4, 8, 10}));
  EXPECT_EQ(steps_where(c, t, &StepActions::evaluate), (Steps{3, 6, 9, 10}));
  EXPECT_EQ(steps_where(c, t, &StepActions::log), (Steps{6, 10}));
}

TEST(cadence, spreads_a_number_per_epoch) {
  TrainOptions o = options(2, 1);
  o.saves_per_epoch = 2;
  o.evals_per_epoch = 4;
  const Timeline t = timeline(o, 8);
  const Cadence c(o, t, true);
  EXPECT_EQ(steps_where(c, t, &StepActions::save), (Steps{4, 8, 12, 16}));
  EXPECT_EQ(steps_where(c, t, &StepActions::evaluate).size(), 8u);
  o.max_steps = 6;  // less than an epoch
  const Timeline cut = timeline(o, 8);
  EXPECT_EQ(steps_where(Cadence(o, cut, true), cut, &StepActions::save), (Steps{4, 6}));
}

TEST(cadence, does_nothing_it_was_not_asked_for) {
  TrainOptions o = options(1, 1);
  o.save_strategy = Interval::kNo;
  o.eval_steps = 1;
  const Timeline t = timeline(o, 5);
  const Cadence without_rows(o, t, false);
  EXPECT_TRUE(steps_where(without_rows, t, &StepActions::save).empty());
  EXPECT_TRUE(steps_where(without_rows, t, &StepActions::evaluate).empty());
  EXPECT_FALSE(without_rows.evaluates());
  o.save_first_step = true;
  EXPECT_EQ(steps_where(Cadence(o, t, true), t, &StepActions::save), (Steps{1}));
}

}  // namespace
}  // namespace moesmith::train
