// SPDX-License-Identifier: Apache-2.0
// The optimiser's tensors on disk: optimizer.safetensors with master.<name>, exp_avg.<name> and
// exp_avg_sq.<name>, f32, for each trained parameter.
#pragma once

#include <string>

#include "train/optimizer.h"

namespace moesmith::train {

inline constexpr const char* kOptimizerFile = "optimizer.safetensors";

void write_optimizer(const std::string& folder, const Optimizer& optimizer);
// Overwrites masters and moments; the model's sync_values() is the caller's to call. Throws
// Error(kInvalidInput) that names the tensor that is missing, left over or of another shape.
void read_optimizer(const std::string& folder, Optimizer& optimizer);

}  // namespace moesmith::train
