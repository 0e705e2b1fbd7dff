// SPDX-License-Identifier: Apache-2.0
// A decoder as data: what config.json says, brought to one form for all families.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/json.h"

namespace moesmith::model {

enum class QkNorm { kNone, kPerHead, kFullWidth };

struct RopeSpec {
  std::vector<float> inv_freq;  // [head_dim / 2]
  float magnitude = 1.0f;       // of cosines and sines (YaRN)
  std::string type = "default";
};

struct LayerSpec {
  bool sparse = true;       // experts, else one dense MLP
  std::int64_t window = 0;  // sliding attention; 0: full
};

struct DecoderSpec {
  std::string model_type;
  std::int64_t vocab_size = 0, hidden_size = 0, max_position_embeddings = 0;
  bool tie_word_embeddings = false;
  double initializer_range = 0.02;
  float rms_norm_eps = 1e-6f;

  std::int64_t num_heads = 0, num_kv_heads = 0, head_dim = 0;
  bool qkv_bias = false, o_bias = false;
  QkNorm qk_norm = QkNorm::kNone;
  float clip_qkv = 0;  // 0: none
  RopeSpec rope;

  std::int64_t dense_intermediate = 0;
  std::int64_t num_experts = 0, top_k = 0, expert_intermediate = 0;
  bool renormalise = false;              // routing weights divided by their sum
  std::int64_t shared_intermediate = 0;  // shared expert behind a sigmoid gate; 0: none
  bool output_router_logits = false;
  double router_aux_loss_coef = 0;
  std::vector<LayerSpec> layers;

  std::int64_t q_width() const { return num_heads * head_dim; }
  std::int64_t kv_width() const { return num_kv_heads * head_dim; }
  std::int64_t num_layers() const { return static_cast<std::int64_t>(layers.size()); }
};

// Throws Error: kUnsupported for a model_type or a feature that is not built, naming what is;
// kInvalidInput for values that contradict each other.
DecoderSpec read_spec(const io::JsonRef& config);

// config.json with the user's JSON object laid over it (one level).
io::JsonFile overlay_config(io::JsonFile config, const std::string& overrides);

}  // namespace moesmith::model
