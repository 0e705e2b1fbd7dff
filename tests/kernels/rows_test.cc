// SPDX-License-Identifier: Apache-2.0
#include "kernels/rows/rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "core/cpu_features.h"
#include "decoder_kernels.h"

namespace moesmith::kernels::rows {
namespace {

constexpr float kGuard = 12345.0f;

// Every remainder of the vector width, and a length of many vectors.
const std::vector<std::int64_t> kLengths = {1, 2, 7, 15, 16, 17, 31, 33, 48, 100, 515};

template <class T>
class Rows : public testing::Test {
 protected:
  void SetUp() override { before_ = active_isa(); }
  void TearDown() override { set_isa(before_); }

  // Runs the case under each instruction set that this processor has.
  template <class Body>
  void each_isa(const Body& body) {
    for (const IsaLevel level :
         {IsaLevel::kPortable, IsaLevel::kAvx2, IsaLevel::kAvx512, IsaLevel::kAvx512Bf16}) {
      if (level > detected_isa()) continue;
      set_isa(level);
      SCOPED_TRACE(isa_name(level));
      for (const std::int64_t n : kLengths) {
        SCOPED_TRACE(n);
        body(ops<T>(), n);
      }
    }
  }

  static std::vector<T> guarded(std::int64_t n) {
    return std::vector<T>(static_cast<std::size_t>(n + 1), T(kGuard));
  }
  static void expect_guard(const std::vector<T>& v) {
    EXPECT_EQ(static_cast<float>(v.back()), static_cast<float>(T(kGuard))) << "wrote past the end";
  }

