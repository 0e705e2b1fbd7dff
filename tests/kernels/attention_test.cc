// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/attention.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "decoder_kernels.h"

namespace moesmith::kernels::attention {
namespace {

struct Case {
  const char* name;
  std::vector<std::int64_t> lengths;  // of the segments
  std::int64_t heads, kv_heads, dim, window, past = 0;
};

// Blocks are 128 wide: lengths around one, two and many; windows smaller and larger than a block.
const std::vector<Case> kCases = {
    {"one_token", {1}, 2, 1, 4, 0},
    {"one_segment", {37}, 4, 2, 16, 0},
    {"packed", {5, 1, 130, 64}, 3, 3, 8, 0},
    {"several_blocks", {300}, 2, 1, 16, 0},
    {"whole_blocks", {256}, 2, 2, 8, 0},
    {"small_window", {300, 20}, 2, 1, 8, 7},
    {"window_of_one", {140}, 1, 1, 8, 1},
    {"window_over_a_block", {400}, 2, 1, 8, 200},
    // Heads whose packed panels are whole, so that blocks on the diagonal are cut.
    {"whole_panels", {128, 200, 64, 65}, 4, 2, 64, 0},
    {"cut_window", {330}, 2, 1, 64, 90},
};

std::int64_t tokens_of(const Case& c) {
  std::int64_t n = 0;
  for (const std::int64_t length : c.lengths) n += length;
  return n;
}

std::vector<Segment> segments_of(const Case& c) {
  std::vector<Segment> list;
  std::int64_t at = 0;
  for (const std::int64_t length : c.lengths) {
    list.push_back({at, length, at, 0});
    at += length;
  }
  return list;
}

// Plain loops in double: out, and with d_out the gradients.
struct Reference {
  std::vector<double> out, dq, dk, dv;
};
template <class T>
Reference reference(const Case& c,
                    const std::vector<T>& q,
                    const std::vector<T>& k,
                    const std::vector<T>& v,
                    const std::vector<T>& d_out,
                    double scale) {
  Reference ref;
  ref.out.resize(q.size());
  ref.dq.resize(q.size());
  ref.dk.resize(k.size());
  ref.dv.resize(k.size());
  const std::int64_t group = c.heads / c.kv_heads;
  for (const Segment& s : segments_of(c)) {
    for (std::int64_t h = 0; h < c.heads; ++h) {
      const auto q_at = [&](std::int64_t i) {
        return static_cast<std::size_t>(((s.q_begin + i) * c.heads + h) * c.dim);
      };
      const auto k_at = [&](std::int64_t i) {
        return static_cast<std::size_t>(((s.k_begin + i) * c.kv_heads + h / group) * c.dim);
      };
      for (std::int64_t i = 0; i < s.q_len; ++i) {
        std::vector<double> p(static_cast<std::size_t>(i + 1), 0.0);
        double total = 0, inner = 0;
        for (std::int64_t j = 0; j <= i; ++j) {
          if (c.window > 0 && i - j >= c.window) continue;
          double dot = 0;
          for (std::size_t d = 0; d < static_cast<std::size_t>(c.dim); ++d) {
            dot += as_double(q[q_at(i) + d]) * as_double(k[k_at(j) + d]);
          }
          total += p[static_cast<std::size_t>(j)] = std::exp(scale * dot);
        }
        for (double& x : p) x /= total;
        std::vector<double> dp(p.size(), 0.0);
        for (std::size_t j = 0; j < p.size(); ++j) {
          for (std::size_t d = 0; d < static_cast<std::size_t>(c.dim); ++d) {
            const std::size_t at = k_at(static_cast<std::int64_t>(j)) + d;
            ref.out[q_at(i) + d] += p[j] * as_double(v[at]);
            dp[j] += as_double(d_out[q_at(i) + d]) * as_double(v[at]);
            ref.dv[at] += p[j] * as_double(d_out[q_at(i) + d]);
          }
          inner += p[j] * dp[j];
        }
        for (std::size_t j = 0; j < p.size(); ++j) {
          const double ds = p[j] * (dp[j] - inner) * scale;
          for (std::size_t d = 0; d < static_cast<std::size_t>(c.dim); ++d) {
            const std::size_t at = k_at(static_cast<std::int64_t>(j)) + d;
            ref.dq[q_at(i) + d] += ds * as_double(k[at]);
            ref.dk[at] += ds * as_double(q[q_at(i) + d]);
          }
        }
      }
    }
  }
  return ref;
}

template <class T>
struct Run {
  std::vector<T> out;
  std::vector<float> log_sum, dq, dk, dv;
};

template <class T>
Run<T> run(const Case& c,
           const std::vector<T>& q,
           const std::vector<T>& k,
           const std::vector<T>& v,
           const std::vector<T>& d_out,
           float scale,
           int threads) {
  ThreadPool pool(threads);
  const auto segments = segments_of(c);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  Run<T> r{std::vector<T>(q.size(), T(nan)),
           std::vector<float>(static_cast<std::size_t>(tokens_of(c) * c.heads), nan),
           std::vector<float>(q.size(), nan), std::vector<float>(k.size(), nan),
           std::vector<float>(k.size(), nan)};
  std::vector<char> scratch(static_cast<std::size_t>(
      scratch_bytes<T>({tokens_of(c), c.heads, c.kv_heads, c.dim, true}, threads)));
  Args<T> args;
  args.problem = {c.heads, c.kv_heads, c.dim, scale, c.window, segments};
  args.q = q.data();
  args.k = k.data();
  args.v = v.data();
  args.q_stride = c.heads * c.dim;
  args.k_stride = args.v_stride = c.kv_heads * c.dim;
  args.out = r.out.data();
  args.log_sum = r.log_sum.data();
  args.scratch = scratch.data();
  forward(args, pool);
  backward<T>({args, d_out.data(), r.dq.data(), r.dk.data(), r.dv.data()}, pool);
  return r;
}

template <class T>
class Attention : public testing::Test {};
using Types = testing::Types<float, bf16>;
TYPED_TEST_SUITE(Attention, Types);

TYPED_TEST(Attention, matches_plain_loops_forward_and_backward) {
  using T = TypeParam;
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    const std::int64_t n = tokens_of(c);
    const auto q = cast<T>(normals(n * c.heads * c.dim, 1));
    const auto k = cast<T>(normals(n * c.kv_heads * c.dim, 2));
    const auto v = cast<T>(normals(n * c.kv_heads * c.dim, 3));
    const auto d_out = cast<T>(normals(n * c.heads * c.dim, 4));
    const float scale = 1.0f / std::sqrt(static_cast<float>(c.dim));
    const Reference want = reference(c, q, k, v, d_out, static_cast<double>(scale));
    const Run<T> got = run(c, q, k, v, d_out, scale, 2);
    // In bf16 probabilities and score gradients are rounded once before their products.
    const double bound = sizeof(T) == 2 ? 4 * epsilon<T>() : 1e-5;
    EXPECT_LT(relative_error(got.out, want.out), bound);
    EXPECT_LT(relative_error(got.dv, want.dv), bound);
    if (n > 1 && c.window != 1) {
      EXPECT_LT(relative_error(got.dq, want.dq), bound);
      EXPECT_LT(relative_error(got.dk, want.dk), bound);
    }
  }
}

TYPED_TEST(Attention, is_bitwise_the_same_for_any_number_of_threads) {
  using T = TypeParam;
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    const std::int64_t n = tokens_of(c);
    const auto q = cast<T>(normals(n * c.heads * c.dim, 1));
    const auto k = cast<T>(normals(n * c.kv_heads * c.dim, 2));
    const auto v = cast<T>(normals(n * c.kv_heads * c.dim, 3));
    const Run<T> one = run(c, q, k, v, q, 0.5f, 1), three = run(c, q, k, v, q, 0.5f, 3);
    const auto same = [](const auto& a, const auto& b) {
      return std::memcmp(a.data(), b.data(), a.size() * sizeof(a[0])) == 0;
    };
    EXPECT_TRUE(same(one.out, three.out));
    EXPECT_TRUE(same(one.dq, three.dq));
    EXPECT_TRUE(same(one.dk, three.dk));
    EXPECT_TRUE(same(one.dv, three.dv));
  }
}

