// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/common/unfused.h"

#include "cuda/launch.cuh"
#include "kernels/cuda/common/activation.cuh"
#include "kernels/cuda/common/rows.cuh"
#include "kernels/cuda/common/values.cuh"

namespace moesmith::kernels::gpu {
namespace {

constexpr int kThreads = 256;

// Eight columns of a row a thread.
struct Place {
  std::int64_t row, column;
  int count;  // of the eight, those that exist; 0: not a row
};
__device__ Place place_of_thread(const Rows& rows, std::int64_t width) {
  const std::int64_t groups = (width + 7) / 8;
  const std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const std::int64_t row = at / groups, column = at % groups * 8;
  if (row >= rows.offsets[rows.num_experts]) return {row, column, 0};
  return {row, column, static_cast<int>(min(width - column, std::int64_t{8}))};
}
std::int64_t blocks_for_rows(const Rows& rows, std::int64_t width) {
  return (rows.capacity * ((width + 7) / 8) + kThreads - 1) / kThreads;
}

template <class T>
__global__ void __launch_bounds__(kThreads) gather(Rows rows, GatherRows g) {
  const Place at = place_of_thread(rows, g.width);
  if (at.count == 0) return;
  const std::int64_t from = rows.token_of[at.row] * g.width + at.column;
  float x[8];
  if (g.from_is_f32) {
    load8(static_cast<const float*>(g.from) + from, at.count, x);
  } else {
    load8(static_cast<const bf16_t*>(g.from) + from, at.count, x);
  }
  store8(static_cast<T*>(g.to) + at.row * g.width + at.column, at.count, x);
}

template <class T>
__global__ void __launch_bounds__(kThreads) round_sums(Rows rows, RoundRows r) {
  const Place at = place_of_thread(rows, r.width);
  if (at.count == 0) return;
  const std::int64_t to = at.row * r.width + at.column;
  float x[8];
  load8(r.sums + to, at.count, x);
#pragma unroll
  for (int i = 0; i < 8; ++i) x[i] *= r.scale;
  if (r.bias != nullptr) {
    const std::int64_t bias = expert_of_row(rows, static_cast<int>(at.row)) * r.width + at.column;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (i < at.count) x[i] += load(r.bias, r.bias_is_f32, bias + i);
    }
  }
  store8(static_cast<T*>(r.out) + to, at.count, x);
  if (r.weighted == nullptr) return;
  const float weight = rows.weight_of[at.row];
#pragma unroll
  for (int i = 0; i < 8; ++i) x[i] = weight * to_float(from_float<T>(x[i]));
  store8(static_cast<T*>(r.weighted) + to, at.count, x);
}

// A warp a row, whose sum over the columns it adds in an order that the width alone decides.
template <class T>
__global__ void __launch_bounds__(kThreads) differentiate(Rows rows, ActivationGradient g) {
  const std::int64_t row = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / 32;
  const int lane = threadIdx.x % 32;
  if (row >= rows.offsets[rows.num_experts]) return;
  const bool gated = g.activation.gated, pairs = gated && g.activation.interleaved;
  const std::int64_t width = gated ? 2 * g.inter : g.inter;
  const T* h = static_cast<const T*>(g.h) + row * width;
  T* d_h = static_cast<T*>(g.d_h) + row * width;
  const float weight = rows.weight_of[row];
  float sum = 0;
  for (std::int64_t i = lane; i < g.inter; i += 32) {
    const std::int64_t gate_at = pairs ? 2 * i : i, up_at = pairs ? 2 * i + 1 : g.inter + i;
    const float gate[1] = {to_float(h[gate_at])};
    const float up[1] = {gated ? to_float(h[up_at]) : 0.0f};
    const auto points = activation_points(g.activation, gate, up);
    const float d_a = g.d_a[row * g.inter + i];
    const T a = from_float<T>(points.value[0]);
    sum = fmaf(d_a, to_float(a), sum);
    if (g.d_h != nullptr) {
      d_h[gate_at] = from_float<T>(points.d_gate[0] * weight * d_a);
      if (gated) d_h[up_at] = from_float<T>(points.d_up[0] * weight * d_a);
    }
    if (g.a != nullptr) static_cast<T*>(g.a)[row * g.inter + i] = a;
    if (g.weighted_a != nullptr) {
      static_cast<T*>(g.weighted_a)[row * g.inter + i] = from_float<T>(weight * to_float(a));
    }
  }
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
  if (lane == 0 && g.d_weights != nullptr) g.d_weights[row] = sum;
}

}  // namespace

void gather_rows(const Rows& rows, const GatherRows& g, bool f32, void* stream) {
  static cuda::Kernel<Rows, GatherRows> in_f32{"gather_rows<f32>", gather<float>};
  static cuda::Kernel<Rows, GatherRows> in_bf16{"gather_rows<bf16>", gather<bf16_t>};
  (f32 ? in_f32 : in_bf16).launch(blocks_for_rows(rows, g.width), kThreads, stream, rows, g);
}

void round_rows(const Rows& rows, const RoundRows& r, bool f32, void* stream) {
  static cuda::Kernel<Rows, RoundRows> in_f32{"round_rows<f32>", round_sums<float>};
  static cuda::Kernel<Rows, RoundRows> in_bf16{"round_rows<bf16>", round_sums<bf16_t>};
  (f32 ? in_f32 : in_bf16).launch(blocks_for_rows(rows, r.width), kThreads, stream, rows, r);
}

void activation_gradient(const Rows& rows, const ActivationGradient& g, bool f32, void* stream) {
  static cuda::Kernel<Rows, ActivationGradient> in_f32{"activation_gradient<f32>",
                                                       differentiate<float>};
  static cuda::Kernel<Rows, ActivationGradient> in_bf16{"activation_gradient<bf16>",
                                                        differentiate<bf16_t>};
  const std::int64_t blocks = (std::int64_t{rows.capacity} * 32 + kThreads - 1) / kThreads;
  (f32 ? in_f32 : in_bf16).launch(blocks, kThreads, stream, rows, g);
}

}  // namespace moesmith::kernels::gpu
