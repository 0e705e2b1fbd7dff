// SPDX-License-Identifier: Apache-2.0
// How a model is to be loaded, adapted and sampled from. Plain values with their defaults; config/
// fills them from YAML. A member is named as its YAML key unless its comment says otherwise.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace moesmith::model {

// kAuto: what the checkpoint's weights are stored in (F16 is computed in bf16).
enum class ComputeDType { kAuto, kF32, kBF16 };

// Frozen experts in training: packed once into the kernels' layout, or read as they lie. kAuto is
// decided by who knows the memory (train/memory.h); where nobody decides it packs nothing.
enum class PackExperts { kAuto, kNever, kAlways };

struct ModelOptions {
  ComputeDType compute_dtype = ComputeDType::kAuto;  // keys bf16, bfloat16, float32
  // eager | batched_mm | grouped_mm | scattermoe | sonicmoe | auto. The flags use_scattermoe and
  // use_sonicmoe have already been folded in.
  std::string experts_implementation = "auto";
  PackExperts pack_experts = PackExperts::kAuto;
  bool gradient_checkpointing =
      false;  // keep only each layer's input; compute it again in backward
  // JSON object laid over the checkpoint's config.json, as {"output_router_logits": true}.
  std::string overrides_of_model_config = "{}";
};

// Start of A and B. kKaiming: A uniform as nn.Linear, B zero. kGaussian: A normal with deviation
// 1/r, B zero. kRandom: A and B both as nn.Linear (PEFT's init_lora_weights: false).
enum class LoraInit { kKaiming, kGaussian, kRandom };

struct LoraOptions {
  bool enabled = false;  // key adapter: lora
  std::int64_t lora_r = 8;
  std::int64_t lora_alpha = 8;
  double lora_dropout = 0.0;
  // At most one of the two is set: names (whole or dot-bounded suffix), or one regular expression
  // that must match the whole module name. "all-linear" sets lora_target_linear.
  std::vector<std::string> lora_target_modules;
  std::string lora_target_modules_regex;            // key lora_target_modules with a string
  bool lora_target_linear = false;                  // each linear module but lm_head and the router
  std::vector<std::string> lora_target_parameters;  // whole name or dot-bounded suffix
  std::vector<std::string> lora_exclude_modules;    // names as in lora_target_modules
  std::string lora_exclude_modules_regex;           // key lora_exclude_modules with a string
  // Pattern -> value in the file's order; the first that matches wins, as in PEFT.
  std::vector<std::pair<std::string, std::int64_t>> lora_rank_pattern;
  std::vector<std::pair<std::string, std::int64_t>> lora_alpha_pattern;
  bool peft_use_rslora = false;  // scale alpha / sqrt(r) instead of alpha / r
  LoraInit peft_init_lora_weights = LoraInit::kKaiming;
  std::optional<std::vector<std::int64_t>> peft_layers_to_transform;  // unset: all layers
  std::vector<std::string> peft_layers_pattern;  // name of the layer list; empty: "layers"
  std::string lora_model_dir;                    // an adapter to go on from, to merge or to run
};

struct GenerationOptions {
  std::int64_t max_new_tokens = 1024;
  double temperature = 0.9;         // 0: the most likely token each time
  double top_p = 0.95;              // 1: off
  std::int64_t top_k = 40;          // 0: off
  double repetition_penalty = 1.1;  // 1: off
  std::int64_t seed = 42;
};

}  // namespace moesmith::model
