// SPDX-License-Identifier: Apache-2.0
// The epilogue of dA' (the sums): with h, dh = act'(h) (w dA'), a = act(h), and the tile's part of
// <dA', a>. Not deferred: run in pieces between the next tile's products it was no faster.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/cuda/sm90/epilogue.cuh"

namespace moesmith::kernels::sm90 {

template <Pairing kPairing>
struct DActivationEpilogue {
  static constexpr bool kDeferred = false;
  static constexpr bool kGated = kPairing != Pairing::kNone;
  static constexpr bool kAdjacent = kPairing == Pairing::kAdjacent;
  template <int kN>
  static constexpr int kItems = 0;

  struct Params {
    Activation activation;
    const __nv_bfloat16* h;
    const float* row_weight;
    __nv_bfloat16* dh;  // null: not stored
    __nv_bfloat16* a;   // null: not stored
    bool weigh_a;       // store w a, a as it was rounded
    float* row_parts;   // [R, n_tiles]; null: not stored
    int inter, n_tiles;
  };
  __device__ __forceinline__ static int width(const Params& p) {
    return kGated ? 2 * p.inter : p.inter;
  }

  // The words of h that belong to the thread's 32 columns from `column`.
  struct Words {
    std::uint32_t gate[4], up[4];
  };
  __device__ __forceinline__ static void load(
      const Params& p, const __nv_bfloat16* row, int column, int q, Words& words) {
    if (column >= p.inter) return;
    if constexpr (kAdjacent) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        uint2 pairs{};
        if (column + 8 * j < p.inter) {
          pairs = __ldcs(reinterpret_cast<const uint2*>(row + 2 * (column + 8 * j + 2 * q)));
        }
        words.gate[j] = low_halves(pairs.x, pairs.y), words.up[j] = high_halves(pairs.x, pairs.y);
      }
    } else {
      load_private(row, column, p.inter, q, words.gate);
      if (kGated) load_private(row + p.inter, column, p.inter, q, words.up);
    }
  }
  __device__ __forceinline__ static void store_dh(const Params& p,
                                                  std::int64_t row,
                                                  int column,
                                                  int q,
                                                  const std::uint32_t (&gate)[4],
                                                  const std::uint32_t (&up)[4],
                                                  bool exists) {
    __nv_bfloat16* dh = p.dh + row * width(p);
    if constexpr (kAdjacent) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (!exists || column + 8 * j >= p.inter) continue;
        *reinterpret_cast<uint2*>(dh + 2 * (column + 8 * j + 2 * q)) =
            make_uint2(low_halves(gate[j], up[j]), high_halves(gate[j], up[j]));
      }
    } else {
      store_natural<false>(dh, column, p.inter, q, gate, exists);
      if (kGated) store_natural<false>(dh + p.inter, column, p.inter, q, up, exists);
    }
  }

  // 32 columns of one of the thread's rows: their sums at sums[4 j], returns their part of <dA',
  // a>.
  template <bool kPlain>
  __device__ __forceinline__ static float columns(const Params& p,
                                                  const EpilogueContext& c,
                                                  int column,
                                                  int half,
                                                  const Words& words,
                                                  const float* sums,
                                                  float weight) {
    std::uint32_t a[4], d_gate[4], d_up[4];
    const float dot = activation_gradient<kGated, kPlain>(p.activation, words.gate, words.up, sums,
                                                          weight, a, d_gate, d_up);
    const std::int64_t row = c.row + 8 * half;
    const bool exists = c.rows > 8 * half;
    if (p.dh != nullptr) store_dh(p, row, column, c.quad_lane, d_gate, d_up, exists);
    if (p.a != nullptr) {
      const float factor = p.weigh_a ? weight : 1.0f;
#pragma unroll
      for (std::uint32_t& word : a) {
        word = pack_bf16(factor * low_bf16(word), factor * high_bf16(word));
      }
      store_natural<false>(p.a + row * p.inter, column, p.inter, c.quad_lane, a, exists);
    }
    return dot;
  }

  template <int kN>
  __device__ static void store(const Params& p, const EpilogueContext& c, float (&sums)[kN / 2]) {
    constexpr int kGroups = kN / 32, kItems = 2 * kGroups, kAhead = 2;
    const int q = c.quad_lane, first = c.n_tile * kN;
    // A row that does not exist reads the first one's h, to no effect.
    const __nv_bfloat16* h[2];
    float weight[2], dot[2]{};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const std::int64_t row = c.rows > 8 * half ? c.row + 8 * half : 0;
      h[half] = p.h + row * width(p);
      weight[half] = __ldg(p.row_weight + row);
    }
    Words ahead[kAhead]{};
#pragma unroll
    for (int i = 0; i < kAhead; ++i) load(p, h[i & 1], first + 32 * (i / 2), q, ahead[i]);
    if (is_plain(p.activation)) {
#pragma unroll
      for (int item = 0; item < kItems; ++item) {
        const int group = item / 2, half = item & 1;
        const Words words = ahead[half];
        if (item + kAhead < kItems) load(p, h[half], first + 32 * (group + 1), q, ahead[half]);
        if (first + 32 * group >= p.inter) continue;
        dot[half] += columns<true>(p, c, first + 32 * group, half, words,
                                   sums + 16 * group + 2 * half, weight[half]);
      }
    } else {
      // One body, or its instructions would not fit their cache; the next sums move to the front.
#pragma unroll 1
      for (int column = first; column < min(first + kN, p.inter); column += 32) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const Words words = ahead[half];
          if (column + 32 < first + kN) load(p, h[half], column + 32, q, ahead[half]);
          dot[half] += columns<false>(p, c, column, half, words, sums + 2 * half, weight[half]);
        }
#pragma unroll
        for (int i = 0; i + 16 < kN / 2; ++i) sums[i] = sums[i + 16];
      }
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
