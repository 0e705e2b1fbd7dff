// SPDX-License-Identifier: Apache-2.0
// Qwen3-MoE: a norm on each query and key head, no shared expert.
#include "model/config_fields.h"
#include "model/family.h"

namespace moesmith::model {
namespace {

void read(const io::JsonRef& config, DecoderSpec& spec) {
  read_common(config, {.num_key_value_heads = 4}, spec);
  read_sparse_layers(config, spec);
  spec.qk_norm = QkNorm::kPerHead;
  spec.qkv_bias = spec.o_bias = config.get_bool("attention_bias", false);
  spec.num_experts = positive(config, {"num_experts", "num_local_experts"});
  spec.top_k = positive(config, {"num_experts_per_tok"});
  spec.expert_intermediate = positive(config, {"moe_intermediate_size"});
  spec.dense_intermediate = positive(config, {"intermediate_size"}, 6144);
  spec.renormalise = config.get_bool("norm_topk_prob", false);
  // One mask for the whole model: max_window_layers is in the file but not looked at.
  if (config.get_bool("use_sliding_window", false) && config.has("sliding_window")) {
    for (LayerSpec& layer : spec.layers) layer.window = positive(config, {"sliding_window"});
  }
}

}  // namespace

const Family& qwen3_moe() {
  static const Family kFamily = {
      .model_type = "qwen3_moe",
      .read = read,
      .disk_moe = "mlp",
      .gate = "gate_proj",
      .up = "up_proj",
      .down = "down_proj",
      .ignored = {R"(.*rotary_emb\.inv_freq)", R"(mtp\..*|model\.mtp\..*)"},
  };
  return kFamily;
}

}  // namespace moesmith::model
