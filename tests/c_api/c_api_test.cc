// SPDX-License-Identifier: Apache-2.0
// The C functions give the bits of the C++ ones, and say what is wrong instead of crashing.
#include "moesmith/c_api.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "core/thread_pool.h"
#include "moesmith/experts.h"

namespace moesmith {
namespace {

using testing::HasSubstr;

constexpr std::int64_t kTokens = 13, kExperts = 5, kTopK = 2, kHidden = 24, kInter = 12, kRank = 3;

std::vector<float> random_floats(std::int64_t count, unsigned seed) {
  std::mt19937 engine(seed);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = uniform(engine);
  return values;
}

// A gated layer with LoRA on both projections; every gradient but the biases' is wanted.
struct Layer {
  std::vector<float> x = random_floats(kTokens * kHidden, 1);
  std::vector<float> w = random_floats(kTokens * kTopK, 2);
  std::vector<float> gate_up = random_floats(kExperts * 2 * kInter * kHidden, 3);
  std::vector<float> down = random_floats(kExperts * kHidden * kInter, 4);
  std::vector<float> a1 = random_floats(kExperts * kRank * kHidden, 5);
  std::vector<float> b1 = random_floats(kExperts * kRank * 2 * kInter, 6);
  std::vector<float> a2 = random_floats(kExperts * kRank * kInter, 7);
  std::vector<float> b2 = random_floats(kExperts * kRank * kHidden, 8);
  std::vector<float> dy = random_floats(kTokens * kHidden, 9);
  std::vector<std::int32_t> index;

  Layer() {
    for (std::int64_t slot = 0; slot < kTokens * kTopK; ++slot) {
      index.push_back(static_cast<std::int32_t>((slot * 7) % (kExperts + 1)));  // E: skipped
    }
  }

  moesmith_request request() const {
    moesmith_request r;
    std::memset(&r, 0, sizeof r);
    r.struct_bytes = sizeof r;
    r.implementation = "scattermoe";
    r.num_experts = kExperts;
    r.top_k = kTopK;
    r.hidden = kHidden;
    r.inter = kInter;
    r.max_tokens = kTokens;
    r.index_dtype = MOESMITH_I32;
    r.activation.kind = MOESMITH_GELU_TANH;
    r.activation.gated = 1;
    r.activation.has_up_limit = 1;
    r.activation.up_limit = 0.75f;
    r.activation.alpha = 1;
    r.gate_up_layout = MOESMITH_INTERLEAVED;
    r.gate_up_lora = {kRank, 0.5f, MOESMITH_F32};
    r.down_lora = {kRank, 2.0f, MOESMITH_F32};
    for (moesmith_gradient* one : {&r.d_hidden, &r.d_top_k_weights, &r.d_gate_up, &r.d_down,
                                   &r.d_gate_up_a, &r.d_gate_up_b, &r.d_down_a, &r.d_down_b}) {
      one->mode = MOESMITH_OVERWRITE;
    }
    return r;
  }

  moesmith_inputs inputs() const {
    moesmith_inputs in;
    std::memset(&in, 0, sizeof in);
    in.num_tokens = kTokens;
    in.hidden = x.data();
    in.top_k_index = index.data();
    in.top_k_weights = w.data();
    in.gate_up = {gate_up.data(), nullptr, 2 * kInter * kHidden, kHidden};
    in.down = {down.data(), nullptr, kHidden * kInter, kInter};
    in.gate_up_a = a1.data();
    in.gate_up_b = b1.data();
    in.down_a = a2.data();
    in.down_b = b2.data();
    return in;
  }
};

struct Results {
  std::vector<float> y = std::vector<float>(kTokens * kHidden, NAN);
  std::vector<float> d_x = y, d_w = std::vector<float>(kTokens * kTopK, NAN);
  std::vector<float> d_gate_up = std::vector<float>(kExperts * 2 * kInter * kHidden, NAN);
  std::vector<float> d_down = std::vector<float>(kExperts * kHidden * kInter, NAN);
  std::vector<float> d_a1 = std::vector<float>(kExperts * kRank * kHidden, NAN);
  std::vector<float> d_b1 = std::vector<float>(kExperts * kRank * 2 * kInter, NAN);
  std::vector<float> d_a2 = std::vector<float>(kExperts * kRank * kInter, NAN);
  std::vector<float> d_b2 = std::vector<float>(kExperts * kRank * kHidden, NAN);

