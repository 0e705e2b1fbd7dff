// SPDX-License-Identifier: Apache-2.0
// Mixtral: routing weights are always divided by their sum; one window for all layers.
#include "model/config_fields.h"
#include "model/family.h"

namespace moesmith::model {
namespace {

void read(const io::JsonRef& config, DecoderSpec& spec) {
  read_common(config, {.num_key_value_heads = 8, .rms_norm_eps = 1e-5, .rope_theta = 1e6}, spec);
  spec.num_experts = positive(config, {"num_local_experts", "num_experts"});
  spec.top_k = positive(config, {"num_experts_per_tok"});
  spec.expert_intermediate = positive(config, {"intermediate_size"});
  spec.renormalise = true;
  if (config.has("sliding_window")) {
    for (LayerSpec& layer : spec.layers) layer.window = positive(config, {"sliding_window"});
  }
}

}  // namespace

const Family& mixtral() {
  static const Family kFamily = {
      .model_type = "mixtral",
      .read = read,
      .disk_moe = "block_sparse_moe",
      .gate = "w1",
      .up = "w3",
      .down = "w2",
      .ignored = {R"(.*rotary_emb\.inv_freq)"},
  };
  return kFamily;
}

}  // namespace moesmith::model
