// SPDX-License-Identifier: Apache-2.0
// Body of the vectorised activation, included once per instruction set with
// MOESMITH_ACTIVATION_NAMESPACE set. GCC's vector extension, as wide as a register: wider vectors
// are taken apart into single elements where they are compared or converted.

#include <cstring>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "experts/activation/activation.h"

#pragma GCC diagnostic ignored "-Wpsabi"  // no vector crosses a call: all of these are inlined

namespace moesmith::experts::MOESMITH_ACTIVATION_NAMESPACE {
namespace {

#define MOESMITH_INLINE inline __attribute__((always_inline))

#if defined(__AVX512F__)
constexpr std::int64_t kLanes = 16;
#elif defined(__AVX2__)
constexpr std::int64_t kLanes = 8;
#else
constexpr std::int64_t kLanes = 4;
#endif
typedef float V __attribute__((vector_size(kLanes * 4)));
typedef std::int32_t VI __attribute__((vector_size(kLanes * 4)));
typedef std::uint32_t VU __attribute__((vector_size(kLanes * 4)));
typedef std::uint16_t VH __attribute__((vector_size(kLanes * 2)));

MOESMITH_INLINE void load(V& v, const float* p) { std::memcpy(&v, p, sizeof v); }
MOESMITH_INLINE void load(V& v, const bf16* p) {
  VH h;
  std::memcpy(&h, p, sizeof h);
  v = (V)(__builtin_convertvector(h, VU) << 16);
}
MOESMITH_INLINE void store(float* p, const V& v) { std::memcpy(p, &v, sizeof v); }
// Rounds to nearest even, as bf16's constructor; a NaN stays one.
#if defined(__AVX512BF16__)
// One instruction instead of nine. It makes 0 of a value below 2^-126.
MOESMITH_INLINE VH rounded(const V& v) { return (VH)_mm512_cvtneps_pbh((__m512)v); }
#elif defined(__AVX2__) && !defined(__AVX512F__)
MOESMITH_INLINE VH rounded(const V& v) {
  const __m256i u = (__m256i)v, quiet = _mm256_or_si256(u, _mm256_set1_epi32(0x400000));
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
  const __m256i nearest = _mm256_add_epi32(_mm256_add_epi32(u, odd), _mm256_set1_epi32(0x7fff));
  const __m256i nan = (__m256i)_mm256_cmp_ps((__m256)v, (__m256)v, _CMP_UNORD_Q);
  const __m256i high = _mm256_srli_epi32(_mm256_blendv_epi8(nearest, quiet, nan), 16);
  return (VH)_mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
}
#else
MOESMITH_INLINE VH rounded(const V& v) {
  const VU u = (VU)v;
  const VU nearest = u + 0x7fffu + ((u >> 16) & 1u);
  const VU is_nan = (VU)((VI)(u & 0x7fffffffu) > 0x7f800000);
  return __builtin_convertvector(((nearest & ~is_nan) | ((u | 0x400000u) & is_nan)) >> 16, VH);
}
#endif
MOESMITH_INLINE void store(bf16* p, const V& v) {
  const VH h = rounded(v);
  std::memcpy(p, &h, sizeof h);
}
// What a stored value reads back as.
MOESMITH_INLINE V as_stored(const V& v, const float*) { return v; }
MOESMITH_INLINE V as_stored(const V& v, const bf16*) {
  return (V)(__builtin_convertvector(rounded(v), VU) << 16);
}

// n <= kLanes elements at a stride; missing ones are 0.
template <class T>
MOESMITH_INLINE V gather(const T* p, std::int64_t stride, std::int64_t n) {
  V v;
  if (stride == 1 && n == kLanes) {
    load(v, p);
    return v;
  }
  T lane[kLanes] = {};
  for (std::int64_t i = 0; i < n; ++i) lane[i] = p[i * stride];
  load(v, lane);
  return v;
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

// Cephes' polynomial for exp(r), |r| <= ln2 / 2, under 2 ulp.
MOESMITH_INLINE V exp_remainder(const V& r) {
  V p = V{} + 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  return p * (r * r) + r + 1.0f;
}

// exp by 2^k * p(r). A NaN stays one.
#if defined(__AVX512F__)
// vscalefps makes 0 and infinity of what lies beyond; the lower bound keeps -inf - -inf away. The
// maskz forms silence GCC 12's false "uninitialised" in the plain ones.
MOESMITH_INLINE V exp(const V& at) {
  constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  const V x = (V)_mm512_maskz_max_ps(0xffff, (__m512)(V{} - 110.0f), (__m512)at);
  const V k = (V)_mm512_maskz_roundscale_ps(0xffff, (__m512)(x * 1.44269504088896341f), kNearest);
  const V r = (x - k * 0.693359375f) + k * 2.12194440e-4f;
  return (V)_mm512_maskz_scalef_ps(0xffff, (__m512)exp_remainder(r), (__m512)k);
}
#else
// 0 below -87.3.
MOESMITH_INLINE V exp(const V& at) {
  const VI underflow = at < -87.3f;
  V x = at > 88.3f ? V{} + 88.3f : at;
  x = underflow ? V{} - 87.3f : x;
  const V shifter = V{} + 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const V k = (x * 1.44269504088896341f + shifter) - shifter;
  const V r = (x - k * 0.693359375f) + k * 2.12194440e-4f;
  const VI scale = (__builtin_convertvector(k, VI) + 127) << 23;
  return underflow ? V{} : exp_remainder(r) * (V)scale;
}
#endif

MOESMITH_INLINE V sigmoid(const V& x) { return 1.0f / (1.0f + exp(-x)); }

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
    V cdf;
    load(cdf, lane);
    cdf = 0.5f * (1.0f + cdf);
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
