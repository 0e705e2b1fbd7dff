// SPDX-License-Identifier: Apache-2.0
// What must hold exactly, for every implementation: subsets of gradients, LoRA's identities, values
// that may not be read, instruction sets, and memory that ends where a tensor ends.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>

#include "core/cpu_features.h"
#include "experts/implementation.h"
#include "experts_cases.h"
#include "problem.h"

namespace moesmith::experts::testing {
namespace {

std::vector<std::string> built_names() {
  std::vector<std::string> names;
  for (const Implementation& one : implementations()) {
    if (one.forward != nullptr) names.emplace_back(one.name);
  }
  return names;
}

class every_implementation : public ::testing::TestWithParam<std::string> {
 protected:
  // The case for this implementation; skips the test when it refuses.
  Case load(const std::string& name) {
    Case c = find_case(name);
    c.request.implementation = GetParam();
    if (GetParam() == "batched_mm") {  // takes no more
      c.num_tokens = c.request.max_tokens = std::min<std::int64_t>(c.num_tokens, 16);
    }
    return c;
  }
  void SetUp() override {
    for (const Verdict& verdict : explain_experts(find_case("lora_none_f32").request)) {
      if (verdict.name == GetParam() && !verdict.accepted) GTEST_SKIP() << verdict.text;
    }
  }
  ThreadPool pool_{2};
};

constexpr GradSpec WantedGradients::*kSpecs[] = {
    &WantedGradients::hidden,    &WantedGradients::top_k_weights, &WantedGradients::gate_up,
    &WantedGradients::down,      &WantedGradients::gate_up_bias,  &WantedGradients::down_bias,
    &WantedGradients::gate_up_a, &WantedGradients::gate_up_b,     &WantedGradients::down_a,
    &WantedGradients::down_b};
constexpr std::size_t kNumSpecs = std::size(kSpecs);

TEST_P(every_implementation, computes_any_subset_of_gradients_bitwise_as_all_of_them) {
  ThreadPool alone(1);  // 2048 runs of a small layer: threads would only wait for each other
  for (const bool recompute : {false, true}) {
    Case c = load("routing_skipped_biased_bf16");
    c.request.recompute_h = recompute;
    const Problem problem(c);
    const WantedGradients all = c.request.wanted;
    const Outcome full = problem.run(plan_experts(c.request), alone);
    for (unsigned subset = 0; subset < (1u << kNumSpecs); ++subset) {
      c.request.wanted = {};
      for (std::size_t i = 0; i < kNumSpecs; ++i) {
        if ((subset >> i) & 1u) c.request.wanted.*kSpecs[i] = all.*kSpecs[i];
      }
      const Outcome some = problem.run(plan_experts(c.request), alone);
      ASSERT_EQ(some.broken_band, "") << subset;
      ASSERT_EQ(some.raw[0], full.raw[0]) << "output of subset " << subset;
      for (std::size_t i = 0; i < kNumSpecs; ++i) {
        if (((subset >> i) & 1u) == 0) continue;
        ASSERT_EQ(some.raw[i + 1], full.raw[i + 1]) << "gradient " << i << " of subset " << subset;
      }
    }
  }
}

TEST_P(every_implementation, gives_the_same_bits_on_any_number_of_threads) {
  ThreadPool one(1), three(3), five(5);
  for (const char* name :
       {"layout_separate_biased_bf16", "layout_interleaved_transposed_f32", "routing_zipf_bf16",
        "lora_ranks_3_17_bf16", "size_h270_i140_t6_f32", "tokens_one_bf16"}) {
    const Case c = load(name);
    const Problem problem(c);
    const ExpertsPlan plan = plan_experts(c.request);
    const Outcome first = problem.run(plan, one);
    EXPECT_EQ(first.raw, problem.run(plan, pool_).raw) << name << ": one thread and two";
    EXPECT_EQ(first.raw, problem.run(plan, three).raw) << name << ": one thread and three";
    EXPECT_EQ(first.raw, problem.run(plan, five).raw) << name << ": one thread and five";
  }
}

TEST_P(every_implementation, gives_the_same_bits_wherever_its_tensors_lie) {
  for (const char* name : {"layout_separate_biased_bf16", "layout_concatenated_transposed_f32",
                           "lora_ranks_3_17_bf16", "size_h33_i17_t8_f32"}) {
    const Case c = load(name);
    const Problem problem(c);
    const ExpertsPlan plan = plan_experts(c.request);
    const Outcome want = problem.run(plan, pool_);
    const ExpertsSizes sizes = plan.sizes(c.num_tokens, pool_.num_threads());
    const std::int64_t count = c.num_tokens * c.request.hidden;
    for (const std::int64_t shift : {1, 3, 17}) {
      const std::int64_t element = dtype_size(c.request.compute_dtype);
      Buffer hidden(count, c.request.compute_dtype, shift * element);
      Buffer output(count, c.request.compute_dtype, shift * element);
      Guarded saved(sizes.saved_bytes, 16 * shift),
          scratch(sizes.forward_scratch_bytes, 16 * shift);
      ForwardArgs args{problem.inputs(), output.bytes.data(), saved.span(), scratch.span()};
      std::memcpy(hidden.bytes.data(), args.inputs.hidden, hidden.bytes.size());
      args.inputs.hidden = hidden.bytes.data();
      plan.forward(args, pool_);
      EXPECT_EQ(std::memcmp(output.bytes.data(), want.raw[0].data(), want.raw[0].size()), 0)
          << name << " moved by " << shift;
    }
  }
}

TEST_P(every_implementation, gives_the_same_bits_with_h_saved_or_computed_twice) {
  for (const char* name : {"layout_interleaved_biased_f32", "layout_separate_biased_bf16",
                           "lora_mixed_dtypes_bf16", "routing_one_expert_many_rows_bf16"}) {
    Case c = load(name);
    const Problem problem(c);
    const Outcome saved = problem.run(plan_experts(c.request), pool_);
    c.request.recompute_h = true;
    EXPECT_EQ(saved.raw, problem.run(plan_experts(c.request), pool_).raw) << name;
  }
}

TEST_P(every_implementation, gives_exactly_the_base_when_b_is_zero) {
  for (const char* name : {"layout_concatenated_biased_f32", "layout_concatenated_biased_bf16"}) {
    Case c = load(name);
    Problem problem(c);
    std::fill(problem.data().b_1.begin(), problem.data().b_1.end(), 0.0);
    std::fill(problem.data().b_2.begin(), problem.data().b_2.end(), 0.0);
    problem.lay_out();
    const Outcome adapted = problem.run(plan_experts(c.request), pool_);
    c.request.gate_up_lora.lora_rank = c.request.down_lora.lora_rank = 0;
    c.request.wanted = {};
    EXPECT_EQ(adapted.raw[0], problem.run(plan_experts(c.request), pool_).raw[0]) << name;
  }
}

TEST_P(every_implementation, gives_the_merged_weights_output_without_merging) {
  for (const char* name : {"lora_mixed_dtypes_f32", "layout_separate_transposed_f32"}) {
    Case c = load(name);
    Problem problem(c);
    const Values unmerged = problem.run(plan_experts(c.request), pool_).values.output;
    Data& data = problem.data();
    const ExpertsRequest r = c.request;
    const auto merge = [&](Values& w, const LoraSpec& lora, const Values& a, const Values& b,
                           std::int64_t out, std::int64_t in) {
      for (std::int64_t at = 0; at < r.num_experts * out * in; ++at) {
        const std::int64_t e = at / (out * in), o = at / in % out, i = at % in;
        for (std::int64_t j = 0; j < lora.lora_rank; ++j) {
          w[static_cast<std::size_t>(at)] +=
              static_cast<double>(lora.lora_scale) *
              b[static_cast<std::size_t>((o * lora.lora_rank + j) * r.num_experts + e)] *
              a[static_cast<std::size_t>((e * lora.lora_rank + j) * in + i)];
        }
      }
    };
    merge(data.w_1, r.gate_up_lora, data.a_1, data.b_1, r.gate_up_width(), r.hidden);
    merge(data.w_2, r.down_lora, data.a_2, data.b_2, r.hidden, r.inter);
    problem.lay_out();
    c.request.gate_up_lora.lora_rank = c.request.down_lora.lora_rank = 0;
    c.request.wanted = {};
    const Values merged = problem.run(plan_experts(c.request), pool_).values.output;
    double most = 0, error = 0;
    for (std::size_t i = 0; i < merged.size(); ++i) {
      most = std::max(most, std::abs(merged[i]));
      error = std::max(error, std::abs(merged[i] - unmerged[i]));
    }
    EXPECT_LE(error, 1e-5 * most) << name;
  }
}

TEST_P(every_implementation, never_reads_what_no_slot_uses) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  Case c = load("routing_skipped_biased_f32");
  c.request.num_experts = 9;
  Problem problem(c);
  std::vector<bool> used(9);
  for (std::size_t slot = 0; slot < problem.data().index.size(); ++slot) {
    std::int64_t& e = problem.data().index[slot];
    if (e == 4) e = 5;  // expert 4 has no rows
    if (e >= 0 && e < 9) used[static_cast<std::size_t>(e)] = true;
  }
  problem.lay_out();
  const Outcome clean = problem.run(plan_experts(c.request), pool_);
  for (std::size_t slot = 0; slot < problem.data().index.size(); ++slot) {
    const std::int64_t e = problem.data().index[slot];
    if (e < 0 || e >= 9) problem.data().route_weights[slot] = nan;
  }
  const auto poison = [&](Values& values) {
    const std::size_t size = values.size() / 9;
    for (std::size_t e = 0; e < 9; ++e) {
      for (std::size_t i = 0; !used[e] && i < size; ++i) values[e * size + i] = nan;
    }
  };
  for (Values Data::*member :
       {&Data::w_1, &Data::w_2, &Data::bias_1, &Data::bias_2, &Data::a_1, &Data::a_2}) {
    poison(problem.data().*member);
  }
  for (Values Data::*member : {&Data::b_1, &Data::b_2}) {
    Values& values = problem.data().*member;
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (!used[i % 9]) values[i] = nan;
    }
  }
  problem.lay_out();
  EXPECT_EQ(clean.raw, problem.run(plan_experts(c.request), pool_).raw);
}

