// SPDX-License-Identifier: Apache-2.0
// More than 2^31 elements on the device: of weights, where the last expert must give what it gives
// alone, and of rows, where tokens that repeat must give results that repeat.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "core/rng.h"
#include "experts/implementation.h"
#include "gpu_executor.h"
#include "moesmith/experts.h"

namespace moesmith::experts::testing {
namespace {

std::vector<bf16> random_values(std::int64_t count, double scale, std::uint64_t stream) {
  const Rng rng(5, stream);
  std::vector<bf16> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = bf16(static_cast<float>(scale * rng.normal(i)));
  }
  return values;
}

// As a share of the largest value.
double largest_difference(const bf16* got, const std::vector<bf16>& want) {
  double difference = 0, largest = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double value = static_cast<float>(want[i]);
    difference = std::max(difference, std::abs(static_cast<float>(got[i]) - value));
    largest = std::max(largest, std::abs(value));
  }
  return difference / largest;
}

std::vector<std::string> names() {
  std::vector<std::string> found;
  for (const Implementation& one : implementations()) {
    if (one.cuda != nullptr && one.cuda->forward != nullptr) found.emplace_back(one.name);
  }
  return found;
}

std::string why_not(std::size_t bytes) {
  if (const std::string why = why_no_gpu(); !why.empty()) return why;
  std::size_t free = 0, total = 0;
  if (cudaMemGetInfo(&free, &total) != cudaSuccess || free < bytes) {
    return "needs " + std::to_string(bytes >> 30) + " GiB of free GPU memory";
  }
  return "";
}

struct Size {
  std::int64_t num_experts, top_k, hidden, inter, tokens;

  std::int64_t first() const { return 2 * inter * hidden; }
  std::int64_t second() const { return hidden * inter; }
};

struct Results {
  std::vector<bf16> output, d_hidden;
};

// A layer on the device. Expert e's weights are at first + e * n of the two projections.
class DeviceLayer {
 public:
  DeviceLayer(const std::string& name, const Size& size) : size_(size) {
    ExpertsRequest& r = request_;
    r.implementation = name;
    r.device = Device::kCuda;
    r.num_experts = size.num_experts, r.top_k = size.top_k;
    r.hidden = size.hidden, r.inter = size.inter, r.max_tokens = size.tokens;
    r.compute_dtype = r.weight_dtype = r.d_output_dtype = DType::kBF16;
    r.index_dtype = DType::kI32;
    r.aligned_weights = true;
    r.wanted.hidden = {GradMode::kOverwrite, DType::kBF16};
  }
  std::string refusal() const {
    for (const Verdict& verdict : explain_experts(request_)) {
      if (verdict.name == request_.implementation && !verdict.accepted) return verdict.text;
    }
    return "";
  }

  // Token t is token t mod `x`'s of x, dy, index and weights.
  Results run(const void* first,
              const void* second,
              const std::vector<bf16>& x,
              const std::vector<bf16>& dy,
              const std::vector<std::int32_t>& index,
              const std::vector<float>& weights) {
    const ExpertsPlan plan = plan_experts(request_);
    const ExpertsSizes sizes = plan.sizes(size_.tokens);
    const std::int64_t elements = size_.tokens * size_.hidden;
    const DeviceBuffer x_all(bytes(elements), nullptr), dy_all(bytes(elements), nullptr),
        y_all(bytes(elements), nullptr), dx_all(bytes(elements), nullptr);
    const std::size_t slots = static_cast<std::size_t>(size_.tokens * size_.top_k);
    const DeviceBuffer index_all(slots * 4, nullptr), weights_all(slots * 4, nullptr);
    repeat(x_all, x.data(), x.size() * 2);
    repeat(dy_all, dy.data(), dy.size() * 2);
    repeat(index_all, index.data(), index.size() * 4);
    repeat(weights_all, weights.data(), weights.size() * 4);
    const DeviceBuffer saved(static_cast<std::size_t>(sizes.saved_bytes), nullptr);
    const DeviceBuffer scratch(static_cast<std::size_t>(std::max(sizes.forward_scratch_bytes,
                                                                 sizes.backward_scratch_bytes)),
                               nullptr);
    std::vector<const void*> gate_up, down;
    for (std::int64_t e = 0; e < size_.num_experts; ++e) {
      gate_up.push_back(static_cast<const bf16*>(first) + e * size_.first());
      down.push_back(static_cast<const bf16*>(second) + e * size_.second());
    }
    ExpertsInputs in;
    in.num_tokens = size_.tokens;
    in.hidden = x_all.data();
    in.top_k_index = index_all.data();
    in.top_k_weights = weights_all.data();
    in.weights.gate_up = {gate_up, size_.hidden};
    in.weights.down = {down, size_.inter};
    const CudaStream stream{};
    plan.forward({in, y_all.data(), {saved.data(), saved.size()}, {scratch.data(), scratch.size()}},
                 stream);
    BackwardArgs backward{
        in, dy_all.data(), {saved.data(), saved.size()}, {scratch.data(), scratch.size()}, {}};
    backward.gradients.hidden = dx_all.data();
    plan.backward(backward, stream);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    Results results;
    results.output.resize(static_cast<std::size_t>(elements));
    results.d_hidden.resize(static_cast<std::size_t>(elements));
    y_all.download(results.output.data());
    dx_all.download(results.d_hidden.data());
    return results;
  }

 private:
  static std::size_t bytes(std::int64_t elements) { return static_cast<std::size_t>(elements) * 2; }
  static void repeat(const DeviceBuffer& to, const void* from, std::size_t period) {
    for (std::size_t at = 0; at < to.size(); at += period) {
      ASSERT_EQ(cudaMemcpy(to.data() + at, from, std::min(period, to.size() - at),
                           cudaMemcpyHostToDevice),
                cudaSuccess);
    }
  }

