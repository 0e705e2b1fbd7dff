// SPDX-License-Identifier: Apache-2.0
// What an adapter configuration means for a model: PEFT's matching of modules and parameters, ranks
// and scales per target, and the keys and shapes of the factors.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "io/adapter.h"
#include "moesmith/tensor.h"

namespace moesmith::io {

// A module that LoRA can wrap: y = x W^T, W [out, in]. Names are transformers' in-memory ones.
struct AdaptableModule {
  std::string name;  // "model.layers.0.self_attn.q_proj"
  std::int64_t out = 0;
  std::int64_t in = 0;
  bool is_output_embedding = false;  // lm_head: "all-linear" leaves it out
};

// A parameter that target_parameters can name: [out, in], or [E, out, in] for experts.
struct AdaptableParameter {
  std::string module;            // "model.layers.0.mlp.experts"
  std::string name;              // "gate_up_proj"
  std::int64_t num_experts = 0;  // 0: a matrix
  std::int64_t out = 0;
  std::int64_t in = 0;
  bool transposed = false;  // stored [E, in, out] (gpt-oss); only old adapters care
};

// One adapted module or parameter.
struct AdapterSlot {
  std::string target;  // module name, or "<module>.<parameter>"
  bool is_parameter = false;
  std::int64_t num_experts = 0;  // 0: a matrix
  std::int64_t out = 0;
  std::int64_t in = 0;
  std::int64_t r = 0;
  double scale = 0;  // alpha / r, or alpha / sqrt(r) with rsLoRA
  bool transposed = false;
  std::string key_a;  // "base_model.model.model.layers.0.mlp.experts.base_layer.lora_A.weight"
  std::string key_b;

  Shape shape_a() const;  // [r, in] or [E*r, in]
  Shape shape_b() const;  // [out, r] or [out, r*E]
  std::int64_t numel() const { return moesmith::numel(shape_a()) + moesmith::numel(shape_b()); }
};

bool matches_module(const AdapterConfig& config, std::string_view module);
// `parameter`: "<module>.<parameter>".
bool matches_parameter(const AdapterConfig& config, std::string_view parameter);
std::int64_t rank_of(const AdapterConfig& config, std::string_view target);
double scale_of(const AdapterConfig& config, std::string_view target);

// The slots of a configuration in the model's order: modules as given, then parameters as given
// (parameters of one module in its definition order; all but the last targeted one of a module get
// "base_layer" in their keys). Every entry of target_modules and target_parameters must match
// something, else Error(kInvalidInput) with the nearest name that exists. lora_dropout != 0 on a
// parameter is Error(kUnsupported), as in PEFT. "all-linear" (target_modules.regex) is every module
// but the output embedding.
std::vector<AdapterSlot> plan_adapter(const AdapterConfig& config,
                                      const std::vector<AdaptableModule>& modules,
                                      const std::vector<AdaptableParameter>& parameters);

// The names that PEFT writes in place of "all-linear": the fewest suffixes that match all of
// `targets` and none of `others`, sorted.
std::vector<std::string> minimal_target_modules(const std::vector<std::string>& targets,
                                                const std::vector<std::string>& others);

}  // namespace moesmith::io
