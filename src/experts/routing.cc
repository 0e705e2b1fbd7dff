// SPDX-License-Identifier: Apache-2.0
#include "experts/routing.h"

#include <algorithm>

#include "core/check.h"

namespace moesmith::experts {
namespace {

std::int64_t index_at(const void* index, DType dtype, std::int64_t slot) {
  return dtype == DType::kI64 ? static_cast<const std::int64_t*>(index)[slot]
                              : static_cast<const std::int32_t*>(index)[slot];
}

}  // namespace

std::int64_t row_capacity(const ExpertsRequest& request, std::int64_t num_tokens) {
  const std::int64_t slots = checked_mul(num_tokens, request.top_k);
  return request.max_rows > 0 ? std::min(slots, request.max_rows) : slots;
}

RoutingIndex carve_routing(Carver& carver, const ExpertsRequest& request, std::int64_t num_tokens) {
  RoutingIndex index;
  index.num_experts = request.num_experts;
  index.num_slots = checked_mul(num_tokens, request.top_k);
  index.offsets = carver.take<std::int64_t>(request.num_experts + 1);
  index.slot_of = carver.take<std::int64_t>(row_capacity(request, num_tokens));
  index.row_of = carver.take<std::int64_t>(index.num_slots);
  return index;
}

std::int64_t count_rows(const ExpertsRequest& request, const ExpertsInputs& inputs) {
  const std::int64_t slots = checked_mul(inputs.num_tokens, request.top_k);
  std::int64_t rows = 0;
  for (std::int64_t slot = 0; slot < slots; ++slot) {
    const std::int64_t e = index_at(inputs.top_k_index, request.index_dtype, slot);
    rows += e >= 0 && e < request.num_experts ? 1 : 0;
  }
  return rows;
}

void build_routing(const ExpertsInputs& inputs, DType index_dtype, RoutingIndex& index) {
  const std::int64_t num_experts = index.num_experts;
  std::fill(index.offsets, index.offsets + num_experts + 1, 0);
  // offsets[e+1] counts expert e, then its prefix sum is where expert e ends.
  for (std::int64_t slot = 0; slot < index.num_slots; ++slot) {
    const std::int64_t e = index_at(inputs.top_k_index, index_dtype, slot);
    if (e >= 0 && e < num_experts) ++index.offsets[e + 1];
  }
  for (std::int64_t e = 0; e < num_experts; ++e) index.offsets[e + 1] += index.offsets[e];
  index.num_rows = index.offsets[num_experts];
  // Filling moves offsets[e] to the end of expert e; shifting by one afterwards restores starts.
  for (std::int64_t slot = 0; slot < index.num_slots; ++slot) {
    const std::int64_t e = index_at(inputs.top_k_index, index_dtype, slot);
    if (e < 0 || e >= num_experts) {
      index.row_of[slot] = -1;
      continue;
    }
    const std::int64_t row = index.offsets[e]++;
    index.slot_of[row] = slot;
    index.row_of[slot] = row;
  }
  for (std::int64_t e = num_experts; e > 0; --e) index.offsets[e] = index.offsets[e - 1];
  index.offsets[0] = 0;
  MOESMITH_DASSERT(index.offsets[num_experts] == index.num_rows, "each row was placed once");
}

double route_weight(const ExpertsInputs& inputs, DType dtype, std::int64_t slot) {
  switch (dtype) {
    case DType::kBF16:
      return static_cast<float>(static_cast<const bf16*>(inputs.top_k_weights)[slot]);
    case DType::kF64:
      return static_cast<const double*>(inputs.top_k_weights)[slot];
    default:
      return static_cast<const float*>(inputs.top_k_weights)[slot];
  }
}

}  // namespace moesmith::experts
