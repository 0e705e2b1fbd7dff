// SPDX-License-Identifier: Apache-2.0
// The base weights as one thing whatever their layout: projections made of parts, each a strided
// matrix [out, in] in place.
#pragma once

#include <cstdint>

#include "kernels/gemm/gemm.h"
#include "moesmith/experts.h"

namespace moesmith::experts {

// Rows [first, first + rows) of a projection, in the order of h.
struct WeightPart {
  std::int64_t first = 0, rows = 0;
  const void* data = nullptr;
  std::int64_t out_stride = 0,
               in_stride = 0;  // element (o, i): data[o * out_stride + i * in_stride]
};

// One part, or gate and up on their own.
struct WeightParts {
  WeightPart part[2];
  int count = 0;

  const WeightPart* begin() const { return part; }
  const WeightPart* end() const { return part + count; }
};

WeightParts gate_up_parts(const ExpertsRequest& request,
                          const ExpertsWeights& weights,
                          std::int64_t expert);
WeightPart down_part(const ExpertsRequest& request,
                     const ExpertsWeights& weights,
                     std::int64_t expert);

// W^T [in, out], for y = x W^T, and W [out, in], for dx = dy W.
inline kernels::gemm::Operand forward_operand(const WeightPart& part, DType dtype) {
  return {part.data, dtype, part.in_stride, part.out_stride};
}
inline kernels::gemm::Operand backward_operand(const WeightPart& part, DType dtype) {
  return {part.data, dtype, part.out_stride, part.in_stride};
}

// data + count elements.
inline const void* advance(const void* data, DType dtype, std::int64_t count) {
  return static_cast<const char*>(data) + count * dtype_size(dtype);
}
inline void* advance(void* data, DType dtype, std::int64_t count) {
  return static_cast<char*>(data) + count * dtype_size(dtype);
}

// Element i of an array of f32, bf16 or f64.
double element(const void* data, DType dtype, std::int64_t i);

}  // namespace moesmith::experts
