// SPDX-License-Identifier: Apache-2.0
// The same two products in f32 on the ordinary units: for f32 compute, which TF32 cannot serve, and
// where activations and weights differ in dtype. Tiles of 64 x 64, 16 k at a time.
#include "cuda/launch.cuh"
#include "kernels/cuda/scattermoe/epilogue.cuh"
#include "kernels/cuda/scattermoe/instances.h"
#include "kernels/cuda/scattermoe/tile.cuh"

namespace moesmith::kernels::gpu {
namespace {

constexpr int kTile = 64, kStepK = 16, kThreads = 256, kStride = kTile + 4;

struct Shared {
  float a[kStepK][kStride], b[kStepK][kStride];
  float staged[kTile * (kTile + 8)];
};

struct SimtSums {
  float at[4][4] = {};

  __device__ void multiply(const Shared& shared) {
    const int row = threadIdx.x / 16 * 4, column = threadIdx.x % 16 * 4;
#pragma unroll
    for (int k = 0; k < kStepK; ++k) {
      const float4 a = *reinterpret_cast<const float4*>(&shared.a[k][row]);
      const float4 b = *reinterpret_cast<const float4*>(&shared.b[k][column]);
      const float left[4] = {a.x, a.y, a.z, a.w}, right[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) at[i][j] = fmaf(left[i], right[j], at[i][j]);
      }
    }
  }
  __device__ void stage(Shared& shared) const {
    const int row = threadIdx.x / 16 * 4, column = threadIdx.x % 16 * 4;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      *reinterpret_cast<float4*>(
          &shared.staged[(row + i) * (kTile + 8) + staged_group(column / 4) * 4]) =
          make_float4(at[i][0], at[i][1], at[i][2], at[i][3]);
    }
    __syncthreads();
  }
};

// tile[k][i] = value(i, k) of 64 x 16 elements; neighbouring threads take neighbouring k or i.
template <class Value>
__device__ void fill(float (&tile)[kStepK][kStride], bool k_major, Value&& value) {
#pragma unroll
  for (int pass = 0; pass < kTile * kStepK / kThreads; ++pass) {
    const int at = static_cast<int>(threadIdx.x) + pass * kThreads;
    const int k = k_major ? at % kStepK : at / kTile, i = k_major ? at / kStepK : at % kTile;
    tile[k][i] = value(i, k);
  }
}

// Column n of the tile in an expert's matrix, from the base of the pair's half.
struct BColumn {
  const void* base;
  std::int64_t n;
  bool inside;
};

