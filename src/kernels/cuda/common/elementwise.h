// SPDX-License-Identifier: Apache-2.0
// The steps between the products. T is the compute dtype, f32 or bf16 by `f32`.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/cuda/common/activation.h"
#include "kernels/cuda/common/lora.h"
#include "kernels/cuda/common/rows.h"

namespace moesmith::kernels::gpu {

// Writes host pointers into `table` on the device without a copy from host memory, so that a
// captured graph holds them. Any number.
void write_pointers(std::span<const void* const> pointers, const void** table, void* stream);

// target[t] = or += sum over k in order of w[t,k] * rows_data[row_of[t,k]], w = 1 when not
// weighted; skipped slots add nothing. NaN throughout after an overflow.
struct Combine {
  const void* rows_data = nullptr;  // [rows, width] T
  std::int64_t width = 0, num_tokens = 0;
  bool weighted = false;
  GradientTarget target;  // [T, width]
};
void combine(const Rows& rows, const Combine& combine, bool f32, void* stream);

// target[slot] = or += sum of parts[row, 0..num_parts) in order + <dy[token], bias[e]>; 0 for
// skipped slots.
struct RouteGradient {
  const float* parts = nullptr;
  int num_parts = 0;
  const void* dy = nullptr;    // [T, hidden] T
  const void* bias = nullptr;  // [E, hidden] or null
  bool bias_is_f32 = true;
  std::int64_t hidden = 0;
  GradientTarget target;
};
void route_gradient(const Rows& rows, const RouteGradient& gradient, bool f32, void* stream);

// parts[tile, column] = sum over the tile's rows of (weighted: weight *) data[row or token,
// column].
struct ColumnSums {
  const void* data = nullptr;  // [*, width] T
  std::int64_t width = 0;
  bool by_token = false, weighted = false;
  float* parts = nullptr;  // [tiles, width]
};
void column_sums(const Rows& rows, const ColumnSums& sums, bool f32, void* stream);

// to[row] = T(weight * from[row]).
void weigh_rows(
    const Rows& rows, const void* from, void* to, std::int64_t width, bool f32, void* stream);

// a = T(act(h)), weighted_a = T(weight a); either may be null.
void activate_rows(const Rows& rows,
                   const Activation& activation,
                   const void* h,
                   void* a,
                   void* weighted_a,
                   std::int64_t inter,
                   bool f32,
                   void* stream);

// f32 to bf16.
void round_to_bf16(const void* from, void* to, std::int64_t count, void* stream);

}  // namespace moesmith::kernels::gpu
