// SPDX-License-Identifier: Apache-2.0
// Rules of adapters.
#include "config/rules.h"
#include "core/text.h"

namespace moesmith::config {
namespace {

bool has_target(const model::LoraOptions& lora) {
  return !lora.lora_target_modules.empty() || !lora.lora_target_modules_regex.empty() ||
         lora.lora_target_linear || !lora.lora_target_parameters.empty();
}

// Keys that mean nothing without `adapter: lora`; said, because forgetting adapter trains all
// weights.
void notice_unused(Config& config) {
  std::string names;
  for (const char* key :
       {"lora_r", "lora_alpha", "lora_dropout", "lora_target_modules", "lora_target_linear",
        "lora_target_parameters", "lora_exclude_modules", "lora_rank_pattern", "lora_alpha_pattern",
        "peft_use_rslora", "peft_init_lora_weights", "peft_layers_to_transform",
        "peft_layers_pattern"}) {
    if (is_given(config, key)) {
      names += str(names.empty() ? "" : ", ", key);
    }
  }
  if (!names.empty()) {
    config.notices.push_back(
        str("no effect here: ", names, " (adapter is not set, so all weights are trained)"));
  }
}

}  // namespace

void apply_lora_rules(Config& config, Purpose purpose) {
  model::LoraOptions& lora = config.lora;
  lora.enabled = config.surface.adapter == "lora";
  // "all-linear" is PEFT's name for lora_target_linear.
  const bool listed =
      lora.lora_target_modules.size() == 1 && lora.lora_target_modules[0] == "all-linear";
  if (listed || lora.lora_target_modules_regex == "all-linear") {
    lora.lora_target_linear = true;
    lora.lora_target_modules.clear();
    lora.lora_target_modules_regex.clear();
  }
  if (!lora.enabled) {
    if (is_given(config, "lora_model_dir") && purpose == Purpose::kTrain) {
      fail(place(config, "lora_model_dir"), "lora_model_dir needs adapter: lora");
    }
    notice_unused(config);
    return;
  }
  if (lora.lora_dropout != 0 && !lora.lora_target_parameters.empty()) {
    fail(place(config, "lora_dropout"),
         str("lora_dropout must be 0 with lora_target_parameters, got ", lora.lora_dropout,
             "; the weights of experts have no input of their own to drop from (PEFT refuses it "
             "too)"));
  }
  if (purpose == Purpose::kTrain && !has_target(lora) && lora.lora_model_dir.empty()) {
    fail(place(config, "adapter"),
         "adapter: lora has nothing to adapt; give lora_target_modules, lora_target_linear or "
         "lora_target_parameters");
  }
}

}  // namespace moesmith::config
