// SPDX-License-Identifier: Apache-2.0
// The vectorised activation against the scalar formula in double, at every length and ISA.
#include "experts/activation/activation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/cpu_features.h"
#include "core/rng.h"

namespace moesmith::experts {
namespace {

constexpr ActivationKind kKinds[] = {ActivationKind::kSilu, ActivationKind::kGelu,
                                     ActivationKind::kGeluTanh, ActivationKind::kRelu,
                                     ActivationKind::kRelu2};

std::vector<ActivationSpec> specs() {
  std::vector<ActivationSpec> all;
  for (const ActivationKind kind : kKinds) {
    for (const bool gated : {true, false}) {
      all.push_back({.kind = kind, .gated = gated, .gate_max = {}, .up_limit = {}});
    }
    all.push_back({.kind = kind, .gate_max = 0.5f, .up_limit = 0.75f, .up_shift = 1.0f});
  }
  all.push_back({.gate_max = 7.0f, .up_limit = 7.0f, .alpha = 1.702f, .up_shift = 1.0f});
  return all;
}

template <class T>
T narrow(double x) {
  return static_cast<T>(static_cast<float>(x));
}

template <class T>
void check(const ActivationSpec& spec, std::int64_t n, std::int64_t stride, bool extreme) {
  const Rng rng(7, static_cast<std::uint64_t>(n));
  const auto count = static_cast<std::size_t>(n);
  std::vector<T> h(2 * count + 2), d_h(2 * count + 2), a(count);
  std::vector<float> d_a(count);
  const float values[] = {-200, -88, -1e-8f, 0, 1e-8f, 20, 88, 200, 0.5f, -0.75f};
  for (std::size_t i = 0; i < h.size(); ++i) {
    h[i] = narrow<T>(static_cast<double>(extreme ? values[i % 10] : 2 * rng.normal(i)));
  }
  for (std::size_t i = 0; i < count; ++i) d_a[i] = rng.normal(1000 + i);
  const GateUp<const T> at = stride == 2 ? GateUp<const T>{h.data(), h.data() + 1, 2}
                                         : GateUp<const T>{h.data(), h.data() + n, 1};
  const GateUp<T> d_at = stride == 2 ? GateUp<T>{d_h.data(), d_h.data() + 1, 2}
                                     : GateUp<T>{d_h.data(), d_h.data() + n, 1};
  const ActivationOps<T>& ops = activation_ops<T>();
  ops.forward(spec, at, a.data(), n);
  std::vector<T> a_again(a.size());
  const float got_sum = ops.backward(spec, at, d_a.data(), 0.5f, d_at, a_again.data(), n);
  double want_sum = 0, sum_scale = 0;
  const double half_ulp = std::is_same_v<T, bf16> ? 0x1p-8 : 0x1p-20;
  for (std::int64_t i = 0; i < n; ++i) {
    const auto g = static_cast<double>(static_cast<float>(at.gate[i * stride]));
    const auto u = spec.gated ? static_cast<double>(static_cast<float>(at.up[i * stride])) : 0;
    const ActivationPoint<double> point = activation_point(spec, g, u);
    const double d = static_cast<double>(d_a[static_cast<std::size_t>(i)]);
    const double size = 1 + std::abs(g) + std::abs(u) + std::abs(point.value);
    const auto close = [&](T got, double want, const char* what) {
      EXPECT_NEAR(static_cast<double>(static_cast<float>(got)), want,
                  half_ulp * std::abs(want) + 0x1p-20 * size * (1 + std::abs(d)))
          << what << " of kind " << static_cast<int>(spec.kind) << " at g=" << g << " u=" << u;
    };
    const T value = a[static_cast<std::size_t>(i)];
    close(value, point.value, "value");
    EXPECT_EQ(static_cast<float>(a_again[static_cast<std::size_t>(i)]), static_cast<float>(value));
    close(d_at.gate[i * stride], 0.5 * d * point.d_gate, "d_gate");
    if (spec.gated) close(d_at.up[i * stride], 0.5 * d * point.d_up, "d_up");
    want_sum += d * static_cast<double>(static_cast<float>(value));
    sum_scale += std::abs(d * static_cast<double>(static_cast<float>(value)));
  }
  EXPECT_NEAR(got_sum, want_sum, 0x1p-20 * sum_scale) << "the sum reads a as it is stored";
}

class activation : public ::testing::TestWithParam<IsaLevel> {
 protected:
  void SetUp() override {
    if (GetParam() > detected_isa()) GTEST_SKIP() << "this CPU has no " << isa_name(GetParam());
    before_ = active_isa();
    set_isa(GetParam());
  }
  void TearDown() override {
    if (!IsSkipped()) set_isa(before_);
  }
  IsaLevel before_ = IsaLevel::kPortable;
};

TEST_P(activation, matches_the_formula_at_every_length) {
  for (const ActivationSpec& spec : specs()) {
    for (std::int64_t n = 0; n <= 35; ++n) {
      for (const std::int64_t stride : {1, 2}) {
        check<float>(spec, n, stride, false);
        check<bf16>(spec, n, stride, false);
      }
    }
  }
}

TEST_P(activation, holds_at_extreme_values) {
  for (const ActivationSpec& spec : specs()) {
    check<float>(spec, 40, 1, true);
    check<bf16>(spec, 40, 1, true);
  }
}

TEST_P(activation, keeps_a_nan) {
  for (const ActivationKind kind :
       {ActivationKind::kSilu, ActivationKind::kGelu, ActivationKind::kGeluTanh}) {
    const ActivationSpec spec{.kind = kind, .gate_max = {}, .up_limit = {}};
    const float h[2] = {std::numeric_limits<float>::quiet_NaN(), 1.0f};
    float a = 0;
    activation_ops<float>().forward(spec, {h, h + 1, 1}, &a, 1);
    EXPECT_TRUE(std::isnan(a));
  }
}

INSTANTIATE_TEST_SUITE_P(isa,
                         activation,
                         ::testing::Values(IsaLevel::kPortable,
                                           IsaLevel::kAvx2,
                                           IsaLevel::kAvx512,
                                           IsaLevel::kAvx512Bf16),
                         [](const auto& info) { return std::string(isa_name(info.param)); });

}  // namespace
}  // namespace moesmith::experts
