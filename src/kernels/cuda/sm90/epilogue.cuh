// SPDX-License-Identifier: Apache-2.0
// What becomes of a tile's sums: stored as they are (down, dX), through the activation (up), or
// through its gradient (dA'). A thread holds two rows and, in each 8 columns, two neighbours; four
// lanes (a quad) exchange theirs so that each stores 16 bytes and together 64.
//
// Plain ones and up's work in two steps (kDeferred). pack() rounds a finished tile's sums to bf16,
// half the registers. item<i>(), for i < kItems in order, stores a piece; the pieces are run
// between the products of the next tile, so that the tensor cores do not wait for them.
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

// Four words of a row, columns 8 j + 2 q of 32 from `column`, by 16 bytes in natural order.
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

// How the columns of the weights of an activation lie.
enum class Pairing {
  kNone,      // no gates
  kHalves,    // a tile's first half are gates, the other the ups of the same columns
  kAdjacent,  // g0 u0 g1 u1 ...; so lie h and dh, too
};

// words[8 group + 4 half + j]: columns 32 group + 8 j + 2 (lane % 4) + {0, 1} of the row 8 half
// further.
__device__ __forceinline__ constexpr int word_at(int group, int half, int j) {
  return 8 * group + 4 * half + j;
}
// Keeps what is worked out from a value in its place: items run inside a loop in which their inputs
// do not change, and the compiler would take their arithmetic out of it and keep all results.
template <class T>
__device__ __forceinline__ void here(T& value) {
  asm volatile("" : "+r"(value));
}
__device__ __forceinline__ void words_of(const std::uint32_t* words,
                                         int group,
                                         int half,
                                         std::uint32_t (&to)[4]) {
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    to[j] = words[word_at(group, half, j)];
    here(to[j]);
  }
}
__device__ __forceinline__ std::uint32_t low_halves(std::uint32_t x, std::uint32_t y) {
  return __byte_perm(x, y, 0x5410);
}
__device__ __forceinline__ std::uint32_t high_halves(std::uint32_t x, std::uint32_t y) {
  return __byte_perm(x, y, 0x7632);
}

// words = bf16(sums + bias(group, j)), the bias of a word's two columns.
template <int kN, class Bias>
__device__ __forceinline__ void pack_words(const float (&sums)[kN / 2],
                                           std::uint32_t (&words)[kN / 4],
                                           const Bias& bias) {
#pragma unroll
  for (int group = 0; group < kN / 32; ++group) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float2 b = bias(group, j);
      const float* s = sums + 16 * group + 4 * j;
      words[word_at(group, 0, j)] = pack_bf16(s[0] + b.x, s[1] + b.y);
      words[word_at(group, 1, j)] = pack_bf16(s[2] + b.x, s[3] + b.y);
    }
  }
}
template <int kN>
__device__ __forceinline__ void pack_words(const float (&sums)[kN / 2],
                                           std::uint32_t (&words)[kN / 4]) {
#pragma unroll
  for (int group = 0; group < kN / 32; ++group) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float* s = sums + 16 * group + 4 * j;
      words[word_at(group, 0, j)] = pack_bf16(s[0], s[1]);
      words[word_at(group, 1, j)] = pack_bf16(s[2], s[3]);
    }
  }
}

// out [R, cols] = sums (+ bias)
struct StoreEpilogue {
  static constexpr bool kDeferred = true;
  struct Params {
    __nv_bfloat16* out;
    const __nv_bfloat16* bias;  // [E, cols]; null: none
    int cols;
  };
  template <int kN>
  static constexpr int kItems = kN / 32;

  template <int kN>
  __device__ __forceinline__ static void pack(const Params& p,
                                              const EpilogueContext& c,
                                              const float (&sums)[kN / 2],
                                              std::uint32_t (&words)[kN / 4]) {
    if (p.bias == nullptr) return pack_words<kN>(sums, words);
    const int first = c.n_tile * kN;
    const __nv_bfloat16* bias =
        p.bias + static_cast<std::int64_t>(c.expert) * p.cols + first + 2 * c.quad_lane;
    pack_words<kN>(sums, words, [&](int group, int j) -> float2 {
      const int column = 32 * group + 8 * j;
      if (first + column >= p.cols) return {};
      const std::uint32_t word = *reinterpret_cast<const std::uint32_t*>(bias + column);
      return {low_bf16(word), high_bf16(word)};
    });
  }

  template <int kN, int kItem>
  __device__ __forceinline__ static void item(const Params& p,
                                              const EpilogueContext& c,
                                              const std::uint32_t (&words)[kN / 4]) {
    const int column = c.n_tile * kN + 32 * kItem;
    if (column >= p.cols) return;
    __nv_bfloat16* out = p.out + static_cast<std::int64_t>(c.row) * p.cols;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      std::uint32_t w[4];
      words_of(words, kItem, half, w);
      store_natural<true>(out + static_cast<std::int64_t>(8 * half) * p.cols, column, p.cols,
                          c.quad_lane, w, c.rows > 8 * half);
    }
  }
};

