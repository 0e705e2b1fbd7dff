// SPDX-License-Identifier: Apache-2.0
// One plan or one error: names, refusals, contradictions, and arguments that do not belong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "experts/implementation.h"
#include "experts_cases.h"
#include "moesmith/error.h"
#include "problem.h"

namespace moesmith::experts::testing {
namespace {

using ::testing::HasSubstr;

ExpertsRequest request() { return find_case("layout_concatenated_biased_f32").request; }

// The error that `body` throws; fails the test when it throws none.
std::pair<ErrorCode, std::string> error_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    return {error.code(), error.what()};
  }
  ADD_FAILURE() << "expected an Error";
  return {ErrorCode::kInternal, ""};
}

bool accepted(const ExpertsRequest& r, const std::string& name) {
  for (const Verdict& verdict : explain_experts(r)) {
    if (verdict.name == name) return verdict.accepted;
  }
  return false;
}

TEST(plan_experts, names_every_implementation_and_its_reason_when_the_named_one_refuses) {
  ExpertsRequest r = request();
  r.implementation = "sonicmoe";
  const auto [code, text] = error_of([&] { plan_experts(r); });
  EXPECT_EQ(code, ErrorCode::kUnsupported);
  EXPECT_THAT(text, HasSubstr("experts_implementation sonicmoe"));
  EXPECT_THAT(text, HasSubstr("\n  sonicmoe: needs a Hopper GPU (sm_90a)"));
  for (const Implementation& one : implementations()) {
    EXPECT_THAT(text, HasSubstr("\n  " + std::string(one.name) + ": "));
  }
  EXPECT_THAT(text, HasSubstr("\n  eager: would run"));
}

TEST(plan_experts, refuses_each_on_a_device_that_none_runs_on) {
  ExpertsRequest r = request();
  r.device = Device::kCuda;
  const auto [code, text] = error_of([&] { plan_experts(r); });
  EXPECT_EQ(code, ErrorCode::kUnsupported);
  EXPECT_THAT(text, HasSubstr("\n  eager: "));
  for (const Verdict& verdict : explain_experts(r)) {
    EXPECT_FALSE(verdict.accepted) << verdict.name;
    EXPECT_NE(verdict.text, "");
  }
}

TEST(plan_experts, lists_the_known_names_for_an_unknown_one) {
  ExpertsRequest r = request();
  r.implementation = "groupedmm";
  const auto [code, text] = error_of([&] { plan_experts(r); });
  EXPECT_EQ(code, ErrorCode::kInvalidInput);
  EXPECT_THAT(text, HasSubstr("got groupedmm, expected one of sonicmoe, scattermoe, grouped_mm, "
                              "batched_mm, eager, auto"));
}

TEST(plan_experts, takes_the_first_that_accepts_for_auto) {
  ExpertsRequest r = request();
  r.max_tokens = 1024;  // many: best first is the table's order; auto_table_test.cc has the rest
  const ExpertsPlan plan = plan_experts(r);
  for (const Verdict& verdict : explain_experts(r)) {
    if (!verdict.accepted) continue;
    EXPECT_EQ(plan.implementation(), verdict.name);
    break;
  }
}

TEST(plan_experts, prints_what_was_chosen) {
  ExpertsRequest r = request();
  r.implementation = "eager";
  r.activation.gate_max = 7.0f;
  const std::string text = plan_experts(r).to_string();
  EXPECT_THAT(text, HasSubstr("eager (plain loops"));
  EXPECT_THAT(text, HasSubstr("E=5 K=2 H=24 I=20"));
  EXPECT_THAT(text, HasSubstr("silu gated gate<=7"));
  EXPECT_THAT(text, HasSubstr("LoRA on gate_up r=4 scale=2"));
  EXPECT_THAT(text, HasSubstr("LoRA on down r=20 scale=0.3"));
}

int forward_calls = 0, backward_calls = 0;

TEST(experts_plan, runs_the_row_it_was_made_with) {
  Implementation row = implementations().back();
  row.name = "counting";
  row.forward = [](const ExpertsRequest&, const ForwardArgs&, ThreadPool&) { ++forward_calls; };
  row.backward = [](const ExpertsRequest&, const BackwardArgs&, ThreadPool&) { ++backward_calls; };
  const Problem problem(find_case("layout_concatenated_biased_f32"));
  const ExpertsPlan plan(request(), &row);
  ThreadPool pool(1);
  problem.run(plan, pool);
  EXPECT_EQ(plan.implementation(), "counting");
  EXPECT_EQ(forward_calls, 1);
  EXPECT_EQ(backward_calls, 1);
}

TEST(experts_plan, really_runs_what_was_forced) {
  // Both sum 530 products per element, in different orders: had one run for the other, the bytes
  // would agree.
  Case c = find_case("size_h530_i9_t30_f32");
  if (!accepted(c.request, "grouped_mm")) GTEST_SKIP() << "grouped_mm refuses on this build";
  const Problem problem(c);
  ThreadPool pool(2);
  c.request.implementation = "eager";
  const Outcome eager = problem.run(plan_experts(c.request), pool);
  c.request.implementation = "grouped_mm";
  const Outcome grouped = problem.run(plan_experts(c.request), pool);
  EXPECT_NE(eager.raw.front(), grouped.raw.front());
}

