// SPDX-License-Identifier: Apache-2.0
// Adapters: where they go, how they start, what they are called, and what merging gives.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "fixture.h"
#include "io/checkpoint.h"
#include "moesmith/error.h"

namespace moesmith::model {
namespace {

using testing::Each;
using testing::HasSubstr;

LoadRequest new_adapter(const std::string& name) {
  LoadRequest request = request_for(name, TrainMode::kAdapter);
  request.lora.enabled = true;
  request.lora.lora_r = 4;
  request.lora.lora_alpha = 8;
  request.lora.lora_target_modules = {"q_proj", "v_proj"};
  request.lora.lora_target_parameters = {"mlp.experts.gate_up_proj", "mlp.experts.down_proj"};
  return request;
}

std::vector<std::string> trained_names(CausalLM& model) {
  std::vector<std::string> names;
  for (const Parameter* p : model.parameters()) {
    if (p->trainable) names.push_back(p->name);
  }
  return names;
}

std::string error_of(const LoadRequest& request) {
  ThreadPool pool(1);
  try {
    CausalLM::load(request, pool);
  } catch (const Error& error) {
    EXPECT_NE(error.code(), ErrorCode::kInternal);
    return error.what();
  }
  return "no error";
}

TEST(lora, starts_as_the_model_itself) {
  ThreadPool pool(2);
  for (const std::string& name : golden_names()) {
    CausalLM base = CausalLM::load(request_for(name), pool);
    CausalLM adapted = CausalLM::load(new_adapter(name), pool);
    const Batch batch = make_batch({15, 6}, base.vocab_size());
    EXPECT_TRUE(bitwise_equal(values_of(base.logits(batch)), values_of(adapted.logits(batch))))
        << name;
  }
}

TEST(lora, only_factors_are_trained_and_named_as_peft_names_them) {
  ThreadPool pool(1);
  CausalLM model = CausalLM::load(new_adapter("qwen3_moe"), pool);
  const auto names = trained_names(model);
  EXPECT_EQ(names.size(), 2u * 2 * 4);
  EXPECT_THAT(names, Each(HasSubstr("base_model.model.model.layers.")));
  EXPECT_THAT(names, testing::Contains(
                         "base_model.model.model.layers.1.mlp.experts.base_layer.lora_A.weight"));
  EXPECT_THAT(names,
              testing::Contains("base_model.model.model.layers.1.mlp.experts.lora_B.weight"));
  for (const Parameter* p : model.parameters()) {
    EXPECT_EQ(p->grad.defined(), p->trainable);
    EXPECT_EQ(p->master.defined(), p->trainable);
  }
  const auto saved = model.adapter_tensors();
  EXPECT_EQ(saved.size(), names.size());
  for (const auto& [name, value] : saved) {
    EXPECT_THAT(names, testing::Contains(name));
    EXPECT_EQ(value.dtype(), DType::kF32);
  }
  EXPECT_EQ(model.adapter_config().r, 4);
}

// kaiming_uniform(a = sqrt 5): uniform within 1 / sqrt(in), by PEFT over the whole [E*r, in].
TEST(lora, factors_start_as_peft_starts_them) {
  ThreadPool pool(1);
  LoadRequest request = new_adapter("qwen3_moe");
  for (const LoraInit init : {LoraInit::kKaiming, LoraInit::kGaussian, LoraInit::kRandom}) {
    request.lora.peft_init_lora_weights = init;
    CausalLM model = CausalLM::load(request, pool);
    for (const auto& [name, value] : model.adapter_tensors()) {
      const auto v = values_of(value);
      double squares = 0, largest = 0;
      for (const float x : v) {
        squares += static_cast<double>(x) * static_cast<double>(x);
        largest = std::max(largest, std::abs(static_cast<double>(x)));
      }
      const double deviation = std::sqrt(squares / static_cast<double>(v.size()));
      const double bound = 1 / std::sqrt(static_cast<double>(value.dim(1)));
      const bool is_a = name.find("lora_A") != std::string::npos;
      if (!is_a && init != LoraInit::kRandom) {
        EXPECT_EQ(largest, 0) << name;
      } else if (init == LoraInit::kGaussian) {
        EXPECT_NEAR(deviation, 0.25, 0.25 * 0.2) << name;
      } else {
        EXPECT_LE(largest, bound) << name;
        EXPECT_NEAR(deviation, bound / std::sqrt(3.0), 0.15 * bound) << name;
      }
    }
  }
}

TEST(lora, seeds_differ_and_repeat) {
  ThreadPool pool(1);
  LoadRequest request = new_adapter("qwen3_moe");
  const auto first_a = [&](std::uint64_t seed) {
    request.seed = seed;
    CausalLM model = CausalLM::load(request, pool);
    return values_of(model.adapter_tensors()[0].second);
  };
  EXPECT_TRUE(bitwise_equal(first_a(1), first_a(1)));
  EXPECT_FALSE(bitwise_equal(first_a(1), first_a(2)));
}

TEST(lora, target_linear_means_every_linear_but_the_head) {
  ThreadPool pool(1);
  LoadRequest request = new_adapter("qwen2_moe_sparse_step_window");
  request.lora.lora_target_modules.clear();
  request.lora.lora_target_parameters.clear();
  request.lora.lora_target_linear = true;
  CausalLM model = CausalLM::load(request, pool);
  const auto names = trained_names(model);
  // Four layers' attention, dense or shared MLP in each, two shared gates.
  EXPECT_EQ(names.size(), 2u * (4 * 4 + 4 * 3 + 2));
  EXPECT_THAT(names, Each(testing::Not(HasSubstr("lm_head"))));
  EXPECT_THAT(names, Each(testing::Not(HasSubstr("mlp.gate."))));
  EXPECT_FALSE(model.adapter_config().target_modules.regex.has_value());
  EXPECT_FALSE(model.adapter_config().target_modules.names.empty());
}

TEST(lora, requests_that_cannot_be_met_are_errors) {
  const auto refuses = [](const std::function<void(LoraOptions&)>& change, const char* says) {
    LoadRequest request = new_adapter("qwen3_moe");
    change(request.lora);
    EXPECT_THAT(error_of(request), HasSubstr(says));
  };
  refuses([](LoraOptions& o) { o.lora_target_modules = {"q_prj"}; }, "q_prj");
  refuses([](LoraOptions& o) { o.lora_target_parameters = {"mlp.experts.gate_proj"}; },
          "gate_proj");
  refuses([](LoraOptions& o) { o.lora_dropout = 0.1; }, "lora_dropout");
  refuses([](LoraOptions& o) { o.lora_target_modules = {"embed_tokens"}; }, "embed_tokens");
  refuses([](LoraOptions& o) { o.lora_target_linear = true; }, "lora_target_linear");
  refuses(
      [](LoraOptions& o) {
        o.lora_target_modules.clear();
        o.lora_target_parameters.clear();
      },
      "both empty");
  refuses([](LoraOptions& o) { o.enabled = false; }, "adapter");
  LoadRequest both = new_adapter("qwen3_moe");
  both.mode = TrainMode::kAllWeights;
  EXPECT_THAT(error_of(both), HasSubstr("adapter"));
  LoadRequest other = adapter_request("qwen3_moe");
  other.folder = golden_folder("qwen3_moe_nonsquare") + "/model";
  EXPECT_THAT(error_of(other), HasSubstr("shape"));
}

// W + scale * B A in the checkpoint's own tensors is the adapted model.
TEST(lora, merged_weights_give_the_adapted_logits) {
  ThreadPool pool(2);
  for (const std::string& name : golden_names()) {
    SCOPED_TRACE(name);
    CausalLM adapted = CausalLM::load(adapter_request(name), pool);
    TempDir dir;
    const std::string folder = dir.copy_model(name);
    std::vector<io::TensorSpec> specs;
    for (const auto& t : adapted.disk_tensors()) specs.push_back({t.name, t.dtype, t.shape});
    io::CheckpointWriter writer(folder, specs);
    for (std::size_t i = 0; i < specs.size(); ++i) {
      writer.write(specs[i].name, adapted.disk_tensor(i, true));
    }
    writer.finish();
    LoadRequest merged = request_for(name);
    merged.folder = folder;
    CausalLM plain = CausalLM::load(merged, pool);
    const Batch batch = make_batch({15, 6}, plain.vocab_size());
    const auto want = values_of(adapted.logits(batch));
    EXPECT_LT(relative_error(values_of(plain.logits(batch)), want), 3e-4);
    CausalLM base = CausalLM::load(request_for(name), pool);
    EXPECT_GT(relative_error(values_of(base.logits(batch)), want), 0.05) << "nothing to merge";
  }
}

TEST(lora, bf16_models_apply_adapters) {
  ThreadPool pool(2);
  CausalLM f32 = CausalLM::load(adapter_request("qwen3_moe_nonsquare"), pool);
  CausalLM low = CausalLM::load(adapter_request("qwen3_moe_nonsquare", ComputeDType::kBF16), pool);
  CausalLM base = CausalLM::load(
      request_for("qwen3_moe_nonsquare", TrainMode::kNothing, ComputeDType::kBF16), pool);
  const Batch batch = make_batch({15, 6}, 256);
  const auto want = values_of(f32.logits(batch));
  const double with = relative_error(values_of(low.logits(batch)), want);
  EXPECT_LT(with, 0.25 * relative_error(values_of(base.logits(batch)), want));
  // Changed factors reach the packed copies.
  for (Parameter* p : low.parameters()) {
    if (!p->trainable) continue;
    std::fill_n(p->master.data<float>(), p->master.numel(), 0.0f);
  }
  low.sync_values();
  EXPECT_TRUE(bitwise_equal(values_of(low.logits(batch)), values_of(base.logits(batch))));
}

}  // namespace
}  // namespace moesmith::model
