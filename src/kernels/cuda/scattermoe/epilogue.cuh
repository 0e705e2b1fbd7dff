// SPDX-License-Identifier: Apache-2.0
// What happens to finished sums, read from shared memory eight neighbours a thread. A thread keeps
// its columns and walks down the rows.
#pragma once

#include "kernels/cuda/common/activation.cuh"
#include "kernels/cuda/common/values.cuh"
#include "kernels/cuda/scattermoe/product.h"

namespace moesmith::kernels::gpu {

// Sums in shared memory: rows of kColumns + 8 floats. Where groups of four lie in a row: every
// other eight of them swapped in pairs, so that neighbouring threads' groups fall on different
// banks.
__device__ inline int staged_group(int group) { return group ^ ((group >> 3) & 1); }

__device__ inline void staged8(const float* row, int column, float (&to)[8]) {
  const int group = staged_group(column / 4);
  const float4 low = *reinterpret_cast<const float4*>(row + group * 4);
  const float4 high = *reinterpret_cast<const float4*>(row + (group ^ 1) * 4);
  to[0] = low.x, to[1] = low.y, to[2] = low.z, to[3] = low.w;
  to[4] = high.x, to[5] = high.y, to[6] = high.z, to[7] = high.w;
}

// Eight neighbours that are known to exist and to lie on 16 bytes, or any n of them.
template <bool kVector, class T>
__device__ inline void put8(T* to, int n, const float (&x)[8]) {
  if constexpr (kVector && sizeof(T) == 2) {
    alignas(16) __nv_bfloat162 pair[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) pair[i] = __floats2bfloat162_rn(x[2 * i], x[2 * i + 1]);
    *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(pair);
  } else {
    store8(to, n, x);
  }
}

// g0 u0 g1 u1 ... to gates and ups, and back.
__device__ inline void split_pairs(const float (&low)[8],
                                   const float (&high)[8],
                                   float (&gate)[8],
                                   float (&up)[8]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    gate[i] = low[2 * i], up[i] = low[2 * i + 1];
    gate[i + 4] = high[2 * i], up[i + 4] = high[2 * i + 1];
  }
}
__device__ inline void join_pairs(const float (&gate)[8],
                                  const float (&up)[8],
                                  float (&low)[8],
                                  float (&high)[8]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    low[2 * i] = gate[i], low[2 * i + 1] = up[i];
    high[2 * i] = gate[i + 4], high[2 * i + 1] = up[i + 4];
  }
}

// staged [kRows][kColumns + 8]: rows [first_row, first_row + kRows) of one expert, of which those
// from `end_row` on do not exist; columns of `column_tile`.
template <class T, int kRows, int kColumns, int kThreads>
struct Finish {
  const RowProduct& product;
  const float* staged;
  int expert, first_row, end_row, column_tile, column_tiles;

  static constexpr int kStride = kColumns + 8;
  static constexpr bool kCanVector = sizeof(T) == 2;

  __device__ void run() const {
    const Epilogue& e = product.epilogue;
    const int units = product.pairing == Pairing::kNone ? kColumns : kColumns / 2;
    bool vector = kCanVector && (column_tile + 1) * units <= product.n && product.n % 8 == 0;
    for (const void* at : {e.out, e.weighted, e.h, e.a, e.d_h, e.weighted_a}) {
      vector = vector && on_16_bytes(at);
    }
    if (vector && e.ld % 8 == 0) {
      run_as<true>();
    } else {
      run_as<false>();
    }
  }

  template <bool kVector>
  __device__ void run_as() const {
    switch (product.epilogue.kind) {
      case EpilogueKind::kStore:
        return store<kVector>();
      case EpilogueKind::kActivation:
        return product.pairing == Pairing::kNone ? activation<kVector, kColumns>()
                                                 : activation<kVector, kColumns / 2>();
      case EpilogueKind::kActivationBackward:
        return activation_backward<kVector>();
    }
  }

  // Rounded to T, as whoever reads it again will see it.
  __device__ static void round(float (&x)[8]) {
#pragma unroll
    for (int i = 0; i < 8; ++i) x[i] = to_float(from_float<T>(x[i]));
  }

