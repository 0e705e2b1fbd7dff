// SPDX-License-Identifier: Apache-2.0
// The same numbers by different ways: packed or alone, recomputed or kept, any number of threads,
// token by token or at once.
#include <gtest/gtest.h>

#include <cmath>

#include "fixture.h"
#include "model/spec.h"

namespace moesmith::model {
namespace {

const std::vector<std::int64_t> kLengths = {9, 1, 24, 13};

class Equivalence : public testing::TestWithParam<std::string> {
 protected:
  ThreadPool pool_{2};
};

TEST_P(Equivalence, packed_samples_are_as_alone) {
  CausalLM model = CausalLM::load(request_for(GetParam(), TrainMode::kAllWeights), pool_);
  const Batch batch = make_batch(kLengths, model.vocab_size());
  const std::vector<float> packed = values_of(model.logits(batch));
  // The load-balancing loss is one of the whole batch, so only cross entropy is compared.
  const auto loss = model.forward_backward(batch, 0.5f, 0.0f);
  const std::vector<float> packed_grad = gradients_of(model);
  zero_gradients(model);
  double sum = 0;
  std::int64_t tokens = 0;
  std::vector<float> alone;
  for (std::size_t s = 0; s < kLengths.size(); ++s) {
    const Batch sample = sample_of(batch, s);
    const auto logits = values_of(model.logits(sample));
    alone.insert(alone.end(), logits.begin(), logits.end());
    const auto part = model.forward_backward(sample, 0.5f, 0.0f);
    sum += part.sum;
    tokens += part.num_tokens;
  }
  EXPECT_LT(relative_error(packed, alone), 1e-5);
  EXPECT_NEAR(loss.sum, sum, 1e-5 * sum);
  EXPECT_EQ(loss.num_tokens, tokens);
  EXPECT_LT(relative_error(packed_grad, gradients_of(model)), 1e-4);
}

TEST_P(Equivalence, checkpointing_changes_no_bit) {
  for (const bool adapter : {false, true}) {
    for (const ComputeDType dtype : {ComputeDType::kF32, ComputeDType::kBF16}) {
      LoadRequest request = adapter ? adapter_request(GetParam(), dtype)
                                    : request_for(GetParam(), TrainMode::kAllWeights, dtype);
      CausalLM kept = CausalLM::load(request, pool_);
      request.model.gradient_checkpointing = true;
      CausalLM recomputed = CausalLM::load(request, pool_);
      const Batch batch = make_batch(kLengths, kept.vocab_size());
      const auto a = kept.forward_backward(batch, 0.1f, 0.05f);
      const auto b = recomputed.forward_backward(batch, 0.1f, 0.05f);
      EXPECT_EQ(a.sum, b.sum);
      EXPECT_EQ(a.aux, b.aux);
      EXPECT_TRUE(bitwise_equal(gradients_of(kept), gradients_of(recomputed)));
    }
  }
}

TEST_P(Equivalence, thread_count_changes_no_bit) {
  for (const ComputeDType dtype : {ComputeDType::kF32, ComputeDType::kBF16}) {
    std::vector<float> first;
    double first_sum = 0;
    for (const int threads : {1, 2, 5}) {
      ThreadPool pool(threads);
      CausalLM model = CausalLM::load(request_for(GetParam(), TrainMode::kAllWeights, dtype), pool);
      const Batch batch = make_batch(kLengths, model.vocab_size());
      const auto loss = model.forward_backward(batch, 0.1f, 0.05f);
      const std::vector<float> gradients = gradients_of(model);
      if (first.empty()) {
        first = gradients;
        first_sum = loss.sum;
      }
      EXPECT_EQ(loss.sum, first_sum);
      EXPECT_TRUE(bitwise_equal(gradients, first)) << threads << " threads";
    }
  }
}

TEST_P(Equivalence, repeated_steps_give_the_same_bits) {
  CausalLM model = CausalLM::load(adapter_request(GetParam()), pool_);
  const Batch batch = make_batch(kLengths, model.vocab_size());
  const Batch larger = make_batch({70, 31}, model.vocab_size());
  model.forward_backward(batch, 0.1f, 0.1f);
  const std::vector<float> first = gradients_of(model);
  // A larger batch in between moves the arena; a smaller one reuses it.
  zero_gradients(model);
  model.forward_backward(larger, 0.1f, 0.1f);
  model.evaluate(larger);
  zero_gradients(model);
  model.forward_backward(batch, 0.1f, 0.1f);
  EXPECT_TRUE(bitwise_equal(first, gradients_of(model)));
}

TEST_P(Equivalence, evaluation_has_the_loss_of_training) {
  CausalLM model = CausalLM::load(adapter_request(GetParam()), pool_);
  const Batch batch = make_batch(kLengths, model.vocab_size());
  const auto trained = model.forward_backward(batch, 1.0f, 1.0f);
  const auto evaluated = model.evaluate(batch);
  EXPECT_NEAR(trained.sum, evaluated.sum, 1e-6 * trained.sum);
  EXPECT_NEAR(trained.aux, evaluated.aux, 1e-6);
  EXPECT_EQ(trained.num_tokens, evaluated.num_tokens);
  EXPECT_EQ(trained.aux > 0, model.spec().output_router_logits);
}

// Prefill of several sizes, then one token at a time; the windows of some models are 8 tokens.
TEST_P(Equivalence, decoding_gives_the_logits_of_a_whole_pass) {
  for (const ComputeDType dtype : {ComputeDType::kF32, ComputeDType::kBF16}) {
    LoadRequest request = adapter_request(GetParam(), dtype);
    CausalLM model = CausalLM::load(request, pool_);
    const Batch batch = make_batch({30}, model.vocab_size());
    const std::vector<float> whole = values_of(model.logits(batch));
    const auto vocab = static_cast<std::size_t>(model.vocab_size());
    const double bound = dtype == ComputeDType::kF32 ? 2e-4 : 0.1;
    DecodeState state;
    std::size_t done = 0;
    for (const std::size_t count : {11, 1, 1, 5, 1, 1, 1, 9}) {
      const std::span<const std::int32_t> ids(batch.input_ids.data() + done, count);
      const std::vector<float> got = values_of(model.decode(state, ids));
      done += count;
      ASSERT_EQ(got.size(), vocab);
      EXPECT_EQ(state.length(), static_cast<std::int64_t>(done));
      const std::vector<float> want(whole.begin() + static_cast<std::ptrdiff_t>((done - 1) * vocab),
                                    whole.begin() + static_cast<std::ptrdiff_t>(done * vocab));
      EXPECT_LT(relative_error(got, want), bound) << "after " << done;
    }
  }
}

TEST_P(Equivalence, a_truncated_state_forgets) {
  CausalLM model = CausalLM::load(request_for(GetParam()), pool_);
  const Batch batch = make_batch({20}, model.vocab_size());
  const std::span<const std::int32_t> ids(batch.input_ids);
  DecodeState once, twice;
  const auto want = values_of(model.decode(once, ids.subspan(0, 15)));
  model.decode(twice, ids.subspan(0, 10));
  model.decode(twice, ids.subspan(12, 8));
  twice.truncate(10);
  EXPECT_EQ(twice.length(), 10);
  EXPECT_LT(relative_error(values_of(model.decode(twice, ids.subspan(10, 5))), want), 2e-4);
}

INSTANTIATE_TEST_SUITE_P(model,
                         Equivalence,
                         testing::ValuesIn(golden_names()),
                         [](const auto& info) { return info.param; });

// More keys than one block of attention, and more rows than one chunk of the loss or of a norm.
TEST(equivalence, long_samples_cross_every_block) {
  ThreadPool pool(2);
  CausalLM model = CausalLM::load(adapter_request("qwen2_moe_sparse_step_window"), pool);
  const Batch batch = make_batch({700, 450, 129}, model.vocab_size());
  const auto loss = model.forward_backward(batch, 1.0f, 0.0f);
  const std::vector<float> packed = gradients_of(model);
  zero_gradients(model);
  double sum = 0;
  for (std::size_t s = 0; s < 3; ++s) {
    sum += model.forward_backward(sample_of(batch, s), 1.0f, 0.0f).sum;
  }
  EXPECT_NEAR(loss.sum, sum, 1e-5 * sum);
  EXPECT_LT(relative_error(packed, gradients_of(model)), 1e-3);
  DecodeState state;
  const Batch sample = sample_of(batch, 0);
  const std::span<const std::int32_t> ids(sample.input_ids);
  model.decode(state, ids.subspan(0, 300));  // past the first size of the cache
  for (std::size_t i = 300; i < 699; ++i) model.decode(state, ids.subspan(i, 1));
  const auto last = values_of(model.decode(state, ids.subspan(699, 1)));
  const auto whole = values_of(model.logits(sample));
  const std::vector<float> want(whole.end() - static_cast<std::ptrdiff_t>(last.size()),
                                whole.end());
  EXPECT_LT(relative_error(last, want), 1e-3);
}

}  // namespace
}  // namespace moesmith::model
