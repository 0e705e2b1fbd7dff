// SPDX-License-Identifier: Apache-2.0
// Every remainder of the register tiles in rows, in columns and along k, and k longer than what is
// packed at a time, on every instruction set of this processor: small layers against the oracle.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/cpu_features.h"
#include "core/text.h"
#include "expectations.h"
#include "experts_cases.h"
#include "oracle.h"
#include "problem.h"

namespace moesmith::experts::testing {
namespace {

struct Size {
  std::int64_t rows, hidden, inter;
};

// A layer of two experts, the last of which has all rows; a rank that no tile divides.
Case layer(const std::string& implementation, const Size& size, DType dtype) {
  ExpertsRequest r;
  r.implementation = implementation;
  r.num_experts = 2;
  r.top_k = 1;
  r.hidden = size.hidden;
  r.inter = size.inter;
  r.max_tokens = size.rows;
  r.compute_dtype = r.weight_dtype = r.d_output_dtype = dtype;
  r.gate_up_lora = {.lora_rank = 1 + size.hidden % 3, .lora_scale = 0.5f, .dtype = DType::kF32};
  r.transposed = size.hidden % 2 == 0;
  r.gate_up_layout = size.inter % 3 == 0   ? GateUpLayout::kInterleaved
                     : size.inter % 3 == 1 ? GateUpLayout::kSeparate
                                           : GateUpLayout::kConcatenated;
  r.wanted = all_gradients(r, GradMode::kOverwrite);
  return {str("rows ", size.rows, " H ", size.hidden, " I ", size.inter, " ", dtype_name(dtype)), r,
          size.rows, Routing::kOneExpert, 0};
}

constexpr std::int64_t kSmall = 100;

class remainders : public ::testing::TestWithParam<std::string> {
 protected:
  void TearDown() override { set_isa(before_); }

  void expect_matches(const Size& size) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      const Case c = layer(GetParam(), size, dtype);
      SCOPED_TRACE(c.name);
      const Problem problem(c);
      const Results want = run_oracle(c.request, c.num_tokens, problem.data(), no_rounding);
      Results naive = want;
      if (dtype == DType::kBF16 && std::max(size.hidden, size.inter) > kSmall) {
        naive = run_oracle(c.request, c.num_tokens, problem.data(), round_to_bf16);
      }
      for (int level = 0; level <= static_cast<int>(detected_isa()); ++level) {
        set_isa(static_cast<IsaLevel>(level));
        SCOPED_TRACE(isa_name(active_isa()));
        const Outcome outcome = problem.run(plan_experts(c.request), pool_);
        if (dtype == DType::kF32) {
          expect_results(c, outcome, want, want);
        } else if (std::max(size.hidden, size.inter) > kSmall) {
          // One term of thousands is less than a rounding's share of the largest element, not of
          // the root of squares.
          expect_results(c, outcome, want, naive);
        } else {
          expect_rounded(outcome, want);
        }
      }
    }
  }

  // Tensors this small may round luckily, so that the naive implementation bounds nothing; a term
  // too many or too few is of the size of the largest element. What a single sum decides (the
  // routing weights') is compared in f32 alone.
  static void expect_rounded(const Outcome& outcome, const Results& want) {
    EXPECT_EQ(outcome.broken_band, "");
    for (Values Results::*member : {&Results::output, &Results::hidden, &Results::w_1,
                                    &Results::w_2, &Results::a_1, &Results::b_1}) {
      const Values& right = want.*member;
      double largest = 0;
      for (const double x : right) largest = std::max(largest, std::abs(x));
      std::size_t over = 0;
      for (std::size_t i = 0; i < right.size(); ++i) {
        const double error = std::abs((outcome.values.*member)[i] - right[i]);
        if (!(error <= 0x1p-4 * largest)) ++over;  // NaN is over
      }
      EXPECT_EQ(over, 0u) << "of " << right.size();
    }
  }

  ThreadPool pool_{1};
  const IsaLevel before_ = active_isa();
};

TEST_P(remainders, in_rows) {
  for (std::int64_t rows = 0; rows <= 14; ++rows) expect_matches({rows, 10, 7});
}

TEST_P(remainders, in_columns_and_along_k) {
  // H and I run through all remainders of 64 (and so of every vector), never the same ones.
  for (std::int64_t at = 1; at <= 66; ++at) expect_matches({2 + at % 3, at, 1 + (at * 37) % 67});
}

TEST_P(remainders, beyond_what_is_packed_at_once) {
  expect_matches({3, 2051, 2});  // of f32 words two chunks and a rest, of bf16 pairs one
  expect_matches({3, 2, 2051});
  expect_matches({2, 1030, 130});
}

INSTANTIATE_TEST_SUITE_P(own_kernels,
                         remainders,
                         ::testing::Values("scattermoe", "batched_mm"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace moesmith::experts::testing