// Large scores: the running maximum must keep exponentials in range.
TYPED_TEST(Attention, survives_scores_far_beyond_the_range_of_exp) {
  using T = TypeParam;
  const Case c{"large", {200}, 1, 1, 8, 0};
  auto values = normals(200 * 8, 1);
  for (float& x : values) x *= 40.0f;
  const auto q = cast<T>(values);
  const Run<T> got = run(c, q, q, q, q, 1.0f, 2);
  for (const auto& x : got.out) EXPECT_TRUE(std::isfinite(as_double(x)));
  for (const float x : got.dq) EXPECT_TRUE(std::isfinite(x));
}

// Queries in two calls, the second with a past, give what one call gives.
TYPED_TEST(Attention, continues_from_a_past) {
  using T = TypeParam;
  for (const std::int64_t window : {0, 9}) {
    const Case c{"past", {150}, 4, 2, 8, window};
    const std::int64_t n = 150, first = 140;
    const auto q = cast<T>(normals(n * c.heads * c.dim, 1));
    const auto k = cast<T>(normals(n * c.kv_heads * c.dim, 2));
    const auto v = cast<T>(normals(n * c.kv_heads * c.dim, 3));
    const Run<T> whole = run(c, q, k, v, q, 0.3f, 1);
    ThreadPool pool(2);
    std::vector<char> scratch(
        static_cast<std::size_t>(scratch_bytes<T>({n - first, c.heads, c.kv_heads, c.dim}, 2)));
    std::vector<T> out(static_cast<std::size_t>((n - first) * c.heads * c.dim));
    std::vector<float> log_sum(static_cast<std::size_t>((n - first) * c.heads));
    const std::vector<Segment> segments = {{0, n - first, 0, first}};
    Args<T> args;
    args.problem = {c.heads, c.kv_heads, c.dim, 0.3f, window, segments};
    args.q = q.data() + first * c.heads * c.dim;
    args.k = k.data();
    args.v = v.data();
    args.q_stride = c.heads * c.dim;
    args.k_stride = args.v_stride = c.kv_heads * c.dim;
    args.out = out.data();
    args.log_sum = log_sum.data();
    args.scratch = scratch.data();
    forward(args, pool);
    const std::vector<T> want(whole.out.begin() + first * c.heads * c.dim, whole.out.end());
    EXPECT_LT(relative_error(out, want), 4 * epsilon<T>() + 1e-6);
  }
}

}  // namespace
}  // namespace moesmith::kernels::attention
