// SPDX-License-Identifier: Apache-2.0
// RowProduct on the tensor cores: rows gathered as they are copied into shared memory, segments
// (the base weight, LoRA's up factor) one after the other in one loop over k, then the epilogue.
#pragma once

#include "kernels/cuda/scattermoe/epilogue.cuh"
#include "kernels/cuda/scattermoe/tile.cuh"

namespace moesmith::kernels::gpu {

// Brings the operands of one step after the other, through all segments.
template <class C, bool kBKMajor>
struct RowProductLoader {
  static constexpr int kRowStep = C::kThreads / 4;  // rows between a thread's chunks, k contiguous
  static constexpr int kARows = C::kRows / kRowStep;
  static constexpr int kBRowChunks = C::kColumns / 8;
  static constexpr int kKStep = C::kThreads / kBRowChunks;  // k between them, columns contiguous
  static constexpr int kBChunks = kBKMajor ? C::kColumns / kRowStep : kBlockK / kKStep;
  static constexpr int kCopies = kARows + kBChunks;
  static_assert(kRowStep % 8 == 0);

  const RowProduct& product;
  RowTile tile;
  int column_tile;
  // Of the segment. Chunk i of a thread begins at a[i], and of b at gate + i * b_between, or past
  // the first half of a paired tile at up + (i - kBChunks / 2) * b_between.
  int segment = -1, k_left = 0;
  bool whole = false, halves;
  std::uint32_t valid = 0;  // bit i: row i of a exists; bit kARows + i: column i of b (k-major)
  const bf16_t* a[kARows];
  const bf16_t* gate = nullptr;
  const bf16_t* up = nullptr;
  std::int64_t b_between = 0, b_step = 0;
  int columns_left = 0;  // of this thread's chunk, not k-major
  // Of the step.
  std::uint32_t a_to = 0, b_to = 0;
  int bytes = 0, k_now = 0;

  __device__ RowProductLoader(const RowProduct& p, const RowTile& t, int column_tile_)
      : product(p), tile(t), column_tile(column_tile_), halves(p.pairing == Pairing::kHalves) {}

  __device__ void next_segment() {
    const RowSegment& s = product.segment[++segment];
    k_left = s.k;
    valid = 0;
    const auto* data = static_cast<const bf16_t*>(s.a.data);
#pragma unroll
    for (int i = 0; i < kARows; ++i) {
      const int row = tile.begin + static_cast<int>(threadIdx.x) / 4 + i * kRowStep;
      std::int64_t from = 0;
      if (row < tile.end) {
        from = s.a.by_token ? product.token_of[row] : row;
        valid |= 1u << i;
      }
      a[i] = data + from * s.a.stride + threadIdx.x % 4 * 8;
    }
    const ExpertOperand& b = s.b;
    gate = b.table == nullptr ? static_cast<const bf16_t*>(b.data) + tile.expert * b.expert_stride
                              : static_cast<const bf16_t*>(b.table[tile.expert]);
    up = (b.up_table == nullptr ? gate : static_cast<const bf16_t*>(b.up_table[tile.expert])) +
         b.up_offset;
    whole = on_16_bytes(data) && s.a.stride % 8 == 0 && on_16_bytes(gate) && b.stride % 8 == 0 &&
            (!halves || on_16_bytes(up));
    const int tile_n = column_tile * (halves ? C::kColumns / 2 : C::kColumns);
    if constexpr (kBKMajor) {
      const std::int64_t stride = b.stride * b.row_step;
      const int first = tile_n + static_cast<int>(threadIdx.x) / 4;
#pragma unroll
      for (int i = 0; i < kBChunks; ++i) {
        const bool is_up = halves && i >= kBChunks / 2;
        if (first + (is_up ? i - kBChunks / 2 : i) * kRowStep < product.n) {
          valid |= 1u << (kARows + i);
        }
      }
      gate += first * stride + threadIdx.x % 4 * 8;
      up += first * stride + threadIdx.x % 4 * 8;
      b_between = stride * kRowStep;
      b_step = kBlockK;
    } else {
      const int chunk = threadIdx.x % kBRowChunks;
      const bool is_up = halves && chunk >= kBRowChunks / 2;
      const int n = tile_n + (is_up ? chunk - kBRowChunks / 2 : chunk) * 8;
      columns_left = (product.pairing == Pairing::kAdjacent ? 2 * product.n : product.n) - n;
      gate = (is_up ? up : gate) + n + threadIdx.x / kBRowChunks * b.stride;
      b_between = kKStep * b.stride;
      b_step = kBlockK * b.stride;
    }
  }