  // bias[at + i * step], or 0.
  __device__ void load_bias(std::int64_t at, int step, int n, float (&to)[8]) const {
    const Epilogue& e = product.epilogue;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      to[i] = e.bias != nullptr && i < n ? load(e.bias, e.bias_is_f32, at + i * step) : 0.0f;
    }
  }

  template <bool kVector>
  __device__ void store() const {
    const Epilogue& e = product.epilogue;
    constexpr int kChunks = kColumns / 8;
    const int column = threadIdx.x % kChunks * 8;
    const int first = column_tile * kColumns + column, n = product.n - first;
    if (n <= 0) return;
    float bias[8];
    load_bias(static_cast<std::int64_t>(expert) * product.n + first, 1, n, bias);
    for (int at = threadIdx.x / kChunks; at < kRows; at += kThreads / kChunks) {
      const int row = first_row + at;
      if (row >= end_row) return;
      float x[8];
      staged8(staged + at * kStride, column, x);
#pragma unroll
      for (int i = 0; i < 8; ++i) x[i] = fmaf(x[i], e.scale, bias[i]);
      const std::int64_t to = row * e.ld + first;
      if (e.out != nullptr) put8<kVector>(static_cast<T*>(e.out) + to, n, x);
      if (e.weighted == nullptr) continue;
      round(x);
      const float weight = e.weight_of[row];
#pragma unroll
      for (int i = 0; i < 8; ++i) x[i] *= weight;
      put8<kVector>(static_cast<T*>(e.weighted) + to, n, x);
    }
  }

  template <bool kVector>
  __device__ void store_h(
      T* row, int first, int n, const float (&gate)[8], const float (&up)[8]) const {
    const Activation& act = product.epilogue.activation;
    if (!act.gated) return put8<kVector>(row + first, n, gate);
    if (!act.interleaved) {
      put8<kVector>(row + first, n, gate);
      return put8<kVector>(row + product.n + first, n, up);
    }
    float low[8], high[8];
    join_pairs(gate, up, low, high);
    put8<kVector>(row + 2 * first, 2 * n, low);
    if (n > 4) put8<kVector>(row + 2 * first + 8, 2 * n - 8, high);
  }

  __device__ void staged_pair(const float* row,
                              int column,
                              float (&gate)[8],
                              float (&up)[8]) const {
    if (product.pairing == Pairing::kAdjacent) {
      float low[8], high[8];
      staged8(row, 2 * column, low);
      staged8(row, 2 * column + 8, high);
      return split_pairs(low, high, gate, up);
    }
    staged8(row, column, gate);
    if (product.pairing == Pairing::kHalves) staged8(row, column + kColumns / 2, up);
  }

  template <bool kVector, int kUnits>
  __device__ void activation() const {
    const Epilogue& e = product.epilogue;
    const Activation& act = e.activation;
    constexpr int kChunks = kUnits / 8;
    const int column = threadIdx.x % kChunks * 8;
    const int first = column_tile * kUnits + column, n = product.n - first;
    if (n <= 0) return;
    float gate_bias[8], up_bias[8];
    const std::int64_t bias = expert * e.width;
    const int step = act.gated && act.interleaved ? 2 : 1;
    load_bias(bias + step * first, step, n, gate_bias);
    load_bias(bias + (step == 2 ? 2 * first + 1 : product.n + first), step, act.gated ? n : 0,
              up_bias);
    for (int at = threadIdx.x / kChunks; at < kRows; at += kThreads / kChunks) {
      const std::int64_t row = first_row + at;
      if (row >= end_row) return;
      float gate[8], up[8] = {};
      staged_pair(staged + at * kStride, column, gate, up);
#pragma unroll
      for (int i = 0; i < 8; ++i) gate[i] += gate_bias[i], up[i] += up_bias[i];
      round(gate), round(up);
      if (e.h != nullptr) {
        store_h<kVector>(static_cast<T*>(e.h) + row * e.width, first, n, gate, up);
      }
      if (e.a == nullptr) continue;
      put8<kVector>(static_cast<T*>(e.a) + row * product.n + first, n,
                    activation_points(act, gate, up).value);
    }
  }

  template <bool kVector>
  __device__ void activation_backward() const {
    const Epilogue& e = product.epilogue;
    constexpr int kChunks = kColumns / 8;  // neighbouring threads that share a row
    constexpr int kStep = kThreads / kChunks;
    // Rows whose h is fetched at once: one at a time, each would wait for memory.
    constexpr int kBatch = kVector && kRows / kStep % 4 == 0 ? 4 : 1;
    static_assert(kRows % kStep == 0 && 32 % kChunks == 0);
    const int column = threadIdx.x % kChunks * 8;
    const int first = column_tile * kColumns + column, n = product.n - first;
    for (int begin = threadIdx.x / kChunks; begin < kRows; begin += kStep * kBatch) {
      Fetched<kVector> h[kBatch];
      float weight[kBatch];
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const int row = first_row + begin + i * kStep;
        if (row >= end_row || n <= 0) continue;
        h[i].fetch(*this, row, first, n);
        weight[i] = e.weight_of[row];
      }
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const int at = begin + i * kStep, row = first_row + at;
        const bool inside = row < end_row && n > 0;
        float part = 0;
        if (inside) part = backward8<kVector>(row, at, column, first, n, h[i], weight[i]);
        if (e.d_weight_parts == nullptr) continue;
#pragma unroll
        for (int step = kChunks / 2; step > 0; step /= 2) {
          part += __shfl_xor_sync(0xffffffffu, part, step);
        }
        if (inside && column == 0) {
          e.d_weight_parts[static_cast<std::int64_t>(row) * column_tiles + column_tile] = part;
        }
      }
    }
  }

  // Gates and ups, each eight, of a row of h from column `first` of a; as they lie in memory.
  template <bool kVector>
  struct Fetched {
    uint4 low, high;  // vector
    float x[kVector ? 1 : 8], y[kVector ? 1 : 8];

    __device__ void fetch(const Finish& f, std::int64_t row, int first, int n) {
      const Activation& act = f.product.epilogue.activation;
      const T* from = static_cast<const T*>(f.product.epilogue.h) + row * f.product.epilogue.width +
                      (act.interleaved ? 2 * first : first);
      const std::int64_t second = act.interleaved ? 8 : f.product.n;
      if constexpr (kVector) {
        low = *reinterpret_cast<const uint4*>(from);
        if (act.gated) high = *reinterpret_cast<const uint4*>(from + second);
      } else {
        load8(from, act.interleaved ? 2 * n : n, x);
        load8(from + second, !act.gated ? 0 : act.interleaved ? 2 * n - 8 : n, y);
      }
    }
    __device__ static void widen(const uint4& words, float (&to)[8]) {
      const std::uint32_t word[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        to[2 * i] = __uint_as_float(word[i] << 16);
        to[2 * i + 1] = __uint_as_float(word[i] & 0xffff0000u);
      }
    }
    __device__ void values(const Activation& act, float (&gate)[8], float (&up)[8]) const {
      float first[8], second[8];
      if constexpr (kVector) {
        widen(low, first), widen(high, second);
      } else {
#pragma unroll
        for (int i = 0; i < 8; ++i) first[i] = x[i], second[i] = y[i];
      }
      if (act.interleaved) return split_pairs(first, second, gate, up);
#pragma unroll
      for (int i = 0; i < 8; ++i) gate[i] = first[i], up[i] = act.gated ? second[i] : 0.0f;
    }
  };

  // Returns the sum of dA' a.
  template <bool kVector>
  __device__ float backward8(int row,
                             int at,
                             int column,
                             int first,
                             int n,
                             const Fetched<kVector>& h,
                             float weight) const {
    const Epilogue& e = product.epilogue;
    float d_a[8], gate[8], up[8], d_gate[8], d_up[8];
    staged8(staged + at * kStride, column, d_a);
    h.values(e.activation, gate, up);
    ActivationPoints<8> points = activation_points(e.activation, gate, up);
    float(&a)[8] = points.value;
    round(a);
    float part = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      part += kVector || i < n ? d_a[i] * a[i] : 0.0f;
      d_gate[i] = points.d_gate[i] * (weight * d_a[i]);
      d_up[i] = points.d_up[i] * (weight * d_a[i]);
    }
    if (e.d_h != nullptr) {
      store_h<kVector>(static_cast<T*>(e.d_h) + row * e.width, first, n, d_gate, d_up);
    }
    const std::int64_t to = static_cast<std::int64_t>(row) * product.n + first;
    if (e.a != nullptr) put8<kVector>(static_cast<T*>(e.a) + to, n, a);
    if (e.weighted_a != nullptr) {
#pragma unroll
      for (int i = 0; i < 8; ++i) a[i] *= weight;
      put8<kVector>(static_cast<T*>(e.weighted_a) + to, n, a);
    }
    return part;
  }
};

// A tile of a gradient: out[row0 + ..., column0 + ...] of an [m, n] matrix.
template <int kRows, int kColumns, int kThreads>
__device__ inline void finish_sum(
    const RowSum& sum, const float* staged, std::int64_t matrix, int row0, int column0) {
  constexpr int kChunks = kColumns / 8;
  const int column = threadIdx.x % kChunks * 8, first = column0 + column, n = sum.n - first;
  if (n <= 0) return;
  for (int at = threadIdx.x / kChunks; at < kRows; at += kThreads / kChunks) {
    const int row = row0 + at;
    if (row >= sum.m) return;
    float x[8];
    staged8(staged + at * (kColumns + 8), column, x);
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
