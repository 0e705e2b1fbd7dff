// SPDX-License-Identifier: Apache-2.0
// README.md of what a run saves: front matter as PEFT writes it, then settings and results.
#pragma once

#include <string>

#include "train/trainer.h"
#include "train/trainer_state.h"

namespace moesmith::train {

// The Markdown below the front matter.
std::string model_card_body(const TrainJob& job, const TrainerState& state);
// Paths of the datasets, as the front matter lists them.
std::vector<std::string> dataset_names(const TrainJob& job);

}  // namespace moesmith::train