  bool operator==(const Results&) const = default;
};

struct PoolDeleter {
  void operator()(moesmith_pool* pool) const { moesmith_pool_destroy(pool); }
};
struct PlanDeleter {
  void operator()(moesmith_plan* plan) const { moesmith_plan_destroy(plan); }
};
using Pool = std::unique_ptr<moesmith_pool, PoolDeleter>;
using Plan = std::unique_ptr<moesmith_plan, PlanDeleter>;

Pool make_pool(int num_threads) {
  moesmith_pool* pool = nullptr;
  EXPECT_EQ(moesmith_pool_create(num_threads, &pool), MOESMITH_OK);
  return Pool(pool);
}

Plan make_plan(const moesmith_request& request) {
  moesmith_plan* plan = nullptr;
  EXPECT_EQ(moesmith_plan_create(&request, &plan), MOESMITH_OK) << moesmith_last_error();
  return Plan(plan);
}

// With `packed`, weights are frozen and calls read what moesmith_pack made: NaN is where they were.
Results run_in_c(Layer layer, bool packed = false) {
  const Pool pool = make_pool(2);
  moesmith_request request = layer.request();
  if (packed) {
    request.packed_weights = 1;
    request.d_gate_up.mode = request.d_down.mode = MOESMITH_NO_GRAD;
  }
  const Plan plan = make_plan(request);
  std::vector<std::byte> copies(static_cast<std::size_t>(moesmith_plan_packed_bytes(plan.get())));
  EXPECT_EQ(copies.empty(), !packed);
  if (packed) {
    const moesmith_inputs in = layer.inputs();
    const moesmith_pack_args args{.struct_bytes = sizeof args,
                                  .reserved = 0,
                                  .gate_up = in.gate_up,
                                  .up = {},
                                  .down = in.down,
                                  .packed = copies.data(),
                                  .packed_bytes = static_cast<std::int64_t>(copies.size())};
    EXPECT_EQ(moesmith_pack(plan.get(), &args, pool.get()), MOESMITH_OK) << moesmith_last_error();
    layer.gate_up.assign(layer.gate_up.size(), NAN);
    layer.down.assign(layer.down.size(), NAN);
  }
  moesmith_inputs inputs = layer.inputs();
  if (packed) inputs.packed = copies.data();
  inputs.packed_bytes = static_cast<std::int64_t>(copies.size());
  moesmith_sizes sizes{sizeof sizes, 0, 0, 0, 0};
  EXPECT_EQ(moesmith_plan_sizes(plan.get(), kTokens, 2, &sizes), MOESMITH_OK);
  std::vector<std::byte> saved(static_cast<std::size_t>(sizes.saved_bytes));
  std::vector<std::byte> scratch(static_cast<std::size_t>(
      std::max(sizes.forward_scratch_bytes, sizes.backward_scratch_bytes)));
  const auto held = [](const auto& buffer) { return static_cast<std::int64_t>(buffer.size()); };
  Results r;
  const moesmith_forward_args forward{.struct_bytes = sizeof forward,
                                      .reserved = 0,
                                      .inputs = inputs,
                                      .output = r.y.data(),
                                      .saved = saved.data(),
                                      .scratch = scratch.data(),
                                      .saved_bytes = held(saved),
                                      .scratch_bytes = held(scratch)};
  EXPECT_EQ(moesmith_forward(plan.get(), &forward, pool.get()), MOESMITH_OK)
      << moesmith_last_error();
  const moesmith_backward_args backward{.struct_bytes = sizeof backward,
                                        .reserved = 0,
                                        .inputs = inputs,
                                        .d_output = layer.dy.data(),
                                        .saved = saved.data(),
                                        .scratch = scratch.data(),
                                        .saved_bytes = held(saved),
                                        .scratch_bytes = held(scratch),
                                        .d_hidden = r.d_x.data(),
                                        .d_top_k_weights = r.d_w.data(),
                                        .d_gate_up = r.d_gate_up.data(),
                                        .d_down = r.d_down.data(),
                                        .d_gate_up_bias = nullptr,
                                        .d_down_bias = nullptr,
                                        .d_gate_up_a = r.d_a1.data(),
                                        .d_gate_up_b = r.d_b1.data(),
                                        .d_down_a = r.d_a2.data(),
                                        .d_down_b = r.d_b2.data()};
  EXPECT_EQ(moesmith_backward(plan.get(), &backward, pool.get()), MOESMITH_OK)
      << moesmith_last_error();
  return r;
}

std::vector<const void*> bases(const std::vector<float>& tensor) {
  std::vector<const void*> result;
  const std::size_t stride = tensor.size() / kExperts;
  for (std::size_t e = 0; e < kExperts; ++e) result.push_back(tensor.data() + e * stride);
  return result;
}

Results run_in_cpp(const Layer& layer) {
  using namespace experts;
  ExpertsRequest request;
  request.implementation = "scattermoe";
  request.num_experts = kExperts;
  request.top_k = kTopK;
  request.hidden = kHidden;
  request.inter = kInter;
  request.max_tokens = kTokens;
  request.index_dtype = DType::kI32;
  request.activation.kind = ActivationKind::kGeluTanh;
  request.activation.up_limit = 0.75f;
  request.gate_up_layout = GateUpLayout::kInterleaved;
  request.gate_up_lora = {kRank, 0.5f, DType::kF32};
  request.down_lora = {kRank, 2.0f, DType::kF32};
  WantedGradients& wanted = request.wanted;
  for (GradSpec* one : {&wanted.hidden, &wanted.top_k_weights, &wanted.gate_up, &wanted.down,
                        &wanted.gate_up_a, &wanted.gate_up_b, &wanted.down_a, &wanted.down_b}) {
    one->mode = GradMode::kOverwrite;
  }
  const ExpertsPlan plan = plan_experts(request);
  const std::vector<const void*> gate_up = bases(layer.gate_up), down = bases(layer.down);
  ExpertsInputs in;
  in.num_tokens = kTokens;
  in.hidden = layer.x.data();
  in.top_k_index = layer.index.data();
  in.top_k_weights = layer.w.data();
  in.weights.gate_up = {gate_up, kHidden};
  in.weights.down = {down, kInter};
  in.gate_up_lora = {layer.a1.data(), layer.b1.data()};
  in.down_lora = {layer.a2.data(), layer.b2.data()};
  ThreadPool pool(2);
  const ExpertsSizes sizes = plan.sizes(kTokens, 2);
  std::vector<std::byte> saved(static_cast<std::size_t>(sizes.saved_bytes));
  std::vector<std::byte> scratch(static_cast<std::size_t>(
      std::max(sizes.forward_scratch_bytes, sizes.backward_scratch_bytes)));
  Results r;
  plan.forward(ForwardArgs{in, r.y.data(), saved, scratch}, pool);
  ExpertsGradients gradients;
  gradients.hidden = r.d_x.data();
  gradients.top_k_weights = r.d_w.data();
  gradients.gate_up = r.d_gate_up.data();
  gradients.down = r.d_down.data();
  gradients.gate_up_a = r.d_a1.data();
  gradients.gate_up_b = r.d_b1.data();
  gradients.down_a = r.d_a2.data();
  gradients.down_b = r.d_b2.data();
  plan.backward(BackwardArgs{in, layer.dy.data(), saved, scratch, gradients}, pool);
  return r;
}

TEST(c_api, gives_the_bits_of_the_cpp_functions) {
  const Layer layer;
  const Results expected = run_in_cpp(layer);
  EXPECT_EQ(run_in_c(layer), expected);
  EXPECT_FALSE(std::isnan(expected.d_b2.back()));
}

TEST(c_api, packed_weights_change_no_bit) {
  const Layer layer;
  Results expected = run_in_c(layer);
  const Results plain;
  expected.d_gate_up = plain.d_gate_up;  // not asked for
  expected.d_down = plain.d_down;
  Results got = run_in_c(layer, true);
  EXPECT_EQ(std::memcmp(got.d_down.data(), expected.d_down.data(), got.d_down.size() * 4), 0);
  got.d_gate_up = got.d_down = expected.d_gate_up = expected.d_down = {};  // NaN equals nothing
  EXPECT_EQ(got, expected);
}

TEST(c_api, refuses_copies_that_are_too_small) {
  const Layer layer;
  moesmith_request request = layer.request();
  request.packed_weights = 1;
  request.d_gate_up.mode = request.d_down.mode = MOESMITH_NO_GRAD;
  const Plan plan = make_plan(request);
  const Pool pool = make_pool(1);
  std::byte one{};
  moesmith_pack_args pack{};
  pack.struct_bytes = sizeof pack;
  pack.gate_up = layer.inputs().gate_up;
  pack.down = layer.inputs().down;
  pack.packed = &one;
  pack.packed_bytes = 1;
  EXPECT_EQ(moesmith_pack(plan.get(), &pack, pool.get()), MOESMITH_INVALID_INPUT);
  EXPECT_THAT(moesmith_last_error(), HasSubstr("packed"));
  moesmith_forward_args args{};
  args.struct_bytes = sizeof args;
  args.inputs = layer.inputs();
  args.inputs.packed = &one;
  args.inputs.packed_bytes = 1;
  EXPECT_EQ(moesmith_forward(plan.get(), &args, pool.get()), MOESMITH_INVALID_INPUT);
  EXPECT_THAT(moesmith_last_error(), HasSubstr("packed_bytes: got 1, expected "));
}

TEST(c_api, base_pointers_give_what_a_stride_gives) {
  const Layer layer;
  moesmith_request request = layer.request();
  for (moesmith_gradient* one = &request.d_hidden; one <= &request.d_down_b; ++one) one->mode = 0;
  const Plan plan = make_plan(request);
  const Pool pool = make_pool(1);
  moesmith_sizes sizes{sizeof sizes, 0, 0, 0, 0};
  ASSERT_EQ(moesmith_plan_sizes(plan.get(), kTokens, 1, &sizes), MOESMITH_OK);
  EXPECT_EQ(sizes.saved_bytes, 0);
  std::vector<std::byte> scratch(static_cast<std::size_t>(sizes.forward_scratch_bytes));
  std::vector<float> by_stride(kTokens * kHidden, NAN), by_pointers = by_stride;
  moesmith_forward_args args{.struct_bytes = sizeof args,
                             .reserved = 0,
                             .inputs = layer.inputs(),
                             .output = by_stride.data(),
                             .saved = nullptr,
                             .scratch = scratch.data(),
                             .saved_bytes = 0,
                             .scratch_bytes = sizes.forward_scratch_bytes};
  ASSERT_EQ(moesmith_forward(plan.get(), &args, pool.get()), MOESMITH_OK) << moesmith_last_error();
  const std::vector<const void*> gate_up = bases(layer.gate_up), down = bases(layer.down);
  args.inputs.gate_up = {nullptr, gate_up.data(), 0, kHidden};
  args.inputs.down = {nullptr, down.data(), 0, kInter};
  args.output = by_pointers.data();
  ASSERT_EQ(moesmith_forward(plan.get(), &args, pool.get()), MOESMITH_OK) << moesmith_last_error();
  EXPECT_EQ(by_stride, by_pointers);
  EXPECT_EQ(by_stride, run_in_cpp(layer).y);
}

TEST(c_api, names_a_struct_of_another_version) {
  moesmith_request request = Layer().request();
  request.struct_bytes -= 8;
  moesmith_plan* plan = nullptr;
  EXPECT_EQ(moesmith_plan_create(&request, &plan), MOESMITH_INVALID_INPUT);
  EXPECT_THAT(moesmith_last_error(), HasSubstr("moesmith_request.struct_bytes: got "));
  EXPECT_EQ(plan, nullptr);
  EXPECT_EQ(moesmith_abi_version(), MOESMITH_ABI_VERSION);
}

TEST(c_api, says_why_no_implementation_takes_a_request) {
  moesmith_request request = Layer().request();
  request.implementation = "sonicmoe";
  moesmith_plan* plan = nullptr;
  EXPECT_EQ(moesmith_plan_create(&request, &plan), MOESMITH_UNSUPPORTED);
  EXPECT_THAT(moesmith_last_error(), HasSubstr("Hopper"));
  EXPECT_THAT(moesmith_last_error(), HasSubstr("eager"));
}

TEST(c_api, names_what_is_wrong_or_missing) {
  moesmith_request request = Layer().request();
  request.activation.kind = 99;
  moesmith_plan* plan = nullptr;
  EXPECT_EQ(moesmith_plan_create(&request, &plan), MOESMITH_INVALID_INPUT);
  EXPECT_THAT(moesmith_last_error(), HasSubstr("activation.kind: got 99"));
  EXPECT_EQ(moesmith_plan_create(nullptr, &plan), MOESMITH_INVALID_INPUT);
  EXPECT_THAT(moesmith_last_error(), HasSubstr("request: got NULL"));

  const Layer layer;
  const Plan good = make_plan(layer.request());
  const Pool pool = make_pool(1);
  moesmith_forward_args args;
  std::memset(&args, 0, sizeof args);
  args.struct_bytes = sizeof args;
  args.inputs = layer.inputs();
  args.inputs.down.data = nullptr;
  EXPECT_EQ(moesmith_forward(good.get(), &args, pool.get()), MOESMITH_INVALID_INPUT);
  EXPECT_THAT(moesmith_last_error(), HasSubstr("weights.down: got no pointer"));
  EXPECT_EQ(moesmith_forward_cuda(good.get(), &args, 0, nullptr), MOESMITH_INVALID_INPUT);
  EXPECT_THAT(moesmith_last_error(), HasSubstr("a plan for the CPU"));
}

TEST(c_api, an_error_belongs_to_its_thread) {
  moesmith_plan* plan = nullptr;
  EXPECT_NE(moesmith_plan_create(nullptr, &plan), MOESMITH_OK);
  std::string other = "not asked";
  std::thread([&] { other = moesmith_last_error(); }).join();
  EXPECT_EQ(other, "");
  EXPECT_NE(std::string(moesmith_last_error()), "");
}

TEST(c_api, a_plan_says_what_runs) {
  const Plan plan = make_plan(Layer().request());
  EXPECT_STREQ(moesmith_plan_implementation(plan.get()), "scattermoe");
  EXPECT_THAT(moesmith_plan_text(plan.get()), HasSubstr("E=5 K=2 H=24 I=12"));
}

}  // namespace
}  // namespace moesmith
