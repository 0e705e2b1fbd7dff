// SPDX-License-Identifier: Apache-2.0
// One AdamW step over a flat f32 tensor, and the sum of squares behind gradient clipping. The
// formula and its order of operations: README.md beside this file.
#pragma once

#include <cstdint>
#include <span>

#include "core/cpu_features.h"
#include "core/thread_pool.h"

namespace moesmith::kernels::adamw {

struct Hyper {
  double lr = 1e-3;
  double beta1 = 0.9, beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.0;
};

// What the kernel multiplies with; worked out in double, once per step.
struct Coefficients {
  float grad_scale = 1.0f;  // clipping
  float decay = 1.0f;       // 1 - lr * weight_decay
  float one_minus_beta1 = 0.0f;
  float beta2 = 0.0f, one_minus_beta2 = 0.0f;
  float step_size = 0.0f;  // lr / (1 - beta1^step)
  float bias_sqrt = 1.0f;  // sqrt(1 - beta2^step)
  float epsilon = 0.0f;
};

// step counts from 1.
Coefficients coefficients(const Hyper& hyper, std::int64_t step, double grad_scale);

struct Args {
  float* param = nullptr;       // [count], updated
  float* exp_avg = nullptr;     // [count], updated
  float* exp_avg_sq = nullptr;  // [count], updated
  const float* grad = nullptr;  // [count]
  std::int64_t count = 0;
};

// Elements added up before a partial sum is handed on; part of the result, not of its speed.
inline constexpr std::int64_t kNormChunk = 16384;

struct Impl {
  const char* name;
  IsaLevel needs;
  void (*update)(const Args&, const Coefficients&);
  double (*sum_of_squares)(const float* values, std::int64_t count);  // count <= kNormChunk
};

// Best first; those that this processor cannot run are in it too.
std::span<const Impl> impls();
// The first that active_isa() allows.
const Impl& select();

void run(const Args& args, const Coefficients& coefficients, ThreadPool& pool);
double sum_of_squares(const float* values, std::int64_t count, ThreadPool& pool);

namespace avx2 {
void update(const Args&, const Coefficients&);
double sum_of_squares(const float*, std::int64_t);
}  // namespace avx2
namespace avx512 {
void update(const Args&, const Coefficients&);
double sum_of_squares(const float*, std::int64_t);
}  // namespace avx512

}  // namespace moesmith::kernels::adamw
