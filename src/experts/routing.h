// SPDX-License-Identifier: Apache-2.0
// From [T,K] expert indices to rows grouped by expert: a stable counting sort, so that a row's
// place, and with it every sum, depends on the indices alone. A slot is t * K + k.
#pragma once

#include <cstdint>

#include "experts/carver.h"
#include "moesmith/experts.h"

namespace moesmith::experts {

struct RoutingIndex {
  std::int64_t num_experts = 0;
  std::int64_t num_slots = 0;
  std::int64_t num_rows = 0;        // slots whose index lies in [0, E)
  std::int64_t* offsets = nullptr;  // [E+1]: rows [offsets[e], offsets[e+1]) belong to expert e
  std::int64_t* slot_of = nullptr;  // [max_rows]: by expert, within an expert by slot
  std::int64_t* row_of = nullptr;   // [num_slots]: -1 where the index is outside [0, E)

  std::int64_t rows(std::int64_t expert) const { return offsets[expert + 1] - offsets[expert]; }
};

// Largest number of rows that a call with this many tokens may have.
std::int64_t row_capacity(const ExpertsRequest& request, std::int64_t num_tokens);

// Places the arrays of an index.
RoutingIndex carve_routing(Carver& carver, const ExpertsRequest& request, std::int64_t num_tokens);

// Number of indices in [0, E).
std::int64_t count_rows(const ExpertsRequest& request, const ExpertsInputs& inputs);

// Fills `index`; at most row_capacity() rows, which the plan has checked.
void build_routing(const ExpertsInputs& inputs, DType index_dtype, RoutingIndex& index);

// Routing weight of a slot, widened.
double route_weight(const ExpertsInputs& inputs, DType dtype, std::int64_t slot);

}  // namespace moesmith::experts
