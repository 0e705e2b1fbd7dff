// SPDX-License-Identifier: Apache-2.0
#include "kernels/gemm/gemm.h"

namespace moesmith::kernels::gemm {
namespace {

float load(const void* data, DType dtype, std::int64_t i) {
  return dtype == DType::kF32 ? static_cast<const float*>(data)[i]
                              : static_cast<float>(static_cast<const bf16*>(data)[i]);
}

}  // namespace

void run_reference(const Args& args) {
  for (std::int64_t i = 0; i < args.m; ++i) {
    for (std::int64_t j = 0; j < args.n; ++j) {
      double sum = 0;
      for (std::int64_t l = 0; l < args.k; ++l) {
        sum += static_cast<double>(
                   load(args.a.data, args.a.dtype, i * args.a.row_stride + l * args.a.col_stride)) *
               static_cast<double>(
                   load(args.b.data, args.b.dtype, l * args.b.row_stride + j * args.b.col_stride));
      }
      double value = static_cast<double>(args.alpha) * sum;
      const std::int64_t at = i * args.ldc + j;
      if (args.bias != nullptr) value += static_cast<double>(load(args.bias, args.bias_dtype, j));
      if (args.accumulate) value += static_cast<double>(load(args.c, args.c_dtype, at));
      if (args.c_dtype == DType::kF32) {
        static_cast<float*>(args.c)[at] = static_cast<float>(value);
      } else {
        static_cast<bf16*>(args.c)[at] = bf16(static_cast<float>(value));
      }
    }
  }
}

}  // namespace moesmith::kernels::gemm
