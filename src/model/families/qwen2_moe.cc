// SPDX-License-Identifier: Apache-2.0
// Qwen2-MoE (Qwen1.5-MoE): biases on query, key and value; a shared expert behind a sigmoid gate.
#include "core/text.h"
#include "model/config_fields.h"
#include "model/family.h"

namespace moesmith::model {
namespace {

// layer_types, or what transformers derives from max_window_layers where the file is older.
void read_windows(const io::JsonRef& config, DecoderSpec& spec) {
  if (!config.get_bool("use_sliding_window", false)) return;
  const std::int64_t window = positive(config, {"sliding_window"}, 4096);
  const std::int64_t max_window_layers = config.get_integer("max_window_layers", 28);
  const auto types = config.find("layer_types");
  const auto names = types ? types->as_strings() : std::vector<std::string>();
  if (types && names.size() != spec.layers.size()) {
    types->fail(str("got ", names.size(), " entries, expected ", spec.layers.size()));
  }
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    const bool sliding = types ? names[i] == "sliding_attention"
                               : i % 2 == 0 && static_cast<std::int64_t>(i) < max_window_layers;
    if (sliding) spec.layers[i].window = window;
  }
}

void read(const io::JsonRef& config, DecoderSpec& spec) {
  read_common(config, {.num_key_value_heads = 16}, spec);
  read_sparse_layers(config, spec);
  read_windows(config, spec);
  spec.qkv_bias = config.get_bool("qkv_bias", true);
  spec.num_experts = positive(config, {"num_experts", "num_local_experts"});
  spec.top_k = positive(config, {"num_experts_per_tok"});
  spec.expert_intermediate = positive(config, {"moe_intermediate_size"});
  spec.shared_intermediate = positive(config, {"shared_expert_intermediate_size"});
  spec.dense_intermediate = positive(config, {"intermediate_size"}, 5632);
  spec.renormalise = config.get_bool("norm_topk_prob", false);
}

}  // namespace

const Family& qwen2_moe() {
  static const Family kFamily = {
      .model_type = "qwen2_moe",
      .read = read,
      .disk_moe = "mlp",
      .gate = "gate_proj",
      .up = "up_proj",
      .down = "down_proj",
      .ignored = {R"(.*rotary_emb\.inv_freq)"},
  };
  return kFamily;
}

}  // namespace moesmith::model