 private:
  IsaLevel before_;
};

using Types = testing::Types<float, bf16>;
TYPED_TEST_SUITE(Rows, Types);

TYPED_TEST(Rows, sums_match_double) {
  using T = TypeParam;
  this->each_isa([](const Ops<T>& op, std::int64_t n) {
    const auto a = cast<T>(normals(n, 1)), b = cast<T>(normals(n, 2));
    const auto dy = normals(n, 3);
    double squares = 0, dot = 0, dot3 = 0, size = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      squares += as_double(a[i]) * as_double(a[i]);
      dot += as_double(a[i]) * as_double(b[i]);
      dot3 += as_double(dy[i]) * as_double(a[i]) * as_double(b[i]);
      size += std::abs(as_double(dy[i]) * as_double(a[i]) * as_double(b[i])) + 1;
    }
    EXPECT_NEAR(op.sum_squares(a.data(), n), squares, 1e-6 * squares);
    EXPECT_NEAR(op.dot(a.data(), b.data(), n), dot, 1e-6 * size);
    EXPECT_NEAR(op.dot3(dy.data(), a.data(), b.data(), n), dot3, 1e-6 * size);
  });
}

TYPED_TEST(Rows, turn_exchanges_rows_and_columns) {
  using T = TypeParam;
  this->each_isa([](const Ops<T>& op, std::int64_t num_columns) {
    for (const std::int64_t num_rows : {1, 3, 4, 16, 18}) {
      const std::int64_t from_stride = num_columns + 3, to_stride = num_rows + 2;
      const auto from = cast<T>(normals(num_rows * from_stride, 1));
      std::vector<float> to(static_cast<std::size_t>(num_columns * to_stride), kGuard);
      op.turn(to.data(), to_stride, from.data(), from_stride, num_rows, num_columns);
      for (std::int64_t c = 0; c < num_columns; ++c) {
        for (std::int64_t r = 0; r < to_stride; ++r) {
          const float expected =
              r < num_rows ? static_cast<float>(from[static_cast<std::size_t>(r * from_stride + c)])
                           : kGuard;
          ASSERT_EQ(to[static_cast<std::size_t>(c * to_stride + r)], expected) << r << ", " << c;
        }
      }
    }
  });
}

// From the start of a line, and from its middle; whole lines, and not.
TYPED_TEST(Rows, stream_stores_what_from_f32_does) {
  using T = TypeParam;
  this->each_isa([](const Ops<T>& op, std::int64_t n) {
    const auto x = normals(n, 1);
    for (const std::int64_t count : {n, n / 32 * 32}) {
      alignas(64) T space[640];
      for (const std::int64_t at : {0, 5, 32}) {
        std::fill(std::begin(space), std::end(space), T(kGuard));
        op.stream(space + at, x.data(), count);
        fence();
        std::vector<T> expected = Rows<T>::guarded(count);
        op.from_f32(expected.data(), x.data(), 1.0f, count);
        for (std::int64_t i = 0; i <= count; ++i) {
          ASSERT_EQ(static_cast<float>(space[at + i]),
                    static_cast<float>(expected[static_cast<std::size_t>(i)]))
              << at << " + " << i;
        }
      }
    }
  });
}

TYPED_TEST(Rows, elementwise_operations_match_double_and_stay_inside) {
  using T = TypeParam;
  this->each_isa([](const Ops<T>& op, std::int64_t n) {
    const auto a = cast<T>(normals(n, 1)), b = cast<T>(normals(n, 2));
    const auto f = normals(n, 3);
    auto sum = Rows<T>::guarded(n), scaled = sum, rounded = sum;
    std::vector<float> acc = f;
    op.add(sum.data(), a.data(), b.data(), n);
    op.scale_by(scaled.data(), a.data(), b.data(), 0.5f, n);
    op.from_f32(rounded.data(), f.data(), 3.0f, n);
    op.axpy(acc.data(), a.data(), -2.0f, n);
    const double tolerance = 2 * epsilon<T>();
    for (std::size_t i = 0; i < a.size(); ++i) {
      const double x = as_double(a[i]), y = as_double(b[i]), z = as_double(f[i]);
      EXPECT_NEAR(as_double(sum[i]), x + y, tolerance * std::abs(x + y));
      EXPECT_NEAR(as_double(scaled[i]), 0.5 * x * y, tolerance * std::abs(x * y));
      EXPECT_NEAR(as_double(rounded[i]), 3 * z, tolerance * std::abs(3 * z));
      EXPECT_NEAR(as_double(acc[i]), z - 2 * x, 1e-6 * (std::abs(z) + std::abs(x)));
    }
    for (const auto* out : {&sum, &scaled, &rounded}) Rows<T>::expect_guard(*out);
  });
}

TYPED_TEST(Rows, stores_round_as_the_scalar_type_does) {
  using T = TypeParam;
  this->each_isa([](const Ops<T>& op, std::int64_t n) {
    auto f = normals(n, 3);
    f[0] = std::numeric_limits<float>::quiet_NaN();
    if (n > 2) f[1] = std::numeric_limits<float>::infinity();
    if (n > 2) f[2] = 1.00390625f;  // halfway between two bf16
    std::vector<T> out(f.size());
    op.from_f32(out.data(), f.data(), 1.0f, n);
    EXPECT_TRUE(std::isnan(as_double(out[0])));
    for (std::size_t i = 1; i < f.size(); ++i) EXPECT_EQ(as_double(out[i]), as_double(T(f[i])));
  });
}

TYPED_TEST(Rows, exponentials_match_over_the_whole_range) {
  using T = TypeParam;
  this->each_isa([](const Ops<T>& op, std::int64_t n) {
    auto x = normals(n, 4);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = x[i] * 60.0f - 80.0f;
    x[0] = -std::numeric_limits<float>::infinity();
    std::vector<T> y(x.size());
    const float sum = op.exp_shift(y.data(), x.data(), 0.5f, 1.5f, n);
    double want_sum = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double want = std::exp(0.5 * as_double(x[i]) - 1.5);
      want_sum += want;
      EXPECT_NEAR(as_double(y[i]), want, (2 * epsilon<T>() + 4e-6) * want + 1e-37) << x[i];
    }
    EXPECT_NEAR(sum, want_sum, 1e-5 * want_sum + 1e-37);
  });
}

TYPED_TEST(Rows, largest_and_softmax_gradient_match_double_and_stay_inside) {
  using T = TypeParam;
  this->each_isa([](const Ops<T>& op, std::int64_t n) {
    auto s = normals(n, 1), dp = normals(n, 2), lse = normals(n, 3), delta = normals(n, 4);
    for (float& x : s) x -= 100.0f;  // a largest that no padding may stand in for
    EXPECT_EQ(op.max(s.data(), n), *std::max_element(s.begin(), s.end()));
    for (float& x : s) x += 100.0f;
    auto p = Rows<T>::guarded(n), ds = p;
    op.softmax_backward(p.data(), ds.data(), s.data(), dp.data(), 0.3f, lse.data(), delta.data(),
                        n);
    for (std::size_t i = 0; i < s.size(); ++i) {
      const double want = std::exp(0.3 * as_double(s[i]) - as_double(lse[i]));
      const double gap = as_double(dp[i]) - as_double(delta[i]);
      EXPECT_NEAR(as_double(p[i]), want, (epsilon<T>() + 1e-6) * want);
      EXPECT_NEAR(as_double(ds[i]), 0.3 * want * gap,
                  (epsilon<T>() + 1e-6) * want * (std::abs(gap) + 1));
    }
    for (const auto* out : {&p, &ds}) Rows<T>::expect_guard(*out);
  });
  EXPECT_EQ(ops<T>().max(nullptr, 0), -std::numeric_limits<float>::infinity());
}

