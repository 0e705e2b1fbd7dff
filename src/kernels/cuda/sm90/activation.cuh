// SPDX-License-Identifier: Apache-2.0
// The activation and its gradient on four words of bf16 pairs, the kind being a run-time uniform.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/cuda/sm90/ptx.cuh"
#include "kernels/cuda/sm90/sm90.h"

namespace moesmith::kernels::sm90 {

// Without the cases of denormal numbers, which cost more than the rest: what they change is far
// below a bf16's last bit.
__device__ __forceinline__ float sigmoid(float x) {
  float power, inverse;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x * -1.44269504088896341f));
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(1.0f + power));
  return inverse;
}

struct Point {
  float value, slope;
};

// silu and gelu_tanh are x sigmoid(z), z = x (linear + cubic x^2): the fast path, unrolled.
struct SigmoidCurve {
  float linear, cubic;

  __device__ __forceinline__ explicit SigmoidCurve(const Activation& act)
      : linear(act.kind == ActivationKind::kSilu ? act.alpha : 1.59576912160573071f),
        cubic(act.kind == ActivationKind::kSilu ? 0.0f : 1.59576912160573071f * 0.044715f) {}

  __device__ __forceinline__ Point operator()(float x) const {
    const float squared = cubic * x * x;
    const float s = sigmoid(x * (linear + squared));
    const float value = x * s;
    return {value, s + value * (1.0f - s) * (linear + 3.0f * squared)};
  }
};

// x sigmoid(x) and nothing else: no clamp, no shift. What most models use.
struct PlainSilu {
  __device__ __forceinline__ Point operator()(float x) const {
    const float s = sigmoid(x);
    const float value = x * s;
    return {value, fmaf(-value, s, s + value)};
  }
};
__device__ __forceinline__ bool is_plain(const Activation& act) {
  return act.kind == ActivationKind::kSilu && act.alpha == 1.0f && act.up_shift == 0.0f &&
         act.gate_max == __builtin_huge_valf() && act.up_limit == __builtin_huge_valf();
}

// gelu, relu, relu2: one at a time, to keep the code small.
struct OtherCurve {
  ActivationKind kind;

  __device__ __forceinline__ explicit OtherCurve(const Activation& act) : kind(act.kind) {}

  __device__ __forceinline__ Point operator()(float x) const {
    if (kind == ActivationKind::kGelu) {
      const float cdf = 0.5f * (1.0f + erff(x * 0.70710678118654752f));
      return {x * cdf, cdf + x * 0.39894228040143268f * __expf(-0.5f * x * x)};
    }
    const float y = x > 0.0f ? x : 0.0f;
    if (kind == ActivationKind::kRelu) return {y, x > 0.0f ? 1.0f : 0.0f};
    return {y * y, 2.0f * y};
  }
};

struct Element {
  float a, d_gate, d_up;
};

// A clamp passes the gradient where the value lies within, bounds included; a NaN stays one.
template <bool kGated, class Curve>
__device__ __forceinline__ Element
element(const Activation& act, const Curve& curve, float gate, float up, float d) {
  if constexpr (std::is_same_v<Curve, PlainSilu>) {
    const Point at = curve(gate);
    if (!kGated) return {at.value, d * at.slope, 0.0f};
    return {at.value * up, d * at.slope * up, d * at.value};
  }
  const bool cut = gate > act.gate_max;
  const Point at = curve(cut ? act.gate_max : gate);
  const float slope = cut ? 0.0f : at.slope;
  if (!kGated) return {at.value, d * slope, 0.0f};
  const bool above = up > act.up_limit, below = up < -act.up_limit;
  const float factor = (above ? act.up_limit : below ? -act.up_limit : up) + act.up_shift;
  return {at.value * factor, d * slope * factor, above || below ? 0.0f : d * at.value};
}

