// SPDX-License-Identifier: Apache-2.0
#include "core/text.h"
#include "model/weights.h"

namespace moesmith::model {
namespace {

class Names {
 public:
  Names(const DecoderSpec& spec, const Family& family) : spec_(spec), family_(family) {}

  std::vector<WeightSpec> all() {
    const std::int64_t h = spec_.hidden_size;
    plain("model.embed_tokens.weight", {spec_.vocab_size, h});
    for (std::int64_t i = 0; i < spec_.num_layers(); ++i) layer(i);
    plain("model.norm.weight", {h}, WeightKind::kNorm);
    if (!spec_.tie_word_embeddings) plain("lm_head.weight", {spec_.vocab_size, h});
    return std::move(list_);
  }

 private:
  void plain(const std::string& name, Shape shape, WeightKind kind = WeightKind::kMatrix) {
    list_.push_back({name, std::move(shape), kind, name, "", {}});
  }
  void linear(const std::string& module, std::int64_t out, std::int64_t in, bool bias = false) {
    plain(module + ".weight", {out, in});
    if (bias) plain(module + ".bias", {out}, WeightKind::kBias);
  }

  void attention(const std::string& prefix) {
    const std::int64_t h = spec_.hidden_size, q = spec_.q_width(), kv = spec_.kv_width();
    linear(prefix + "q_proj", q, h, spec_.qkv_bias);
    linear(prefix + "k_proj", kv, h, spec_.qkv_bias);
    linear(prefix + "v_proj", kv, h, spec_.qkv_bias);
    linear(prefix + "o_proj", h, q, spec_.o_bias);
    if (spec_.qk_norm == QkNorm::kNone) return;
    const bool per_head = spec_.qk_norm == QkNorm::kPerHead;
    plain(prefix + "q_norm.weight", {per_head ? spec_.head_dim : q}, WeightKind::kNorm);
    plain(prefix + "k_norm.weight", {per_head ? spec_.head_dim : kv}, WeightKind::kNorm);
  }

  void mlp(const std::string& prefix, std::int64_t inter) {
    linear(prefix + "gate_proj", inter, spec_.hidden_size);
    linear(prefix + "up_proj", inter, spec_.hidden_size);
    linear(prefix + "down_proj", spec_.hidden_size, inter);
  }

  void experts(const std::string& memory, const std::string& disk) {
    const std::int64_t e = spec_.num_experts, i = spec_.expert_intermediate, h = spec_.hidden_size;
    const std::string gate(family_.gate), up(family_.up), down(family_.down);
    list_.push_back({memory + ".gate_up_proj",
                     {e, 2 * i, h},
                     WeightKind::kExperts,
                     disk + ".gate_up_proj",
                     disk,
                     {gate, up}});
    list_.push_back({memory + ".down_proj",
                     {e, h, i},
                     WeightKind::kExperts,
                     disk + ".down_proj",
                     disk,
                     {down}});
  }

  void layer(std::int64_t i) {
    const std::int64_t h = spec_.hidden_size;
    const std::string prefix = str("model.layers.", i, ".");
    attention(prefix + "self_attn.");
    if (!spec_.layers[static_cast<std::size_t>(i)].sparse) {
      mlp(prefix + "mlp.", spec_.dense_intermediate);
    } else {
      const std::string disk = str(prefix, family_.disk_moe, ".");
      list_.push_back({prefix + "mlp.gate.weight",
                       {spec_.num_experts, h},
                       WeightKind::kMatrix,
                       disk + "gate.weight",
                       "",
                       {}});
      experts(prefix + "mlp.experts", disk + "experts");
      if (spec_.shared_intermediate > 0) {
        mlp(prefix + "mlp.shared_expert.", spec_.shared_intermediate);
        linear(prefix + "mlp.shared_expert_gate", 1, h);
      }
    }
    plain(prefix + "input_layernorm.weight", {h}, WeightKind::kNorm);
    plain(prefix + "post_attention_layernorm.weight", {h}, WeightKind::kNorm);
  }

  const DecoderSpec& spec_;
  const Family& family_;
  std::vector<WeightSpec> list_;
};

}  // namespace

Shape WeightSpec::part_shape() const {
  return {shape[1] / static_cast<std::int64_t>(parts.size()), shape[2]};
}

std::string WeightSpec::part_name(std::int64_t expert, std::size_t part) const {
  return str(experts_prefix, ".", expert, ".", parts[part], ".weight");
}

std::vector<WeightSpec> weights_of(const DecoderSpec& spec, const Family& family) {
  return Names(spec, family).all();
}

}  // namespace moesmith::model
