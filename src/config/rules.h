// SPDX-License-Identifier: Apache-2.0
// The rules that join several keys, applied to typed values only.
#pragma once

#include "config/config.h"

namespace moesmith::config {

// Checks all rules and works config.surface out into the option structs. Throws as tree.h's fail
// does, at the place of the key that comes last.
void apply_rules(Config& config, Purpose purpose);

// rules_experts.cc: which experts implementation is meant.
void apply_experts_rules(Config& config);
// rules_lora.cc
void apply_lora_rules(Config& config, Purpose purpose);

// "run.yml:3:1" of a key with a value, else the file.
Location place(const Config& config, const std::string& key);
bool is_given(const Config& config, const std::string& key);

}  // namespace moesmith::config
