// SPDX-License-Identifier: Apache-2.0
// Which folders a configuration means when a trained model is to be used: base, tokenizer, adapter.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "config/config.h"
#include "model/causal_lm.h"
#include "text/tokenizer/tokenizer.h"

namespace moesmith::cli {

struct ModelFiles {
  std::string model;      // folder with config.json and weights
  std::string tokenizer;  // folder with tokenizer.json
  std::string adapter;    // "" when there is none
};

// With adapter: lora the adapter is lora_model_dir, else output_dir. Without one, output_dir is the
// model when a run left weights there, else base_model. Throws Error(kNotFound) for an adapter that
// is not there.
ModelFiles find_model_files(const config::Config& config);

// The model for use, not for training.
model::LoadRequest use_request(const config::Config& config, const ModelFiles& files);

// Tokens that end a reply: the tokenizer's EOS, eos_token_id of generation_config.json and
// config.json, and the configuration's eot_tokens. Throws Error(kInvalidInput) for an eot token
// that is none.
std::vector<std::int32_t> stop_tokens(const config::Config& config,
                                      const ModelFiles& files,
                                      const text::Tokenizer& tokenizer);

}  // namespace moesmith::cli