TEST(grouped_mm, refuses_sums_in_double_with_that_reason) {
  ExpertsRequest r = request();
  if (!accepted(r, "grouped_mm")) GTEST_SKIP() << "grouped_mm refuses on this build";
  r.double_sums = true;
  for (const Verdict& verdict : explain_experts(r)) {
    if (verdict.name != "grouped_mm") continue;
    EXPECT_FALSE(verdict.accepted);
    EXPECT_EQ(verdict.text, "its sums are f32; double_sums is for eager");
  }
  EXPECT_EQ(plan_experts(r).implementation(), "eager");
}

TEST(grouped_mm, says_when_tiles_are_widened) {
  ExpertsRequest r = find_case("layout_concatenated_f32_weights_bf16").request;
  if (!accepted(r, "grouped_mm")) GTEST_SKIP() << "grouped_mm refuses on this build";
  r.implementation = "grouped_mm";
  EXPECT_THAT(plan_experts(r).to_string(), HasSubstr("tiles widened to f32 because activations"));
}

struct BadRequest {
  const char* expected;
  std::function<void(ExpertsRequest&)> spoil;
};

TEST(plan_experts, refuses_requests_that_contradict_themselves) {
  const GradSpec wanted{GradMode::kOverwrite, DType::kF32};
  const BadRequest bad[] = {
      {"num_experts: got 0, expected at least 1", [](auto& r) { r.num_experts = 0; }},
      {"top_k: got 0, expected at least 1", [](auto& r) { r.top_k = 0; }},
      {"hidden: got -3, expected at least 1", [](auto& r) { r.hidden = -3; }},
      {"inter: got 0, expected at least 1", [](auto& r) { r.inter = 0; }},
      {"max_tokens: got -1, expected at least 0", [](auto& r) { r.max_tokens = -1; }},
      {"max_rows: got -1", [](auto& r) { r.max_rows = -1; }},
      {"gate_up_lora.lora_rank: got -1", [](auto& r) { r.gate_up_lora.lora_rank = -1; }},
      {"does not fit 64 bits", [](auto& r) { r.max_tokens = std::int64_t{1} << 60; }},
      {"does not fit 64 bits", [](auto& r) { r.hidden = std::int64_t{1} << 61; }},
      {"does not fit 64 bits",
       [](auto& r) { r.down_lora.lora_rank = std::int64_t{0x7ffffffffffffff0}; }},
      {"compute_dtype: got F16, expected F32 or BF16 or F64",
       [](auto& r) { r.compute_dtype = DType::kF16; }},
      {"weight_dtype: got I8, expected F32 or BF16", [](auto& r) { r.weight_dtype = DType::kI8; }},
      {"index_dtype: got I16", [](auto& r) { r.index_dtype = DType::kI16; }},
      {"weight_dtype: got F32, expected F64", [](auto& r) { r.compute_dtype = DType::kF64; }},
      {"activation.alpha: got 2, expected 1 with gelu",
       [](auto& r) {
         r.activation.kind = ActivationKind::kGelu;
         r.activation.alpha = 2;
       }},
      {"activation.up_limit: got -1", [](auto& r) { r.activation.up_limit = -1.0f; }},
      {"up_limit or up_shift without a gate",
       [](auto& r) {
         r.activation.gated = false;
         r.activation.up_shift = 1;
       }},
      {"wanted.down_bias: got a wanted gradient, expected none",
       [](auto& r) { r.down_bias = false; }},
      {"wanted.gate_up_b: got a wanted gradient, expected none",
       [&](auto& r) {
         r.gate_up_lora.lora_rank = 0;
         r.wanted.gate_up_a = {};
         r.wanted.gate_up_b = wanted;
       }},
      {"wanted.hidden: got BF16, expected F32",
       [](auto& r) { r.wanted.hidden.dtype = DType::kBF16; }},
  };
  for (const BadRequest& one : bad) {
    ExpertsRequest r = request();
    one.spoil(r);
    const auto [code, text] = error_of([&] { plan_experts(r); });
    EXPECT_EQ(code, ErrorCode::kInvalidInput) << one.expected;
    EXPECT_THAT(text, HasSubstr(one.expected));
  }
}

struct BadCall {
  const char* expected;
  std::function<void(ForwardArgs&)> spoil;
};

