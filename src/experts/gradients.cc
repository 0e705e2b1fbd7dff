// SPDX-License-Identifier: Apache-2.0
#include "experts/gradients.h"

#include <cstring>
#include <type_traits>

#include "kernels/rows/rows.h"

namespace moesmith::experts {
namespace {

template <class Stored, class Value>
void store_as(const GradSpec& spec,
              Stored* target,
              const Value* values,
              std::int64_t n,
              std::int64_t stride) {
  // bf16 converts to and from float alone.
  using Wide = std::conditional_t<std::is_same_v<Stored, double>, double, float>;
  if (spec.mode == GradMode::kOverwrite) {
    for (std::int64_t i = 0; i < n; ++i) {
      target[i * stride] = static_cast<Stored>(static_cast<Wide>(values[i]));
    }
    return;
  }
  for (std::int64_t i = 0; i < n; ++i) {
    Stored& at = target[i * stride];
    at = static_cast<Stored>(
        static_cast<Wide>(static_cast<Value>(static_cast<Wide>(at)) + values[i]));
  }
}

template <class Value>
void store_any(const GradSpec& spec,
               void* target,
               std::int64_t offset,
               const Value* values,
               std::int64_t n,
               std::int64_t stride) {
  switch (spec.dtype) {
    case DType::kBF16:
      return store_as(spec, static_cast<bf16*>(target) + offset, values, n, stride);
    case DType::kF64:
      return store_as(spec, static_cast<double*>(target) + offset, values, n, stride);
    default:
      return store_as(spec, static_cast<float*>(target) + offset, values, n, stride);
  }
}

}  // namespace

void store_gradient(const GradSpec& spec,
                    void* target,
                    std::int64_t offset,
                    const float* values,
                    std::int64_t n,
                    std::int64_t stride) {
  if (spec.dtype == DType::kF32 && stride == 1) {
    float* out = static_cast<float*>(target) + offset;
    if (spec.mode == GradMode::kOverwrite) {
      std::memcpy(out, values, static_cast<std::size_t>(n) * sizeof(float));
    } else {
      kernels::rows::ops<float>().axpy(out, values, 1.0f, n);
    }
    return;
  }
  if (spec.dtype == DType::kBF16 && stride == 1 && spec.mode == GradMode::kOverwrite) {
    kernels::rows::ops<bf16>().from_f32(static_cast<bf16*>(target) + offset, values, 1.0f, n);
    return;
  }
  store_any(spec, target, offset, values, n, stride);
}

void store_gradient(const GradSpec& spec,
                    void* target,
                    std::int64_t offset,
                    const double* values,
                    std::int64_t n,
                    std::int64_t stride) {
  store_any(spec, target, offset, values, n, stride);
}

void stream_gradient(
    const GradSpec& spec, void* target, std::int64_t offset, const float* values, std::int64_t n) {
  if (spec.mode == GradMode::kOverwrite && spec.dtype == DType::kF32) {
    kernels::rows::ops<float>().stream(static_cast<float*>(target) + offset, values, n);
  } else if (spec.mode == GradMode::kOverwrite && spec.dtype == DType::kBF16) {
    kernels::rows::ops<bf16>().stream(static_cast<bf16*>(target) + offset, values, n);
  } else {
    store_gradient(spec, target, offset, values, n);
  }
}

void store_skipped_slots(const ExpertsRequest& request,
                         const BackwardArgs& args,
                         const RoutingIndex& index) {
  if (!request.wanted.top_k_weights.wanted()) return;
  const float zero = 0;
  for (std::int64_t slot = 0; slot < index.num_slots; ++slot) {
    if (index.row_of[slot] >= 0) continue;
    store_gradient(request.wanted.top_k_weights, args.gradients.top_k_weights, slot, &zero, 1);
  }
}

}  // namespace moesmith::experts
