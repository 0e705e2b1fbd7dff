// SPDX-License-Identifier: Apache-2.0
// config.json of the real models, as transformers 4 and as transformers 5 write it.
#include "model/spec.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "io/json.h"
#include "moesmith/error.h"

namespace moesmith::model {
namespace {

DecoderSpec read(const std::string& json) {
  const io::JsonFile file{"config.json", io::Json::parse(json, "config.json")};
  return read_spec(file.root());
}

const std::string kQwen3 = R"("model_type": "qwen3_moe", "vocab_size": 151936, "hidden_size": 2048,
  "intermediate_size": 6144, "moe_intermediate_size": 768, "num_hidden_layers": 48,
  "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128,
  "num_experts_per_tok": 8, "norm_topk_prob": true, "decoder_sparse_step": 1,
  "mlp_only_layers": [], "max_position_embeddings": 40960, "max_window_layers": 48,
  "use_sliding_window": false, "sliding_window": null, "rms_norm_eps": 1e-06,
  "attention_bias": false, "hidden_act": "silu", "tie_word_embeddings": false)";

TEST(spec, qwen3_30b_reads_the_same_from_both_spellings) {
  const DecoderSpec four = read("{" + kQwen3 + R"(, "num_experts": 128, "rope_theta": 1000000.0,
    "rope_scaling": null, "torch_dtype": "bfloat16"})");
  const DecoderSpec five = read("{" + kQwen3 + R"(, "num_local_experts": 128, "dtype": "bfloat16",
    "rope_parameters": {"rope_theta": 1000000.0, "rope_type": "default"}})");
  for (const DecoderSpec& spec : {four, five}) {
    EXPECT_EQ(spec.num_layers(), 48);
    EXPECT_EQ(spec.num_experts, 128);
    EXPECT_EQ(spec.top_k, 8);
    EXPECT_EQ(spec.expert_intermediate, 768);
    EXPECT_EQ(spec.q_width(), 4096);
    EXPECT_EQ(spec.kv_width(), 512);
    EXPECT_EQ(spec.qk_norm, QkNorm::kPerHead);
    EXPECT_TRUE(spec.renormalise);
    EXPECT_FALSE(spec.qkv_bias);
    EXPECT_FALSE(spec.output_router_logits);
    for (const LayerSpec& layer : spec.layers) {
      EXPECT_TRUE(layer.sparse);
      EXPECT_EQ(layer.window, 0);
    }
    ASSERT_EQ(spec.rope.inv_freq.size(), 64u);
    EXPECT_EQ(spec.rope.inv_freq[0], 1.0f);
    EXPECT_NEAR(spec.rope.inv_freq[32], 1e-3, 1e-9);
  }
  EXPECT_EQ(four.rope.inv_freq, five.rope.inv_freq);
}

TEST(spec, yarn_reads_the_same_from_both_spellings) {
  const DecoderSpec four = read("{" + kQwen3 + R"(, "num_experts": 128, "rope_theta": 1000000.0,
    "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}})");
  const DecoderSpec five = read("{" + kQwen3 + R"(, "num_experts": 128, "rope_parameters":
    {"rope_theta": 1000000.0, "rope_type": "yarn", "factor": 4.0,
     "original_max_position_embeddings": 32768}})");
  EXPECT_EQ(four.rope.inv_freq, five.rope.inv_freq);
  EXPECT_NEAR(five.rope.magnitude, 0.1 * std::log(4.0) + 1, 1e-6);
  // The fastest frequency is kept, the slowest divided by the factor.
  EXPECT_NEAR(five.rope.inv_freq.front(), 1.0, 1e-6);
  EXPECT_NEAR(five.rope.inv_freq.back() * 4, std::pow(1e6, -126.0 / 128), 1e-9);
}

