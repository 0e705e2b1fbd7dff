// SPDX-License-Identifier: Apache-2.0
// What a checkpoint may look like, and what is said when it does not fit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>

#include "core/log.h"
#include "fixture.h"
#include "io/atomic_write.h"
#include "io/checkpoint.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "model/spec.h"
#include "moesmith/error.h"

namespace moesmith::model {
namespace {

using testing::HasSubstr;

using Tensors = std::vector<io::NamedTensor>;

// A copy of a golden model whose tensors were changed.
class Altered {
 public:
  Altered(const std::string& name, const std::function<void(Tensors&)>& change) {
    folder_ = dir_.copy_model(name);
    const std::string path = folder_ + "/model.safetensors";
    Tensors tensors;
    {
      const auto file = io::SafetensorsFile::open(path);
      for (const auto& info : file.tensors()) {
        tensors.emplace_back(info.name, file.tensor(info).clone());
      }
    }
    change(tensors);
    io::write_safetensors(path, tensors);
  }
  const std::string& folder() const { return folder_; }

 private:
  TempDir dir_;
  std::string folder_;
};

CausalLM load(const std::string& folder, ThreadPool& pool, ComputeDType dtype) {
  LoadRequest request;
  request.folder = folder;
  request.model.compute_dtype = dtype;
  request.model.experts_implementation = "eager";
  return CausalLM::load(request, pool);
}

std::string error_of(const std::string& folder, const std::string& overrides = "{}") {
  ThreadPool pool(1);
  LoadRequest request;
  request.folder = folder;
  request.model.experts_implementation = "eager";
  request.model.overrides_of_model_config = overrides;
  try {
    CausalLM::load(request, pool);
  } catch (const Error& error) {
    EXPECT_NE(error.code(), ErrorCode::kInternal) << error.what();
    return error.what();
  }
  return "no error";
}

std::vector<float> logits_of(CausalLM& model) {
  return values_of(model.logits(make_batch({12}, model.vocab_size())));
}

class Loading : public testing::TestWithParam<std::string> {
 protected:
  ThreadPool pool_{2};
};

TEST_P(Loading, half_precision_files_are_read) {
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    Altered copy(GetParam(), [&](Tensors& tensors) {
      for (auto& [name, value] : tensors) value = value.to(dtype);
    });
    CausalLM automatic = load(copy.folder(), pool_, ComputeDType::kAuto);
    EXPECT_EQ(automatic.compute_dtype(), DType::kBF16);
    CausalLM f32 = load(copy.folder(), pool_, ComputeDType::kF32);
    CausalLM want = CausalLM::load(request_for(GetParam(), TrainMode::kAllWeights), pool_);
    for (Parameter* p : want.parameters()) {
      const auto narrowed = values_of(p->master.to(dtype));
      std::copy(narrowed.begin(), narrowed.end(), p->master.data<float>());
    }
    EXPECT_LT(relative_error(logits_of(f32), logits_of(want)), 1e-5);
    for (std::size_t i = 0; i < f32.disk_tensors().size(); ++i) {
      EXPECT_EQ(f32.disk_tensors()[i].dtype, dtype);
      EXPECT_EQ(f32.disk_tensor(i, false).dtype(), dtype);
    }
  }
}

// One tensor for all experts, in either spelling of the path.
TEST_P(Loading, fused_experts_are_read) {
  CausalLM want = CausalLM::load(request_for(GetParam(), TrainMode::kAllWeights), pool_);
  Altered copy(GetParam(), [&](Tensors& tensors) {
    std::erase_if(tensors,
                  [](const auto& t) { return t.first.find(".experts.") != std::string::npos; });
    for (const Parameter* p : want.parameters()) {
      if (p->name.find(".experts.") != std::string::npos) {
        tensors.emplace_back(p->name, p->master.clone());
      }
    }
  });
  CausalLM got = load(copy.folder(), pool_, ComputeDType::kF32);
  EXPECT_LT(relative_error(logits_of(got), logits_of(want)), 1e-6);
  EXPECT_LT(got.disk_tensors().size(), want.disk_tensors().size());
}

TEST_P(Loading, names_go_both_ways) {
  CausalLM model = CausalLM::load(request_for(GetParam()), pool_);
  const auto checkpoint = io::Checkpoint::open(golden_folder(GetParam()) + "/model");
  std::size_t count = 0;
  for (const Parameter* p : model.parameters()) {
    for (const std::string& disk : model.disk_names(p->name)) {
      EXPECT_EQ(model.memory_name(disk), p->name);
      EXPECT_TRUE(checkpoint.contains(disk)) << disk;
      ++count;
    }
  }
  EXPECT_EQ(count, checkpoint.names().size());
  EXPECT_EQ(model.memory_name("model.layers.99.self_attn.q_proj.weight"), "");
  EXPECT_TRUE(model.disk_names("no.such.parameter").empty());
}

TEST_P(Loading, disk_tensors_are_those_of_the_file) {
  const auto checkpoint = io::Checkpoint::open(golden_folder(GetParam()) + "/model");
  for (const TrainMode mode : {TrainMode::kNothing, TrainMode::kAllWeights}) {
    CausalLM model = CausalLM::load(request_for(GetParam(), mode), pool_);
    const auto list = model.disk_tensors();
    EXPECT_EQ(list.size(), checkpoint.names().size());
    for (std::size_t i = 0; i < list.size(); ++i) {
      const Tensor want = checkpoint.tensor(list[i].name);
      EXPECT_EQ(list[i].shape, want.shape()) << list[i].name;
      EXPECT_EQ(list[i].dtype, want.dtype());
      const Tensor got = model.disk_tensor(i, true);
      EXPECT_EQ(got.shape(), want.shape()) << list[i].name;
      EXPECT_TRUE(bitwise_equal(values_of(got), values_of(want))) << list[i].name;
    }
  }
}

// A saved copy of a model that starts from nothing is loaded again as what it was.
TEST_P(Loading, reinitialised_weights_survive_saving) {
  LoadRequest request = request_for(GetParam(), TrainMode::kAllWeights);
  request.reinit = true;
  request.seed = 3;
  CausalLM model = CausalLM::load(request, pool_);
  TempDir dir;
  const std::string folder = dir.copy_model(GetParam());
  std::vector<io::TensorSpec> specs;
  for (const auto& t : model.disk_tensors()) specs.push_back({t.name, t.dtype, t.shape});
  io::CheckpointWriter writer(folder, specs);
  for (std::size_t i = 0; i < specs.size(); ++i) {
    writer.write(specs[i].name, model.disk_tensor(i, false));
  }
  writer.finish();
  CausalLM again = load(folder, pool_, ComputeDType::kF32);
  EXPECT_TRUE(bitwise_equal(logits_of(model), logits_of(again)) ||
              relative_error(logits_of(again), logits_of(model)) < 1e-6);
}

TEST_P(Loading, reinitialised_weights_have_the_configured_spread) {
  LoadRequest request = request_for(GetParam(), TrainMode::kAllWeights);
  request.reinit = true;
  request.model.overrides_of_model_config = R"({"initializer_range": 0.05})";
  CausalLM model = CausalLM::load(request, pool_);
  request.seed = 43;
  CausalLM other = CausalLM::load(request, pool_);
  for (std::size_t i = 0; i < model.parameters().size(); ++i) {
    const Parameter& p = *model.parameters()[i];
    const auto values = values_of(p.master);
    double sum = 0, squares = 0;
    for (const float v : values) {
      sum += static_cast<double>(v);
      squares += static_cast<double>(v) * static_cast<double>(v);
    }
    const auto n = static_cast<double>(values.size());
    if (p.name.ends_with("bias") || p.shape.size() == 1) {
      EXPECT_EQ(values.front(), p.name.ends_with("bias") ? 0.0f : 1.0f) << p.name;
      EXPECT_EQ(values.back(), values.front());
    } else {
      EXPECT_NEAR(sum / n, 0, 5 * 0.05 / std::sqrt(n)) << p.name;
      EXPECT_NEAR(std::sqrt(squares / n), 0.05, 5 * 0.05 / std::sqrt(2 * n)) << p.name;
      EXPECT_FALSE(bitwise_equal(values, values_of(other.parameters()[i]->master)));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(model,
                         Loading,
                         testing::Values("qwen3_moe",
                                         "mixtral",
                                         "qwen2_moe_sparse_step_window",
                                         "qwen3_moe_dense_tied_yarn"),
                         [](const auto& info) { return info.param; });

TEST(loading, weights_are_used_in_place) {
  ThreadPool pool(1);
  const LoadRequest request = request_for("qwen3_moe");
  const auto frozen = estimate_memory(request, 16, 1);
  EXPECT_GT(frozen.weights_mapped, 0);
  EXPECT_EQ(frozen.weights, 0);
  CausalLM model = CausalLM::load(request, pool);
  for (const Parameter* p : model.parameters()) {
    EXPECT_EQ(p->value.defined(), p->name.find(".experts.") == std::string::npos) << p->name;
  }
}

TEST(loading, one_error_lists_missing_and_unexpected_and_misshaped_tensors) {
  Altered copy("qwen3_moe", [](Tensors& tensors) {
    for (auto& [name, value] : tensors) {
      if (name == "model.norm.weight") name = "model.norm.wait";
      if (name == "model.layers.0.mlp.experts.3.up_proj.weight") value = value.reshaped({64, 32});
      if (name == "lm_head.weight") value = Tensor::zeros({256, 64}, DType::kI32);
    }
  });
  const std::string error = error_of(copy.folder());
  EXPECT_THAT(error, HasSubstr("model.norm.weight: got no such tensor, expected shape [64]"));
  EXPECT_THAT(error,
              HasSubstr("model.safetensors: model.norm.wait: got shape [64], expected no such"));
  EXPECT_THAT(error, HasSubstr("model.layers.0.mlp.experts.3.up_proj.weight: got shape [64, 32], "
                               "expected [32, 64]"));
  EXPECT_THAT(error, HasSubstr("lm_head.weight: got dtype I32, expected F32, F16 or BF16"));
}

TEST(loading, what_a_family_carries_in_vain_is_logged_once) {
  Altered copy("qwen3_moe_dense_tied_yarn", [](Tensors& tensors) {
    tensors.emplace_back("model.layers.0.self_attn.rotary_emb.inv_freq",
                         Tensor::zeros({8}, DType::kF32));
    tensors.emplace_back("lm_head.weight", Tensor::zeros({256, 80}, DType::kF32));
  });
  std::vector<std::string> lines;
  set_log_sink([&](LogLevel, const std::string& line) { lines.push_back(line); });
  EXPECT_EQ(error_of(copy.folder()), "no error");
  set_log_sink({});
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_THAT(lines[0], HasSubstr("not used: 2 tensors"));
}

TEST(loading, an_untied_head_is_not_ignored) {
  Altered copy("qwen3_moe", [](Tensors& tensors) {
    std::erase_if(tensors, [](const auto& t) { return t.first == "lm_head.weight"; });
  });
  EXPECT_THAT(error_of(copy.folder()), HasSubstr("lm_head.weight: got no such tensor"));
}

struct BadConfig {
  const char* overrides;
  const char* says;
};

TEST(loading, configurations_that_cannot_be_are_refused) {
  const std::string folder = golden_folder("qwen3_moe") + "/model";
  const std::vector<BadConfig> cases = {
      {R"({"model_type": "llama"})", "model_type: got \"llama\", expected one of mixtral, olmoe"},
      {R"({"hidden_size": "64"})", "hidden_size"},
      {R"({"hidden_size": 0})", "hidden_size: got 0"},
      {R"({"hidden_size": -64})", "hidden_size: got -64"},
      {R"({"vocab_size": 99999999999})", "vocab_size: got 99999999999"},
      {R"({"num_hidden_layers": 1000000})", "num_hidden_layers: got 1000000"},
      {R"({"num_key_value_heads": 3})", "num_attention_heads: got 4, expected a multiple"},
      {R"({"head_dim": 15})", "head_dim: got 15, expected an even number"},
      {R"({"num_experts_per_tok": 9})", "num_experts_per_tok: got 9, expected at most"},
      {R"({"hidden_act": "gelu"})", "hidden_act: got \"gelu\""},
      {R"({"attention_dropout": 0.1})", "attention_dropout"},
      {R"({"quantization_config": {"bits": 4}})", "quantised"},
      {R"({"rope_parameters": {"rope_type": "dynamic", "factor": 2}})", "rope_type \"dynamic\""},
      {R"({"rope_parameters": {"rope_type": "yarn", "factor": -1}})", "factor"},
      {R"({"rope_parameters": {"rope_theta": 0}})", "rope_theta"},
      {R"({"rope_parameters": {"partial_rotary_factor": 0.5}})", "partial_rotary_factor"},
      {R"({"rms_norm_eps": -1})", "rms_norm_eps"},
      {R"({"decoder_sparse_step": 0})", "decoder_sparse_step"},
      {R"([1])", "expected an object"},
      {R"({"num_hidden_layers": 3})", "model.layers.2"},
      {R"({"moe_intermediate_size": 48})", "expected [48, 64]"},
  };
  for (const BadConfig& c : cases) EXPECT_THAT(error_of(folder, c.overrides), HasSubstr(c.says));
}

TEST(loading, truncated_and_absent_files_are_named) {
  TempDir dir;
  const std::string folder = dir.copy_model("qwen3_moe");
  std::filesystem::resize_file(folder + "/model.safetensors", 400000);
  EXPECT_THAT(error_of(folder), HasSubstr("model.safetensors"));
  std::filesystem::remove(folder + "/model.safetensors");
  EXPECT_THAT(error_of(folder), HasSubstr(folder));
  std::filesystem::remove(folder + "/config.json");
  EXPECT_THAT(error_of(folder), HasSubstr("config.json"));
  EXPECT_THAT(error_of(dir.path() + "/nowhere"), HasSubstr("nowhere"));
}

TEST(loading, batches_out_of_range_are_refused) {
  ThreadPool pool(1);
  CausalLM model = CausalLM::load(request_for("qwen3_moe", TrainMode::kAllWeights), pool);
  const Batch good = make_batch({5, 4}, 256);
  const auto refuses = [&](const std::function<void(Batch&)>& spoil) {
    Batch bad = good;
    spoil(bad);
    EXPECT_THROW(model.forward_backward(bad, 1, 0), Error);
    EXPECT_THROW(model.evaluate(bad), Error);
  };
  refuses([](Batch& b) { b.input_ids[3] = 256; });
  refuses([](Batch& b) { b.input_ids[3] = -1; });
  refuses([](Batch& b) { b.labels[0] = 256; });
  refuses([](Batch& b) { b.labels[0] = -1; });
  refuses([](Batch& b) { b.labels.pop_back(); });
  refuses([](Batch& b) { b.position_ids[0] = -1; });
  refuses([](Batch& b) { b.position_ids[8] = 1 << 30; });
  refuses([](Batch& b) { b.segment_offsets = {0, 5, 8}; });
  refuses([](Batch& b) { b.segment_offsets = {0, 7, 5, 9}; });
  refuses([](Batch& b) { b.segment_offsets.clear(); });
  refuses([](Batch& b) { b = Batch{}; });
  DecodeState state;
  EXPECT_THROW(model.decode(state, {}), Error);
  const std::int32_t wild = 1000;
  EXPECT_THROW(model.decode(state, {&wild, 1}), Error);
  EXPECT_EQ(state.length(), 0);
}

TEST(loading, a_batch_without_labels_has_no_loss_and_no_gradient) {
  ThreadPool pool(2);
  CausalLM model = CausalLM::load(request_for("qwen3_moe", TrainMode::kAllWeights), pool);
  Batch batch = make_batch({5, 4}, 256);
  batch.labels.assign(batch.labels.size(), kIgnoreLabel);
  const auto loss = model.forward_backward(batch, 1.0f, 0.0f);
  EXPECT_EQ(loss.sum, 0);
  EXPECT_EQ(loss.num_tokens, 0);
  for (const float g : gradients_of(model)) ASSERT_EQ(g, 0.0f);
}

}  // namespace
}  // namespace moesmith::model