// h = bf16(sums + bias), a = act(h).
template <Pairing kPairing>
struct ActivationEpilogue {
  static constexpr bool kDeferred = true;
  static constexpr bool kGated = kPairing != Pairing::kNone;
  static constexpr bool kAdjacent = kPairing == Pairing::kAdjacent;

  struct Params {
    Activation activation;
    __nv_bfloat16* h;           // null: not stored
    __nv_bfloat16* a;           // [R, inter]; null: not stored
    const __nv_bfloat16* bias;  // null: none
    std::int64_t bias_expert_stride;
    int bias_stride, bias_pair_stride;  // not when adjacent
    int inter;
  };
  // Columns of `a` in a tile.
  template <int kN>
  static constexpr int kCols = kGated ? kN / 2 : kN;
  template <int kN>
  static constexpr int kItems = kAdjacent ? kN / 32 : kCols<kN> / 16;

  template <int kN>
  __device__ __forceinline__ static void pack(const Params& p,
                                              const EpilogueContext& c,
                                              const float (&sums)[kN / 2],
                                              std::uint32_t (&words)[kN / 4]) {
    if (p.bias == nullptr) return pack_words<kN>(sums, words);
    const __nv_bfloat16* bias = p.bias + c.expert * p.bias_expert_stride;
    pack_words<kN>(sums, words, [&](int group, int j) -> float2 {
      const bool is_up = kPairing == Pairing::kHalves && group >= kN / 64;
      const int column = c.n_tile * (kAdjacent ? kN : kCols<kN>)+8 * j + 2 * c.quad_lane +
                         32 * (is_up ? group - kN / 64 : group);
      if (column >= (kAdjacent ? 2 * p.inter : p.inter)) return {};
      const int stride = kAdjacent ? 1 : p.bias_stride;
      const __nv_bfloat16* at = bias + static_cast<std::int64_t>(column) * stride +
                                (is_up ? static_cast<std::int64_t>(p.bias_pair_stride) : 0);
      return {__bfloat162float(at[0]), __bfloat162float(at[stride])};
    });
  }

  __device__ __forceinline__ static void activated(const Params& p,
                                                   const std::uint32_t (&gate)[4],
                                                   const std::uint32_t (&up)[4],
                                                   std::uint32_t (&a)[4]) {
    if (is_plain(p.activation)) {
      activate<kGated, true>(p.activation, gate, up, a);
    } else {
      activate<kGated, false>(p.activation, gate, up, a);
    }
  }

  template <int kN, int kItem>
  __device__ __forceinline__ static void item(const Params& p,
                                              const EpilogueContext& c,
                                              const std::uint32_t (&words)[kN / 4]) {
    if constexpr (kAdjacent) return adjacent_item<kN, kItem>(p, c, words);
    constexpr int kGroup = kItem / 2, kHalf = kItem % 2;
    const int q = c.quad_lane, width = kGated ? 2 * p.inter : p.inter;
    const int column = c.n_tile * kCols<kN> + 32 * kGroup;
    if (column >= p.inter) return;
    const std::int64_t row = c.row + 8 * kHalf;
    const bool exists = c.rows > 8 * kHalf;
    std::uint32_t gate[4], up[4], a[4];
    words_of(words, kGroup, kHalf, gate);
    words_of(words, kGroup + (kGated ? kN / 64 : 0), kHalf, up);
    activated(p, gate, up, a);
    if (p.h != nullptr && exists) {
      store_private(p.h + row * width, column, p.inter, q, gate);
      if (kGated) store_private(p.h + row * width + p.inter, column, p.inter, q, up);
    }
    if (p.a != nullptr) store_natural<true>(p.a + row * p.inter, column, p.inter, q, a, exists);
  }

  // 16 pairs of two rows: after the exchange a lane has pairs [4 q, + 4) of each.
  template <int kN, int kItem>
  __device__ __forceinline__ static void adjacent_item(const Params& p,
                                                       const EpilogueContext& c,
                                                       const std::uint32_t (&words)[kN / 4]) {
    const int column = c.n_tile * kN + 32 * kItem + 8 * c.quad_lane, width = 2 * p.inter;
    std::uint32_t gate[4], up[4], a[4];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      std::uint32_t w[4];
      words_of(words, kItem, half, w);
      const uint4 pairs = quad_transpose(w, c.quad_lane);
      gate[2 * half] = low_halves(pairs.x, pairs.y), up[2 * half] = high_halves(pairs.x, pairs.y);
      gate[2 * half + 1] = low_halves(pairs.z, pairs.w);
      up[2 * half + 1] = high_halves(pairs.z, pairs.w);
      if (p.h == nullptr || c.rows <= 8 * half || column >= width) continue;
      __stcs(reinterpret_cast<uint4*>(p.h + (c.row + std::int64_t{8} * half) * width + column),
             pairs);
    }
    if (p.a == nullptr) return;
    activated(p, gate, up, a);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (c.rows <= 8 * half || column >= width) continue;
      __stcs(
          reinterpret_cast<uint2*>(p.a + (c.row + std::int64_t{8} * half) * p.inter + column / 2),
          make_uint2(a[2 * half], a[2 * half + 1]));
    }
  }
};

}  // namespace moesmith::kernels::sm90
