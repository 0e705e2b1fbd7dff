// SPDX-License-Identifier: Apache-2.0
// The memory a run will need, before any of it is taken.
#pragma once

#include <string>

#include "model/causal_lm.h"
#include "train/trainer.h"

namespace moesmith::train {

// What the process holds already (tokens, tokenizer) is missing from the available memory too, so
// it is in neither number.
// kAuto packs frozen experts when the run with the copies takes at most half of what is available.
MemoryPlan plan_memory(const model::MemoryEstimate& estimate, model::PackExperts pack_experts);
// One line on what the plan does with frozen experts; "" when there is nothing to say.
std::string packing_text(const MemoryPlan& plan);

// Throws Error(kOutOfMemory) with both numbers and what to lower when the peak does not fit.
void require_fit(const MemoryPlan& plan);

}  // namespace moesmith::train
