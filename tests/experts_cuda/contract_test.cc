// SPDX-License-Identifier: Apache-2.0
// What a GPU plan promises beside numbers: refusals with reasons, errors before anything is
// written, overflow, and the caller's device left as it was.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/thread_pool.h"
#include "gpu_executor.h"
#include "moesmith/error.h"

namespace moesmith::experts::testing {
namespace {

using ::testing::HasSubstr;

Case gpu_case(const char* name) {
  Case c = find_case(name);
  c.request.device = Device::kCuda;
  c.request.implementation = "scattermoe";
  return c;
}

template <class Call>
std::string error_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

Verdict verdict_of(const ExpertsRequest& request, const std::string& name) {
  for (const Verdict& verdict : explain_experts(request)) {
    if (verdict.name == name) return verdict;
  }
  return {};
}

TEST(gpu_plan, says_why_without_a_gpu) {
  if (why_no_gpu().empty()) GTEST_SKIP() << "there is a GPU";
  const Verdict verdict = verdict_of(gpu_case("lora_none_bf16").request, "scattermoe");
  EXPECT_FALSE(verdict.accepted);
  EXPECT_THAT(verdict.text, HasSubstr("needs an NVIDIA GPU: "));
}

TEST(gpu_plan, refuses_what_it_cannot_do_with_one_reason_each) {
  const ExpertsRequest good = gpu_case("lora_none_bf16").request;
  ExpertsRequest r = good;
  r.num_experts = 1025;
  EXPECT_EQ(verdict_of(r, "scattermoe").text, "takes at most 1024 experts, got 1025");
  r = good;
  r.max_tokens = std::int64_t{1} << 31;
  EXPECT_THAT(verdict_of(r, "scattermoe").text, HasSubstr("slots (max_tokens * top_k)"));
  r = good;
  r.double_sums = true;
  EXPECT_EQ(verdict_of(r, "scattermoe").text,
            "its sums are f32; double_sums is for eager on the CPU");
  EXPECT_EQ(verdict_of(r, "eager").text, verdict_of(r, "scattermoe").text);
  r = good;
  r.weight_dtype = DType::kF32;
  EXPECT_THAT(verdict_of(r, "eager").text,
              why_no_gpu().empty() ? HasSubstr("got BF16 and F32 weights") : HasSubstr("GPU: "));
  r = good;
  r.cuda_device = 99;
  EXPECT_FALSE(verdict_of(r, "scattermoe").accepted);
}

TEST(gpu_plan, names_itself) {
  if (const std::string why = why_no_gpu(); !why.empty()) GTEST_SKIP() << why;
  EXPECT_THAT(plan_experts(gpu_case("lora_none_bf16").request).to_string(),
              HasSubstr("scattermoe (bf16 tensor-core tiles"));
  EXPECT_THAT(plan_experts(gpu_case("lora_none_f32").request).to_string(),
              HasSubstr("scattermoe (f32 tiles without tensor cores"));
}

TEST(gpu_plan, refuses_a_thread_pool) {
  if (const std::string why = why_no_gpu(); !why.empty()) GTEST_SKIP() << why;
  const Case c = gpu_case("lora_none_bf16");
  const ExpertsPlan plan = plan_experts(c.request);
  ThreadPool pool(1);
  EXPECT_THAT(error_of([&] { plan.forward(ForwardArgs{}, pool); }),
              HasSubstr("a plan for CUDA got a thread pool"));
  ExpertsRequest on_cpu = c.request;
  on_cpu.device = Device::kCpu;
  EXPECT_THAT(error_of([&] { plan_experts(on_cpu).forward(ForwardArgs{}, CudaStream{}); }),
              HasSubstr("a plan for the CPU got a CudaStream"));
}

TEST(gpu_plan, gives_nan_when_there_are_more_rows_than_announced) {
  if (const std::string why = why_no_gpu(); !why.empty()) GTEST_SKIP() << why;
  Case c = gpu_case("lora_none_bf16");
  c.request.max_rows = c.num_tokens * c.request.top_k - 1;
  const Problem problem(c);
  GpuExecutor gpu;
  const Outcome outcome = problem.run(plan_experts(c.request), gpu);
  for (const double y : outcome.values.output) ASSERT_TRUE(std::isnan(y));
  for (const double d : outcome.values.hidden) ASSERT_TRUE(std::isnan(d));
}

TEST(gpu_plan, refuses_to_be_captured_where_it_waits) {
  if (const std::string why = why_no_gpu(); !why.empty()) GTEST_SKIP() << why;
  Case c = gpu_case("lora_none_bf16");
  c.request.implementation = "eager";
  if (const Verdict eager = verdict_of(c.request, "eager"); !eager.accepted) {
    GTEST_SKIP() << eager.text;
  }
  GpuExecutor graph(GpuExecutor::How::kGraph);
  EXPECT_THAT(error_of([&] { Problem(c).run(plan_experts(c.request), graph); }),
              HasSubstr("eager waits for the device: no CUDA graph can hold it"));
}

TEST(gpu_plan, refuses_a_buffer_that_is_too_small) {
  if (const std::string why = why_no_gpu(); !why.empty()) GTEST_SKIP() << why;
  const Case c = gpu_case("lora_none_bf16");
  const Problem problem(c);
  const ExpertsPlan plan = plan_experts(c.request);
  ForwardArgs args;
  args.inputs = problem.inputs();
  std::byte byte{};
  args.output = &byte;
  args.saved = {&byte, 1};
  EXPECT_THAT(error_of([&] { plan.forward(args, CudaStream{}); }),
              HasSubstr("saved: got 1 bytes, expected at least"));
}

}  // namespace
}  // namespace moesmith::experts::testing
