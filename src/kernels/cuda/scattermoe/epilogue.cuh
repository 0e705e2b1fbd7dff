// SPDX-License-Identifier: Apache-2.0
// What happens to finished sums, read from shared memory eight neighbours a thread.
#pragma once

#include "kernels/cuda/common/activation.cuh"
#include "kernels/cuda/common/values.cuh"
#include "kernels/cuda/scattermoe/product.h"

namespace moesmith::kernels::gpu {

// staged [kRows][kColumns + 8]: rows [first_row, first_row + kRows) of one expert, of which those
// from `end_row` on do not exist; columns of `column_tile`.
template <class T, int kRows, int kColumns, int kThreads>
struct Finish {
  const RowProduct& product;
  const float* staged;
  int expert, first_row, end_row, column_tile, column_tiles;

  static constexpr int kStride = kColumns + 8;

  __device__ void run() const {
    switch (product.epilogue.kind) {
      case EpilogueKind::kStore:
        return store();
      case EpilogueKind::kActivation:
        return activation();
      case EpilogueKind::kActivationBackward:
        return activation_backward();
    }
  }

  // Rounded to T, as whoever reads it again will see it.
  __device__ static void round(float (&x)[8]) {
#pragma unroll
    for (int i = 0; i < 8; ++i) x[i] = to_float(from_float<T>(x[i]));
  }

  __device__ void staged8(int row, int column, float (&to)[8]) const {
    const float4* from = reinterpret_cast<const float4*>(staged + row * kStride + column);
    const float4 low = from[0], high = from[1];
    to[0] = low.x, to[1] = low.y, to[2] = low.z, to[3] = low.w;
    to[4] = high.x, to[5] = high.y, to[6] = high.z, to[7] = high.w;
  }

  __device__ void add_bias(float (&x)[8], std::int64_t at, int step, int n) const {
    const Epilogue& e = product.epilogue;
    if (e.bias == nullptr) return;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (i < n) x[i] += load(e.bias, e.bias_is_f32, at + i * step);
    }
  }

  __device__ void store() const {
    const Epilogue& e = product.epilogue;
    for (int at = threadIdx.x; at < kRows * (kColumns / 8); at += kThreads) {
      const int row = first_row + at / (kColumns / 8), column = at % (kColumns / 8) * 8;
      const int first = column_tile * kColumns + column, n = product.n - first;
      if (row >= end_row || n <= 0) continue;
      float x[8];
      staged8(at / (kColumns / 8), column, x);
#pragma unroll
      for (int i = 0; i < 8; ++i) x[i] *= e.scale;
      add_bias(x, static_cast<std::int64_t>(expert) * product.n + first, 1, n);
      const std::int64_t to = row * e.ld + first;
      if (e.out != nullptr) store8(static_cast<T*>(e.out) + to, n, x);
      if (e.weighted == nullptr) continue;
      round(x);
      const float weight = e.weight_of[row];
#pragma unroll
      for (int i = 0; i < 8; ++i) x[i] *= weight;
      store8(static_cast<T*>(e.weighted) + to, n, x);
    }
  }

