// SPDX-License-Identifier: Apache-2.0
// What sets one model family apart: how its config.json is read and how its checkpoint spells
// tensors. families/<model_type>.cc has the data; layers know nothing of it.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "io/json.h"
#include "model/spec.h"

namespace moesmith::model {

struct Family {
  std::string_view model_type;
  // Fills what config_fields.h's read_common() leaves to the family.
  void (*read)(const io::JsonRef& config, DecoderSpec& spec);
  // Of a sparse layer, on disk: "mlp" (as in memory) or "block_sparse_moe".
  std::string_view disk_moe;
  // Per-expert matrices on disk: experts.N.<gate>.weight, ...
  std::string_view gate, up, down;
  // Tensors that such checkpoints carry in vain: regular expressions over whole disk names.
  std::vector<std::string_view> ignored;
};

const Family& qwen3_moe();
const Family& qwen2_moe();
const Family& mixtral();
const Family& olmoe();

// Throws Error(kUnsupported) with the known ones.
const Family& find_family(std::string_view model_type);
std::vector<std::string_view> family_names();

}  // namespace moesmith::model
