// SPDX-License-Identifier: Apache-2.0
#include "train/memory.h"

#include "core/text.h"
#include "io/system_memory.h"
#include "moesmith/error.h"

namespace moesmith::train {

MemoryPlan plan_memory(const model::MemoryEstimate& e) {
  MemoryPlan plan;
  plan.items = {{"weights, mapped from the checkpoint", e.weights_mapped, false},
                {"weights, own copies", e.weights},
                {"packed copies", e.packed},
                {"adapter", e.adapter},
                {"f32 masters", e.masters},
                {"gradients", e.gradients},
                {"optimiser", e.optimiser},
                {"activations", e.activations}};
  for (const MemoryItem& item : plan.items) {
    if (item.counted) plan.peak_bytes += item.bytes;
  }
  plan.available_bytes = io::system_memory().usable();
  return plan;
}

void require_fit(const MemoryPlan& plan) {
  if (plan.peak_bytes <= plan.available_bytes) return;
  throw Error(ErrorCode::kOutOfMemory,
              str("train: the run needs ", human_bytes(static_cast<double>(plan.peak_bytes)),
                  " at its peak, but ", human_bytes(static_cast<double>(plan.available_bytes)),
                  " are available: lower sequence_len or micro_batch_size, set "
                  "gradient_checkpointing: true, or train an adapter"));
}

}  // namespace moesmith::train
