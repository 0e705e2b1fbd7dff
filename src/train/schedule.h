// SPDX-License-Identifier: Apache-2.0
// The learning rate over the steps, as transformers' schedulers compute it, with Axolotl's
// defaults for what is left unset.
#pragma once

#include <cstdint>

#include "train/options.h"

namespace moesmith::train {

// warmup_steps, else warmup_ratio * total_steps rounded down, else min(3 % of them, 100). A single
// step becomes two, as in Axolotl: the first one has a rate of 0.
std::int64_t warmup_steps(const TrainOptions& options, std::int64_t total_steps);

// logging_steps, else max(min(0.5 % of total_steps, 10), 1).
std::int64_t logging_steps(const TrainOptions& options, std::int64_t total_steps);

// learning_rate times the schedule's factor for the step after `steps_done` others.
double learning_rate(const TrainOptions& options,
                     std::int64_t steps_done,
                     std::int64_t warmup_steps,
                     std::int64_t total_steps);

}  // namespace moesmith::train
