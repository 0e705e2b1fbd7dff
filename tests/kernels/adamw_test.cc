// SPDX-License-Identifier: Apache-2.0
#include "kernels/adamw/adamw.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "core/rng.h"

namespace moesmith::kernels::adamw {
namespace {

std::vector<float> random_values(std::int64_t count, std::uint64_t stream, float scale) {
  const Rng rng(7, stream);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = scale * rng.normal(i);
  return values;
}

struct State {
  explicit State(std::int64_t count)
      : param(random_values(count, 1, 1.0f)),
        exp_avg(static_cast<std::size_t>(count)),
        exp_avg_sq(static_cast<std::size_t>(count)) {}
  Args args(const std::vector<float>& grad) {
    return {param.data(), exp_avg.data(), exp_avg_sq.data(), grad.data(),
            static_cast<std::int64_t>(param.size())};
  }
  std::vector<float> param, exp_avg, exp_avg_sq;
};

// The published algorithm in double; parameters rounded to f32 nowhere.
void oracle_step(std::vector<double>& p,
                 std::vector<double>& m,
                 std::vector<double>& v,
                 const std::vector<float>& grad,
                 const Hyper& h,
                 int step,
                 double grad_scale) {
  for (std::size_t i = 0; i < p.size(); ++i) {
    const double g = grad[i] * grad_scale;
    p[i] *= 1.0 - h.lr * h.weight_decay;
    m[i] = h.beta1 * m[i] + (1.0 - h.beta1) * g;
    v[i] = h.beta2 * v[i] + (1.0 - h.beta2) * g * g;
    const double m_hat = m[i] / (1.0 - std::pow(h.beta1, step));
    const double v_hat = v[i] / (1.0 - std::pow(h.beta2, step));
    p[i] -= h.lr * m_hat / (std::sqrt(v_hat) + h.epsilon);
  }
}

class AdamWImpl : public testing::TestWithParam<Impl> {
 protected:
  void SetUp() override {
    if (GetParam().needs > detected_isa()) {
      GTEST_SKIP() << GetParam().name << ": this processor has " << isa_name(detected_isa());
    }
  }
};

TEST_P(AdamWImpl, follows_the_published_algorithm) {
  const Hyper hyper{.lr = 3e-2, .weight_decay = 0.1};
  for (std::int64_t count = 0; count <= 35; ++count) {
    State state(count);
    std::vector<double> p(state.param.begin(), state.param.end()), m(p.size()), v(p.size());
    for (int step = 1; step <= 4; ++step) {
      const auto grad = random_values(count, 10 + static_cast<std::uint64_t>(step), 0.1f);
      GetParam().update(state.args(grad), coefficients(hyper, step, 0.5));
      oracle_step(p, m, v, grad, hyper, step, 0.5);
    }
    for (std::size_t i = 0; i < p.size(); ++i) {
      // Four steps of at most lr each in f32: a few ulps of the values at hand.
      ASSERT_NEAR(state.param[i], p[i], 2e-6 * (1.0 + std::abs(p[i]))) << count << " " << i;
      ASSERT_NEAR(state.exp_avg[i], m[i], 1e-7) << count << " " << i;
      ASSERT_NEAR(state.exp_avg_sq[i], v[i], 1e-8) << count << " " << i;
    }
  }
}

TEST_P(AdamWImpl, leaves_the_neighbours_of_a_tail_alone) {
  const auto grad = random_values(64, 3, 1.0f);
  for (std::int64_t count = 1; count < 40; ++count) {
    State state(64);
    const State before = state;
    Args args = state.args(grad);
    args.count = count;
    GetParam().update(args, coefficients({}, 1, 1.0));
    for (std::size_t i = static_cast<std::size_t>(count); i < 64; ++i) {
      ASSERT_EQ(state.param[i], before.param[i]);
      ASSERT_EQ(state.exp_avg[i], 0.0f);
      ASSERT_EQ(state.exp_avg_sq[i], 0.0f);
    }
  }
}

TEST_P(AdamWImpl, adds_squares_to_the_same_bits_as_the_portable_loop) {
  for (const std::int64_t count : {0, 1, 15, 16, 17, 1000, 16384}) {
    const auto values = random_values(count, 5, 3.0f);
    EXPECT_EQ(GetParam().sum_of_squares(values.data(), count),
              impls().back().sum_of_squares(values.data(), count))
        << count;
  }
}

INSTANTIATE_TEST_SUITE_P(adamw,
                         AdamWImpl,
                         testing::ValuesIn(impls().begin(), impls().end()),
                         [](const auto& info) { return std::string(info.param.name); });

// Closed form: m / sqrt(v) is the sign of the gradient, so p (1 - lr wd) - lr sign(g).
TEST(adamw, first_step_moves_by_lr_against_the_sign) {
  ThreadPool pool(1);
  State state(3);
  state.param = {1.0f, -2.0f, 0.5f};
  const std::vector<float> grad = {0.1f, -0.2f, 0.3f};
  run(state.args(grad), coefficients({.lr = 0.1, .weight_decay = 0.01}, 1, 1.0), pool);
  EXPECT_NEAR(state.param[0], 0.999 - 0.1, 1e-6);
  EXPECT_NEAR(state.param[1], -1.998 + 0.1, 1e-6);
  EXPECT_NEAR(state.param[2], 0.4995 - 0.1, 1e-6);
}

TEST(adamw, same_bits_for_any_thread_count) {
  const std::int64_t count = 300001;
  const auto grad = random_values(count, 2, 1.0f);
  State one(count), many(count);
  ThreadPool pool1(1), pool3(3);
  for (int step = 1; step <= 2; ++step) {
    run(one.args(grad), coefficients({}, step, 1.0), pool1);
    run(many.args(grad), coefficients({}, step, 1.0), pool3);
  }
  EXPECT_EQ(one.param, many.param);
  EXPECT_EQ(sum_of_squares(grad.data(), count, pool1), sum_of_squares(grad.data(), count, pool3));
}

TEST(adamw, sum_of_squares_is_exact_enough_for_a_large_tensor) {
  ThreadPool pool(2);
  const std::vector<float> values(100000, 0.1f);
  const double square = static_cast<double>(0.1f) * static_cast<double>(0.1f);
  EXPECT_NEAR(sum_of_squares(values.data(), 100000, pool), 1e5 * square, 1e-9);
}

}  // namespace
}  // namespace moesmith::kernels::adamw
