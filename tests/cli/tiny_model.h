// SPDX-License-Identifier: Apache-2.0
// A model of a few thousand weights, with tokenizer and data, written by the test itself.
#pragma once

#include <string>

#include "process.h"

namespace moesmith::cli {

// model/ (config.json, tokenizer.json, tokenizer_config.json; no weights), rows.jsonl and
// prose.txt.
void write_tiny_model(const TemporaryFolder& folder);

// Trains all weights of it from scratch for a few steps into base/. Returns the command's outcome.
Outcome train_tiny_base(const TemporaryFolder& folder);

// A configuration that trains an adapter on attention and experts of base/ into out/; `more` is
// added.
std::string tiny_lora_yaml(const std::string& more = "");

}  // namespace moesmith::cli
