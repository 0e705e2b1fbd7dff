// SPDX-License-Identifier: Apache-2.0
#include "model/decoder.h"

#include <algorithm>
#include <map>

#include "core/check.h"
#include "core/text.h"

namespace moesmith::model {
namespace {

// Finds weights and adapters by name and links them into layers.
class Assembler {
 public:
  explicit Assembler(Decoder& decoder) : d_(decoder) {
    for (Weight& weight : d_.weights) weights_[weight.spec.name] = &weight;
    for (Lora& lora : d_.loras) loras_[lora.slot.target] = &lora;
  }

  void run(const ModelOptions& options) {
    const bool pack =
        d_.mode == TrainMode::kAdapter && options.pack_experts == PackExperts::kAlways;
    d_.embedding = parameter("model.embed_tokens.weight");
    d_.layers.clear();
    for (std::int64_t i = 0; i < d_.spec.num_layers(); ++i) {
      d_.layers.push_back(layer(i));
      DecoderLayer& added = d_.layers.back();
      if (added.moe) added.moe->plan(options.experts_implementation, d_.compute, pack);
      added.trainable = trainable_;
      trainable_ = false;
    }
    d_.head.norm = parameter("model.norm.weight");
    d_.head.lm_head = d_.spec.tie_word_embeddings
                          ? linear("lm_head", *weights_.at("model.embed_tokens.weight"))
                          : linear("lm_head");
  }

 private:
  Weight* weight(const std::string& name) {
    const auto at = weights_.find(name);
    MOESMITH_ASSERT(at != weights_.end(), "weights_of lists what layers use");
    trainable_ |= at->second->parameter.trainable;
    return at->second;
  }
  Parameter* parameter(const std::string& name) { return &weight(name)->parameter; }
  Lora* lora(const std::string& target) {
    const auto at = loras_.find(target);
    if (at == loras_.end()) return nullptr;
    trainable_ |= at->second->a.trainable;
    return at->second;
  }

  Linear linear(const std::string& module, Weight& matrix, const std::string& target) {
    Linear l;
    l.out = matrix.spec.shape[0];
    l.in = matrix.spec.shape[1];
    l.weight = &matrix.parameter;
    if (weights_.contains(module + ".bias")) l.bias = parameter(module + ".bias");
    l.lora = lora(target);
    return l;
  }
  Linear linear(const std::string& module, Weight& matrix) {
    return linear(module, matrix, module);
  }
  Linear linear(const std::string& module) { return linear(module, *weight(module + ".weight")); }

  AttentionLayer attention(const std::string& prefix, const LayerSpec& spec) {
    AttentionLayer a;
    a.norm = parameter(prefix + "input_layernorm.weight");
    a.q = linear(prefix + "self_attn.q_proj");
    a.k = linear(prefix + "self_attn.k_proj");
    a.v = linear(prefix + "self_attn.v_proj");
    a.o = linear(prefix + "self_attn.o_proj");
    if (d_.spec.qk_norm != QkNorm::kNone) {
      a.q_norm = parameter(prefix + "self_attn.q_norm.weight");
      a.k_norm = parameter(prefix + "self_attn.k_norm.weight");
    }
    a.window = spec.window;
    return a;
  }

  MlpLayer mlp(const std::string& prefix) {
    return {linear(prefix + "gate_proj"), linear(prefix + "up_proj"), linear(prefix + "down_proj")};
  }

  MoeLayer moe(const std::string& prefix) {
    MoeLayer m;
    m.num_experts = d_.spec.num_experts;
    m.top_k = d_.spec.top_k;
    m.renormalise = d_.spec.renormalise;
    m.router = linear(prefix + "gate", *weight(prefix + "gate.weight"), prefix + "gate.weight");
    m.gate_up = weight(prefix + "experts.gate_up_proj");
    m.down = weight(prefix + "experts.down_proj");
    m.gate_up_lora = lora(prefix + "experts.gate_up_proj");
    m.down_lora = lora(prefix + "experts.down_proj");
    if (d_.spec.shared_intermediate > 0) {
      m.shared = mlp(prefix + "shared_expert.");
      m.shared_gate = linear(prefix + "shared_expert_gate");
    }
    return m;
  }

  DecoderLayer layer(std::int64_t i) {
    const std::string prefix = str("model.layers.", i, ".");
    const LayerSpec& spec = d_.spec.layers[static_cast<std::size_t>(i)];
    DecoderLayer l;
    l.attention = attention(prefix, spec);
    l.mlp_norm = parameter(prefix + "post_attention_layernorm.weight");
    if (spec.sparse) {
      l.moe = moe(prefix + "mlp.");
    } else {
      l.dense = mlp(prefix + "mlp.");
    }
    return l;
  }

  Decoder& d_;
  std::map<std::string, Weight*> weights_;
  std::map<std::string, Lora*> loras_;
  bool trainable_ = false;  // anything of the layer being put together
};

}  // namespace

Decoder::~Decoder() = default;

bool Decoder::need_input_grad(std::int64_t i) const {
  return embedding->trainable ||
         std::any_of(layers.begin(), layers.begin() + i,
                     [](const DecoderLayer& layer) { return layer.trainable; });
}

std::int64_t Decoder::num_sparse_layers() const {
  return std::count_if(layers.begin(), layers.end(),
                       [](const DecoderLayer& layer) { return layer.moe.has_value(); });
}

void assemble(Decoder& decoder, const ModelOptions& options) {
  Assembler(decoder).run(options);
  decoder.rope = kernels::rope::Table(decoder.spec.rope.inv_freq, decoder.spec.rope.magnitude);
}

}  // namespace moesmith::model
