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
  static constexpr int kARows = C::kRows * 4 / C::kThreads;  // rows of a per thread
  // Chunks of 8 per thread: kBKMajor, rows of b; else, k.
  static constexpr int kBChunks = C::kColumns * 4 / C::kThreads;
  static constexpr int kBRowChunks = C::kColumns / 8;

  const RowProduct& product;
  int expert, column_tile;
  int source[kARows];  // row or token; -1 beyond the tile
  int segment = -1, k0 = 0, k = 0;
  const bf16_t* a[kARows];
  const bf16_t* gate;
  const bf16_t* up;
  std::int64_t b_stride;
  bool a_whole, b_whole;

  __device__ RowProductLoader(const RowProduct& p, const RowTile& tile, int column_tile_)
      : product(p), expert(tile.expert), column_tile(column_tile_) {
#pragma unroll
    for (int i = 0; i < kARows; ++i) {
      const int row = tile.begin + static_cast<int>(threadIdx.x) / 4 + i * (C::kThreads / 4);
      source[i] = row < tile.end ? row : -1;
    }
  }

  __device__ void next_segment() {
    const RowSegment& s = product.segment[++segment];
    k0 = 0, k = s.k;
    const auto* data = static_cast<const bf16_t*>(s.a.data);
    a_whole = on_16_bytes(data) && s.a.stride % 8 == 0;
#pragma unroll
    for (int i = 0; i < kARows; ++i) {
      std::int64_t from = source[i] < 0 ? 0 : source[i];
      if (s.a.by_token && source[i] >= 0) from = product.token_of[source[i]];
      a[i] = data + from * s.a.stride;
    }
    const ExpertOperand& b = s.b;
    b_stride = b.stride;
    gate = b.table == nullptr ? static_cast<const bf16_t*>(b.data) + expert * b.expert_stride
                              : static_cast<const bf16_t*>(b.table[expert]);
    up = (b.up_table == nullptr ? gate : static_cast<const bf16_t*>(b.up_table[expert])) +
         b.up_offset;
    b_whole = on_16_bytes(gate) && b_stride % 8 == 0;
    if (product.pairing == Pairing::kHalves) b_whole = b_whole && on_16_bytes(up);
  }

  __device__ void operator()(std::uint32_t a_tile, std::uint32_t b_tile) {
    if (k0 >= k) next_segment();
    const int chunk = threadIdx.x % 4, first = threadIdx.x / 4;
    const int at = k0 + chunk * 8;
#pragma unroll
    for (int i = 0; i < kARows; ++i) {
      copy_chunk(a_tile + k_major_offset(first + i * (C::kThreads / 4), chunk), a[i] + at,
                 source[i] < 0 ? 0 : k - at, a_whole);
    }
    if constexpr (kBKMajor) {
      load_b_k_major(b_tile, first, chunk, at);
    } else {
      load_b_row_major(b_tile);
    }
    k0 += kBlockK;
  }

  __device__ void load_b_k_major(std::uint32_t b_tile, int first, int chunk, int at) const {
    const int row_step = product.segment[segment].b.row_step;
    const bool halves = product.pairing == Pairing::kHalves;
    const int tile_n = column_tile * (halves ? C::kColumns / 2 : C::kColumns);
#pragma unroll
    for (int i = 0; i < kBChunks; ++i) {
      const int column = first + i * (C::kThreads / 4);
      const bool is_up = halves && column >= C::kColumns / 2;
      const int n = tile_n + (is_up ? column - C::kColumns / 2 : column);
      const bool inside = n < product.n;
      const bf16_t* row = (is_up ? up : gate) + (inside ? n : 0) * (b_stride * row_step);
      copy_chunk(b_tile + k_major_offset(column, chunk), row + at, inside ? k - at : 0, b_whole);
    }
  }

  __device__ void load_b_row_major(std::uint32_t b_tile) const {
    constexpr int kStep = C::kThreads / kBRowChunks;  // rows of k between a thread's chunks
    const int chunk = threadIdx.x % kBRowChunks, first = threadIdx.x / kBRowChunks;
    const bool halves = product.pairing == Pairing::kHalves;
    const bool is_up = halves && chunk >= kBRowChunks / 2;
    const int limit = product.pairing == Pairing::kAdjacent ? 2 * product.n : product.n;
    const int n = column_tile * (halves ? C::kColumns / 2 : C::kColumns) +
                  (is_up ? chunk - kBRowChunks / 2 : chunk) * 8;
    const bf16_t* from = (is_up ? up : gate) + n;
#pragma unroll
    for (int i = 0; i < kBChunks; ++i) {
      const int at = first + i * kStep;
      const bool inside = k0 + at < k;
      copy_chunk(b_tile + row_major_offset<C::kColumns>(at, chunk),
                 from + (inside ? k0 + at : 0) * b_stride, inside ? limit - n : 0, b_whole);
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
  stage_sums(sums, shared, [&](const float* staged, int first) {
    Finish<bf16_t, C::kWarpRows, C::kColumns, C::kThreads>{
        product, staged, tile.expert, tile.begin + first, tile.end, column_tile, column_tiles}
        .run();
  });
}

}  // namespace moesmith::kernels::gpu
