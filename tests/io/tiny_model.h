// SPDX-License-Identifier: Apache-2.0
// What LoRA can adapt in the qwen3_moe model of the test adapters (tests/data/io/README.md).
#pragma once

#include <string>
#include <vector>

#include "io/adapter_targets.h"

namespace moesmith::io {

struct TinyModel {
  std::vector<AdaptableModule> modules;
  std::vector<AdaptableParameter> parameters;
};

// Three layers; the second is dense unless `all_sparse`.
inline TinyModel tiny_qwen3(bool all_sparse) {
  constexpr std::int64_t kHidden = 80, kHeads = 80, kKv = 16, kExperts = 6, kInter = 24;
  constexpr std::int64_t kDenseInter = 56;
  TinyModel model;
  for (int layer = 0; layer < 3; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    model.modules.push_back({prefix + "self_attn.q_proj", kHeads, kHidden});
    model.modules.push_back({prefix + "self_attn.k_proj", kKv, kHidden});
    model.modules.push_back({prefix + "self_attn.v_proj", kKv, kHidden});
    model.modules.push_back({prefix + "self_attn.o_proj", kHidden, kHeads});
    const std::string mlp = prefix + "mlp";
    if (layer == 1 && !all_sparse) {
      model.modules.push_back({mlp + ".gate_proj", kDenseInter, kHidden});
      model.modules.push_back({mlp + ".up_proj", kDenseInter, kHidden});
      model.modules.push_back({mlp + ".down_proj", kHidden, kDenseInter});
      continue;
    }
    model.parameters.push_back({mlp + ".gate", "weight", 0, kExperts, kHidden});
    model.parameters.push_back({mlp + ".experts", "gate_up_proj", kExperts, 2 * kInter, kHidden});
    model.parameters.push_back({mlp + ".experts", "down_proj", kExperts, kHidden, kInter});
  }
  model.modules.push_back({"lm_head", 256, kHidden, true});
  return model;
}

}  // namespace moesmith::io
