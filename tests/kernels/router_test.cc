// SPDX-License-Identifier: Apache-2.0
#include "kernels/router/router.h"

#include <gtest/gtest.h>

#include "decoder_kernels.h"

namespace moesmith::kernels::router {
namespace {

std::vector<double> softmax(const std::vector<double>& x) {
  std::vector<double> p;
  double sum = 0;
  for (const double v : x) sum += std::exp(v);
  for (const double v : x) p.push_back(std::exp(v) / sum);
  return p;
}

// sum of dw * weights of the given experts, plus <d_prob, p>.
double loss(const std::vector<double>& logits,
            const std::vector<std::int32_t>& chosen,
            const float* dw,
            const std::vector<float>& d_prob,
            bool renormalise) {
  const auto p = softmax(logits);
  double sum = 0, value = 0;
  for (const std::int32_t e : chosen) sum += p[static_cast<std::size_t>(e)];
  for (std::size_t s = 0; s < chosen.size(); ++s) {
    value += static_cast<double>(dw[s]) * p[static_cast<std::size_t>(chosen[s])] /
             (renormalise ? sum : 1.0);
  }
  for (std::size_t e = 0; e < d_prob.size(); ++e) value += static_cast<double>(d_prob[e]) * p[e];
  return value;
}

TEST(router, picks_the_largest_and_the_lower_index_on_ties) {
  ThreadPool pool(2);
  const std::vector<float> logits = {1, 3, 3, 2, 0, 3,  //
                                     5, 5, 5, 5, 5, 5};
  std::vector<std::int32_t> index(6);
  std::vector<float> weights(6);
  forward({2, 6, 3, true}, logits.data(), index.data(), weights.data(), pool);
  EXPECT_EQ(index, (std::vector<std::int32_t>{1, 2, 5, 0, 1, 2}));
  for (const float w : weights) EXPECT_NEAR(w, 1.0 / 3, 1e-6);
}

TEST(router, weights_are_probabilities_unless_renormalised) {
  ThreadPool pool(1);
  const auto logits = normals(5 * 7, 1);
  std::vector<std::int32_t> index(10);
  std::vector<float> plain(10), renormalised(10);
  forward({5, 7, 2, false}, logits.data(), index.data(), plain.data(), pool);
  forward({5, 7, 2, true}, logits.data(), index.data(), renormalised.data(), pool);
  for (std::size_t t = 0; t < 5; ++t) {
    const std::vector<double> row(logits.begin() + static_cast<std::ptrdiff_t>(t * 7),
                                  logits.begin() + static_cast<std::ptrdiff_t>(t * 7 + 7));
    const auto p = softmax(row);
    EXPECT_GE(plain[2 * t], plain[2 * t + 1]);
    EXPECT_NEAR(plain[2 * t], p[static_cast<std::size_t>(index[2 * t])], 1e-6);
    EXPECT_NEAR(renormalised[2 * t] + renormalised[2 * t + 1], 1.0, 1e-6);
  }
}

TEST(router, gradients_match_finite_differences) {
  ThreadPool pool(2);
  const std::int64_t n = 4, experts = 9, k = 3;
  const auto logits = normals(n * experts, 1), dw = normals(n * k, 2), d_prob = normals(experts, 3);
  for (const bool renormalise : {false, true}) {
    const Problem problem{n, experts, k, renormalise};
    std::vector<std::int32_t> index(static_cast<std::size_t>(n * k));
    std::vector<float> weights(index.size()), got(logits.size());
    forward(problem, logits.data(), index.data(), weights.data(), pool);
    backward(problem, logits.data(), index.data(), dw.data(), d_prob.data(), got.data(), pool);
    for (std::size_t i = 0; i < logits.size(); ++i) {
      const std::size_t t = i / static_cast<std::size_t>(experts), e = i % experts;
      std::vector<double> row;
      for (std::size_t j = 0; j < static_cast<std::size_t>(experts); ++j) {
        row.push_back(static_cast<double>(logits[t * experts + j]));
      }
      const std::vector<std::int32_t> chosen(
          index.begin() + static_cast<std::ptrdiff_t>(t * 3),
          index.begin() + static_cast<std::ptrdiff_t>(t * 3 + 3));
      constexpr double kStep = 1e-5;
      row[e] += kStep;
      const double up = loss(row, chosen, dw.data() + t * k, d_prob, renormalise);
      row[e] -= 2 * kStep;
      const double down = loss(row, chosen, dw.data() + t * k, d_prob, renormalise);
      EXPECT_NEAR(got[i], (up - down) / (2 * kStep), 1e-5);
    }
  }
}

TEST(router, counts_slots_and_probabilities) {
  ThreadPool pool(1);
  const std::vector<float> logits = {0, 0, 0, 2, 1, 0};
  std::vector<std::int32_t> index(4);
  std::vector<float> weights(4);
  const Problem problem{2, 3, 2, false};
  forward(problem, logits.data(), index.data(), weights.data(), pool);
  std::vector<double> counts(3, 1.0), sums(3, 0.0);
  add_balance_statistics(problem, logits.data(), index.data(), counts.data(), sums.data());
  EXPECT_EQ(counts, (std::vector<double>{3, 3, 1}));
  const auto p = softmax({2, 1, 0});
  for (std::size_t e = 0; e < 3; ++e) EXPECT_NEAR(sums[e], p[e] + 1.0 / 3, 1e-6);
}

}  // namespace
}  // namespace moesmith::kernels::router
