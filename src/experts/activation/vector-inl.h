// SPDX-License-Identifier: Apache-2.0
// Body of the vectorised activation, included once per instruction set with
// MOESMITH_ACTIVATION_NAMESPACE set.

#include "experts/activation/activation.h"
#include "kernels/rows/vector-inl.h"

namespace moesmith::experts::MOESMITH_ACTIVATION_NAMESPACE {
namespace {

using namespace kernels::vectors;

// What a stored value reads back as.
MOESMITH_INLINE V as_stored(const V& v, const float*) { return v; }
MOESMITH_INLINE V as_stored(const V& v, const bf16*) {
  return (V)(__builtin_convertvector(rounded(v), VU) << 16);
}

// n <= kLanes elements at a stride; missing ones are 0.
template <class T>
MOESMITH_INLINE V gather(const T* p, std::int64_t stride, std::int64_t n) {
  if (stride == 1 && n == kLanes) return load(p);
  T lane[kLanes] = {};
  for (std::int64_t i = 0; i < n; ++i) lane[i] = p[i * stride];
  return load(lane);
}
template <class T>
MOESMITH_INLINE void scatter(T* p, const V& v, std::int64_t stride, std::int64_t n) {
  if (stride == 1 && n == kLanes) {
    store(p, v);
    return;
  }
  T lane[kLanes];
  store(lane, v);
  for (std::int64_t i = 0; i < n; ++i) p[i * stride] = lane[i];
}

// kind(x) and its derivative.
template <ActivationKind kKind>
MOESMITH_INLINE void point(float alpha, const V& x, V& value, V& slope) {
  if constexpr (kKind == ActivationKind::kSilu) {
    const V s = sigmoid(alpha * x);
    value = x * s;
    slope = s * (1.0f + alpha * x * (1.0f - s));
  } else if constexpr (kKind == ActivationKind::kGeluTanh) {
    // (1 + tanh y) / 2 = sigmoid(2y)
    const V s = sigmoid(1.59576912160573071f * (x + 0.044715f * x * x * x));
    value = x * s;
    slope = s + x * s * (1.0f - s) * 1.59576912160573071f * (1.0f + 0.134145f * x * x);
  } else if constexpr (kKind == ActivationKind::kGelu) {
    float lane[kLanes];
    store(lane, x);
    for (float& one : lane) one = __builtin_erff(one * 0.70710678118654752f);
    const V cdf = 0.5f * (1.0f + load(lane));
    value = x * cdf;
    slope = cdf + x * 0.39894228040143268f * exp(-0.5f * x * x);
  } else if constexpr (kKind == ActivationKind::kRelu) {
    value = x > 0.0f ? x : V{};
    slope = x > 0.0f ? V{} + 1.0f : V{};
  } else {
    const V y = x > 0.0f ? x : V{};
    value = y * y;
    slope = 2.0f * y;
  }
}

struct Lanes {
  V value, d_gate, d_up;
};

template <ActivationKind kKind>
MOESMITH_INLINE void evaluate(const ActivationSpec& spec, const V& gate, const V& up, Lanes& out) {
  V g = gate, u = up;
  VI gate_cut{}, up_cut{};
  if (spec.gate_max) {
    gate_cut = g > *spec.gate_max;
    g = gate_cut ? V{} + *spec.gate_max : g;
  }
  V value, slope;
  point<kKind>(spec.alpha, g, value, slope);
  if (spec.gate_max) slope = gate_cut ? V{} : slope;
  if (!spec.gated) {
    out = {value, slope, V{}};
    return;
  }
  if (spec.up_limit) {
    const float limit = *spec.up_limit;
    const VI above = u > limit, below = u < -limit;
    up_cut = above | below;
    u = above ? V{} + limit : u;
    u = below ? V{} - limit : u;
  }
  const V factor = u + spec.up_shift;
  out.value = value * factor;
  out.d_gate = slope * factor;
  out.d_up = spec.up_limit ? (up_cut ? V{} : value) : value;
}

template <ActivationKind kKind, class T>
void forward_kind(const ActivationSpec& spec, GateUp<const T> h, T* a, std::int64_t n) {
  for (std::int64_t i = 0; i < n; i += kLanes) {
    const std::int64_t count = n - i < kLanes ? n - i : kLanes;
    const V gate = gather(h.gate + i * h.stride, h.stride, count);
    const V up = spec.gated ? gather(h.up + i * h.stride, h.stride, count) : V{};
    Lanes at;
    evaluate<kKind>(spec, gate, up, at);
    scatter(a + i, at.value, 1, count);
  }
}

template <ActivationKind kKind, class T>
float backward_kind(const ActivationSpec& spec,
                    GateUp<const T> h,
                    const float* d_a,
                    float weight,
                    GateUp<T> d_h,
                    T* a,
                    std::int64_t n) {
  V sum{};
  for (std::int64_t i = 0; i < n; i += kLanes) {
    const std::int64_t count = n - i < kLanes ? n - i : kLanes;
    const V gate = gather(h.gate + i * h.stride, h.stride, count);
    const V up = spec.gated ? gather(h.up + i * h.stride, h.stride, count) : V{};
    const V d = gather(d_a + i, 1, count);  // 0 in the lanes past the end
    Lanes at;
    evaluate<kKind>(spec, gate, up, at);
    sum += d * as_stored(at.value, static_cast<const T*>(nullptr));
    if (a != nullptr) scatter(a + i, at.value, 1, count);
    scatter(d_h.gate + i * d_h.stride, weight * d * at.d_gate, d_h.stride, count);
    if (spec.gated) scatter(d_h.up + i * d_h.stride, weight * d * at.d_up, d_h.stride, count);
  }
  float lane[kLanes];
  store(lane, sum);
  for (std::int64_t width = kLanes / 2; width > 0; width /= 2) {
    for (std::int64_t i = 0; i < width; ++i) lane[i] += lane[i + width];
  }
  return lane[0];
}

template <class T>
void forward(const ActivationSpec& spec, GateUp<const T> h, T* a, std::int64_t n) {
  switch (spec.kind) {
    case ActivationKind::kSilu:
      return forward_kind<ActivationKind::kSilu>(spec, h, a, n);
    case ActivationKind::kGelu:
      return forward_kind<ActivationKind::kGelu>(spec, h, a, n);
    case ActivationKind::kGeluTanh:
      return forward_kind<ActivationKind::kGeluTanh>(spec, h, a, n);
    case ActivationKind::kRelu:
      return forward_kind<ActivationKind::kRelu>(spec, h, a, n);
    case ActivationKind::kRelu2:
      return forward_kind<ActivationKind::kRelu2>(spec, h, a, n);
  }
}

template <class T>
float backward(const ActivationSpec& spec,
               GateUp<const T> h,
               const float* d_a,
               float weight,
               GateUp<T> d_h,
               T* a,
               std::int64_t n) {
  switch (spec.kind) {
    case ActivationKind::kSilu:
      return backward_kind<ActivationKind::kSilu>(spec, h, d_a, weight, d_h, a, n);
    case ActivationKind::kGelu:
      return backward_kind<ActivationKind::kGelu>(spec, h, d_a, weight, d_h, a, n);
    case ActivationKind::kGeluTanh:
      return backward_kind<ActivationKind::kGeluTanh>(spec, h, d_a, weight, d_h, a, n);
    case ActivationKind::kRelu:
      return backward_kind<ActivationKind::kRelu>(spec, h, d_a, weight, d_h, a, n);
    case ActivationKind::kRelu2:
      return backward_kind<ActivationKind::kRelu2>(spec, h, d_a, weight, d_h, a, n);
  }
  return 0;
}

template <class T>
constexpr ActivationOps<T> kOps = {forward<T>, backward<T>};

}  // namespace

const ActivationOps<float>& f32_ops() { return kOps<float>; }
const ActivationOps<bf16>& bf16_ops() { return kOps<bf16>; }

#undef MOESMITH_INLINE

}  // namespace moesmith::experts::MOESMITH_ACTIVATION_NAMESPACE
