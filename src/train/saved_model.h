// SPDX-License-Identifier: Apache-2.0
// What a run leaves for others: an adapter as PEFT writes it, or weights in the checkpoint's own
// layout, with configuration, tokenizer and card; and the proof that it reads back as the model.
#pragma once

#include <string>

#include "core/thread_pool.h"
#include "model/causal_lm.h"
#include "train/trainer.h"
#include "train/trainer_state.h"

namespace moesmith::train {

struct BaseModel {
  std::string folder;            // with config.json
  std::string tokenizer_folder;  // whose tokenizer files are saved
  std::string chat_template;     // saved as chat_template.jinja; "" keeps the tokenizer's own
};

// How the model was made; with TrainMode::kNothing and an adapter's folder it makes the copy that
// verify_saved compares with.
model::LoadRequest load_request(const TrainJob& job, const BaseModel& base);

// Into a folder that exists. Each file is atomic by itself.
void save_model(const std::string& folder,
                const TrainJob& job,
                const BaseModel& base,
                const TrainerState& state,
                model::CausalLM& model);

// Loads what save_model() wrote beside the living model and compares the probe batch's logits.
// Where memory lacks for a second model, the tensors are compared instead. Returns what was found,
// in words; throws Error(kIo) when it differs.
std::string verify_saved(const std::string& folder,
                         const TrainJob& job,
                         const BaseModel& base,
                         model::CausalLM& model,
                         ThreadPool& pool);

}  // namespace moesmith::train