  // Gates and ups, each eight, of a row of h from column `first` of a.
  __device__ void load_h(const T* row, int first, int n, float (&gate)[8], float (&up)[8]) const {
    const Activation& act = product.epilogue.activation;
    if (!act.gated) return load8(row + first, n, gate);
    if (!act.interleaved) {
      load8(row + first, n, gate);
      return load8(row + product.n + first, n, up);
    }
    float low[8], high[8];
    load8(row + 2 * first, 2 * n, low);
    load8(row + 2 * first + 8, 2 * n - 8, high);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      gate[i] = low[2 * i], up[i] = low[2 * i + 1];
      gate[i + 4] = high[2 * i], up[i + 4] = high[2 * i + 1];
    }
  }

  __device__ void store_h(
      T* row, int first, int n, const float (&gate)[8], const float (&up)[8]) const {
    const Activation& act = product.epilogue.activation;
    if (!act.gated) return store8(row + first, n, gate);
    if (!act.interleaved) {
      store8(row + first, n, gate);
      return store8(row + product.n + first, n, up);
    }
    float low[8], high[8];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      low[2 * i] = gate[i], low[2 * i + 1] = up[i];
      high[2 * i] = gate[i + 4], high[2 * i + 1] = up[i + 4];
    }
    store8(row + 2 * first, 2 * n, low);
    if (n > 4) store8(row + 2 * first + 8, 2 * n - 8, high);
  }

  __device__ void staged_pair(int row, int column, float (&gate)[8], float (&up)[8]) const {
    switch (product.pairing) {
      case Pairing::kNone:
        return staged8(row, column, gate);
      case Pairing::kHalves:
        staged8(row, column, gate);
        return staged8(row, column + kColumns / 2, up);
      case Pairing::kAdjacent: {
        float low[8], high[8];
        staged8(row, 2 * column, low);
        staged8(row, 2 * column + 8, high);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          gate[i] = low[2 * i], up[i] = low[2 * i + 1];
          gate[i + 4] = high[2 * i], up[i + 4] = high[2 * i + 1];
        }
      }
    }
  }

  __device__ void activation() const {
    const Epilogue& e = product.epilogue;
    const Activation& act = e.activation;
    const int units = product.pairing == Pairing::kNone ? kColumns : kColumns / 2;
    for (int at = threadIdx.x; at < kRows * (units / 8); at += kThreads) {
      const int row = first_row + at / (units / 8), column = at % (units / 8) * 8;
      const int first = column_tile * units + column, n = product.n - first;
      if (row >= end_row || n <= 0) continue;
      float gate[8] = {}, up[8] = {};
      staged_pair(at / (units / 8), column, gate, up);
      const std::int64_t bias = expert * e.width;
      const int step = act.gated && act.interleaved ? 2 : 1;
      add_bias(gate, bias + step * first, step, n);
      if (act.gated) add_bias(up, bias + (step == 2 ? 2 * first + 1 : product.n + first), step, n);
      round(gate), round(up);
      if (e.h != nullptr) store_h(static_cast<T*>(e.h) + row * e.width, first, n, gate, up);
      if (e.a == nullptr) continue;
      float a[8];
#pragma unroll
      for (int i = 0; i < 8; ++i) a[i] = activation_point(act, gate[i], up[i]).value;
      store8(static_cast<T*>(e.a) + static_cast<std::int64_t>(row) * product.n + first, n, a);
    }
  }

  __device__ void activation_backward() const {
    const Epilogue& e = product.epilogue;
    constexpr int kLanes = kColumns / 8;  // neighbouring threads that share a row
    static_assert(kRows * kLanes % kThreads == 0 && 32 % kLanes == 0);
    for (int at = threadIdx.x; at < kRows * kLanes; at += kThreads) {
      const int row = first_row + at / kLanes, column = at % kLanes * 8;
      const int first = column_tile * kColumns + column, n = product.n - first;
      float part = 0;
      if (row < end_row && n > 0) part = backward8(row, at / kLanes, column, first, n);
      if (e.d_weight_parts == nullptr) continue;
#pragma unroll
      for (int step = kLanes / 2; step > 0; step /= 2) {
        part += __shfl_xor_sync(0xffffffffu, part, step);
      }
      if (row < end_row && column == 0) {
        e.d_weight_parts[static_cast<std::int64_t>(row) * column_tiles + column_tile] = part;
      }
    }
  }

  // Returns the sum of dA' a.
  __device__ float backward8(int row, int staged_row, int column, int first, int n) const {
    const Epilogue& e = product.epilogue;
    float d_a[8], gate[8] = {}, up[8] = {}, a[8], d_gate[8], d_up[8];
    staged8(staged_row, column, d_a);
    load_h(static_cast<const T*>(e.h) + row * e.width, first, n, gate, up);
    const float weight = e.weight_of[row];
    float part = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const ActivationPoint point = activation_point(e.activation, gate[i], up[i]);
      a[i] = point.value;
      d_gate[i] = point.d_gate * (weight * d_a[i]);
      d_up[i] = point.d_up * (weight * d_a[i]);
    }
    round(a);
#pragma unroll
    for (int i = 0; i < 8; ++i) part += i < n ? d_a[i] * a[i] : 0.0f;
    if (e.d_h != nullptr) store_h(static_cast<T*>(e.d_h) + row * e.width, first, n, d_gate, d_up);
    const std::int64_t to = static_cast<std::int64_t>(row) * product.n + first;
    if (e.a != nullptr) store8(static_cast<T*>(e.a) + to, n, a);
    if (e.weighted_a != nullptr) {
#pragma unroll
      for (int i = 0; i < 8; ++i) a[i] *= weight;
      store8(static_cast<T*>(e.weighted_a) + to, n, a);
    }
    return part;
  }
};

// A tile of a gradient: out[row0 + ..., column0 + ...] of an [m, n] matrix.
template <int kRows, int kColumns, int kThreads>
__device__ inline void finish_sum(
    const RowSum& sum, const float* staged, std::int64_t matrix, int row0, int column0) {
  for (int at = threadIdx.x; at < kRows * (kColumns / 8); at += kThreads) {
    const int row = row0 + at / (kColumns / 8), first = column0 + at % (kColumns / 8) * 8;
    const int n = sum.n - first;
    if (row >= sum.m || n <= 0) continue;
    const float* from = staged + at / (kColumns / 8) * (kColumns + 8) + at % (kColumns / 8) * 8;
    float x[8];
    load8(from, 8, x);
    const std::int64_t to = (matrix * sum.m + row) * sum.n + first;
    const auto put = [&](auto* target) {
      if (sum.accumulate) {
        float before[8];
        load8(target, n, before);
#pragma unroll
        for (int i = 0; i < 8; ++i) x[i] += before[i];
      }
      store8(target, n, x);
    };
    if (sum.out_is_f32) {
      put(static_cast<float*>(sum.out) + to);
    } else {
      put(static_cast<bf16_t*>(sum.out) + to);
    }
  }
}

}  // namespace moesmith::kernels::gpu
