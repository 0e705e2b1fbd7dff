// SPDX-License-Identifier: Apache-2.0
// One YAML file and the command line's flags, checked and turned into the option structs of train
// and model. What a key means stands once, in the schema's table (schema.h).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "config/tree.h"
#include "core/cpu_topology.h"
#include "model/options.h"
#include "train/options.h"

namespace moesmith::config {

enum class Toggle { kAuto, kTrue, kFalse };

// Keys as the user wrote them whose meaning the rules work out into the structs of train and model.
struct SurfaceKeys {
  std::string adapter;  // "", "lora"
  std::string optimizer = "adamw_torch_fused";
  Toggle bf16 = Toggle::kAuto;
  std::optional<bool> bfloat16;
  std::optional<bool> float32;
  std::optional<bool> use_kernels;
  std::optional<bool> use_scattermoe;
  std::optional<bool> use_sonicmoe;
  std::string expert_backend;
  std::string experts_implementation;  // "" = not given
  std::int64_t expert_parallel_size = 1;
  std::vector<std::string> plugins;
  std::vector<std::pair<std::string, std::string>> special_tokens;
};

struct RuntimeOptions {
  std::int64_t threads = 0;  // 0: the processors in the affinity mask, at most the cgroup's quota
  NumaPolicy numa = NumaPolicy::kAuto;
  bool overwrite_output_dir = false;
  std::vector<std::string> sample_prompts;
};

struct Config {
  train::TrainOptions train;
  model::ModelOptions model;
  model::LoraOptions lora;
  model::GenerationOptions generation;
  RuntimeOptions runtime;
  SurfaceKeys surface;

  std::string file;                       // as given; "" for a configuration from flags alone
  std::map<std::string, Location> given;  // where each key that has a value was written
  // One line each, for a person: keys without effect and why, values that mean something else here.
  std::vector<std::string> notices;
};

// What the configuration is for decides what must be in it. kTrain needs datasets and a learning
// rate, kModel (inference, merge) only base_model.
enum class Purpose { kTrain, kModel };

struct Override {
  std::string flag;   // as typed, for messages: "--lora-r"
  std::string key;    // "lora_r", or a path as "datasets.0.path"
  std::string value;  // "" = the default
};

// Reads `file`, lays the flags over it, types each value, and applies the rules that join keys.
// Throws Error(kNotFound) when there is no such file and Error(kInvalidInput) for everything else,
// with file:line:column.
Config load_config(const std::string& file,
                   const std::vector<Override>& overrides,
                   Purpose purpose);
// The same from text; `source` is the name that messages use.
Config parse_config(std::string_view text,
                    const std::string& source,
                    const std::vector<Override>& overrides,
                    Purpose purpose);

// Each honoured key with the value it came to, as YAML that load_config reads back to the same
// structs.
std::string resolved_yaml(const Config& config);

}  // namespace moesmith::config
