// SPDX-License-Identifier: Apache-2.0
// OLMoE: norms over the full width of queries and keys, optional clipping after them.
#include "core/text.h"
#include "model/config_fields.h"
#include "model/family.h"

namespace moesmith::model {
namespace {

void read(const io::JsonRef& config, DecoderSpec& spec) {
  read_common(config, {.rms_norm_eps = 1e-5, .router_aux_loss_coef = 0.01}, spec);
  spec.qk_norm = QkNorm::kFullWidth;
  spec.qkv_bias = spec.o_bias = config.get_bool("attention_bias", false);
  if (const auto clip = config.find("clip_qkv")) {
    spec.clip_qkv = static_cast<float>(clip->as_number());
    if (!(spec.clip_qkv > 0)) clip->fail(str("got ", spec.clip_qkv, ", expected above 0 or null"));
  }
  spec.num_experts = positive(config, {"num_experts", "num_local_experts"});
  spec.top_k = positive(config, {"num_experts_per_tok"});
  spec.expert_intermediate = positive(config, {"intermediate_size"});
  spec.renormalise = config.get_bool("norm_topk_prob", false);
}

}  // namespace

const Family& olmoe() {
  static const Family kFamily = {
      .model_type = "olmoe",
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
