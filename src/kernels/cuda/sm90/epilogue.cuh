// SPDX-License-Identifier: Apache-2.0
// What becomes of a tile's sums: stored as they are (down, dX), through the activation (up), or
// through its gradient (dA'). A thread holds two rows and, in each 8 columns, two neighbours; four
// lanes (a quad) exchange theirs so that each stores 16 bytes and together 64.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/cuda/sm90/activation.cuh"
#include "kernels/cuda/sm90/gemm.cuh"

namespace moesmith::kernels::sm90 {

// Lane q of a quad gives word j of its four to lane j, and gets word q of every lane, in order.
__device__ __forceinline__ uint4 quad_transpose(const std::uint32_t (&w)[4], int q) {
  const bool odd = q & 1, high = q & 2;
  const std::uint32_t r0 = __shfl_xor_sync(~0u, odd ? w[0] : w[1], 1);
  const std::uint32_t r1 = __shfl_xor_sync(~0u, odd ? w[2] : w[3], 1);
  const std::uint32_t a0 = odd ? r0 : w[0], a1 = odd ? w[1] : r0;  // word q & 1 of two lanes
  const std::uint32_t b0 = odd ? r1 : w[2], b1 = odd ? w[3] : r1;  // word 2 + (q & 1) of them
  const std::uint32_t s0 = __shfl_xor_sync(~0u, high ? a0 : b0, 2);
  const std::uint32_t s1 = __shfl_xor_sync(~0u, high ? a1 : b1, 2);
  return high ? make_uint4(s0, s1, b0, b1) : make_uint4(a0, a1, s0, s1);
}

// Four words of a row, columns 8 j + 2 q of 32 from `column`; `transposed` is their exchange.
// Whole groups of 32 are stored by 16 bytes in natural order, the last incomplete one by words.
template <bool kStreaming>
__device__ __forceinline__ void store_natural(
    __nv_bfloat16* row, int column, int cols, int q, const std::uint32_t (&w)[4], bool exists) {
  const uint4 transposed = quad_transpose(w, q);
  if (exists && column + 8 * q < cols) {
    auto* to = reinterpret_cast<uint4*>(row + column + 8 * q);
    if constexpr (kStreaming) {
      __stcs(to, transposed);
    } else {
      *to = transposed;
    }
  }
}

// As above in h's private order.
__device__ __forceinline__ void store_private(
    __nv_bfloat16* row, int column, int cols, int q, const std::uint32_t (&w)[4]) {
  if (column + 32 <= cols) {
    __stcs(reinterpret_cast<uint4*>(row + column + 8 * q), make_uint4(w[0], w[1], w[2], w[3]));
    return;
  }
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    if (column + 8 * j < cols)
      *reinterpret_cast<std::uint32_t*>(row + column + 8 * j + 2 * q) = w[j];
  }
}
__device__ __forceinline__ void load_private(
    const __nv_bfloat16* row, int column, int cols, int q, std::uint32_t (&w)[4]) {
  if (column + 32 <= cols) {
    const uint4 v = __ldcs(reinterpret_cast<const uint4*>(row + column + 8 * q));
    w[0] = v.x, w[1] = v.y, w[2] = v.z, w[3] = v.w;
    return;
  }
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    w[j] = column + 8 * j < cols
               ? *reinterpret_cast<const std::uint32_t*>(row + column + 8 * j + 2 * q)
               : 0;
  }
}

// out [R, cols] = sums (+ bias)
struct StoreEpilogue {
  struct Params {
    __nv_bfloat16* out;
    const __nv_bfloat16* bias;  // [E, cols]; null: none
    int cols;
  };

  template <int kN>
  __device__ static void store(const Params& p, const EpilogueContext& c, float (&sums)[kN / 2]) {
    const int q = c.quad_lane, first = c.n_tile * kN;
    __nv_bfloat16* out = p.out + static_cast<std::int64_t>(c.row) * p.cols;
#pragma unroll
    for (int group = 0; group < kN / 32; ++group) {
      const int column = first + 32 * group;
      if (column >= p.cols) break;
      if (p.bias != nullptr) {
        const __nv_bfloat16* bias =
            p.bias + static_cast<std::int64_t>(c.expert) * p.cols + column + 2 * q;
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          if (column + 8 * j >= p.cols) continue;
          const std::uint32_t word = *reinterpret_cast<const std::uint32_t*>(bias + 8 * j);
          float* s = sums + 16 * group + 4 * j;
          s[0] += low_bf16(word), s[1] += high_bf16(word);
          s[2] += low_bf16(word), s[3] += high_bf16(word);
        }
      }
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        std::uint32_t w[4];
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const float* s = sums + 16 * group + 4 * j + 2 * half;
          w[j] = pack_bf16(s[0], s[1]);
        }
        store_natural<true>(out + static_cast<std::int64_t>(8 * half) * p.cols, column, p.cols, q,
                            w, c.rows > 8 * half);
      }
    }
  }
};

// h = bf16(sums + bias), a = act(h). Gated: the tile's first kN/2 columns are gates, the others the
// ups of the same columns.
template <bool kGated>
struct ActivationEpilogue {
  struct Params {
    Activation activation;
    __nv_bfloat16* h;           // null: not stored
    __nv_bfloat16* a;           // [R, inter]; null: not stored
    const __nv_bfloat16* bias;  // null: none
    std::int64_t bias_expert_stride;
    int bias_stride, bias_pair_stride;
    int inter;
  };

