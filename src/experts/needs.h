// SPDX-License-Identifier: Apache-2.0
// What the wanted gradients imply: which intermediate values a backward pass computes, and which of
// the forward's it must find saved.
#pragma once

#include "core/checked.h"
#include "experts/carver.h"
#include "moesmith/experts.h"

namespace moesmith::experts {

inline constexpr std::int64_t kLoraRankStep = 16;

// Rank as the packed copies have it; the added rows and columns are 0.
inline std::int64_t padded_lora_rank(const LoraSpec& lora) {
  return round_up(lora.lora_rank, kLoraRankStep);
}

struct Needs {
  explicit Needs(const ExpertsRequest& request);

  bool lora_1, lora_2;  // LoRA on gate_up, on down
  bool d_h;             // gradient of the pre-activation
  bool d_a;             // gradient of the activation, before the routing weight
  bool v_1, v_2;        // scale * d_h B_1, scale * dy B_2
  bool a_again;         // the activation once more, for gradients of down and its A
  bool h;               // the pre-activation
  bool save_h, save_u_1, save_u_2;
};

// What forward leaves for backward: h [rows, 2I], u_1 [rows, r1], u_2 [rows, r2], the latter two
// scale * x A^T, all compute_dtype, rows as the routing index orders them. The index itself is
// built again from top_k_index, which the caller keeps anyway. Packed without gaps.
struct SavedState {
  void* h = nullptr;
  void* u_1 = nullptr;
  void* u_2 = nullptr;

  static SavedState carve(Carver& carver, const ExpertsRequest& request, std::int64_t max_rows);
  static std::int64_t bytes(const ExpertsRequest& request, std::int64_t max_rows);
  static SavedState at(const std::byte* base, const ExpertsRequest& request, std::int64_t max_rows);
};

}  // namespace moesmith::experts
