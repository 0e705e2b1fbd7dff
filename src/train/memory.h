// SPDX-License-Identifier: Apache-2.0
// The memory a run will need, before any of it is taken.
#pragma once

#include <cstdint>

#include "model/causal_lm.h"
#include "train/trainer.h"

namespace moesmith::train {

// held_bytes: what the process has taken before the model; the available memory knows of it
// already.
MemoryPlan plan_memory(const model::MemoryEstimate& estimate, std::int64_t held_bytes);

// Throws Error(kOutOfMemory) with both numbers and what to lower when the peak does not fit.
void require_fit(const MemoryPlan& plan);

}  // namespace moesmith::train