  __device__ const bf16_t* b_at(int i) const {
    if (kBKMajor && halves && i >= kBChunks / 2) return up + (i - kBChunks / 2) * b_between;
    return gate + i * b_between;
  }
  __device__ std::uint32_t a_address(int i) const { return a_to + i * (kRowStep * kBlockK * 2); }
  __device__ std::uint32_t b_address(int i) const {
    if constexpr (kBKMajor) return b_to + i * (kRowStep * kBlockK * 2);
    // kKStep k on, the swizzle is the same or has its third bit flipped.
    static_assert(kKStep % 4 == 0);
    const std::uint32_t flipped = kKStep % 8 == 4 && i % 2 == 1 ? b_to ^ 64 : b_to;
    return flipped + i * (kKStep * C::kColumns * 2);
  }
  __device__ bool k_inside(int i) const {
    return static_cast<int>(threadIdx.x) / kBRowChunks + i * kKStep < k_left;
  }

  __device__ void begin(std::uint32_t a_tile, std::uint32_t b_tile) {
    if (k_left <= 0) {
      next_segment();
    } else {
#pragma unroll
      for (int i = 0; i < kARows; ++i) a[i] += kBlockK;
      gate += b_step;
      if (kBKMajor) up += b_step;
    }
    a_to = a_tile + k_major_offset(threadIdx.x / 4, threadIdx.x % 4);
    b_to = b_tile + (kBKMajor ? k_major_offset(threadIdx.x / 4, threadIdx.x % 4)
                              : row_major_offset<C::kColumns>(threadIdx.x / kBRowChunks,
                                                              threadIdx.x % kBRowChunks));
    bytes = clamp_to_8(k_left - static_cast<int>(threadIdx.x) % 4 * 8) * 2;
    if (!whole) copy_by_element();
    k_now = k_left;
    k_left -= kBlockK;
  }

  __device__ void copy(int i) const {
    if (!whole) return;
    if (i < kARows) {
      copy_16_async(a_address(i), a[i], (valid >> i & 1) != 0 ? bytes : 0);
    } else if constexpr (kBKMajor) {
      copy_16_async(b_address(i - kARows), b_at(i - kARows), (valid >> i & 1) != 0 ? bytes : 0);
    } else {
      const int k = static_cast<int>(threadIdx.x) / kBRowChunks + (i - kARows) * kKStep;
      copy_16_async(b_address(i - kARows), b_at(i - kARows),
                    k < k_now ? clamp_to_8(columns_left) * 2 : 0);
    }
  }

  // Matrices that do not lie on 16 bytes.
  __device__ void copy_by_element() const {
#pragma unroll 1
    for (int i = 0; i < kARows; ++i) {
      const int row = tile.begin + static_cast<int>(threadIdx.x) / 4 + i * kRowStep;
      const RowOperand& operand = product.segment[segment].a;
      const std::int64_t from = row >= tile.end    ? 0
                                : operand.by_token ? product.token_of[row]
                                                   : row;
      const bf16_t* data = static_cast<const bf16_t*>(operand.data) + from * operand.stride +
                           (product.segment[segment].k - k_left) + threadIdx.x % 4 * 8;
      copy_elements(a_address(i), data, row < tile.end ? bytes / 2 : 0);
    }
#pragma unroll 1
    for (int i = 0; i < kBChunks; ++i) {
      const int count = kBKMajor      ? (valid >> (kARows + i) & 1) * (bytes / 2)
                        : k_inside(i) ? columns_left
                                      : 0;
      copy_elements(b_address(i), b_at(i), count);
    }
  }
};

template <class C, bool kBKMajor>
__global__ void __launch_bounds__(C::kThreads, C::kBlocks)
    row_product_bf16(const __grid_constant__ RowProduct product, int column_tiles) {
  extern __shared__ __align__(128) unsigned char shared[];
  int row_tile, column_tile;
  if (!tile_of_block(blockIdx.x, *product.tiles.count, column_tiles, row_tile, column_tile)) return;
  const RowTile tile = product.tiles.tiles[row_tile];
  int steps = 0;
  for (int s = 0; s < product.num_segments; ++s) {
    steps += (product.segment[s].k + kBlockK - 1) / kBlockK;
  }
  Sums<C> sums;
  sums.clear();
  RowProductLoader<C, kBKMajor> loader(product, tile, column_tile);
  run_steps<C, true, kBKMajor>(sums, shared, steps, loader);
  float* staged = reinterpret_cast<float*>(shared);
  sums.stage(staged);
  __syncthreads();
  Finish<bf16_t, C::kRows, C::kColumns, C::kThreads>{product,  staged,      tile.expert, tile.begin,
                                                     tile.end, column_tile, column_tiles}
      .run();
}

}  // namespace moesmith::kernels::gpu
