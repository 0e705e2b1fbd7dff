// SPDX-License-Identifier: Apache-2.0
// Gradients of whole weights on the Hopper kernels: for each expert a product of two matrices over
// its rows.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/sm90/sm90.h"

namespace moesmith::kernels::sm90 {

// out [E, m, n] = sum over an expert's rows of left [row, m] right [row, n], in f32. One side is
// gathered by the row's token, the other contiguous by row; both bf16, 16-byte aligned, m and n
// multiples of 8. An expert without rows gets zeros, or is left as it is when accumulating.
struct WeightGradientArgs {
  Rows rows;
  std::int64_t m = 0, n = 0;
  const void* left = nullptr;   // [T, m] when left_gathered, else [R, m]
  const void* right = nullptr;  // [R, n] when left_gathered, else [T, n]
  bool left_gathered = false;
  bool interleaved = false;  // m's first half are gates, the other ups, which alternate in `out`
  void* out = nullptr;       // f32 or bf16, 16-byte aligned
  bool out_f32 = false, accumulate = false;
  TileChoice tile = {};  // cols is 256; group: tiles of 128 of m walked before the next of n
};
void weight_gradient(const WeightGradientArgs& args, cudaStream_t stream);

// A pure function of sizes.
TileChoice choose_weight_gradient_tile(std::int64_t m, std::int64_t n, bool left_gathered);

}  // namespace moesmith::kernels::sm90
