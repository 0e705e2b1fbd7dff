// SPDX-License-Identifier: Apache-2.0
#include "experts/grouped_mm/product.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/cpu_features.h"
#include "experts/weights.h"
#include "kernels/rows/rows.h"

namespace moesmith::experts::grouped_mm {
namespace {

using kernels::gemm::Args;
using kernels::gemm::Operand;

// Columns of B that are widened at a time: with k = 2048, 2 MiB of f32.
constexpr std::int64_t kWidenedColumns = 256;

// Rows and columns [rows, cols] of `from` as f32, its unit stride kept where it is.
Operand widen(const Operand& from,
              std::int64_t rows,
              std::int64_t cols,
              std::vector<float>& storage) {
  if (from.dtype == DType::kF32) return from;
  if (static_cast<std::int64_t>(storage.size()) < rows * cols) {
    storage.resize(static_cast<std::size_t>(rows * cols));
  }
  const bool by_rows = from.col_stride == 1;
  const std::int64_t lines = by_rows ? rows : cols, length = by_rows ? cols : rows;
  const std::int64_t stride = by_rows ? from.row_stride : from.col_stride;
  const auto& ops = kernels::rows::ops<bf16>();
  for (std::int64_t i = 0; i < lines; ++i) {
    ops.to_f32(storage.data() + i * length, static_cast<const bf16*>(from.data) + i * stride, 1.0f,
               length);
  }
  return by_rows ? Operand{storage.data(), DType::kF32, length, 1}
                 : Operand{storage.data(), DType::kF32, 1, length};
}

}  // namespace

bool multiplies_bf16() { return active_isa() >= IsaLevel::kAvx512Bf16 && onednn_has_bf16(); }

void multiply(const Args& args) {
  const bool both_f32 = args.a.dtype == DType::kF32 && args.b.dtype == DType::kF32;
  const bool both_bf16 = args.a.dtype == DType::kBF16 && args.b.dtype == DType::kBF16;
  if (both_f32 || (both_bf16 && multiplies_bf16())) return onednn_multiply(args);

  thread_local std::vector<float> a_storage, b_storage;
  Args wide = args;
  wide.a = widen(args.a, args.m, args.k, a_storage);
  for (std::int64_t j = 0; j < args.n; j += kWidenedColumns) {
    wide.n = std::min(kWidenedColumns, args.n - j);
    Operand b = args.b;
    b.data = advance(b.data, b.dtype, j * b.col_stride);
    wide.b = widen(b, args.k, wide.n, b_storage);
    wide.c = static_cast<float*>(args.c) + j;
    onednn_multiply(wide);
  }
}

}  // namespace moesmith::experts::grouped_mm
