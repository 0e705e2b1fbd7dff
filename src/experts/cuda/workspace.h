// SPDX-License-Identifier: Apache-2.0
// Where scattermoe keeps things in device memory. Sizes and offsets come from the same carving.
#pragma once

#include <cstdint>

#include "experts/carver.h"
#include "experts/needs.h"
#include "kernels/cuda/common/rows.h"
#include "kernels/cuda/scattermoe/product.h"
#include "moesmith/experts.h"

namespace moesmith::experts::on_cuda {

// Packed factors of one projection; transposed with the base weights.
struct Factors {
  int padded_rank = 0;
  bool a_in_place = false;  // `a` is the caller's, which lies as a packed copy would
  void* a = nullptr;
  void* b = nullptr;
};

// Both passes; what one does not need stays null. T is the compute dtype.
struct Work {
  kernels::gpu::Rows rows;
  const void** gate_up = nullptr;  // [E]: the base pointers
  const void** up = nullptr;       // [E], separate layout only
  const void** down = nullptr;     // [E]
  Factors lora_1, lora_2;
  void* u_1 = nullptr;  // [rows, r16] T, where the saved state does not have it
  void* u_2 = nullptr;
  void* a = nullptr;        // [rows, I] T
  void* per_row = nullptr;  // [rows, H] T: y or dx before the sum over a token's slots
  // Backward.
  void* dy = nullptr;   // [T, H] T when d_output comes in another dtype
  void* h = nullptr;    // [rows, 2I] T when it is computed again
  void* d_h = nullptr;  // [rows, 2I] T
  void* v_1 = nullptr;  // [rows, r16] T
  void* v_2 = nullptr;
  void* weighted_v_2 = nullptr;
  void* weighted_u_2 = nullptr;
  void* weighted_a = nullptr;  // [rows, I] T
  float* d_weights = nullptr;  // [rows, d_weight_tiles]: parts of <dA', a>
  float* parts = nullptr;      // the largest of the sums over rows, by tile
  int d_weight_tiles = 0;

  // Where PEFT's A needs no packing, takes the caller's.
  void use_factors(const ExpertsRequest& request, const ExpertsInputs& inputs);

  // Index, tables of pointers and factors: what both passes begin with.
  static Work common(Carver& carver, const ExpertsRequest& request, std::int64_t num_tokens);
  static Work forward(Carver& carver, const ExpertsRequest& request, std::int64_t num_tokens);
  static Work backward(Carver& carver, const ExpertsRequest& request, std::int64_t num_tokens);
};

// The routing index and its tiles.
kernels::gpu::Rows carve_rows(Carver& carver,
                              const ExpertsRequest& request,
                              std::int64_t num_tokens);

// Whether all operands of a product with (or without) a base weight are bf16.
bool on_tensor_cores(const ExpertsRequest& request, bool base_weight);

}  // namespace moesmith::experts::on_cuda
