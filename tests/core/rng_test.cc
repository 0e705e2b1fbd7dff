// SPDX-License-Identifier: Apache-2.0
#include "core/rng.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <vector>

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

// The formula in double, and every start and length of the block that is drawn at once.
TEST(rng, normal_is_box_muller_however_many_are_drawn) {
  const Rng rng(11, 5);
  for (std::uint64_t first : {0ull, 1ull, 3ull, 0xfffffffeull, 0xffffffffffull}) {
    for (const std::size_t count : {1u, 7u, 8u, 9u, 40u, 133u}) {
      std::vector<float> normals(count), uniforms(count);
      rng.normals(first, normals);
      rng.uniforms(first, uniforms);
      for (std::size_t i = 0; i < count; ++i) {
        ASSERT_EQ(normals[i], rng.normal(first + i));
        ASSERT_EQ(uniforms[i], rng.uniform(first + i));
      }
    }
  }
  for (std::uint64_t i = 0; i < 100000; ++i) {
    const auto words = philox(11, 5, i);
    const double u = (static_cast<double>(words[0] >> 8) + 1.0) * 0x1p-24;
    const double v = static_cast<double>(words[1] >> 8) * 0x1p-24;
    const double radius = std::sqrt(-2.0 * std::log(u));
    const double want = radius * std::cos(2.0 * std::numbers::pi * v);
    ASSERT_NEAR(rng.normal(i), want, 4e-7 * radius + 1e-30) << i;
  }
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
