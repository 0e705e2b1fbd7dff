// SPDX-License-Identifier: Apache-2.0
// What makes a run this run: the settings that a checkpoint must share with the run that resumes
// it, and how the two differ in words.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "train/trainer.h"
#include "train/trainer_state.h"

namespace moesmith::train {

using Settings = std::vector<std::pair<std::string, std::string>>;

// model_config: the text of the base model's config.json. data_fingerprint: RunData's.
Settings run_settings(const TrainJob& job,
                      const std::string& model_config,
                      const std::string& data_fingerprint);

// Throws Error(kInvalidInput) that names every setting that differs, with both values.
void check_settings(const std::string& folder, const Settings& checkpoint, const Settings& run);

// What may differ but changes the bits of the rest of the run: sentences for the user.
std::vector<std::string> resume_notes(const TrainerState& checkpoint, std::int64_t total_steps);

}  // namespace moesmith::train
