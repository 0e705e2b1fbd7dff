// SPDX-License-Identifier: Apache-2.0
#include "core/rng.h"

#include <gtest/gtest.h>

#include <cmath>

namespace moesmith {
namespace {

// Known answers of Philox4x32-10 published with the Random123 library (kat_vectors).
TEST(philox, gives_the_published_answers) {
  const std::array<std::uint32_t, 4> zeros{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u};
  const std::array<std::uint32_t, 4> ones{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu};
  EXPECT_EQ(philox(0, 0, 0), zeros);
  EXPECT_EQ(philox(~0ull, ~0ull, ~0ull), ones);
}

TEST(rng, draws_depend_on_seed_stream_and_index_alone) {
  EXPECT_EQ(Rng(1, 2).bits(3), Rng(1, 2).bits(3));
  EXPECT_NE(Rng(1, 2).bits(3), Rng(1, 2).bits(4));
  EXPECT_NE(Rng(1, 2).bits(3), Rng(1, 3).bits(3));
  EXPECT_NE(Rng(1, 2).bits(3), Rng(2, 2).bits(3));
}

TEST(rng, uniform_and_normal_have_their_moments) {
  const Rng rng(7, 0);
  constexpr int kDraws = 100000;
  double uniform = 0, normal = 0, square = 0;
  for (int i = 0; i < kDraws; ++i) {
    const float u = rng.uniform(static_cast<std::uint64_t>(i));
    ASSERT_GE(u, 0.0f);
    ASSERT_LT(u, 1.0f);
    uniform += u;
    const double n = rng.normal(static_cast<std::uint64_t>(i));
    normal += n;
    square += n * n;
  }
  EXPECT_NEAR(uniform / kDraws, 0.5, 5 * 0.2887 / std::sqrt(kDraws));
  EXPECT_NEAR(normal / kDraws, 0.0, 5 / std::sqrt(kDraws));
  EXPECT_NEAR(square / kDraws, 1.0, 5 * std::sqrt(2.0 / kDraws));
}

TEST(rng, below_stays_below_and_reaches_each_value) {
  const Rng rng(3, 1);
  std::array<int, 7> seen{};
  for (std::uint64_t i = 0; i < 7000; ++i) {
    const std::uint64_t value = rng.below(i, seen.size());
    ASSERT_LT(value, seen.size());
    ++seen[value];
  }
  for (const int count : seen) EXPECT_NEAR(count, 1000, 150);
}

}  // namespace
}  // namespace moesmith
