// SPDX-License-Identifier: Apache-2.0
// One element of the activation and its derivatives in f32. A clamp passes the gradient where the
// value lies within, bounds included.
#pragma once

#include "kernels/cuda/common/activation.h"

namespace moesmith::kernels::gpu {

struct ActivationPoint {
  float value, d_gate, d_up;
};

// kind(x) and its derivative. exp2f(x log2 e) with the hardware's exponential is good to 2 ulp of
// f32 here: far below bf16, and within what f32 is held to.
__device__ inline void ungated_point(
    experts::ActivationKind kind, float alpha, float x, float& value, float& slope) {
  switch (kind) {
    case experts::ActivationKind::kSilu: {
      const float s = 1.0f / (1.0f + __expf(-alpha * x));
      value = x * s;
      slope = s * (1.0f + alpha * x * (1.0f - s));
      return;
    }
    case experts::ActivationKind::kGelu: {
      const float cdf = 0.5f * erfcf(-x * 0.70710678118654752440f);
      value = x * cdf;
      slope = cdf + x * 0.39894228040143267794f * __expf(-0.5f * x * x);
      return;
    }
    case experts::ActivationKind::kGeluTanh: {
      constexpr float c = 0.79788456080286535588f, b = 0.044715f;
      const float t = tanhf(c * (x + b * x * x * x));
      value = 0.5f * x * (1.0f + t);
      slope = 0.5f * (1.0f + t + x * (1.0f - t * t) * c * (1.0f + 3.0f * b * x * x));
      return;
    }
    case experts::ActivationKind::kRelu:
      value = fmaxf(x, 0.0f);
      slope = x > 0 ? 1.0f : 0.0f;
      return;
    case experts::ActivationKind::kRelu2:
      value = x > 0 ? x * x : 0.0f;
      slope = x > 0 ? 2.0f * x : 0.0f;
      return;
  }
  value = slope = 0;
}

__device__ inline ActivationPoint activation_point(const Activation& spec, float gate, float up) {
  const bool gate_passes = !(gate > spec.gate_max), up_passes = !(fabsf(up) > spec.up_limit);
  if (!gate_passes) gate = spec.gate_max;
  if (!up_passes) up = copysignf(spec.up_limit, up);
  float value, slope;
  ungated_point(spec.kind, spec.alpha, gate, value, slope);
  if (!gate_passes) slope = 0;
  if (!spec.gated) return {value, slope, 0.0f};
  const float factor = up + spec.up_shift;
  return {value * factor, slope * factor, up_passes ? value : 0.0f};
}

}  // namespace moesmith::kernels::gpu
