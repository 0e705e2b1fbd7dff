// SPDX-License-Identifier: Apache-2.0
#include "expectations.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace moesmith::experts::testing {
namespace {

double largest(const Values& values) {
  double most = 0;
  for (const double x : values) most = std::max(most, std::abs(x));
  return most;
}

// Rounding of f32 sums of n terms through the layer's four products, as a share of the tensor's
// largest element.
double f32_bound(std::int64_t n) { return 0x1p-23 * (16 + 4 * std::sqrt(static_cast<double>(n))); }

struct Compared {
  const char* name;
  const Values& got;
  const Values& want;
  const Values& naive;
  bool wanted;
  DType stored;
  bool accumulated;
};

void expect_close(const Compared& c, bool bf16_case, std::int64_t terms) {
  if (!c.wanted) return;
  ASSERT_EQ(c.got.size(), c.want.size()) << c.name;
  const double scale = largest(c.want);
  double naive_error = 0, naive_square = 0, square = 0;
  for (std::size_t i = 0; bf16_case && i < c.want.size(); ++i) {
    naive_error = std::max(naive_error, std::abs(c.naive[i] - c.want[i]));
    naive_square += (c.naive[i] - c.want[i]) * (c.naive[i] - c.want[i]);
  }
  // Storing in bf16 rounds once more; adding to 0.5 does so at that size.
  const double base = scale + (c.accumulated ? 0.5 : 0.0);
  double bound = f32_bound(terms) * base;
  if (c.stored == DType::kBF16) bound += 0x1p-8 * base;
  // The naive error of a tensor of few elements may be small by luck: three roundings are
  // allowed. Over many seeds the root of squares below is what counts.
  if (bf16_case) bound += 2 * naive_error + 3 * 0x1p-8 * scale;

  std::size_t worst = 0, over = 0;
  for (std::size_t i = 0; i < c.want.size(); ++i) {
    const double error = std::abs(c.got[i] - c.want[i]);
    square += error * error;
    if (!(error <= bound)) ++over;  // NaN is over
    if (!(error <= std::abs(c.got[worst] - c.want[worst]))) worst = i;
  }
  EXPECT_EQ(over, 0u) << c.name << ": worst at " << worst << " got " << c.got[worst] << " want "
                      << c.want[worst] << " bound " << bound << " of " << c.want.size();
  if (bf16_case && c.stored == DType::kF32 && !c.accumulated) {
    EXPECT_LE(std::sqrt(square),
              2 * std::sqrt(naive_square) +
                  0x1p-10 * scale * std::sqrt(static_cast<double>(c.want.size())))
        << c.name << ": root of squares against the naive implementation";
  }
}

}  // namespace

void expect_results(const Case& c, const Outcome& run, const Results& want, const Results& naive) {
  const ExpertsRequest& r = c.request;
  const WantedGradients& w = r.wanted;
  const bool low = r.compute_dtype == DType::kBF16;
  const std::int64_t terms = std::max({r.hidden, r.inter, c.num_tokens});
  const auto check = [&](const char* name, Values Results::*member, const GradSpec& spec) {
    expect_close({name, run.values.*member, want.*member, naive.*member, spec.wanted(), spec.dtype,
                  spec.mode == GradMode::kAccumulate},
                 low, terms);
  };
  EXPECT_EQ(run.broken_band, "");
  check("output", &Results::output, {GradMode::kOverwrite, r.compute_dtype});
  check("d_hidden", &Results::hidden, w.hidden);
  check("d_top_k_weights", &Results::route_weights, w.top_k_weights);
  check("d_gate_up", &Results::w_1, w.gate_up);
  check("d_down", &Results::w_2, w.down);
  check("d_gate_up_bias", &Results::bias_1, w.gate_up_bias);
  check("d_down_bias", &Results::bias_2, w.down_bias);
  check("d_gate_up_a", &Results::a_1, w.gate_up_a);
  check("d_gate_up_b", &Results::b_1, w.gate_up_b);
  check("d_down_a", &Results::a_2, w.down_a);
  check("d_down_b", &Results::b_2, w.down_b);
}

void expect_exact_zeros(const Case& c, const Data& data, const Outcome& run) {
  const ExpertsRequest& r = c.request;
  std::vector<bool> used(static_cast<std::size_t>(r.num_experts));
  for (std::size_t slot = 0; slot < data.index.size(); ++slot) {
    const std::int64_t e = data.index[slot];
    if (e >= 0 && e < r.num_experts) {
      used[static_cast<std::size_t>(e)] = true;
    } else if (r.wanted.top_k_weights.wanted()) {
      EXPECT_EQ(run.values.route_weights[slot], 0.0);
    }
  }
  const auto per_expert = [&](const GradSpec& spec, const Values& values, std::size_t e) {
    if (!spec.wanted()) return;
    const std::size_t size = values.size() / used.size();
    for (std::size_t i = 0; i < size; ++i) ASSERT_EQ(values[e * size + i], 0.0);
  };
  const auto rank_major = [&](const GradSpec& spec, const Values& values, std::size_t e) {
    if (!spec.wanted()) return;
    for (std::size_t i = e; i < values.size(); i += used.size()) ASSERT_EQ(values[i], 0.0);
  };
  for (std::size_t e = 0; e < used.size(); ++e) {
    if (used[e]) continue;
    per_expert(r.wanted.gate_up, run.values.w_1, e);
    per_expert(r.wanted.down, run.values.w_2, e);
    per_expert(r.wanted.gate_up_bias, run.values.bias_1, e);
    per_expert(r.wanted.down_bias, run.values.bias_2, e);
    per_expert(r.wanted.gate_up_a, run.values.a_1, e);
    per_expert(r.wanted.down_a, run.values.a_2, e);
    rank_major(r.wanted.gate_up_b, run.values.b_1, e);
    rank_major(r.wanted.down_b, run.values.b_2, e);
  }
}

void expect_little_saved(const Case& c, const ExpertsSizes& sizes) {
  const ExpertsRequest& r = c.request;
  const auto up16 = [](std::int64_t rank) { return (rank + 15) / 16 * 16; };
  const std::int64_t slots = c.num_tokens * r.top_k;
  const std::int64_t elements =
      r.gate_up_width() + up16(r.gate_up_lora.lora_rank) + up16(r.down_lora.lora_rank);
  EXPECT_LE(sizes.saved_bytes, slots * (dtype_size(r.compute_dtype) * elements + 16));
}

}  // namespace moesmith::experts::testing
