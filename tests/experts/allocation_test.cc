// SPDX-License-Identifier: Apache-2.0
// Forward and backward of the project's own kernels live on the caller's scratch: no call
// of operator new while they run.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "experts_cases.h"
#include "problem.h"

namespace {

std::atomic<std::int64_t> allocations{0};

void* counted(std::size_t bytes) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  void* memory = std::malloc(bytes == 0 ? 1 : bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

void* operator new(std::size_t bytes) { return counted(bytes); }
void* operator new[](std::size_t bytes) { return counted(bytes); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

namespace moesmith::experts::testing {
namespace {

class CountingExecutor : public Executor {
 public:
  ExpertsSizes sizes(const ExpertsPlan& plan, std::int64_t num_tokens) override {
    return plan.sizes(num_tokens, pool_.num_threads());
  }
  void forward(const ExpertsPlan& plan, const ForwardArgs& args) override {
    const std::int64_t before = allocations.load();
    plan.forward(args, pool_);
    forward_count = allocations.load() - before;
  }
  void backward(const ExpertsPlan& plan, const BackwardArgs& args) override {
    const std::int64_t before = allocations.load();
    plan.backward(args, pool_);
    backward_count = allocations.load() - before;
  }
  std::int64_t forward_count = -1, backward_count = -1;

 private:
  ThreadPool pool_{2};
};

class allocations_of : public ::testing::TestWithParam<std::string> {};

TEST_P(allocations_of, a_call_are_none) {
  for (const char* name : {"layout_separate_biased_bf16", "layout_interleaved_transposed_f32",
                           "lora_ranks_3_17_bf16", "h_computed_twice_skipped_bf16"}) {
    Case c = find_case(name);
    c.request.implementation = GetParam();
    const Problem problem(c);
    CountingExecutor executor;
    problem.run(plan_experts(c.request), executor);
    EXPECT_EQ(executor.forward_count, 0) << name;
    EXPECT_EQ(executor.backward_count, 0) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(own_kernels,
                         allocations_of,
                         ::testing::Values("scattermoe", "batched_mm"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace moesmith::experts::testing