// A word of gates and one of ups, and what comes of them.
struct PairOfElements {
  std::uint32_t a, d_gate, d_up;
};
template <bool kGated, class Curve>
__device__ __forceinline__ PairOfElements pair_of_elements(const Activation& act,
                                                           const Curve& curve,
                                                           std::uint32_t gate,
                                                           std::uint32_t up,
                                                           float d_low,
                                                           float d_high) {
  const Element x = element<kGated>(act, curve, low_bf16(gate), low_bf16(up), d_low);
  const Element y = element<kGated>(act, curve, high_bf16(gate), high_bf16(up), d_high);
  return {pack_bf16(x.a, y.a), pack_bf16(x.d_gate, y.d_gate), pack_bf16(x.d_up, y.d_up)};
}

// Four words: unrolled, or for rare kinds as a loop that rotates the registers, since a register
// array cannot be indexed at run time. kPlain: is_plain(act).
template <bool kGated, bool kPlain>
__device__ __forceinline__ void elements(const Activation& act,
                                         std::uint32_t (&gate)[4],
                                         std::uint32_t (&up)[4],
                                         float (&d)[8],
                                         PairOfElements (&out)[4]) {
  if constexpr (kPlain) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      out[j] = pair_of_elements<kGated>(act, PlainSilu{}, gate[j], up[j], d[2 * j], d[2 * j + 1]);
    }
    return;
  }
  if (act.kind == ActivationKind::kSilu || act.kind == ActivationKind::kGeluTanh) {
    const SigmoidCurve curve(act);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      out[j] = pair_of_elements<kGated>(act, curve, gate[j], up[j], d[2 * j], d[2 * j + 1]);
    }
    return;
  }
  const OtherCurve curve(act);
#pragma unroll 1
  for (int i = 0; i < 4; ++i) {
    const PairOfElements now = pair_of_elements<kGated>(act, curve, gate[0], up[0], d[0], d[1]);
#pragma unroll
    for (int j = 0; j < 3; ++j) {
      gate[j] = gate[j + 1], up[j] = up[j + 1];
      d[2 * j] = d[2 * j + 2], d[2 * j + 1] = d[2 * j + 3];
      out[j] = out[j + 1];
    }
    out[3] = now;
  }
}

template <bool kGated, bool kPlain>
__device__ __forceinline__ void activate(const Activation& act,
                                         const std::uint32_t (&gate)[4],
                                         const std::uint32_t (&up)[4],
                                         std::uint32_t (&a)[4]) {
  std::uint32_t gates[4], ups[4];
  float d[8]{};
  PairOfElements out[4]{};
#pragma unroll
  for (int j = 0; j < 4; ++j) gates[j] = gate[j], ups[j] = kGated ? up[j] : 0;
  elements<kGated, kPlain>(act, gates, ups, d, out);
#pragma unroll
  for (int j = 0; j < 4; ++j) a[j] = out[j].a;
}

// d: the sums of dA', two neighbours at d[4 j]. Returns this thread's part of <dA', bf16(a)>.
template <bool kGated, bool kPlain>
__device__ __forceinline__ float activation_gradient(const Activation& act,
                                                     const std::uint32_t (&gate)[4],
                                                     const std::uint32_t (&up)[4],
                                                     const float* d,
                                                     float weight,
                                                     std::uint32_t (&a)[4],
                                                     std::uint32_t (&d_gate)[4],
                                                     std::uint32_t (&d_up)[4]) {
  std::uint32_t gates[4], ups[4];
  float weighted[8];
  PairOfElements out[4]{};
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    gates[j] = gate[j], ups[j] = up[j];
    weighted[2 * j] = weight * d[4 * j], weighted[2 * j + 1] = weight * d[4 * j + 1];
  }
  elements<kGated, kPlain>(act, gates, ups, weighted, out);
  float dot = 0.0f;
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    a[j] = out[j].a, d_gate[j] = out[j].d_gate, d_up[j] = out[j].d_up;
    dot += d[4 * j] * low_bf16(a[j]) + d[4 * j + 1] * high_bf16(a[j]);
  }
  return dot;
}

}  // namespace moesmith::kernels::sm90