TYPED_TEST(Rows, elements_below_the_probability_are_dropped) {
  using T = TypeParam;
  this->each_isa([](const Ops<T>& op, std::int64_t n) {
    const auto x = cast<T>(normals(n, 1));
    const auto d = normals(n, 2);
    std::vector<float> u(x.size());
    Rng(3, 4).uniforms(0, u);
    u[0] = 0.25f;  // the probability itself is kept
    auto y = Rows<T>::guarded(n);
    op.keep(y.data(), x.data(), u.data(), 0.25f, 2.0f, n);
    for (std::size_t i = 0; i < x.size(); ++i) {
      EXPECT_EQ(as_double(y[i]), u[i] >= 0.25f ? 2 * as_double(x[i]) : 0.0);
    }
    Rows<T>::expect_guard(y);
    auto sum = x;
    op.add_kept(sum.data(), d.data(), u.data(), 0.25f, 2.0f, n);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double want = as_double(x[i]) + (u[i] >= 0.25f ? 2 * as_double(d[i]) : 0.0);
      EXPECT_NEAR(as_double(sum[i]), want, epsilon<T>() * (std::abs(want) + 1e-3));
    }
  });
}

TYPED_TEST(Rows, rotation_is_undone_by_its_transpose) {
  using T = TypeParam;
  this->each_isa([](const Ops<T>& op, std::int64_t n) {
    const auto x = cast<T>(normals(2 * n, 1));
    std::vector<float> c, s;
    for (std::int64_t i = 0; i < n; ++i) {
      c.push_back(static_cast<float>(std::cos(0.1 * static_cast<double>(i))));
      s.push_back(static_cast<float>(std::sin(0.1 * static_cast<double>(i))));
    }
    std::vector<T> y(x.size());
    op.rotate(y.data(), x.data(), c.data(), s.data(), 1.0f, n);
    for (std::size_t i = 0; i < c.size(); ++i) {
      const double a = as_double(x[i]), b = as_double(x[i + c.size()]);
      EXPECT_NEAR(as_double(y[i]), a * as_double(c[i]) - b * as_double(s[i]), 4 * epsilon<T>() * 3);
      EXPECT_NEAR(as_double(y[i + c.size()]), b * as_double(c[i]) + a * as_double(s[i]),
                  4 * epsilon<T>() * 3);
    }
    op.rotate(y.data(), y.data(), c.data(), s.data(), -1.0f, n);
    EXPECT_LT(relative_error(y, x), 4 * epsilon<T>());
  });
}

TYPED_TEST(Rows, silu_gradients_match_finite_differences) {
  using T = TypeParam;
  this->each_isa([](const Ops<T>& op, std::int64_t n) {
    const auto g = cast<T>(normals(n, 1)), u = cast<T>(normals(n, 2)), dy = cast<T>(normals(n, 3));
    std::vector<T> y(g.size()), dg(g.size()), du(g.size());
    op.silu_mul(y.data(), g.data(), u.data(), n);
    op.silu_mul_backward(dg.data(), du.data(), g.data(), u.data(), dy.data(), n);
    const auto silu = [](double x) { return x / (1 + std::exp(-x)); };
    for (std::size_t i = 0; i < g.size(); ++i) {
      const double a = as_double(g[i]), b = as_double(u[i]), d = as_double(dy[i]);
      const double slope = (silu(a + 1e-5) - silu(a - 1e-5)) / 2e-5;
      EXPECT_NEAR(as_double(y[i]), silu(a) * b, 3 * epsilon<T>() * (1 + std::abs(a * b)));
      EXPECT_NEAR(as_double(du[i]), d * silu(a), 3 * epsilon<T>() * (1 + std::abs(a * d)));
      EXPECT_NEAR(as_double(dg[i]), d * b * slope, 3 * epsilon<T>() * (1 + std::abs(b * d)));
    }
  });
}

}  // namespace
}  // namespace moesmith::kernels::rows
