// SPDX-License-Identifier: Apache-2.0
// The activation of one row of the pre-activation, and its gradient. In double for the reference;
// vectorised in f32 for the rest. Formula: ActivationSpec in moesmith/experts.h.
#pragma once

#include <cmath>
#include <cstdint>

#include "moesmith/dtype.h"
#include "moesmith/experts.h"

namespace moesmith::experts {

// Where gate and up of a column range lie in a row of h: element i is gate[i * stride].
// Ungated: `up` is not looked at.
template <class T>
struct GateUp {
  T* gate = nullptr;
  T* up = nullptr;
  std::int64_t stride = 1;
};

// Columns [first, ...) of a row of h in the order of the one matrix.
template <class T>
GateUp<T> gate_up_of_row(const ExpertsRequest& request, T* row, std::int64_t first = 0) {
  if (request.activation.gated && request.gate_up_layout == GateUpLayout::kInterleaved) {
    return {row + 2 * first, row + 2 * first + 1, 2};
  }
  return {row + first, row + request.inter + first, 1};
}

// T is float or bf16; vectorised for active_isa().
template <class T>
struct ActivationOps {
  // a[i] = act(gate[i], up[i]), i < n
  void (*forward)(const ActivationSpec& spec, GateUp<const T> h, T* a, std::int64_t n);
  // d_h = weight * d_a[i] * act'(h); returns the sum of d_a[i] * T(act(h)). Up of d_h is written
  // only when gated, a[i] = T(act(h)) unless it is nullptr.
  float (*backward)(const ActivationSpec& spec,
                    GateUp<const T> h,
                    const float* d_a,
                    float weight,
                    GateUp<T> d_h,
                    T* a,
                    std::int64_t n);
};

template <class T>
const ActivationOps<T>& activation_ops();
template <>
const ActivationOps<float>& activation_ops<float>();
template <>
const ActivationOps<bf16>& activation_ops<bf16>();

// Value and derivatives of one element, Real being float or double.
template <class Real>
struct ActivationPoint {
  Real value, d_gate, d_up;
};

// kind(x) and its derivative.
template <class Real>
ActivationPoint<Real> ungated_point(ActivationKind kind, Real alpha, Real x) {
  switch (kind) {
    case ActivationKind::kSilu: {
      const Real s = Real(1) / (Real(1) + std::exp(-alpha * x));
      return {x * s, s * (Real(1) + alpha * x * (Real(1) - s)), Real(0)};
    }
    case ActivationKind::kGelu: {
      const Real cdf = Real(0.5) * (Real(1) + std::erf(x * Real(0.70710678118654752440)));
      const Real pdf = Real(0.39894228040143267794) * std::exp(Real(-0.5) * x * x);
      return {x * cdf, cdf + x * pdf, Real(0)};
    }
    case ActivationKind::kGeluTanh: {
      const Real c = Real(0.79788456080286535588), b = Real(0.044715);
      const Real t = std::tanh(c * (x + b * x * x * x));
      const Real dt = (Real(1) - t * t) * c * (Real(1) + Real(3) * b * x * x);
      return {Real(0.5) * x * (Real(1) + t), Real(0.5) * (Real(1) + t + x * dt), Real(0)};
    }
    case ActivationKind::kRelu:
      return {x > 0 ? x : Real(0), x > 0 ? Real(1) : Real(0), Real(0)};
    case ActivationKind::kRelu2: {
      const Real y = x > 0 ? x : Real(0);
      return {y * y, Real(2) * y, Real(0)};
    }
  }
  return {};
}

// A clamp passes the gradient where the value lies within, bounds included, as torch's does.
template <class Real>
ActivationPoint<Real> activation_point(const ActivationSpec& spec, Real gate, Real up) {
  bool gate_passes = true, up_passes = true;
  if (spec.gate_max && gate > Real(*spec.gate_max)) {
    gate = Real(*spec.gate_max);
    gate_passes = false;
  }
  if (spec.up_limit && std::abs(up) > Real(*spec.up_limit)) {
    up = up > 0 ? Real(*spec.up_limit) : -Real(*spec.up_limit);
    up_passes = false;
  }
  ActivationPoint<Real> point = ungated_point(spec.kind, Real(spec.alpha), gate);
  if (!gate_passes) point.d_gate = 0;
  if (!spec.gated) return point;
  const Real factor = up + Real(spec.up_shift);
  return {point.value * factor, point.d_gate * factor, up_passes ? point.value : Real(0)};
}

}  // namespace moesmith::experts
