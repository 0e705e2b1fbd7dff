// SPDX-License-Identifier: Apache-2.0
// AdamW with 16 lanes; a tail is masked. The maskz forms silence GCC 12's false "uninitialised" in
// the plain ones.
#include <immintrin.h>

#include "kernels/adamw/adamw.h"

namespace moesmith::kernels::adamw::avx512 {
namespace {

constexpr std::int64_t kLanes = 16;

struct Vectors {
  explicit Vectors(const Coefficients& c)
      : grad_scale(_mm512_set1_ps(c.grad_scale)),
        decay(_mm512_set1_ps(c.decay)),
        one_minus_beta1(_mm512_set1_ps(c.one_minus_beta1)),
        beta2(_mm512_set1_ps(c.beta2)),
        one_minus_beta2(_mm512_set1_ps(c.one_minus_beta2)),
        step_size(_mm512_set1_ps(c.step_size)),
        bias_sqrt(_mm512_set1_ps(c.bias_sqrt)),
        epsilon(_mm512_set1_ps(c.epsilon)) {}
  __m512 grad_scale, decay, one_minus_beta1, beta2, one_minus_beta2, step_size, bias_sqrt, epsilon;
};

void update_lanes(const Args& a, std::int64_t i, __mmask16 mask, const Vectors& c) {
  const __m512 g = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, a.grad + i), c.grad_scale);
  __m512 m = _mm512_maskz_loadu_ps(mask, a.exp_avg + i);
  m = _mm512_fmadd_ps(c.one_minus_beta1, _mm512_sub_ps(g, m), m);
  const __m512 v =
      _mm512_fmadd_ps(_mm512_mul_ps(c.one_minus_beta2, g), g,
                      _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, a.exp_avg_sq + i), c.beta2));
  const __m512 denominator =
      _mm512_add_ps(_mm512_div_ps(_mm512_maskz_sqrt_ps(mask, v), c.bias_sqrt), c.epsilon);
  const __m512 change = _mm512_div_ps(_mm512_mul_ps(c.step_size, m), denominator);
  const __m512 param = _mm512_fmsub_ps(_mm512_maskz_loadu_ps(mask, a.param + i), c.decay, change);
  _mm512_mask_storeu_ps(a.exp_avg + i, mask, m);
  _mm512_mask_storeu_ps(a.exp_avg_sq + i, mask, v);
  _mm512_mask_storeu_ps(a.param + i, mask, param);
}

}  // namespace

void update(const Args& a, const Coefficients& coefficients) {
  const Vectors c(coefficients);
  std::int64_t i = 0;
  for (; i + kLanes <= a.count; i += kLanes) update_lanes(a, i, 0xffff, c);
  const int tail = static_cast<int>(a.count - i);
  if (tail > 0) update_lanes(a, i, static_cast<__mmask16>((1u << tail) - 1u), c);
}

double sum_of_squares(const float* values, std::int64_t count) {
  __m512d low = _mm512_setzero_pd(), high = _mm512_setzero_pd();
  std::int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const __m512d a = _mm512_maskz_cvtps_pd(0xff, _mm256_loadu_ps(values + i));
    const __m512d b = _mm512_maskz_cvtps_pd(0xff, _mm256_loadu_ps(values + i + 8));
    low = _mm512_fmadd_pd(a, a, low);
    high = _mm512_fmadd_pd(b, b, high);
  }
  double lanes[16];
  _mm512_storeu_pd(lanes, low);
  _mm512_storeu_pd(lanes + 8, high);
  for (; i < count; ++i) {
    const double x = values[i];
    lanes[i % 16] += x * x;
  }
  double total = 0.0;
  for (const double lane : lanes) total += lane;
  return total;
}

}  // namespace moesmith::kernels::adamw::avx512
