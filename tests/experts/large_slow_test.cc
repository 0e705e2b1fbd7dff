// SPDX-License-Identifier: Apache-2.0
// More than 2^31 weights: the last expert of a layer whose weights lie beyond that many elements,
// against a layer that has only that expert. Untouched pages of the map take no memory.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/rng.h"
#include "core/thread_pool.h"
#include "experts/implementation.h"
#include "moesmith/experts.h"

namespace moesmith::experts {
namespace {

constexpr std::int64_t kExperts = 260, kHidden = 2048, kInter = 2048, kTokens = 8, kRank = 3;
constexpr std::int64_t kFirst = 2 * kInter * kHidden, kSecond = kHidden * kInter;
static_assert(kExperts * kFirst > (std::int64_t{1} << 31), "gate_up must exceed 2^31 elements");

// [count] bf16 that read as zero until they are written.
class Map {
 public:
  explicit Map(std::int64_t count) : bytes_(static_cast<std::size_t>(count) * sizeof(bf16)) {
    base_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  }
  ~Map() { munmap(base_, bytes_); }
  Map(const Map&) = delete;
  Map& operator=(const Map&) = delete;
  bool ok() const { return base_ != MAP_FAILED; }
  bf16* data() const { return static_cast<bf16*>(base_); }

 private:
  std::size_t bytes_;
  void* base_;
};

void fill(bf16* to, std::int64_t count, double scale, std::uint64_t stream) {
  const Rng rng(5, stream);
  for (std::int64_t i = 0; i < count; ++i) {
    to[i] = bf16(static_cast<float>(scale * rng.normal(static_cast<std::uint64_t>(i))));
  }
}

std::vector<bf16> filled(std::int64_t count, double scale, std::uint64_t stream) {
  std::vector<bf16> values(static_cast<std::size_t>(count));
  fill(values.data(), count, scale, stream);
  return values;
}

struct Bytes {
  std::vector<bf16> output;
  std::vector<float> d_hidden, d_weights, d_a, d_b;
};

// Expert e of `first` and `second`, factors of all experts, each token to `expert`.
struct Layer {
  std::int64_t num_experts, expert;
  const bf16* first;
  const bf16* second;
  const std::vector<bf16>& a;  // [r E, H]
  const std::vector<bf16>& b;  // [2I, r E]
};

ExpertsRequest request_of(const std::string& name, std::int64_t num_experts) {
  ExpertsRequest r;
  r.implementation = name;
  r.num_experts = num_experts;
  r.top_k = 1;
  r.hidden = kHidden;
  r.inter = kInter;
  r.max_tokens = kTokens;
  r.compute_dtype = r.weight_dtype = r.d_output_dtype = DType::kBF16;
  r.gate_up_lora = {.lora_rank = kRank, .lora_scale = 2.0f, .dtype = DType::kBF16};
  r.wanted.hidden = r.wanted.top_k_weights = r.wanted.gate_up_a =
      r.wanted.gate_up_b = {GradMode::kOverwrite, DType::kF32};
  return r;
}

Bytes run(const std::string& name, const Layer& layer) {
  const ExpertsPlan plan = plan_experts(request_of(name, layer.num_experts));
  ThreadPool pool(2);
  const ExpertsSizes sizes = plan.sizes(kTokens, 2);
  std::vector<std::byte> saved(static_cast<std::size_t>(sizes.saved_bytes));
  std::vector<std::byte> scratch(static_cast<std::size_t>(
      std::max(sizes.forward_scratch_bytes, sizes.backward_scratch_bytes)));
  const std::vector<bf16> x = filled(kTokens * kHidden, 1.0, 1),
                          dy = filled(kTokens * kHidden, 1.0, 2);
  const std::vector<float> weights(kTokens, 0.75f);
  const std::vector<std::int64_t> index(kTokens, layer.expert);
  std::vector<const void*> first, second;
  for (std::int64_t e = 0; e < layer.num_experts; ++e) {
    first.push_back(layer.first + e * kFirst);
    second.push_back(layer.second + e * kSecond);
  }
  ExpertsInputs in;
  in.num_tokens = kTokens;
  in.hidden = x.data();
  in.top_k_index = index.data();
  in.top_k_weights = weights.data();
  in.weights.gate_up = {first, kHidden};
  in.weights.down = {second, kInter};
  in.gate_up_lora = {layer.a.data(), layer.b.data()};
  Bytes out;
  out.output.resize(kTokens * kHidden);
  out.d_hidden.resize(kTokens * kHidden);
  out.d_weights.resize(kTokens);
  out.d_a.resize(static_cast<std::size_t>(kRank * layer.num_experts * kHidden));
  out.d_b.resize(static_cast<std::size_t>(2 * kInter * kRank * layer.num_experts));
  plan.forward({in, out.output.data(), saved, scratch}, pool);
  BackwardArgs backward{in, dy.data(), saved, scratch, {}};
  backward.gradients.hidden = out.d_hidden.data();
  backward.gradients.top_k_weights = out.d_weights.data();
  backward.gradients.gate_up_a = out.d_a.data();
  backward.gradients.gate_up_b = out.d_b.data();
  plan.backward(backward, pool);
  return out;
}

TEST(beyond_2_31_weights, the_last_expert_is_computed_as_if_it_were_the_only_one) {
  const Map first(kExperts * kFirst), second(kExperts * kSecond);
  if (!first.ok() || !second.ok()) GTEST_SKIP() << "no address space for 6.5 GB of zero pages";
  const std::int64_t last = kExperts - 1;
  fill(first.data() + last * kFirst, kFirst, 0.02, 3);
  fill(second.data() + last * kSecond, kSecond, 0.02, 4);
  fill(first.data(), kFirst, 0.5, 7);  // what a wrapped offset would find
  const std::vector<bf16> a = filled(kRank * kExperts * kHidden, 0.02, 5);
  const std::vector<bf16> b = filled(2 * kInter * kRank * kExperts, 0.3, 6);
  std::vector<bf16> last_a(a.end() - kRank * kHidden, a.end()), last_b;
  for (std::int64_t o = 0; o < 2 * kInter; ++o) {
    for (std::int64_t j = 0; j < kRank; ++j) {
      last_b.push_back(b[static_cast<std::size_t>((o * kRank + j) * kExperts + last)]);
    }
  }
  for (const Implementation& one : implementations()) {
    if (one.forward == nullptr || one.refuses(request_of(one.name, kExperts))) continue;
    SCOPED_TRACE(one.name);
    const Bytes many = run(one.name, {kExperts, last, first.data(), second.data(), a, b});
    const Bytes alone = run(one.name, {1, 0, first.data() + last * kFirst,
                                       second.data() + last * kSecond, last_a, last_b});
    EXPECT_EQ(std::memcmp(many.output.data(), alone.output.data(), alone.output.size() * 2), 0);
    EXPECT_NE(static_cast<float>(many.output[5]), 0.0f);
    EXPECT_EQ(many.d_hidden, alone.d_hidden);
    EXPECT_EQ(many.d_weights, alone.d_weights);
    EXPECT_TRUE(std::equal(alone.d_a.begin(), alone.d_a.end(), many.d_a.end() - kRank * kHidden));
    for (std::size_t i = 0; i < alone.d_b.size(); ++i) {
      ASSERT_EQ(many.d_b[i * kExperts + last], alone.d_b[i]);
    }
  }
}

}  // namespace
}  // namespace moesmith::experts