TEST(spec, linear_and_llama3_scaling) {
  const DecoderSpec plain = read("{" + kQwen3 + R"(, "num_experts": 8, "rope_theta": 500000.0})");
  const DecoderSpec linear = read("{" + kQwen3 + R"(, "num_experts": 8, "rope_theta": 500000.0,
    "rope_scaling": {"type": "linear", "factor": 2.0}})");
  const DecoderSpec llama3 = read("{" + kQwen3 + R"(, "num_experts": 8, "rope_theta": 500000.0,
    "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}})");
  for (std::size_t i = 0; i < plain.rope.inv_freq.size(); ++i) {
    const double f = plain.rope.inv_freq[i];
    EXPECT_NEAR(linear.rope.inv_freq[i], f / 2, 1e-6 * f);
    const double wavelength = 2 * std::numbers::pi / f;
    double want = f;
    if (wavelength > 8192) {
      want = f / 8;
    } else if (wavelength > 2048) {
      const double smooth = (8192 / wavelength - 1) / 3;
      want = (1 - smooth) * f / 8 + smooth * f;
    }
    EXPECT_NEAR(llama3.rope.inv_freq[i], want, 1e-6 * f) << i;
  }
}

TEST(spec, mixtral_8x7b) {
  const DecoderSpec spec = read(R"({"model_type": "mixtral", "vocab_size": 32000,
    "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "num_local_experts": 8,
    "num_experts_per_tok": 2, "max_position_embeddings": 32768, "rms_norm_eps": 1e-05,
    "rope_theta": 1000000.0, "sliding_window": null, "output_router_logits": false,
    "router_aux_loss_coef": 0.02, "tie_word_embeddings": false, "hidden_act": "silu"})");
  EXPECT_EQ(spec.head_dim, 128);
  EXPECT_EQ(spec.expert_intermediate, 14336);
  EXPECT_TRUE(spec.renormalise);
  EXPECT_EQ(spec.qk_norm, QkNorm::kNone);
  EXPECT_EQ(spec.layers[0].window, 0);
}

TEST(spec, olmoe_1b_7b) {
  const DecoderSpec spec = read(R"({"model_type": "olmoe", "vocab_size": 50304,
    "hidden_size": 2048, "intermediate_size": 1024, "num_hidden_layers": 16,
    "num_attention_heads": 16, "num_key_value_heads": 16, "num_experts": 64,
    "num_experts_per_tok": 8, "norm_topk_prob": false, "max_position_embeddings": 4096,
    "clip_qkv": null, "rope_theta": 10000.0, "rms_norm_eps": 1e-05, "hidden_act": "silu"})");
  EXPECT_EQ(spec.qk_norm, QkNorm::kFullWidth);
  EXPECT_EQ(spec.clip_qkv, 0.0f);
  EXPECT_FALSE(spec.renormalise);
  EXPECT_NEAR(spec.router_aux_loss_coef, 0.01, 1e-9);
}

TEST(spec, qwen1_5_moe_derives_windows_where_layer_types_are_absent) {
  const std::string base = R"({"model_type": "qwen2_moe", "vocab_size": 151936,
    "hidden_size": 2048, "intermediate_size": 5632, "moe_intermediate_size": 1408,
    "shared_expert_intermediate_size": 5632, "num_hidden_layers": 6, "num_attention_heads": 16,
    "num_key_value_heads": 16, "num_experts": 60, "num_experts_per_tok": 4,
    "decoder_sparse_step": 2, "mlp_only_layers": [3], "max_position_embeddings": 8192,
    "rope_theta": 1000000.0, "rms_norm_eps": 1e-06, "hidden_act": "silu", "sliding_window": 512,
    "max_window_layers": 4)";
  const DecoderSpec off = read(base + R"(, "use_sliding_window": false})");
  const DecoderSpec on = read(base + R"(, "use_sliding_window": true})");
  EXPECT_TRUE(on.qkv_bias);
  EXPECT_FALSE(on.o_bias);
  EXPECT_EQ(on.shared_intermediate, 5632);
  const std::vector<std::int64_t> windows = {512, 0, 512, 0, 0, 0};
  const std::vector<bool> sparse = {false, true, false, false, false, true};
  for (std::size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(on.layers[i].window, windows[i]) << i;
    EXPECT_EQ(off.layers[i].window, 0);
    EXPECT_EQ(on.layers[i].sparse, sparse[i]) << i;
  }
  EXPECT_THROW(read(base + R"(, "use_sliding_window": true, "layer_types": ["full_attention"]})"),
               Error);
}

}  // namespace
}  // namespace moesmith::model
