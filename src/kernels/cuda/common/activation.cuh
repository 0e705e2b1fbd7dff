// SPDX-License-Identifier: Apache-2.0
// The activation and its derivatives in f32. A clamp passes the gradient where the
// value lies within, bounds included.
#pragma once

#include "kernels/cuda/common/activation.h"

namespace moesmith::kernels::gpu {

// value = kind(x) and its derivative, for N elements: one branch for all of them. The hardware's
// exponential and reciprocal are good to about 2 ulp of f32: far below bf16, and within what f32 is
// held to.
template <int N>
__device__ inline void ungated_points(experts::ActivationKind kind,
                                      float alpha,
                                      const float (&x)[N],
                                      float (&value)[N],
                                      float (&slope)[N]) {
  switch (kind) {
    case experts::ActivationKind::kSilu:
#pragma unroll
      for (int i = 0; i < N; ++i) {
        const float s = __fdividef(1.0f, 1.0f + __expf(fminf(-alpha * x[i], 80.0f)));
        value[i] = x[i] * s;
        slope[i] = s * (1.0f + alpha * x[i] * (1.0f - s));
      }
      return;
    case experts::ActivationKind::kGelu:
#pragma unroll
      for (int i = 0; i < N; ++i) {
        const float cdf = 0.5f * erfcf(-x[i] * 0.70710678118654752440f);
        value[i] = x[i] * cdf;
        slope[i] = cdf + x[i] * 0.39894228040143267794f * __expf(-0.5f * x[i] * x[i]);
      }
      return;
    case experts::ActivationKind::kGeluTanh:
#pragma unroll
      for (int i = 0; i < N; ++i) {
        constexpr float c = 0.79788456080286535588f, b = 0.044715f;
        const float square = x[i] * x[i], t = tanhf(c * x[i] * (1.0f + b * square));
        value[i] = 0.5f * x[i] * (1.0f + t);
        slope[i] = 0.5f * (1.0f + t + x[i] * (1.0f - t * t) * c * (1.0f + 3.0f * b * square));
      }
      return;
    case experts::ActivationKind::kRelu:
#pragma unroll
      for (int i = 0; i < N; ++i) {
        value[i] = fmaxf(x[i], 0.0f);
        slope[i] = x[i] > 0 ? 1.0f : 0.0f;
      }
      return;
    case experts::ActivationKind::kRelu2:
#pragma unroll
      for (int i = 0; i < N; ++i) {
        const float y = fmaxf(x[i], 0.0f);
        value[i] = y * y;
        slope[i] = 2.0f * y;
      }
      return;
  }
}

template <int N>
struct ActivationPoints {
  float value[N], d_gate[N], d_up[N];
};

template <int N>
__device__ inline ActivationPoints<N> activation_points(const Activation& spec,
                                                        const float (&gate)[N],
                                                        const float (&up)[N]) {
  float x[N], value[N], slope[N];
#pragma unroll
  for (int i = 0; i < N; ++i) x[i] = gate[i] > spec.gate_max ? spec.gate_max : gate[i];
  ungated_points(spec.kind, spec.alpha, x, value, slope);
  ActivationPoints<N> points;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    if (gate[i] > spec.gate_max) slope[i] = 0;
    const bool up_passes = !(fabsf(up[i]) > spec.up_limit);
    const float clamped = up_passes ? up[i] : copysignf(spec.up_limit, up[i]);
    const float factor = spec.gated ? clamped + spec.up_shift : 1.0f;
    points.value[i] = value[i] * factor;
    points.d_gate[i] = slope[i] * factor;
    points.d_up[i] = up_passes ? value[i] : 0.0f;  // without meaning when not gated
  }
  return points;
}

}  // namespace moesmith::kernels::gpu
