// SPDX-License-Identifier: Apache-2.0
#include "train/data/batches.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "core/rng.h"

namespace moesmith::train {
namespace {

// Sample i has the ids i*1000, i*1000+1, ...; every second one is trained from its third token on.
Dataset samples_of(const std::vector<std::int64_t>& lengths) {
  Dataset data;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    Sample sample;
    for (std::int64_t t = 0; t < lengths[i]; ++t) {
      sample.input_ids.push_back(
          static_cast<std::int32_t>(static_cast<std::int64_t>(i) * 1000 + t));
      sample.trained.push_back(i % 2 == 0 || t >= 2 ? 1 : 0);
    }
    data.append(sample);
  }
  return data;
}

std::vector<std::int64_t> random_lengths(std::int64_t count, std::int64_t max) {
  std::vector<std::int64_t> lengths;
  const Rng rng(5, 0);
  for (std::int64_t i = 0; i < count; ++i) {
    lengths.push_back(1 + static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(i),
                                                              static_cast<std::uint64_t>(max))));
  }
  return lengths;
}

TEST(batches, hold_every_sample_once_in_each_epoch) {
  const Dataset data = samples_of(random_lengths(137, 60));
  for (const bool packing : {false, true}) {
    for (const bool shuffled : {false, true}) {
      const Batches batches(data, {.micro_batch_size = 3,
                                   .sequence_len = 64,
                                   .packing = packing,
                                   .shuffle = shuffled,
                                   .seed = 1});
      for (const std::int64_t epoch : {0, 1, 7}) {
        std::vector<std::int64_t> seen;
        for (const auto& batch : batches.plan(epoch))
          seen.insert(seen.end(), batch.begin(), batch.end());
        std::sort(seen.begin(), seen.end());
        std::vector<std::int64_t> all(137);
        std::iota(all.begin(), all.end(), 0);
        EXPECT_EQ(seen, all);
      }
    }
  }
}

TEST(batches, packed_bins_stay_within_their_capacity_and_are_full) {
  const Dataset data = samples_of(random_lengths(500, 64));
  const Batches batches(
      data,
      {.micro_batch_size = 2, .sequence_len = 64, .packing = true, .shuffle = true, .seed = 3});
  for (const auto& bin : batches.plan(0)) {
    std::int64_t tokens = 0;
    for (const std::int64_t sample : bin) tokens += data.length(sample);
    EXPECT_LE(tokens, 128);
  }
  EXPECT_GT(batches.fill(0), 0.95);  // first fit decreasing on uniform lengths
}

TEST(batches, order_depends_on_seed_and_epoch_alone) {
  const Dataset data = samples_of(random_lengths(50, 20));
  const auto plan = [&](std::uint64_t seed, std::int64_t epoch) {
    return Batches(data, {.micro_batch_size = 2,
                          .sequence_len = 20,
                          .packing = true,
                          .shuffle = true,
                          .seed = seed})
        .plan(epoch);
  };
  EXPECT_EQ(plan(1, 2), plan(1, 2));
  EXPECT_NE(plan(1, 2), plan(1, 3));
  EXPECT_NE(plan(1, 2), plan(2, 2));
}

TEST(batches, unshuffled_ones_follow_the_rows) {
  const Dataset data = samples_of({3, 4, 5, 6, 7});
  const Batches batches(
      data,
      {.micro_batch_size = 2, .sequence_len = 10, .packing = false, .shuffle = false, .seed = 1});
  const std::vector<std::vector<std::int64_t>> expected{{0, 1}, {2, 3}, {4}};
  EXPECT_EQ(batches.plan(4), expected);
  EXPECT_EQ(batches.count(0), 3);
}

TEST(make_batch, shifts_labels_and_restarts_positions_at_each_sample) {
  const Dataset data = samples_of({3, 4});
  const model::Batch batch = make_batch(data, std::vector<std::int64_t>{1, 0});
  EXPECT_EQ(batch.input_ids, (std::vector<std::int32_t>{1000, 1001, 1002, 1003, 0, 1, 2}));
  EXPECT_EQ(batch.position_ids, (std::vector<std::int32_t>{0, 1, 2, 3, 0, 1, 2}));
  EXPECT_EQ(batch.segment_offsets, (std::vector<std::int64_t>{0, 4, 7}));
  EXPECT_EQ(batch.labels, (std::vector<std::int32_t>{-100, 1002, 1003, -100, 1, 2, -100}));
}

TEST(dataset, counts_the_tokens_that_are_predicted) {
  Dataset data = samples_of({3, 4});
  EXPECT_EQ(data.num_tokens(), 7);
  EXPECT_EQ(data.num_trained_tokens(), 2 + 2);
  data.append(samples_of({5}));
  EXPECT_EQ(data.size(), 3);
  EXPECT_EQ(data.num_trained_tokens(), 4 + 4);
  const Dataset chosen = data.select(std::vector<std::int64_t>{2, 1});
  EXPECT_EQ(chosen.length(0), 5);
  EXPECT_EQ(chosen.input_ids(1)[0], 1000);
}

}  // namespace
}  // namespace moesmith::train
