// SPDX-License-Identifier: Apache-2.0
#include "kernels/rms_norm/rms_norm.h"

#include <gtest/gtest.h>

#include <cstring>

#include "decoder_kernels.h"

namespace moesmith::kernels::rms_norm {
namespace {

constexpr double kEps = 1e-5;

// <dy, norm(x) * w> of one row, in double.
double loss(const std::vector<double>& x, const std::vector<double>& w, const float* dy) {
  double squares = 0, sum = 0;
  for (const double v : x) squares += v * v;
  const double rstd = 1 / std::sqrt(squares / static_cast<double>(x.size()) + kEps);
  for (std::size_t i = 0; i < x.size(); ++i) sum += static_cast<double>(dy[i]) * x[i] * rstd * w[i];
  return sum;
}

template <class T>
struct Run {
  std::vector<T> y, dx;
  std::vector<float> rstd, dw;
};

// Rows of `heads` x `dim`, tokens `gap` elements further apart than they need to be.
template <class T>
Run<T> run(std::int64_t n,
           std::int64_t heads,
           std::int64_t dim,
           std::int64_t gap,
           const std::vector<T>& x,
           const std::vector<T>& w,
           const std::vector<float>& dy,
           bool in_place_add,
           int threads) {
  ThreadPool pool(threads);
  const std::int64_t stride = heads * dim + gap;
  Run<T> r{std::vector<T>(x.size(), T(7.0f)), std::vector<T>(x.size(), T(0.5f)),
           std::vector<float>(static_cast<std::size_t>(n * heads)),
           std::vector<float>(static_cast<std::size_t>(dim), 2.0f)};
  forward<T>({n, heads, dim, stride, stride, x.data(), w.data(), static_cast<float>(kEps),
              r.y.data(), r.rstd.data()},
             pool);
  std::vector<float> partial(static_cast<std::size_t>(partial_floats(n, dim)));
  BackwardArgs<T> back;
  back.num_tokens = n;
  back.heads = heads;
  back.dim = dim;
  back.x_stride = back.dy_stride = back.dx_stride = stride;
  back.x = x.data();
  back.weight = w.data();
  back.rstd = r.rstd.data();
  back.dy = dy.data();
  back.dx = r.dx.data();
  back.add = in_place_add ? r.dx.data() : nullptr;
  back.d_weight = r.dw.data();
  back.partial_scratch = partial.data();
  backward(back, pool);
  return r;
}

template <class T>
class RmsNorm : public testing::Test {};
using Types = testing::Types<float, bf16>;
TYPED_TEST_SUITE(RmsNorm, Types);

TYPED_TEST(RmsNorm, gradients_match_finite_differences) {
  using T = TypeParam;
  const std::int64_t n = 3, heads = 2, dim = 20, gap = 5, stride = heads * dim + gap;
  const auto x = cast<T>(normals(n * stride, 1)), w = cast<T>(normals(dim, 2));
  const auto dy = normals(n * stride, 3);
  for (const bool add : {false, true}) {
    const Run<T> got = run(n, heads, dim, gap, x, w, dy, add, 2);
    std::vector<double> weights, dw(static_cast<std::size_t>(dim), 2.0);
    for (const T v : w) weights.push_back(as_double(v));
    for (std::int64_t row = 0; row < n * heads; ++row) {
      const auto at = static_cast<std::size_t>(row / heads * stride + row % heads * dim);
      std::vector<double> values;
      for (std::size_t i = 0; i < weights.size(); ++i) values.push_back(as_double(x[at + i]));
      for (std::size_t i = 0; i < weights.size(); ++i) {
        constexpr double kStep = 1e-5;
        const auto slope = [&](std::vector<double>& moved) {
          const double before = moved[i];
          moved[i] = before + kStep;
          const double up = loss(values, weights, dy.data() + at);
          moved[i] = before - kStep;
          const double down = loss(values, weights, dy.data() + at);
          moved[i] = before;
          return (up - down) / (2 * kStep);
        };
        EXPECT_NEAR(as_double(got.dx[at + i]), slope(values) + (add ? 0.5 : 0.0),
                    4 * epsilon<T>() * 4 + 1e-6);
        dw[i] += slope(weights);
      }
    }
    EXPECT_LT(relative_error(got.dw, dw), 1e-5);
    // Between the tokens nothing is written.
    EXPECT_EQ(as_double(got.y[static_cast<std::size_t>(heads * dim)]), 7.0);
    EXPECT_EQ(as_double(got.dx[static_cast<std::size_t>(heads * dim)]), 0.5);
  }
}

TYPED_TEST(RmsNorm, is_bitwise_the_same_for_any_number_of_threads) {
  using T = TypeParam;
  const std::int64_t n = 200, dim = 33;
  const auto x = cast<T>(normals(n * dim, 1)), w = cast<T>(normals(dim, 2));
  const auto dy = normals(n * dim, 3);
  const Run<T> one = run(n, 1, dim, 0, x, w, dy, false, 1);
  const Run<T> four = run(n, 1, dim, 0, x, w, dy, false, 4);
  EXPECT_EQ(std::memcmp(one.dw.data(), four.dw.data(), one.dw.size() * 4), 0);
  EXPECT_EQ(std::memcmp(one.dx.data(), four.dx.data(), one.dx.size() * sizeof(T)), 0);
}

}  // namespace
}  // namespace moesmith::kernels::rms_norm
