// SPDX-License-Identifier: Apache-2.0
// The memory a run will need, before any of it is taken.
#pragma once

#include "model/causal_lm.h"
#include "train/trainer.h"

namespace moesmith::train {

// What the process holds already (tokens, tokenizer) is missing from the available memory too, so
// it is in neither number.
MemoryPlan plan_memory(const model::MemoryEstimate& estimate);

// Throws Error(kOutOfMemory) with both numbers and what to lower when the peak does not fit.
void require_fit(const MemoryPlan& plan);

}  // namespace moesmith::train
