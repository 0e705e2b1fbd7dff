// SPDX-License-Identifier: Apache-2.0
// Every gradient of the reference, in double, against central differences of <d_output, y>.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "experts_cases.h"
#include "problem.h"

namespace moesmith::experts::testing {
namespace {

Case in_double(Case c) {
  ExpertsRequest& r = c.request;
  r.implementation = "eager";
  r.compute_dtype = r.weight_dtype = r.route_weights_dtype = r.d_output_dtype = DType::kF64;
  r.gate_up_lora.dtype = r.down_lora.dtype = DType::kF64;
  r.hidden = 5, r.inter = 4, r.num_experts = 3;
  r.max_tokens = c.num_tokens = 4;
  r.gate_up_lora.lora_rank = std::min<std::int64_t>(r.gate_up_lora.lora_rank, 2);
  r.down_lora.lora_rank = std::min<std::int64_t>(r.down_lora.lora_rank, 3);
  r.wanted = all_gradients(r, GradMode::kOverwrite);
  for (GradSpec* spec :
       {&r.wanted.hidden, &r.wanted.top_k_weights, &r.wanted.gate_up, &r.wanted.down,
        &r.wanted.gate_up_bias, &r.wanted.down_bias, &r.wanted.gate_up_a, &r.wanted.gate_up_b,
        &r.wanted.down_a, &r.wanted.down_b}) {
    spec->dtype = DType::kF64;
  }
  return c;
}

double loss(const Problem& problem, const ExpertsPlan& forward_only, ThreadPool& pool) {
  const Outcome outcome = problem.run(forward_only, pool);
  double sum = 0;
  for (std::size_t i = 0; i < outcome.values.output.size(); ++i) {
    sum += outcome.values.output[i] * problem.data().d_output[i];
  }
  return sum;
}

class finite_differences : public ::testing::TestWithParam<const char*> {};

TEST_P(finite_differences, agree_with_every_gradient) {
  const Case c = in_double(find_case(GetParam()));
  ExpertsRequest no_gradients = c.request;
  no_gradients.wanted = {};
  Problem problem(c);
  ThreadPool pool(1);
  const ExpertsPlan forward_only = plan_experts(no_gradients);
  const Results gradients = problem.run(plan_experts(c.request), pool).values;

  const struct {
    const char* name;
    Values Data::*input;
    Values Results::*gradient;
  } tensors[] = {{"hidden", &Data::hidden, &Results::hidden},
                 {"top_k_weights", &Data::route_weights, &Results::route_weights},
                 {"gate_up", &Data::w_1, &Results::w_1},
                 {"down", &Data::w_2, &Results::w_2},
                 {"gate_up_bias", &Data::bias_1, &Results::bias_1},
                 {"down_bias", &Data::bias_2, &Results::bias_2},
                 {"gate_up_a", &Data::a_1, &Results::a_1},
                 {"gate_up_b", &Data::b_1, &Results::b_1},
                 {"down_a", &Data::a_2, &Results::a_2},
                 {"down_b", &Data::b_2, &Results::b_2}};
  constexpr double kStep = 1e-6;
  for (const auto& tensor : tensors) {
    Values& input = problem.data().*tensor.input;
    const Values& gradient = gradients.*tensor.gradient;
    ASSERT_EQ(input.size(), gradient.size()) << tensor.name;
    for (std::size_t i = 0; i < input.size(); ++i) {
      const double kept = input[i];
      input[i] = kept + kStep;
      problem.lay_out();
      const double above = loss(problem, forward_only, pool);
      input[i] = kept - kStep;
      problem.lay_out();
      const double below = loss(problem, forward_only, pool);
      input[i] = kept;
      const double slope = (above - below) / (2 * kStep);
      // The difference of two losses of size 10 carries 1e-15 / 1e-6 of rounding.
      EXPECT_NEAR(gradient[i], slope, 1e-7 * (1 + std::abs(slope))) << tensor.name << " " << i;
    }
    problem.lay_out();
  }
}

INSTANTIATE_TEST_SUITE_P(eager,
                         finite_differences,
                         ::testing::Values("layout_concatenated_biased_f32",
                                           "layout_interleaved_transposed_biased_f32",
                                           "layout_separate_f32",
                                           "layout_ungated_f32",
                                           "act_gelu_gated_f32",
                                           "act_gelu_tanh_gated_f32",
                                           "act_relu_gated_f32",
                                           "act_relu2_alone_f32",
                                           "act_gpt_oss_f32",
                                           "act_clamped_silu_f32",
                                           "lora_none_f32",
                                           "lora_gate_up_f32",
                                           "lora_down_f32",
                                           "routing_duplicates_f32",
                                           "routing_skipped_biased_f32",
                                           "h_computed_twice_f32"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace moesmith::experts::testing
