// SPDX-License-Identifier: Apache-2.0
#include "experts/weights.h"

namespace moesmith::experts {
namespace {

WeightPart whole(const ExpertsRequest& request,
                 const ProjectionWeights& weights,
                 std::int64_t expert,
                 std::int64_t rows) {
  const void* base = weights.base[static_cast<std::size_t>(expert)];
  if (request.transposed) return {0, rows, base, 1, weights.row_stride};
  return {0, rows, base, weights.row_stride, 1};
}

}  // namespace

WeightParts gate_up_parts(const ExpertsRequest& request,
                          const ExpertsWeights& weights,
                          std::int64_t expert) {
  WeightParts parts;
  if (!request.activation.gated || request.gate_up_layout != GateUpLayout::kSeparate) {
    parts.part[0] = whole(request, weights.gate_up, expert, request.gate_up_width());
    parts.count = 1;
    return parts;
  }
  parts.part[0] = whole(request, weights.gate_up, expert, request.inter);
  parts.part[1] = whole(request, weights.up, expert, request.inter);
  parts.part[1].first = request.inter;
  parts.count = 2;
  return parts;
}

WeightPart down_part(const ExpertsRequest& request,
                     const ExpertsWeights& weights,
                     std::int64_t expert) {
  return whole(request, weights.down, expert, request.hidden);
}

double element(const void* data, DType dtype, std::int64_t i) {
  switch (dtype) {
    case DType::kBF16:
      return static_cast<double>(static_cast<float>(static_cast<const bf16*>(data)[i]));
    case DType::kF64:
      return static_cast<const double*>(data)[i];
    default:
      return static_cast<double>(static_cast<const float*>(data)[i]);
  }
}

}  // namespace moesmith::experts
