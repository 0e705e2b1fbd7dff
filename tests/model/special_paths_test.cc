// SPDX-License-Identifier: Apache-2.0
// What no golden data shows: clipping, dropout, full-width norms under both, lm_head and linear
// adapters. Gradients against finite differences of the loss.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/rng.h"
#include "fixture.h"

namespace moesmith::model {
namespace {

constexpr float kAux = 0.3f;

double loss_of(CausalLM& model, const Batch& batch) {
  const auto loss = model.forward_backward(batch, 1.0f, kAux);
  return loss.sum + static_cast<double>(kAux) * loss.aux;
}

// The slope of the loss along a random direction in each trained tensor, against <gradient,
// direction>. f32 losses allow two to three digits.
void expect_gradients(CausalLM& model, const Batch& batch) {
  zero_gradients(model);
  loss_of(model, batch);
  std::vector<std::vector<float>> gradients;
  std::vector<Parameter*> trained;
  for (Parameter* p : model.parameters()) {
    if (!p->trainable) continue;
    trained.push_back(p);
    gradients.push_back(values_of(p->grad));
  }
  for (std::size_t t = 0; t < trained.size(); ++t) {
    float* values = trained[t]->master.data<float>();
    const std::vector<float> before = values_of(trained[t]->master);
    // Along the gradient itself the slope is largest, so that rounding of the loss matters least.
    double norm = 0;
    for (const float g : gradients[t]) norm += static_cast<double>(g) * static_cast<double>(g);
    norm = std::sqrt(norm);
    ASSERT_GT(norm, 0) << trained[t]->name;
    // Far enough for the loss's rounding, near enough for a straight line.
    const double step = std::min(2e-2 / norm, 0.05);
    const auto at = [&](double sign) {
      for (std::size_t i = 0; i < before.size(); ++i) {
        values[i] = before[i] + static_cast<float>(sign * step / norm) * gradients[t][i];
      }
      model.sync_values();
      return loss_of(model, batch);
    };
    const double up = at(1), down = at(-1);
    std::copy(before.begin(), before.end(), values);
    model.sync_values();
    EXPECT_NEAR((up - down) / (2 * step), norm, 0.03 * norm) << trained[t]->name;
  }
}

LoadRequest adapter_on(const std::string& name) {
  LoadRequest request = request_for(name, TrainMode::kAdapter);
  request.lora.enabled = true;
  request.lora.lora_r = 3;
  request.lora.peft_init_lora_weights = LoraInit::kRandom;
  return request;
}

TEST(special_paths, clipping_stops_gradients_where_it_bites) {
  ThreadPool pool(2);
  LoadRequest request = request_for("olmoe", TrainMode::kAllWeights);
  request.model.overrides_of_model_config = R"({"clip_qkv": 0.8})";
  CausalLM model = CausalLM::load(request, pool);
  const Batch batch = make_batch({12, 5}, model.vocab_size());
  CausalLM plain = CausalLM::load(request_for("olmoe"), pool);
  EXPECT_GT(relative_error(values_of(model.logits(batch)), values_of(plain.logits(batch))), 1e-2)
      << "nothing was clipped";
  expect_gradients(model, batch);
}

TEST(special_paths, dropout_has_the_gradient_of_what_it_kept) {
  ThreadPool pool(2);
  LoadRequest request = adapter_on("qwen2_moe");
  request.lora.lora_dropout = 0.3;
  request.lora.lora_target_modules = {"q_proj", "v_proj", "o_proj", "down_proj",
                                      "shared_expert_gate"};
  CausalLM model = CausalLM::load(request, pool);
  const Batch batch = make_batch({12, 5}, model.vocab_size());
  model.set_dropout(5, 17);
  expect_gradients(model, batch);
}

TEST(special_paths, dropout_depends_on_seed_and_micro_batch_alone) {
  for (const bool checkpointing : {false, true}) {
    LoadRequest request = adapter_on("qwen3_moe");
    request.lora.lora_dropout = 0.5;
    request.lora.lora_target_modules = {"q_proj", "k_proj"};
    request.model.gradient_checkpointing = checkpointing;
    ThreadPool one(1), three(3);
    CausalLM a = CausalLM::load(request, one), b = CausalLM::load(request, three);
    const Batch batch = make_batch({12, 5}, a.vocab_size());
    const auto step = [&](CausalLM& model, std::uint64_t seed, std::uint64_t micro_batch) {
      zero_gradients(model);
      model.set_dropout(seed, micro_batch);
      model.forward_backward(batch, 1.0f, 0.0f);
      return gradients_of(model);
    };
    const auto first = step(a, 1, 0);
    EXPECT_FALSE(bitwise_equal(first, step(a, 1, 1)));
    EXPECT_FALSE(bitwise_equal(first, step(a, 2, 0)));
    EXPECT_TRUE(bitwise_equal(first, step(a, 1, 0)));
    EXPECT_TRUE(bitwise_equal(first, step(b, 1, 0)));
    // Evaluation drops nothing.
    const double before = a.evaluate(batch).sum;
    a.set_dropout(3, 3);
    EXPECT_EQ(before, a.evaluate(batch).sum);
  }
}

// On average dropout changes nothing: the mean over many masks of a layer's input approaches the
// input itself, here seen in the loss.
TEST(special_paths, dropout_scales_what_it_keeps) {
  ThreadPool pool(2);
  LoadRequest request = adapter_on("qwen3_moe");
  request.lora.lora_target_modules = {"lm_head"};
  request.lora.lora_dropout = 0.2;
  CausalLM model = CausalLM::load(request, pool);
  // The adapter's part of the logits is linear in the mask, so its gradient by B averages to that
  // without dropout as far as the loss is linear: a small adapter makes it so.
  for (Parameter* p : model.parameters()) {
    if (!p->trainable) continue;
    for (std::int64_t i = 0; i < p->master.numel(); ++i) p->master.data<float>()[i] *= 1e-2f;
  }
  model.sync_values();
  const Batch batch = make_batch({24, 24}, model.vocab_size());
  constexpr int kMasks = 200;
  for (int i = 0; i < kMasks; ++i) {
    model.set_dropout(9, static_cast<std::uint64_t>(i));
    model.forward_backward(batch, 1.0f / kMasks, 0.0f);
  }
  const auto mean = gradients_of(model);
  LoadRequest plain = request;
  plain.lora.lora_dropout = 0;
  CausalLM other = CausalLM::load(plain, pool);
  for (Parameter* p : other.parameters()) {
    if (!p->trainable) continue;
    for (std::int64_t i = 0; i < p->master.numel(); ++i) p->master.data<float>()[i] *= 1e-2f;
  }
  other.sync_values();
  other.forward_backward(batch, 1.0f, 0.0f);
  EXPECT_LT(relative_error(mean, gradients_of(other)), 0.15);
}

TEST(special_paths, adapters_on_every_linear_and_on_lm_head) {
  ThreadPool pool(2);
  for (const char* name : {"qwen2_moe_sparse_step_window", "qwen3_moe_dense_tied_yarn"}) {
    LoadRequest request = adapter_on(name);
    request.lora.lora_target_modules_regex = R"(.*_proj|.*shared_expert_gate|lm_head)";
    request.lora.lora_target_parameters = {"mlp.gate.weight", "experts.down_proj"};
    CausalLM model = CausalLM::load(request, pool);
    expect_gradients(model, make_batch({9, 7}, model.vocab_size()));
  }
}

TEST(special_paths, all_weights_of_each_family) {
  ThreadPool pool(2);
  for (const char* name : {"qwen2_moe", "olmoe", "qwen3_moe_aux_router_adapter", "mixtral"}) {
    CausalLM model = CausalLM::load(request_for(name, TrainMode::kAllWeights), pool);
    expect_gradients(model, make_batch({9, 7}, model.vocab_size()));
  }
}

}  // namespace
}  // namespace moesmith::model
