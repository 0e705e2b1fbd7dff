// SPDX-License-Identifier: Apache-2.0
// Primitives over one row of n elements, vectorised per instruction set: what norms, softmax, rope,
// activations and casts are made of. Sums are f32 and in a fixed order for an instruction set.
#pragma once

#include <cstdint>

#include "moesmith/dtype.h"

namespace moesmith::kernels::rows {

// T is float or bf16. No output may overlap an input unless it is the same pointer.
template <class T>
struct Ops {
  float (*sum_squares)(const T* x, std::int64_t n);
  // sum of a[i] * b[i]
  float (*dot)(const T* a, const T* b, std::int64_t n);
  // y = x * scale * w
  void (*scale_by)(T* y, const T* x, const T* w, float scale, std::int64_t n);
  // sum of dy[i] * w[i] * x[i]
  float (*dot3)(const float* dy, const T* w, const T* x, std::int64_t n);
  // out = (add ? add : 0) + rstd * (dy * w - x * c)
  void (*norm_backward)(T* out,
                        const T* add,
                        const float* dy,
                        const T* w,
                        const T* x,
                        float rstd,
                        float c,
                        std::int64_t n);
  // dw += dy * x * rstd
  void (*norm_weight_grad)(float* dw, const float* dy, const T* x, float rstd, std::int64_t n);
  // y = a + b
  void (*add)(T* y, const T* a, const T* b, std::int64_t n);
  // y += scale * x
  void (*axpy)(float* y, const T* x, float scale, std::int64_t n);
  // y = scale * x
  void (*from_f32)(T* y, const float* x, float scale, std::int64_t n);
  void (*to_f32)(float* y, const T* x, float scale, std::int64_t n);
  // to[c * to_stride + r] = from[r * from_stride + c], r < num_rows, c < num_columns
  void (*turn)(float* to,
               std::int64_t to_stride,
               const T* from,
               std::int64_t from_stride,
               std::int64_t num_rows,
               std::int64_t num_columns);
  // y = x, past the caches where y and n are whole lines: for what is read again only after much
  // else. To be followed by fence().
  void (*stream)(T* y, const float* x, std::int64_t n);
  // The largest, or -inf of none
  float (*max)(const float* x, std::int64_t n);
  // y = exp(scale * x - shift); returns the sum of the unrounded values
  float (*exp_shift)(T* y, const float* x, float scale, float shift, std::int64_t n);
  // p = exp(scale * s - lse), ds = scale * p * (dp - delta), each element with its own lse and
  // delta
  void (*softmax_backward)(T* p,
                           T* ds,
                           const float* s,
                           const float* dp,
                           float scale,
                           const float* lse,
                           const float* delta,
                           std::int64_t n);
  // Rotates the pairs (x[i], x[i + half]) by the angle whose cosine and sine are given; sign = -1
  // rotates back.
  void (*rotate)(
      T* y, const T* x, const float* cosine, const float* sine, float sign, std::int64_t half);
  // y = scale * x where u >= p, else 0; and the same added to y
  void (*keep)(T* y, const T* x, const float* u, float p, float scale, std::int64_t n);
  void (*add_kept)(T* y, const float* x, const float* u, float p, float scale, std::int64_t n);
  // y = silu(gate) * up
  void (*silu_mul)(T* y, const T* gate, const T* up, std::int64_t n);
  // d_gate, d_up of y = silu(gate) * up
  void (*silu_mul_backward)(
      T* d_gate, T* d_up, const T* gate, const T* up, const T* dy, std::int64_t n);
};

// Makes what stream() wrote visible before what this thread writes next.
void fence();

// The table of active_isa().
template <class T>
const Ops<T>& ops();
template <>
const Ops<float>& ops<float>();
template <>
const Ops<bf16>& ops<bf16>();

}  // namespace moesmith::kernels::rows
