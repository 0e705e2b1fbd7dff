// SPDX-License-Identifier: Apache-2.0
// The three sizes of a plan, from the same carving that lays a call's memory out.
#pragma once

#include <cstdint>

#include "experts/carver.h"
#include "experts/needs.h"
#include "experts/routing.h"
#include "moesmith/experts.h"

namespace moesmith::experts {

// carve_forward.operator()<T>(carver) and carve_backward, the like, take what a call of up to
// num_tokens needs; T is float or bf16, the compute dtype.
template <class CarveForward, class CarveBackward>
ExpertsSizes sizes_by_carving(const ExpertsRequest& request,
                              std::int64_t num_tokens,
                              const CarveForward& carve_forward,
                              const CarveBackward& carve_backward) {
  ExpertsSizes result;
  const auto measure = [&]<class T>() {
    Carver forward, backward;
    carve_forward.template operator()<T>(forward);
    result.forward_scratch_bytes = forward.used();
    if (!request.wanted.any()) return;
    carve_backward.template operator()<T>(backward);
    result.backward_scratch_bytes = backward.used();
    result.saved_bytes = SavedState::bytes(request, row_capacity(request, num_tokens));
  };
  if (request.compute_dtype == DType::kBF16) {
    measure.template operator()<bf16>();
  } else {
    measure.template operator()<float>();
  }
  return result;
}

}  // namespace moesmith::experts