TEST_P(every_implementation, agrees_on_every_instruction_set_of_this_cpu) {
  const IsaLevel before = active_isa();
  for (const char* name : {"layout_interleaved_biased_f32", "layout_separate_biased_bf16",
                           "size_h33_i17_t40_bf16", "layout_concatenated_bf16_weights_f32"}) {
    const Case c = load(name);
    const Problem problem(c);
    const Results want = run_oracle(c.request, c.num_tokens, problem.data(), no_rounding);
    const double tolerance = c.request.compute_dtype == DType::kBF16 ? 0x1p-5 : 1e-5;
    for (const IsaLevel isa :
         {IsaLevel::kPortable, IsaLevel::kAvx2, IsaLevel::kAvx512, IsaLevel::kAvx512Bf16}) {
      if (isa > detected_isa()) continue;
      set_isa(isa);
      const Results got = problem.run(plan_experts(c.request), pool_).values;
      set_isa(before);
      for (Values Results::*member :
           {&Results::output, &Results::hidden, &Results::w_1, &Results::a_1, &Results::b_2}) {
        double most = 0, error = 0;
        for (std::size_t i = 0; i < (want.*member).size(); ++i) {
          most = std::max(most, std::abs((want.*member)[i]));
          error = std::max(error, std::abs((got.*member)[i] - (want.*member)[i]));
        }
        EXPECT_LE(error, tolerance * most) << name << " on " << isa_name(isa);
      }
    }
  }
}

