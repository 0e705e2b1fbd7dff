// SPDX-License-Identifier: Apache-2.0
// grouped_mm's products: CUTLASS's grouped product, a problem per expert, whose sizes only the
// device knows. Operands are all bf16 or all f32, sums f32; no tile is summed by two blocks.
#pragma once

#include <cstdint>

#include "kernels/cuda/common/rows.h"
#include "kernels/cuda/scattermoe/product.h"

namespace moesmith::kernels::gpu {

// Device memory for the table of problems; it may be used again by the next product on the stream.
std::int64_t problem_table_bytes(int num_experts);

// out[row, n] f32 = or += sum over k of a[row, k] b_e[n, k]
struct GroupedByMatrix {
  const void* a = nullptr;  // [rows, a_stride]
  std::int64_t a_stride = 0;
  ExpertOperand b;
  int n = 0, k = 0;
  float* out = nullptr;  // [rows, out_stride]
  std::int64_t out_stride = 0;
  bool accumulate = false;
};

// out [E, m, n] = or += sum over an expert's rows of left[row, m] right[row, n]. An expert without
// rows is left as it was.
struct GroupedByRows {
  const void* left = nullptr;   // [rows, m]
  const void* right = nullptr;  // [rows, n]
  int m = 0, n = 0;
  void* out = nullptr;
  bool out_is_f32 = true;  // else bf16, with bf16 operands
  bool accumulate = false;
};

// In bf16 addresses and strides are multiples of 16 bytes.
void run_grouped(
    const Rows& rows, const GroupedByMatrix& product, bool f32, void* table, void* stream);
void run_grouped(
    const Rows& rows, const GroupedByRows& product, bool f32, void* table, void* stream);

}  // namespace moesmith::kernels::gpu
