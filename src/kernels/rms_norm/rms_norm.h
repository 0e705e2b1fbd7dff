// SPDX-License-Identifier: Apache-2.0
// y = x / sqrt(mean(x^2) + eps) * w over each row, with f32 arithmetic inside. A row may be a whole
// hidden state or one attention head.
#pragma once

#include <cstdint>

#include "core/thread_pool.h"
#include "moesmith/dtype.h"

namespace moesmith::kernels::rms_norm {

// T is float or bf16. A token's `heads` rows of `dim` elements lie one after the other; tokens are
// `stride` elements apart. rstd is dense, [num_tokens, heads].
template <class T>
struct Args {
  std::int64_t num_tokens = 0, heads = 1, dim = 0;
  std::int64_t x_stride = 0, y_stride = 0;
  const T* x = nullptr;
  const T* weight = nullptr;  // [dim]
  float eps = 0;
  T* y = nullptr;  // may be x
  float* rstd = nullptr;
};

template <class T>
void forward(const Args<T>& args, ThreadPool& pool);

template <class T>
struct BackwardArgs {
  std::int64_t num_tokens = 0, heads = 1, dim = 0;
  std::int64_t x_stride = 0, dy_stride = 0, dx_stride = 0;
  const T* x = nullptr;
  const T* weight = nullptr;
  const float* rstd = nullptr;
  const float* dy = nullptr;
  const T* add = nullptr;            // added to dx, laid out as dx; nullptr for none. May be dx
  T* dx = nullptr;                   // overwritten
  float* d_weight = nullptr;         // [dim], added to; nullptr when not wanted
  float* partial_scratch = nullptr;  // partial_floats() when d_weight is wanted
};

// Scratch floats for d_weight of that many rows.
std::int64_t partial_floats(std::int64_t num_tokens, std::int64_t dim);

template <class T>
void backward(const BackwardArgs<T>& args, ThreadPool& pool);

}  // namespace moesmith::kernels::rms_norm
