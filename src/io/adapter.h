// SPDX-License-Identifier: Apache-2.0
// PEFT LoRA adapters on disk: adapter_config.json and adapter_model.safetensors as PEFT 0.21 writes
// them. Which modules and parameters a configuration means is in io/adapter_targets.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/json.h"
#include "io/safetensors.h"
#include "moesmith/tensor.h"

namespace moesmith::io {

// target_modules, exclude_modules: null, a list of names, or one regular expression.
struct NamePattern {
  std::vector<std::string> names;    // whole name or dot-bounded suffix
  std::optional<std::string> regex;  // must match the whole name; names is empty then
  bool is_list = false;              // an empty list is not null: PEFT writes [] and null apart
  bool empty() const noexcept { return names.empty() && !regex; }
};

// Key -> value in the file's order; the first key whose regex `(.*\.)?(key)$` matches wins.
template <class T>
using Pattern = std::vector<std::pair<std::string, T>>;

struct AdapterConfig {
  std::optional<std::string> base_model_name_or_path;
  std::optional<std::string> revision;
  std::optional<std::string> task_type = "CAUSAL_LM";
  std::int64_t r = 8;
  double lora_alpha = 8;  // whole numbers are written as integers
  double lora_dropout = 0.0;
  bool use_rslora = false;
  Json init_lora_weights = true;
  NamePattern target_modules;
  NamePattern exclude_modules;
  std::optional<std::vector<std::string>> target_parameters;
  Pattern<std::int64_t> rank_pattern;
  Pattern<double> alpha_pattern;
  std::optional<std::vector<std::int64_t>> layers_to_transform;
  std::vector<std::string> layers_pattern;
  std::string peft_version;     // of the file that was read; to_json() writes kPeftVersion
  Json other = Json::object();  // keys not named above, as they were read; written back

  // Throws Error(kUnsupported), one sentence, for what changes the numbers and is not built (DoRA,
  // trained biases, other peft types, modules_to_save, ...).
  static AdapterConfig from_json(const JsonFile& file);
  Json to_json() const;
  std::string dump() const;  // the bytes of adapter_config.json
};

// The layout that adapters are written in.
inline constexpr std::string_view kPeftVersion = "0.21.0";

struct AdapterSlot;  // io/adapter_targets.h: one adapted module or parameter, its keys and shapes

struct AdapterFactors {
  Tensor a;  // f32; [r, in] for a matrix, [E*r, in] (row e*r + j) for experts
  Tensor b;  // f32; [out, r] for a matrix, [out, r*E] (column j*E + e) for experts
};

// adapter_config.json of the folder; Error(kNotFound) without it. `folder` may also be a hub id in
// the local cache.
AdapterConfig read_adapter_config(const std::string& folder);

// Factors of each slot, in slot order, converted to f32 and to today's layout: adapters of PEFT
// before 0.19.1 have the factors of experts exchanged; told by shape, and by `peft_version` where
// the shape fits both. Missing and unexpected keys and wrong shapes are one Error(kInvalidInput)
// that lists them.
std::vector<AdapterFactors> read_adapter(const std::string& folder,
                                         const AdapterConfig& config,
                                         const std::vector<AdapterSlot>& slots);

// adapter_model.safetensors and adapter_config.json into a folder that exists, each atomically.
// `tensors`: PEFT's keys (AdapterSlot::key_a, key_b) with their values.
void write_adapter(const std::string& folder,
                   const AdapterConfig& config,
                   const std::vector<NamedTensor>& tensors);

// README.md with the model card's front matter as PEFT writes it, then `body` (Markdown).
struct AdapterCard {
  std::string base_model;  // hub id or folder
  std::vector<std::string> tags = {"lora", "moesmith"};
  std::vector<std::string> datasets;
  std::string body;
};
void write_adapter_card(const std::string& folder, const AdapterCard& card);

}  // namespace moesmith::io
