// SPDX-License-Identifier: Apache-2.0
#include "train/memory.h"

#include "core/text.h"
#include "io/system_memory.h"
#include "moesmith/error.h"

namespace moesmith::train {

MemoryPlan plan_memory(const model::MemoryEstimate& e, model::PackExperts pack_experts) {
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
  plan.packed_experts = e.packed_experts;
  const std::int64_t with_copies = plan.peak_bytes + e.packed_experts;
  plan.pack_experts = e.packed_experts > 0 && (pack_experts == model::PackExperts::kAlways ||
                                               with_copies <= plan.available_bytes / 2);
  if (plan.pack_experts) {
    plan.items.push_back({"experts, packed once", e.packed_experts});
    plan.peak_bytes = with_copies;
  }
  return plan;
}

std::string packing_text(const MemoryPlan& plan) {
  if (plan.packed_experts == 0) return "";
  if (plan.pack_experts) {
    return "frozen experts are packed once; pack_experts: false reads them from the checkpoint";
  }
  return str("frozen experts are read from the checkpoint: packed copies would take ",
             human_bytes(static_cast<double>(plan.packed_experts)),
             ", more than half of what is available with the rest; pack_experts: true makes them");
}

void require_fit(const MemoryPlan& plan) {
  if (plan.peak_bytes <= plan.available_bytes) return;
  throw Error(ErrorCode::kOutOfMemory,
              str("train: the run needs ", human_bytes(static_cast<double>(plan.peak_bytes)),
                  " at its peak, but ", human_bytes(static_cast<double>(plan.available_bytes)),
                  " are available: lower sequence_len or micro_batch_size, set "
                  "gradient_checkpointing: true, ",
                  plan.pack_experts ? "pack_experts: false, " : "", "or train an adapter"));
}

}  // namespace moesmith::train
