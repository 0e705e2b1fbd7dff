// SPDX-License-Identifier: Apache-2.0
// AdamW with 8 lanes. A tail goes through a padded copy, so that its elements see the same
// operations as all others.
#include <immintrin.h>

#include <cstring>

#include "kernels/adamw/adamw.h"

namespace moesmith::kernels::adamw::avx2 {
namespace {

constexpr std::int64_t kLanes = 8;

struct Vectors {
  explicit Vectors(const Coefficients& c)
      : grad_scale(_mm256_set1_ps(c.grad_scale)),
        decay(_mm256_set1_ps(c.decay)),
        one_minus_beta1(_mm256_set1_ps(c.one_minus_beta1)),
        beta2(_mm256_set1_ps(c.beta2)),
        one_minus_beta2(_mm256_set1_ps(c.one_minus_beta2)),
        step_size(_mm256_set1_ps(c.step_size)),
        bias_sqrt(_mm256_set1_ps(c.bias_sqrt)),
        epsilon(_mm256_set1_ps(c.epsilon)) {}
  __m256 grad_scale, decay, one_minus_beta1, beta2, one_minus_beta2, step_size, bias_sqrt, epsilon;
};

void update_lanes(
    float* param, float* exp_avg, float* exp_avg_sq, const float* grad, const Vectors& c) {
  const __m256 g = _mm256_mul_ps(_mm256_loadu_ps(grad), c.grad_scale);
  __m256 m = _mm256_loadu_ps(exp_avg);
  m = _mm256_fmadd_ps(c.one_minus_beta1, _mm256_sub_ps(g, m), m);
  const __m256 v = _mm256_fmadd_ps(_mm256_mul_ps(c.one_minus_beta2, g), g,
                                   _mm256_mul_ps(_mm256_loadu_ps(exp_avg_sq), c.beta2));
  const __m256 denominator =
      _mm256_add_ps(_mm256_div_ps(_mm256_sqrt_ps(v), c.bias_sqrt), c.epsilon);
  const __m256 change = _mm256_div_ps(_mm256_mul_ps(c.step_size, m), denominator);
  _mm256_storeu_ps(exp_avg, m);
  _mm256_storeu_ps(exp_avg_sq, v);
  _mm256_storeu_ps(param, _mm256_fmsub_ps(_mm256_loadu_ps(param), c.decay, change));
}

}  // namespace

void update(const Args& a, const Coefficients& coefficients) {
  const Vectors c(coefficients);
  std::int64_t i = 0;
  for (; i + kLanes <= a.count; i += kLanes) {
    update_lanes(a.param + i, a.exp_avg + i, a.exp_avg_sq + i, a.grad + i, c);
  }
  if (i == a.count) return;
  const std::size_t bytes = static_cast<std::size_t>(a.count - i) * sizeof(float);
  float param[kLanes] = {}, exp_avg[kLanes] = {}, exp_avg_sq[kLanes] = {}, grad[kLanes] = {};
  std::memcpy(param, a.param + i, bytes);
  std::memcpy(exp_avg, a.exp_avg + i, bytes);
  std::memcpy(exp_avg_sq, a.exp_avg_sq + i, bytes);
  std::memcpy(grad, a.grad + i, bytes);
  update_lanes(param, exp_avg, exp_avg_sq, grad, c);
  std::memcpy(a.param + i, param, bytes);
  std::memcpy(a.exp_avg + i, exp_avg, bytes);
  std::memcpy(a.exp_avg_sq + i, exp_avg_sq, bytes);
}

double sum_of_squares(const float* values, std::int64_t count) {
  __m256d sums[4] = {};
  std::int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    for (int part = 0; part < 4; ++part) {
      const __m256d x = _mm256_cvtps_pd(_mm_loadu_ps(values + i + 4 * part));
      sums[part] = _mm256_fmadd_pd(x, x, sums[part]);
    }
  }
  double lanes[16];
  for (int part = 0; part < 4; ++part) _mm256_storeu_pd(lanes + 4 * part, sums[part]);
  for (; i < count; ++i) {
    const double x = values[i];
    lanes[i % 16] += x * x;
  }
  double total = 0.0;
  for (const double lane : lanes) total += lane;
  return total;
}

}  // namespace moesmith::kernels::adamw::avx2
