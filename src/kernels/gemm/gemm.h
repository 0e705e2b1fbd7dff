// SPDX-License-Identifier: Apache-2.0
// C[m,n] = alpha * A[m,k] B[k,n] (+ C): the dense product of the decoder. Operands f32 or bf16,
// sums in f32.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/cpu_features.h"
#include "core/thread_pool.h"
#include "moesmith/dtype.h"

namespace moesmith::kernels::gemm {

class PackedB;

// A matrix in memory: element (i, j) is data[i * row_stride + j * col_stride]. One of the strides
// is 1.
struct Operand {
  const void* data = nullptr;
  DType dtype = DType::kF32;  // kF32 or kBF16
  std::int64_t row_stride = 0;
  std::int64_t col_stride = 1;
};

// Row-major x [rows, cols] as it is, and its transpose without a copy.
inline Operand row_major(const void* data, DType dtype, std::int64_t cols) {
  return {data, dtype, cols, 1};
}
inline Operand transposed(const void* data, DType dtype, std::int64_t cols) {
  return {data, dtype, 1, cols};
}

struct Args {
  std::int64_t m = 0, n = 0,
               k = 0;           // any may be 0; k == 0 gives C = 0 (or leaves C when accumulating)
  Operand a;                    // [m, k]
  Operand b;                    // [k, n]
  void* c = nullptr;            // [m, n], row-major, row stride ldc; must not overlap a or b
  DType c_dtype = DType::kF32;  // kF32 or kBF16
  std::int64_t ldc = 0;
  float alpha = 1.0f;
  bool accumulate = false;            // add to C instead of overwriting it
  const PackedB* packed_b = nullptr;  // replaces b, which is then not looked at (packed_b.h)
  // B is the part of packed_b from this row and column on: see PackedB::has_part().
  std::int64_t packed_row = 0, packed_col = 0;
  const void* bias = nullptr;  // [n], added to every row after alpha; nullptr for none
  DType bias_dtype = DType::kF32;
};

// bf16 products run in bf16 with f32 sums only when a and b are both bf16; otherwise a bf16 operand
// is widened. Bitwise the same for any thread count. Throws Error(kInternal) on a malformed Args.
void run(const Args& args, ThreadPool& pool);

// Plain loops with double sums: the oracle of the tests.
void run_reference(const Args& args);

}  // namespace moesmith::kernels::gemm