__device__ BColumn
column_of(const RowProduct& p, const ExpertOperand& b, int expert, int column_tile, int i) {
  const bool halves = p.pairing == Pairing::kHalves;
  const bool is_up = halves && i >= kTile / 2;
  const int n = column_tile * (halves ? kTile / 2 : kTile) + (is_up ? i - kTile / 2 : i);
  const int limit = p.pairing == Pairing::kAdjacent ? 2 * p.n : p.n;
  const std::int64_t size = b.is_f32 ? 4 : 2;
  const char* base = b.table == nullptr
                         ? static_cast<const char*>(b.data) + expert * b.expert_stride * size
                         : static_cast<const char*>(b.table[expert]);
  if (is_up) {
    if (b.up_table != nullptr) base = static_cast<const char*>(b.up_table[expert]);
    base += b.up_offset * size;
  }
  return {base, n, n < limit};
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    row_product_simt(const __grid_constant__ RowProduct product, int column_tiles) {
  __shared__ Shared shared;
  int row_tile, column_tile;
  if (!tile_of_block(blockIdx.x, *product.tiles.count, column_tiles, row_tile, column_tile)) return;
  const RowTile tile = product.tiles.tiles[row_tile];
  SimtSums sums;
  for (int s = 0; s < product.num_segments; ++s) {
    const RowSegment& segment = product.segment[s];
    const RowOperand& a = segment.a;
    const ExpertOperand& b = segment.b;
    for (int k0 = 0; k0 < segment.k; k0 += kStepK) {
      fill(shared.a, true, [&](int i, int k) {
        const int row = tile.begin + i;
        if (row >= tile.end || k0 + k >= segment.k) return 0.0f;
        const std::int64_t from = a.by_token ? product.token_of[row] : row;
        return load(a.data, a.is_f32, from * a.stride + k0 + k);
      });
      fill(shared.b, b.k_major, [&](int i, int k) {
        const BColumn column = column_of(product, b, tile.expert, column_tile, i);
        if (!column.inside || k0 + k >= segment.k) return 0.0f;
        const std::int64_t at =
            b.k_major ? column.n * b.row_step * b.stride + k0 + k : (k0 + k) * b.stride + column.n;
        return load(column.base, b.is_f32, at);
      });
      __syncthreads();
      sums.multiply(shared);
      __syncthreads();
    }
  }
  sums.stage(shared);
  Finish<T, kTile, kTile, kThreads>{product,  shared.staged, tile.expert, tile.begin,
                                    tile.end, column_tile,   column_tiles}
      .run();
}

__global__ void __launch_bounds__(kThreads)
    row_sum_simt(const __grid_constant__ RowSum sum, int m_tiles, int n_tiles) {
  __shared__ Shared shared;
  const int per_matrix = m_tiles * n_tiles;
  const int matrix = static_cast<int>(blockIdx.x / per_matrix);
  const int within = static_cast<int>(blockIdx.x % per_matrix);
  int begin, end;
  if (sum.tiles.tiles == nullptr) {
    begin = sum.offsets[matrix], end = sum.offsets[matrix + 1];
  } else {
    if (matrix >= *sum.tiles.count) return;
    begin = sum.tiles.tiles[matrix].begin, end = sum.tiles.tiles[matrix].end;
  }
  const int row0 = within / n_tiles * kTile, column0 = within % n_tiles * kTile;
  SimtSums sums;
  for (int first = begin; first < end; first += kStepK) {
    const auto element = [&](const RowOperand& operand, int column, int width, int k) {
      const int row = first + k;
      if (row >= end || column >= width) return 0.0f;
      const std::int64_t from = operand.by_token ? sum.token_of[row] : row;
      return load(operand.data, operand.is_f32, from * operand.stride + column);
    };
    fill(shared.a, false, [&](int i, int k) { return element(sum.left, row0 + i, sum.m, k); });
    fill(shared.b, false, [&](int i, int k) { return element(sum.right, column0 + i, sum.n, k); });
    __syncthreads();
    sums.multiply(shared);
    __syncthreads();
  }
  sums.stage(shared);
  finish_sum<kTile, kTile, kThreads>(sum, shared.staged, matrix, row0, column0);
}

}  // namespace

void run_row_product_simt(const RowProduct& product, bool f32, void* stream) {
  static cuda::Kernel<RowProduct, int> in_f32{"row_product_simt<f32>", row_product_simt<float>};
  static cuda::Kernel<RowProduct, int> in_bf16{"row_product_simt<bf16>", row_product_simt<bf16_t>};
  const TileShape shape{kSmallTiles, kTile, false};
  const int column_tiles = row_product_column_tiles(shape, product.n, product.pairing);
  (f32 ? in_f32 : in_bf16)
      .launch(blocks_of(product.tiles, column_tiles), kThreads, stream, product, column_tiles);
}

void run_row_sum_simt(const RowSum& sum, void* stream) {
  static cuda::Kernel<RowSum, int, int> kernel{"row_sum_simt", row_sum_simt};
  const int m_tiles = (sum.m + kTile - 1) / kTile, n_tiles = (sum.n + kTile - 1) / kTile;
  const std::int64_t matrices = sum.tiles.tiles == nullptr ? sum.num_experts : sum.tiles.max_tiles;
  kernel.launch(matrices * m_tiles * n_tiles, kThreads, stream, sum, m_tiles, n_tiles);
}

}  // namespace moesmith::kernels::gpu
