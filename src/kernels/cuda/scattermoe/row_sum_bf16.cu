// SPDX-License-Identifier: Apache-2.0
// RowSum on the tensor cores. One block walks all rows of its tile or expert in order, so a sum
// never depends on the grid. Both operands lie with columns contiguous and k, the rows, across.
#include "cuda/launch.cuh"
#include "kernels/cuda/scattermoe/epilogue.cuh"
#include "kernels/cuda/scattermoe/instances.h"
#include "kernels/cuda/scattermoe/tile.cuh"

namespace moesmith::kernels::gpu {
namespace {

// Weight gradients, and gradients of LoRA's factors with a rank of at most 64 to the right.
using WideSum = TileConfig<2, 4, 64, 64, 4, 1>;
using NarrowSum = TileConfig<4, 1, 32, 64, 4, 3>;

template <int kWidth, int kThreads>
struct SumOperandLoader {
  static constexpr int kRowChunks = kWidth / 8;
  static constexpr int kStep = kThreads / kRowChunks;  // rows between a thread's chunks
  static constexpr int kChunks = kBlockK / kStep;

  const int* token_of;  // null: not gathered
  const bf16_t* data;
  std::int64_t stride;
  int row, end, count;
  bool whole;
  int source[kChunks];  // of the next step: read ahead, as the copy's address waits for it

  __device__ SumOperandLoader(
      const RowOperand& operand, const int* tokens, int begin, int end_row, int column0, int width)
      : token_of(operand.by_token ? tokens : nullptr), stride(operand.stride), end(end_row) {
    const int column = column0 + static_cast<int>(threadIdx.x) % kRowChunks * 8;
    count = width - column;
    data = static_cast<const bf16_t*>(operand.data) + (count > 0 ? column : 0);
    whole = on_16_bytes(operand.data) && stride % 8 == 0;
    row = begin + static_cast<int>(threadIdx.x) / kRowChunks;
    read_ahead();
  }

  __device__ void read_ahead() {
#pragma unroll
    for (int i = 0; i < kChunks; ++i) {
      const int at = row + i * kStep;
      source[i] = at < end ? (token_of == nullptr ? at : token_of[at]) : -1;
    }
  }

  __device__ void step(std::uint32_t tile) {
    const int chunk = threadIdx.x % kRowChunks, first = threadIdx.x / kRowChunks;
#pragma unroll
    for (int i = 0; i < kChunks; ++i) {
      const std::int64_t from = source[i] < 0 ? 0 : source[i];
      copy_chunk(tile + row_major_offset<kWidth>(first + i * kStep, chunk), data + from * stride,
                 source[i] < 0 ? 0 : count, whole);
    }
    row += kBlockK;
    read_ahead();
  }
};

template <class C>
__global__ void __launch_bounds__(C::kThreads, C::kBlocks)
    row_sum_bf16(const __grid_constant__ RowSum sum, int m_tiles, int n_tiles) {
  extern __shared__ __align__(128) unsigned char shared[];
  const int per_matrix = m_tiles * n_tiles;
  const int matrix = static_cast<int>(blockIdx.x / per_matrix);
  int begin, end;
  if (sum.tiles.tiles == nullptr) {
    begin = sum.offsets[matrix], end = sum.offsets[matrix + 1];
  } else {
    if (matrix >= *sum.tiles.count) return;
    begin = sum.tiles.tiles[matrix].begin, end = sum.tiles.tiles[matrix].end;
  }
  // Bands of eight tiles of m, as in tile_of_block(), but without holes.
  const int within = static_cast<int>(blockIdx.x % per_matrix);
  const int band = within / (8 * n_tiles), band_size = min(8, m_tiles - band * 8);
  const int in_band = within - band * 8 * n_tiles;
  const int row0 = (band * 8 + in_band % band_size) * C::kRows;
  const int column0 = in_band / band_size * C::kColumns;

  Sums<C> sums;
  sums.clear();
  SumOperandLoader<C::kRows, C::kThreads> left(sum.left, sum.token_of, begin, end, row0, sum.m);
  SumOperandLoader<C::kColumns, C::kThreads> right(sum.right, sum.token_of, begin, end, column0,
                                                   sum.n);
  run_steps<C, false, false>(sums, shared, (end - begin + kBlockK - 1) / kBlockK,
                             [&](std::uint32_t a_tile, std::uint32_t b_tile) {
                               left.step(a_tile);
                               right.step(b_tile);
                             });
  stage_sums(sums, shared, [&](const float* staged, int first) {
    finish_sum<C::kWarpRows, C::kColumns, C::kThreads>(sum, staged, matrix, row0 + first, column0);
  });
}

template <class C>
void run(const char* name, const RowSum& sum, void* stream) {
  static cuda::Kernel<RowSum, int, int> kernel{name, row_sum_bf16<C>, C::kSharedBytes};
  const int m_tiles = (sum.m + C::kRows - 1) / C::kRows;
  const int n_tiles = (sum.n + C::kColumns - 1) / C::kColumns;
  const std::int64_t matrices = sum.tiles.tiles == nullptr ? sum.num_experts : sum.tiles.max_tiles;
  kernel.launch(matrices * m_tiles * n_tiles, C::kThreads, stream, sum, m_tiles, n_tiles);
}

}  // namespace

void run_row_sum_bf16(const RowSum& sum, void* stream) {
  if (sum.n <= NarrowSum::kColumns) return run<NarrowSum>("row_sum<128, 64>", sum, stream);
  run<WideSum>("row_sum<128, 256>", sum, stream);
}

}  // namespace moesmith::kernels::gpu
