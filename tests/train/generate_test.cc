// SPDX-License-Identifier: Apache-2.0
#include "train/generate.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "moesmith/error.h"

namespace moesmith::train {
namespace {

model::GenerationOptions plain() {
  model::GenerationOptions o;
  o.temperature = 1.0;
  o.top_p = 1.0;
  o.top_k = 0;
  o.repetition_penalty = 1.0;
  return o;
}

std::vector<double> frequencies(const std::vector<float>& logits,
                                const model::GenerationOptions& o,
                                const std::vector<std::int32_t>& context = {}) {
  constexpr int kDraws = 20000;
  std::vector<double> counts(logits.size());
  for (std::uint64_t draw = 0; draw < kDraws; ++draw) {
    std::vector<float> scratch = logits;
    counts[std::size_t(sample_token(scratch, context, o, draw))] += 1.0 / kDraws;
  }
  return counts;
}

void expect_shares(const std::vector<double>& got, const std::vector<double>& want) {
  // Four standard deviations of 20000 draws at p = 1/2.
  for (std::size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i], want[i], 0.0142) << i;
}

std::vector<float> logs(const std::vector<double>& shares) {
  std::vector<float> logits;
  for (const double share : shares) logits.push_back(static_cast<float>(std::log(share)));
  return logits;
}

TEST(generate, draws_follow_the_softmax) {
  const std::vector<double> shares = {0.1, 0.4, 0.2, 0.3};
  expect_shares(frequencies(logs(shares), plain()), shares);
}

TEST(generate, temperature_sharpens) {
  model::GenerationOptions o = plain();
  o.temperature = 0.5;  // squares the shares
  expect_shares(frequencies(logs({0.2, 0.8}), o), {0.04 / 0.68, 0.64 / 0.68});
}

TEST(generate, top_k_keeps_the_largest) {
  model::GenerationOptions o = plain();
  o.top_k = 2;
  expect_shares(frequencies(logs({0.1, 0.4, 0.2, 0.3}), o), {0, 4.0 / 7, 0, 3.0 / 7});
}

TEST(generate, top_p_keeps_the_shortest_head_that_reaches_it) {
  model::GenerationOptions o = plain();
  o.top_p = 0.65;
  expect_shares(frequencies(logs({0.1, 0.4, 0.2, 0.3}), o), {0, 4.0 / 7, 0, 3.0 / 7});
  o.top_p = 0.01;
  expect_shares(frequencies(logs({0.1, 0.4, 0.2, 0.3}), o), {0, 1, 0, 0});
}

TEST(generate, repetition_penalty_lowers_what_was_said) {
  model::GenerationOptions o = plain();
  o.repetition_penalty = 2.0;
  // transformers: positive logits are divided, negative ones multiplied; once for each token.
  std::vector<float> logits = {2.0f, -1.0f, 0.5f};
  const std::vector<std::int32_t> context = {0, 1, 0, 0};
  sample_token(logits, context, o, 0);
  EXPECT_EQ(logits, (std::vector<float>{1.0f, -2.0f, 0.5f}));
}

TEST(generate, zero_temperature_takes_the_first_of_the_largest) {
  model::GenerationOptions o = plain();
  o.temperature = 0.0;
  std::vector<float> logits = {1.0f, 3.0f, 3.0f, 2.0f};
  EXPECT_EQ(sample_token(logits, {}, o, 0), 1);
}

TEST(generate, same_seed_and_draw_give_the_same_token) {
  model::GenerationOptions o = plain();
  const std::vector<float> logits(1000, 0.0f);
  bool seed_matters = false;
  for (std::uint64_t draw = 0; draw < 20; ++draw) {
    std::vector<float> a = logits, b = logits, c = logits;
    o.seed = 1;
    const std::int32_t first = sample_token(a, {}, o, draw);
    EXPECT_EQ(first, sample_token(b, {}, o, draw));
    o.seed = 2;
    seed_matters |= first != sample_token(c, {}, o, draw);
  }
  EXPECT_TRUE(seed_matters);
}

TEST(generate, refuses_a_token_beyond_the_vocabulary) {
  std::vector<float> logits(4);
  const std::vector<std::int32_t> context = {4};
  EXPECT_THROW(sample_token(logits, context, plain(), 0), Error);
}

}  // namespace
}  // namespace moesmith::train
