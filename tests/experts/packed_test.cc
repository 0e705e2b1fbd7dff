// SPDX-License-Identifier: Apache-2.0
// Weights packed once: the same bits as without, on every case and instruction set, and calls look
// at the copies alone.
#include <gtest/gtest.h>

#include <limits>

#include "core/cpu_features.h"
#include "experts_cases.h"
#include "moesmith/error.h"
#include "problem.h"

namespace moesmith::experts::testing {
namespace {

// Packs into a buffer between guard bands; calls then get base pointers to one row of NaN.
class PackedExecutor : public Executor {
 public:
  PackedExecutor(const ExpertsPlan& packer, const ExpertsWeights& weights, ThreadPool& pool)
      : pool_(pool), packed_(packer.packed_bytes()) {
    packed_.fill(0xff);
    packer.pack(weights, packed_.span(), pool);
    const ExpertsRequest& r = packer.request();
    const std::int64_t longest = std::max(r.hidden, r.gate_up_width());
    nan_row_ = Buffer(longest, r.weight_dtype);
    for (std::int64_t i = 0; i < longest; ++i) {
      nan_row_.set(i, std::numeric_limits<double>::quiet_NaN());
    }
    base_.assign(static_cast<std::size_t>(r.num_experts), nan_row_.bytes.data());
  }
  ExpertsSizes sizes(const ExpertsPlan& plan, std::int64_t num_tokens) override {
    return plan.sizes(num_tokens, pool_.num_threads());
  }
  void forward(const ExpertsPlan& plan, const ForwardArgs& args) override {
    ForwardArgs changed = args;
    changed.inputs = read_copies(args.inputs);
    plan.forward(changed, pool_);
  }
  void backward(const ExpertsPlan& plan, const BackwardArgs& args) override {
    BackwardArgs changed = args;
    changed.inputs = read_copies(args.inputs);
    plan.backward(changed, pool_);
  }
  bool intact() const { return packed_.intact(); }

 private:
  ExpertsInputs read_copies(ExpertsInputs inputs) const {
    inputs.packed_weights = packed_.data();
    inputs.weights.gate_up.base = inputs.weights.down.base = base_;
    if (!inputs.weights.up.base.empty()) inputs.weights.up.base = base_;
    return inputs;
  }

  ThreadPool& pool_;
  Guarded packed_;
  Buffer nan_row_;
  std::vector<const void*> base_;
};

Case frozen_case() {
  Case c = find_case("lora_ranks_3_17_bf16");
  c.request.implementation = "scattermoe";
  c.request.packed_weights = true;
  c.request.wanted.gate_up = c.request.wanted.down = {};
  return c;
}

class packed_weights : public ::testing::TestWithParam<Case> {};

TEST_P(packed_weights, change_no_bit) {
  Case c = GetParam();
  c.request.implementation = "scattermoe";
  c.request.wanted.gate_up = c.request.wanted.down = {};  // frozen
  if (c.request.compute_dtype == DType::kF64) GTEST_SKIP() << "scattermoe is not for double";
  const Problem problem(c);
  ThreadPool pool(2);
  const IsaLevel before = active_isa();
  for (int level = 0; level <= static_cast<int>(detected_isa()); ++level) {
    set_isa(static_cast<IsaLevel>(level));
    SCOPED_TRACE(isa_name(active_isa()));
    c.request.packed_weights = false;
    const ExpertsPlan plain = plan_experts(c.request);
    EXPECT_EQ(plain.packed_bytes(), 0);
    const Outcome want = problem.run(plain, pool);
    c.request.packed_weights = true;
    const ExpertsPlan plan = plan_experts(c.request);
    PackedExecutor executor(plan, problem.inputs().weights, pool);
    const Outcome got = problem.run(plan, executor);
    EXPECT_EQ(got.raw, want.raw);
    EXPECT_EQ(got.broken_band, "");
    EXPECT_TRUE(executor.intact());
  }
  set_isa(before);
}

INSTANTIATE_TEST_SUITE_P(every_case,
                         packed_weights,
                         ::testing::ValuesIn(all_cases()),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(packed_copies, serve_a_plan_without_gradients_too) {
  Case c = frozen_case();
  const ExpertsPlan training = plan_experts(c.request);
  ThreadPool pool(2);
  const Problem problem(c);
  PackedExecutor executor(training, problem.inputs().weights, pool);
  Case inference = c;
  inference.request.wanted = {};
  const ExpertsPlan plan = plan_experts(inference.request);
  EXPECT_LT(plan.packed_bytes(), training.packed_bytes());
  const Problem forward_only(inference);
  const Outcome got = forward_only.run(plan, executor);
  inference.request.packed_weights = false;
  EXPECT_EQ(got.raw, forward_only.run(plan_experts(inference.request), pool).raw);
}

TEST(packed_copies, are_refused_where_weights_are_trained) {
  Case c = frozen_case();
  c.request.wanted.down = {GradMode::kOverwrite, DType::kF32};
  try {
    plan_experts(c.request);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("packed_weights"), std::string::npos) << error.what();
  }
}

TEST(packed_copies, must_be_there) {
  Case c = frozen_case();
  const Problem problem(c);
  ThreadPool pool(1);
  EXPECT_THROW(problem.run(plan_experts(c.request), pool), Error);
}

}  // namespace
}  // namespace moesmith::experts::testing