  __device__ static float2 bias_of(const Params& p,
                                   const EpilogueContext& c,
                                   int pair,
                                   int column) {
    const __nv_bfloat16* at = p.bias + c.expert * p.bias_expert_stride +
                              static_cast<std::int64_t>(pair) * p.bias_pair_stride +
                              static_cast<std::int64_t>(column) * p.bias_stride;
    return {__bfloat162float(at[0]), __bfloat162float(at[p.bias_stride])};
  }

  template <int kN>
  __device__ static void store(const Params& p, const EpilogueContext& c, float (&sums)[kN / 2]) {
    constexpr int kCols = kGated ? kN / 2 : kN;
    const int q = c.quad_lane, first = c.n_tile * kCols, width = kGated ? 2 * p.inter : p.inter;
    const bool plain = is_plain(p.activation);
#pragma unroll
    for (int group = 0; group < kCols / 32; ++group) {
      const int column = first + 32 * group;
      if (column >= p.inter) break;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const std::int64_t row = c.row + 8 * half;
        const bool exists = c.rows > 8 * half;
        std::uint32_t gate[4], up[4], a[4];
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const float* g = sums + 16 * group + 4 * j + 2 * half;
          const float* u = g + (kGated ? kN / 4 : 0);
          float2 gate_bias{}, up_bias{};
          if (p.bias != nullptr && column + 8 * j < p.inter) {
            gate_bias = bias_of(p, c, 0, column + 8 * j + 2 * q);
            if (kGated) up_bias = bias_of(p, c, 1, column + 8 * j + 2 * q);
          }
          gate[j] = pack_bf16(g[0] + gate_bias.x, g[1] + gate_bias.y);
          if (kGated) up[j] = pack_bf16(u[0] + up_bias.x, u[1] + up_bias.y);
        }
        activate<kGated>(p.activation, plain, gate, up, a);
        if (p.h != nullptr && exists) {
          store_private(p.h + row * width, column, p.inter, q, gate);
          if (kGated) store_private(p.h + row * width + p.inter, column, p.inter, q, up);
        }
        if (p.a != nullptr) store_natural<true>(p.a + row * p.inter, column, p.inter, q, a, exists);
      }
    }
  }
};

// From dA' (the sums) and h: dh = act'(h) (w dA'), a = act(h), and the tile's part of <dA', a>.
template <bool kGated>
struct DActivationEpilogue {
  struct Params {
    Activation activation;
    const __nv_bfloat16* h;
    const float* row_weight;
    __nv_bfloat16* dh;  // null: not stored
    __nv_bfloat16* a;   // null: not stored
    float* row_parts;   // [R, n_tiles]; null: not stored
    int inter, n_tiles;
  };

  // The words of h that belong to the thread's 32 columns from `column`.
  struct Words {
    std::uint32_t gate[4], up[4];
  };
  __device__ __forceinline__ static void load(
      const Params& p, const __nv_bfloat16* row, int column, int q, Words& words) {
    if (column >= p.inter) return;
    load_private(row, column, p.inter, q, words.gate);
    if (kGated) load_private(row + p.inter, column, p.inter, q, words.up);
  }

  template <int kN>
  __device__ static void store(const Params& p, const EpilogueContext& c, float (&sums)[kN / 2]) {
    constexpr int kGroups = kN / 32, kItems = 2 * kGroups, kAhead = 2;
    const int q = c.quad_lane, first = c.n_tile * kN, width = kGated ? 2 * p.inter : p.inter;
    const bool plain = is_plain(p.activation);
    // A row that does not exist reads the first one's h, to no effect.
    const __nv_bfloat16* h[2];
    float weight[2], dot[2]{};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const std::int64_t row = c.rows > 8 * half ? c.row + 8 * half : 0;
      h[half] = p.h + row * width;
      weight[half] = __ldg(p.row_weight + row);
    }
    Words ahead[kAhead]{};
#pragma unroll
    for (int i = 0; i < kAhead; ++i) load(p, h[i & 1], first + 32 * (i / 2), q, ahead[i]);
#pragma unroll
    for (int item = 0; item < kItems; ++item) {
      const int group = item / 2, half = item & 1;
      const int column = first + 32 * group;
      const Words words = ahead[item % kAhead];
      if (item + kAhead < kItems) {
        load(p, h[(item + kAhead) & 1], first + 32 * ((item + kAhead) / 2), q,
             ahead[item % kAhead]);
      }
      if (column >= p.inter) continue;
      const std::int64_t row = c.row + 8 * half;
      const bool exists = c.rows > 8 * half;
      std::uint32_t a[4], d_gate[4], d_up[4];
      dot[half] +=
          activation_gradient<kGated>(p.activation, plain, words.gate, words.up,
                                      sums + 16 * group + 2 * half, weight[half], a, d_gate, d_up);
      if (p.dh != nullptr) {
        store_natural<false>(p.dh + row * width, column, p.inter, q, d_gate, exists);
        if (kGated) {
          store_natural<false>(p.dh + row * width + p.inter, column, p.inter, q, d_up, exists);
        }
      }
      if (p.a != nullptr) store_natural<false>(p.a + row * p.inter, column, p.inter, q, a, exists);
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float sum = dot[half];
      sum += __shfl_xor_sync(~0u, sum, 1);
      sum += __shfl_xor_sync(~0u, sum, 2);
      if (p.row_parts != nullptr && c.rows > 8 * half && q == 0) {
        p.row_parts[static_cast<std::int64_t>(c.row + 8 * half) * p.n_tiles + c.n_tile] = sum;
      }
    }
  }
};

}  // namespace moesmith::kernels::sm90