  Size size_;
  ExpertsRequest request_;
};

class gpu_large : public ::testing::TestWithParam<std::string> {};

TEST_P(gpu_large, last_expert_of_2_31_weights_is_computed_as_if_it_were_the_only_one) {
  constexpr Size kMany{260, 1, 2048, 2048, 8}, kAlone{1, 1, 2048, 2048, 8};
  static_assert(kMany.num_experts * 2 * 2048 * 2048 > (std::int64_t{1} << 31));
  if (const std::string why = why_not(std::size_t{10} << 30); !why.empty()) GTEST_SKIP() << why;
  DeviceLayer many(GetParam(), kMany), alone(GetParam(), kAlone);
  if (const std::string why = many.refusal(); !why.empty()) GTEST_SKIP() << "refuses: " << why;
  const DeviceBuffer first(static_cast<std::size_t>(kMany.num_experts * kMany.first()) * 2,
                           nullptr);
  const DeviceBuffer second(static_cast<std::size_t>(kMany.num_experts * kMany.second()) * 2,
                            nullptr);
  // What a wrapped offset would find is finite and large.
  first.fill(0x3f), second.fill(0x3f);
  const std::vector<bf16> w_1 = random_values(kMany.first(), 0.02, 3);
  const std::vector<bf16> w_2 = random_values(kMany.second(), 0.02, 4);
  std::byte* last_1 = first.data() + (kMany.num_experts - 1) * kMany.first() * 2;
  std::byte* last_2 = second.data() + (kMany.num_experts - 1) * kMany.second() * 2;
  ASSERT_EQ(cudaMemcpy(last_1, w_1.data(), w_1.size() * 2, cudaMemcpyHostToDevice), cudaSuccess);
  ASSERT_EQ(cudaMemcpy(last_2, w_2.data(), w_2.size() * 2, cudaMemcpyHostToDevice), cudaSuccess);
  const std::vector<bf16> x = random_values(kMany.tokens * kMany.hidden, 1.0, 1);
  const std::vector<bf16> dy = random_values(kMany.tokens * kMany.hidden, 1.0, 2);
  const std::vector<float> weights(kMany.tokens, 0.75f);
  const Results got = many.run(first.data(), second.data(), x, dy,
                               std::vector<std::int32_t>(kMany.tokens, 259), weights);
  const Results want =
      alone.run(last_1, last_2, x, dy, std::vector<std::int32_t>(kMany.tokens, 0), weights);
  const std::size_t size = got.output.size() * 2;
  EXPECT_NE(static_cast<float>(got.output[5]), 0.0f);
  EXPECT_EQ(std::memcmp(got.output.data(), want.output.data(), size), 0);
  EXPECT_EQ(std::memcmp(got.d_hidden.data(), want.d_hidden.data(), size), 0);
}

TEST_P(gpu_large, tokens_that_repeat_give_the_same_in_2_31_elements_of_rows) {
  constexpr Size kLong{4, 2, 4096, 64, 262400}, kShort{4, 2, 4096, 64, 64};
  static_assert(kLong.tokens * kLong.top_k * kLong.hidden > (std::int64_t{1} << 31));
  if (const std::string why = why_not(std::size_t{20} << 30); !why.empty()) GTEST_SKIP() << why;
  DeviceLayer all(GetParam(), kLong), once(GetParam(), kShort);
  if (const std::string why = all.refusal(); !why.empty()) GTEST_SKIP() << "refuses: " << why;
  const std::vector<bf16> w_1 = random_values(kShort.num_experts * kShort.first(), 0.02, 3);
  const std::vector<bf16> w_2 = random_values(kShort.num_experts * kShort.second(), 0.1, 4);
  const DeviceBuffer first(w_1.size() * 2, nullptr), second(w_2.size() * 2, nullptr);
  first.upload(w_1.data()), second.upload(w_2.data());
  const std::vector<bf16> x = random_values(kShort.tokens * kShort.hidden, 1.0, 1);
  const std::vector<bf16> dy = random_values(kShort.tokens * kShort.hidden, 1.0, 2);
  std::vector<std::int32_t> index;
  std::vector<float> weights;
  for (std::int32_t t = 0; t < kShort.tokens; ++t) {
    index.push_back(t % 4), index.push_back((t / 4 + t + 1) % 4);
    weights.push_back(0.25f + 0.01f * static_cast<float>(t)), weights.push_back(0.5f);
  }
  const Results want = once.run(first.data(), second.data(), x, dy, index, weights);
  const Results got = all.run(first.data(), second.data(), x, dy, index, weights);
  const std::size_t period = want.output.size();
  EXPECT_NE(static_cast<float>(want.output[5]), 0.0f);
  for (std::size_t at = 0; at < got.output.size(); at += period) {
    if (GetParam() == "eager") {  // cuBLAS goes by the number of rows: other kernels, other sums
      ASSERT_LT(largest_difference(&got.output[at], want.output), 0.02) << at;
      ASSERT_LT(largest_difference(&got.d_hidden[at], want.d_hidden), 0.02) << at;
      continue;
    }
    ASSERT_EQ(std::memcmp(&got.output[at], want.output.data(), period * 2), 0) << at;
    ASSERT_EQ(std::memcmp(&got.d_hidden[at], want.d_hidden.data(), period * 2), 0) << at;
  }
}

INSTANTIATE_TEST_SUITE_P(table, gpu_large, ::testing::ValuesIn(names()), [](const auto& info) {
  return info.param;
});

}  // namespace
}  // namespace moesmith::experts::testing
