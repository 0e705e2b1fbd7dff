// SPDX-License-Identifier: Apache-2.0
#include "kernels/cross_entropy/cross_entropy.h"

#include <gtest/gtest.h>

#include <limits>

#include "decoder_kernels.h"

namespace moesmith::kernels::cross_entropy {
namespace {

template <class T>
class CrossEntropy : public testing::Test {};
using Types = testing::Types<float, bf16>;
TYPED_TEST_SUITE(CrossEntropy, Types);

// A vocabulary of one block of exponentials, of several, and with a tail.
TYPED_TEST(CrossEntropy, matches_double_loss_and_gradient) {
  using T = TypeParam;
  ThreadPool pool(2);
  for (const std::int64_t vocab : {1, 5, 1024, 2500}) {
    const std::int64_t rows = 3;
    const auto logits = normals(rows * vocab, 1);
    const std::vector<std::int32_t> labels = {0, static_cast<std::int32_t>(vocab - 1),
                                              static_cast<std::int32_t>(vocab / 2)};
    std::vector<double> losses(3, std::numeric_limits<double>::quiet_NaN());
    std::vector<T> grad(logits.size(), T(std::numeric_limits<float>::quiet_NaN()));
    forward<T>(rows, vocab, logits.data(), labels.data(), 0.25f, losses.data(), grad.data(), pool);
    for (std::size_t r = 0; r < 3; ++r) {
      double sum = 0;
      const std::size_t row = r * static_cast<std::size_t>(vocab);
      for (std::size_t i = 0; i < static_cast<std::size_t>(vocab); ++i) {
        sum += std::exp(as_double(logits[row + i]));
      }
      const auto label = static_cast<std::size_t>(labels[r]);
      EXPECT_NEAR(losses[r], std::log(sum) - as_double(logits[row + label]), 1e-5);
      for (std::size_t i = 0; i < static_cast<std::size_t>(vocab); ++i) {
        const double p = std::exp(as_double(logits[row + i])) / sum;
        const double want = 0.25 * (p - (i == label ? 1.0 : 0.0));
        EXPECT_NEAR(as_double(grad[row + i]), want, epsilon<T>() * std::abs(want) + 1e-6);
      }
    }
  }
}

TEST(cross_entropy, gradient_may_replace_the_logits) {
  ThreadPool pool(1);
  const auto logits = normals(2 * 1500, 1);
  const std::vector<std::int32_t> labels = {1400, 3};
  std::vector<double> losses(2);
  std::vector<float> apart(logits.size()), in_place = logits;
  forward<float>(2, 1500, logits.data(), labels.data(), 1.0f, losses.data(), apart.data(), pool);
  forward<float>(2, 1500, in_place.data(), labels.data(), 1.0f, losses.data(), in_place.data(),
                 pool);
  EXPECT_EQ(apart, in_place);
}

TEST(cross_entropy, is_finite_for_extreme_logits) {
  ThreadPool pool(1);
  std::vector<float> logits = {1e4f, -1e4f, 0};
  const std::vector<std::int32_t> labels = {1};
  std::vector<double> losses(1);
  forward<float>(1, 3, logits.data(), labels.data(), 1.0f, losses.data(), logits.data(), pool);
  EXPECT_NEAR(losses[0], 2e4, 1);
  EXPECT_NEAR(logits[0], 1, 1e-6);
  EXPECT_NEAR(logits[1], -1, 1e-6);
}

}  // namespace
}  // namespace moesmith::kernels::cross_entropy
