// SPDX-License-Identifier: Apache-2.0
// One call of sonicmoe: where it keeps things in device memory, and the request's layouts as the
// Hopper kernels' arguments. Sizes and offsets come from the same carving.
#pragma once

#include <cstdint>

#include "experts/carver.h"
#include "experts/cuda/workspace.h"
#include "experts/needs.h"
#include "kernels/cuda/common/rows.h"
#include "kernels/cuda/sm90/sm90.h"
#include "moesmith/experts.h"

namespace moesmith::experts::on_cuda {

// Packed factors of one projection in bf16: A by rank [E, r16, in] and, for transposed weights, by
// column [E, in, r16]; B by rank [E, r16, out] and by column [E, out, r16].
struct SonicFactors {
  std::int64_t rank = 0;  // r16; 0: no LoRA
  void* a = nullptr;
  void* a_by_col = nullptr;
  void* b_by_rank = nullptr;
  void* b_by_col = nullptr;

  // What a product with the weights, or with their transposes, continues along k with.
  const void* with_weights(bool transposed) const { return transposed ? b_by_rank : b_by_col; }
  const void* with_flipped(bool transposed) const { return transposed ? a_by_col : a; }
};

// Both passes; what one does not need stays null.
struct SonicWork {
  kernels::gpu::Rows rows;
  void* tiles = nullptr;
  const void** pointers = nullptr;  // [E] each: gate_up, down, and for the separate layout up
  SonicFactors lora_1, lora_2;
  void *u_1 = nullptr, *u_2 = nullptr;  // [rows, r16], where the saved state does not have them
  void* a = nullptr;                    // [rows, I]
  void* per_row = nullptr;              // [rows, H]: y or dx
  // Backward.
  void* dy = nullptr;   // [T, H] when d_output is not bf16
  void* h = nullptr;    // [rows, P, I] when it is computed again
  void* d_h = nullptr;  // [rows, P, I]
  void *v_1 = nullptr, *v_2 = nullptr;
  void* weighted_a = nullptr;
  float* row_parts = nullptr;  // of <dA', a>
  float* parts = nullptr;      // the largest of the sums over rows, by chunk or tile

  static SonicWork forward(Carver& carver, const ExpertsRequest& request, std::int64_t num_tokens);
  static SonicWork backward(Carver& carver, const ExpertsRequest& request, std::int64_t num_tokens);
};

struct SonicLayer {
  const ExpertsRequest& request;
  const ExpertsInputs& inputs;
  const SonicWork& work;
  void* stream;

  std::int64_t pairs() const { return request.activation.gated ? 2 : 1; }
  bool separate() const;
  bool interleaved() const;
  // Gates beside their ups in B's packed copies and in dh, where the parameter has them apart.
  bool mixed() const { return interleaved() && !request.transposed; }
  kernels::sm90::Layout layout() const;

  // Throws Error(kInvalidInput) when a pointer of this call is not a multiple of 16 bytes.
  void check() const;
  // Routing index, tiles, pointer tables and packed factors: the head of both passes.
  void prepare(bool forward) const;

  kernels::sm90::Rows rows() const;
  kernels::sm90::Activation activation() const;
  kernels::sm90::Weights gate_up() const;
  kernels::sm90::Weights down() const;
  // u1 = s1 x A1^T where `u_1` is given; h and a, either may be null.
  void pre_activation(void* u_1, bool compute_u_1, void* h, void* a) const;
};

void check_aligned(const char* what, const void* pointer);

}  // namespace moesmith::experts::on_cuda