// Memory whose end is the end of a page; the next one may not be touched.
class AtPageEnd {
 public:
  explicit AtPageEnd(std::size_t bytes) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t body = (bytes + page - 1) / page * page;
    size_ = body + page;
    base_ = static_cast<char*>(
        mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(base_ + body, page, PROT_NONE);
    data_ = base_ + body - bytes;
  }
  ~AtPageEnd() { munmap(base_, size_); }
  AtPageEnd(const AtPageEnd&) = delete;
  AtPageEnd& operator=(const AtPageEnd&) = delete;
  char* data() const { return data_; }

 private:
  std::size_t size_ = 0;
  char* base_ = nullptr;
  char* data_ = nullptr;
};

TEST_P(every_implementation, reads_no_byte_past_the_last_weight_of_a_map) {
  for (const char* name :
       {"layout_concatenated_f32", "layout_separate_bf16", "layout_interleaved_transposed_bf16",
        "size_h33_i17_t40_bf16", "size_h7_i5_t4_bf16", "size_h65_i3_t29_f32"}) {
    const Case c = load(name);
    const Problem problem(c);
    const ExpertsRequest& r = c.request;
    const ExpertsPlan plan = plan_experts(r);
    const ExpertsSizes sizes = plan.sizes(c.num_tokens, 2);
    Guarded saved(sizes.saved_bytes), scratch(sizes.forward_scratch_bytes);
    Buffer output(c.num_tokens * r.hidden, r.compute_dtype);
    ForwardArgs args{problem.inputs(), output.bytes.data(), saved.span(), scratch.span()};
    // Every expert's matrices move to the end of a page of their own.
    std::vector<std::unique_ptr<AtPageEnd>> pages;
    std::vector<const void*> base[3];
    ProjectionWeights* projections[] = {&args.inputs.weights.gate_up, &args.inputs.weights.up,
                                        &args.inputs.weights.down};
    const bool separate = r.gate_up_layout == GateUpLayout::kSeparate;
    const std::int64_t first = (separate ? r.inter : r.gate_up_width()) * r.hidden;
    const std::int64_t counts[] = {first, first, r.hidden * r.inter};
    for (std::size_t p = 0; p < 3; ++p) {
      for (const void* from : projections[p]->base) {
        const auto bytes = static_cast<std::size_t>(counts[p] * dtype_size(r.weight_dtype));
        pages.push_back(std::make_unique<AtPageEnd>(bytes));
        std::memcpy(pages.back()->data(), from, bytes);
        base[p].push_back(pages.back()->data());
      }
      projections[p]->base = base[p];
    }
    plan.forward(args, pool_);
    const Outcome plain = problem.run(plan, pool_);
    EXPECT_EQ(plain.raw[0], std::vector<std::byte>(output.bytes.data(),
                                                   output.bytes.data() + output.bytes.size()))
        << name;
  }
}

TEST(eager, is_closer_to_the_truth_with_sums_in_double) {
  Case c = find_case("size_h530_i9_t30_f32");
  c.request.implementation = "eager";
  const Problem problem(c);
  ThreadPool pool(1);
  const Results want = run_oracle(c.request, c.num_tokens, problem.data(), no_rounding);
  const auto error = [&](bool double_sums) {
    c.request.double_sums = double_sums;
    const Results got = problem.run(plan_experts(c.request), pool).values;
    double square = 0;
    for (std::size_t i = 0; i < want.w_1.size(); ++i) {
      square += (got.w_1[i] - want.w_1[i]) * (got.w_1[i] - want.w_1[i]);
    }
    return square;
  };
  EXPECT_LT(error(true), error(false));
}

INSTANTIATE_TEST_SUITE_P(table,
                         every_implementation,
                         ::testing::ValuesIn(built_names()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace moesmith::experts::testing
