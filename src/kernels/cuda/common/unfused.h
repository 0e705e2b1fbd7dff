// SPDX-License-Identifier: Apache-2.0
// What surrounds products that know nothing of routing: rows made contiguous before, sums rounded,
// biased, weighted and differentiated after. T is the compute dtype, f32 or bf16 by `f32`.
#pragma once

#include <cstdint>

#include "kernels/cuda/common/activation.h"
#include "kernels/cuda/common/rows.h"

namespace moesmith::kernels::gpu {

// to[row] = T(from[token of row]).
struct GatherRows {
  const void* from = nullptr;  // [tokens, width]
  bool from_is_f32 = false;
  std::int64_t width = 0;
  void* to = nullptr;  // [rows, width] T
};
void gather_rows(const Rows& rows, const GatherRows& gather, bool f32, void* stream);

// out = T(scale * sums + bias[expert of the row]), weighted = T(weight out).
struct RoundRows {
  const float* sums = nullptr;  // [rows, width]
  std::int64_t width = 0;
  float scale = 1;
  const void* bias = nullptr;  // [E, width] or null
  bool bias_is_f32 = false;
  void* out = nullptr;       // [rows, width] T
  void* weighted = nullptr;  // [rows, width] T or null
};
void round_rows(const Rows& rows, const RoundRows& round, bool f32, void* stream);

// From dA' per row: d_h = T(act'(h) weight dA'), a = T(act(h)), weighted_a = T(weight a), d_weights
// = <dA', a>. What is null is not written.
struct ActivationGradient {
  Activation activation;
  std::int64_t inter = 0;
  const float* d_a = nullptr;  // [rows, inter]
  const void* h = nullptr;     // [rows, 2 inter] T; [rows, inter] without a gate
  void* d_h = nullptr;         // as h
  void* a = nullptr;           // [rows, inter] T
  void* weighted_a = nullptr;
  float* d_weights = nullptr;  // [rows]
};
void activation_gradient(const Rows& rows,
                         const ActivationGradient& gradient,
                         bool f32,
                         void* stream);

}  // namespace moesmith::kernels::gpu
