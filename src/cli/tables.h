// SPDX-License-Identifier: Apache-2.0
// The tables that a run prints before its first step.
#pragma once

#include <string>
#include <vector>

#include "train/trainer.h"

namespace moesmith::cli {

// Rows of cells as lines, columns aligned; those named in `right` to the right.
std::vector<std::string> aligned(const std::vector<std::vector<std::string>>& rows,
                                 const std::vector<bool>& right);

// Every trained tensor with its shape and count. Tensors that differ in the layer's number only
// share a row: "layers.{0-3,5}.self_attn.q_proj.lora_A".
std::vector<std::string> trained_table(const std::vector<train::TrainedTensor>& tensors);

// Where the time of a step went.
std::vector<std::string> profile_table(const std::vector<train::ProfilePart>& parts,
                                       std::int64_t steps);

// The parts of the memory plan and their sum beside what there is.
std::vector<std::string> memory_table(const train::MemoryPlan& plan);

}  // namespace moesmith::cli
