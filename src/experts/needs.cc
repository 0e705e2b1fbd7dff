// SPDX-License-Identifier: Apache-2.0
#include "experts/needs.h"

namespace moesmith::experts {

Needs::Needs(const ExpertsRequest& request) {
  const WantedGradients& want = request.wanted;
  lora_1 = request.gate_up_lora.lora_rank > 0;
  lora_2 = request.down_lora.lora_rank > 0;
  d_h = want.hidden.wanted() || want.gate_up.wanted() || want.gate_up_bias.wanted() ||
        want.gate_up_a.wanted() || want.gate_up_b.wanted();
  d_a = d_h || want.top_k_weights.wanted();
  v_1 = lora_1 && (want.hidden.wanted() || want.gate_up_a.wanted());
  v_2 = lora_2 && (d_a || want.down_a.wanted());
  a_again = want.down.wanted() || want.down_a.wanted();
  h = d_a || a_again;
  save_h = h && !request.recompute_h;
  save_u_1 = lora_1 && (want.gate_up_b.wanted() || (h && request.recompute_h));
  save_u_2 = want.down_b.wanted();
}

SavedState SavedState::carve(Carver& carver, const ExpertsRequest& request, std::int64_t max_rows) {
  const Needs needs(request);
  const std::int64_t row_bytes = checked_mul(max_rows, dtype_size(request.compute_dtype));
  SavedState saved;
  if (needs.save_h) saved.h = carver.bytes(checked_mul(row_bytes, request.gate_up_width()));
  if (needs.save_u_1) {
    saved.u_1 = carver.bytes(checked_mul(row_bytes, padded_lora_rank(request.gate_up_lora)));
  }
  if (needs.save_u_2) {
    saved.u_2 = carver.bytes(checked_mul(row_bytes, padded_lora_rank(request.down_lora)));
  }
  return saved;
}

std::int64_t SavedState::bytes(const ExpertsRequest& request, std::int64_t max_rows) {
  Carver carver(nullptr, 1);
  carve(carver, request, max_rows);
  return carver.used();
}

SavedState SavedState::at(const std::byte* base,
                          const ExpertsRequest& request,
                          std::int64_t max_rows) {
  Carver carver(const_cast<std::byte*>(base), 1);
  return carve(carver, request, max_rows);
}

}  // namespace moesmith::experts