TEST(experts_plan, refuses_arguments_that_do_not_belong_before_writing) {
  const Case c = find_case("layout_separate_biased_f32");
  const Problem problem(c);
  const ExpertsPlan plan = plan_experts(c.request);
  ThreadPool pool(1);
  const ExpertsSizes sizes = plan.sizes(c.num_tokens, 1);
  Guarded saved(sizes.saved_bytes), scratch(sizes.forward_scratch_bytes);
  Buffer output(c.num_tokens * c.request.hidden, DType::kF32);
  const std::vector<std::byte> before(output.bytes.data(),
                                      output.bytes.data() + output.bytes.size());
  std::vector<const void*> short_base(4, output.bytes.data()), null_base(5, nullptr);
  const BadCall bad[] = {
      {"num_tokens: got -1", [](auto& a) { a.inputs.num_tokens = -1; }},
      {"num_tokens: got 14, expected 0 to max_tokens = 13",
       [](auto& a) { a.inputs.num_tokens = 14; }},
      {"hidden: got no pointer", [](auto& a) { a.inputs.hidden = nullptr; }},
      {"top_k_index: got no pointer", [](auto& a) { a.inputs.top_k_index = nullptr; }},
      {"output: got no pointer", [](auto& a) { a.output = nullptr; }},
      {"weights.gate_up.base: got 4 pointers, expected one per expert (5)",
       [&](auto& a) { a.inputs.weights.gate_up.base = short_base; }},
      {"weights.up.base: got 0 pointers", [](auto& a) { a.inputs.weights.up.base = {}; }},
      {"weights.down: got no pointer", [&](auto& a) { a.inputs.weights.down.base = null_base; }},
      {"weights.down.row_stride: got 19, expected at least 20",
       [](auto& a) { a.inputs.weights.down.row_stride = 19; }},
      {"weights.down_bias: got no pointer", [](auto& a) { a.inputs.weights.down_bias = nullptr; }},
      {"down_lora: got no pointer", [](auto& a) { a.inputs.down_lora.b = nullptr; }},
      {"saved: got ", [](auto& a) { a.saved = a.saved.first(a.saved.size() - 1); }},
      {"scratch: got ", [](auto& a) { a.scratch = a.scratch.first(a.scratch.size() - 1); }},
  };
  for (const BadCall& one : bad) {
    ForwardArgs args{problem.inputs(), output.bytes.data(), saved.span(), scratch.span()};
    one.spoil(args);
    const auto [code, text] = error_of([&] { plan.forward(args, pool); });
    EXPECT_EQ(code, ErrorCode::kInvalidInput) << one.expected;
    EXPECT_THAT(text, HasSubstr(one.expected));
  }
  EXPECT_EQ(before,
            std::vector<std::byte>(output.bytes.data(), output.bytes.data() + output.bytes.size()));
}

TEST(experts_plan, refuses_more_rows_than_its_capacity) {
  Case c = find_case("expert_parallel_capacity_f32");
  c.request.max_rows = 10;
  const Problem problem(c);
  ThreadPool pool(1);
  const auto [code, text] = error_of([&] { problem.run(plan_experts(c.request), pool); });
  EXPECT_EQ(code, ErrorCode::kInvalidInput);
  EXPECT_THAT(text, HasSubstr("slots for the experts here, expected at most max_rows = 10"));
}

TEST(experts_plan, refuses_backward_without_a_wanted_gradient_and_without_a_target) {
  Case c = find_case("layout_concatenated_biased_f32");
  const Problem problem(c);
  ThreadPool pool(1);
  const ExpertsPlan plan = plan_experts(c.request);
  Guarded saved(plan.sizes(c.num_tokens, 1).saved_bytes);
  Guarded scratch(plan.sizes(c.num_tokens, 1).backward_scratch_bytes);
  BackwardArgs args{problem.inputs(), problem.inputs().hidden, saved.span(), scratch.span(), {}};
  EXPECT_THAT(error_of([&] { plan.backward(args, pool); }).second,
              HasSubstr("gradients.gate_up: got no pointer"));
  c.request.wanted = {};
  EXPECT_THAT(error_of([&] { plan_experts(c.request).backward(args, pool); }).second,
              HasSubstr("wants no gradient"));
}

TEST(experts_plan, needs_nothing_for_what_is_not_wanted) {
  for (const Implementation& one : implementations()) {
    ExpertsRequest r = request();
    r.implementation = one.name;
    if (!accepted(r, one.name)) continue;
    r.hidden = 512, r.inter = 256, r.num_experts = 64, r.max_tokens = 8;
    const std::int64_t weights = r.num_experts * r.gate_up_width() * r.hidden * 4;
    r.wanted = {};
    const ExpertsSizes none = plan_experts(r).sizes(8, 1);
    EXPECT_EQ(none.saved_bytes, 0);
    EXPECT_EQ(none.backward_scratch_bytes, 0);
    r.wanted.gate_up_a = r.wanted.gate_up_b = {GradMode::kOverwrite, DType::kF32};
    EXPECT_LT(plan_experts(r).sizes(8, 1).backward_scratch_bytes, weights)
        << one.name << ": a frozen weight costs no gradient";
    r.recompute_h = true;
    EXPECT_LE(plan_experts(r).sizes(8, 1).saved_bytes, 8 * r.top_k * 16 * 4)
        << one.name << ": h computed twice is not saved";
    EXPECT_EQ(plan_experts(r).sizes(0, 1).saved_bytes, 0);
  }
}

}  // namespace
}  // namespace moesmith::experts::testing
