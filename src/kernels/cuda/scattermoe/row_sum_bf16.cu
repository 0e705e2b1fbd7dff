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
using WideSum = TileConfig<2, 2, 64, 64, 4, 2>;
using NarrowSum = TileConfig<4, 1, 32, 64, 4, 3>;

// One operand: kWidth columns of a step's rows.
template <int kWidth, int kThreads>
struct SumOperandLoader {
  static constexpr int kRowChunks = kWidth / 8;
  static constexpr int kStep = kThreads / kRowChunks;  // rows between a thread's chunks
  static constexpr int kCopies = kBlockK / kStep;

  const int* token_of;  // null: not gathered
  const bf16_t* data;
  std::int64_t stride;
  int row, end, count;
  bool whole;
  std::uint32_t to = 0;
  int source[kCopies];  // of the step; -1 beyond the rows
  int ahead[kCopies];   // of the next: read early, as a copy's address waits for it

  __device__ SumOperandLoader(
      const RowOperand& operand, const int* tokens, int begin, int end_row, int column0, int width)
      : token_of(operand.by_token ? tokens : nullptr), stride(operand.stride), end(end_row) {
    const int column = column0 + static_cast<int>(threadIdx.x) % kRowChunks * 8;
    count = clamp_to_8(width - column);
    data = static_cast<const bf16_t*>(operand.data) + column;
    whole = on_16_bytes(operand.data) && stride % 8 == 0;
    row = begin + static_cast<int>(threadIdx.x) / kRowChunks;
    read_ahead();
  }

  __device__ void read_ahead() {
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int at = row + i * kStep;
      ahead[i] = at < end ? (token_of == nullptr ? at : token_of[at]) : -1;
    }
    row += kBlockK;
  }

  __device__ std::uint32_t address(int i) const {
    static_assert(kStep % 4 == 0);
    const std::uint32_t flipped = kStep % 8 == 4 && i % 2 == 1 ? to ^ 64 : to;
    return flipped + i * (kStep * kWidth * 2);
  }

  __device__ void begin(std::uint32_t tile) {
    to = tile + row_major_offset<kWidth>(threadIdx.x / kRowChunks, threadIdx.x % kRowChunks);
#pragma unroll
    for (int i = 0; i < kCopies; ++i) source[i] = ahead[i];
    read_ahead();
    if (whole) return;
#pragma unroll 1
    for (int i = 0; i < kCopies; ++i) {
      const int at = row - 2 * kBlockK + i * kStep;
      const std::int64_t from = at >= end ? 0 : token_of == nullptr ? at : token_of[at];
      copy_elements(address(i), data + from * stride, at < end ? count : 0);
    }
  }

  __device__ void copy(int i) const {
    if (!whole) return;
    const std::int64_t from = max(source[i], 0);
    copy_16_async(address(i), data + from * stride, source[i] < 0 ? 0 : count * 2);
  }
};

template <class C>
struct RowSumLoader {
  using Left = SumOperandLoader<C::kRows, C::kThreads>;
  using Right = SumOperandLoader<C::kColumns, C::kThreads>;
  static constexpr int kCopies = Left::kCopies + Right::kCopies;
  Left left;
  Right right;

  __device__ void begin(std::uint32_t a_tile, std::uint32_t b_tile) {
    left.begin(a_tile);
    right.begin(b_tile);
  }
  __device__ void copy(int i) const {
    i < Left::kCopies ? left.copy(i) : right.copy(i - Left::kCopies);
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
  RowSumLoader<C> loader{{sum.left, sum.token_of, begin, end, row0, sum.m},
                         {sum.right, sum.token_of, begin, end, column0, sum.n}};
  run_steps<C, false, false>(sums, shared, (end - begin + kBlockK - 1) / kBlockK, loader);
  float* staged = reinterpret_cast<float*>(shared);
  sums.stage(staged);
  __syncthreads();
  finish_sum<C::kRows, C::kColumns, C::kThreads>(sum, staged, matrix, row0, column0);
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
  run<WideSum>("row_sum<128, 128>", sum, stream);
}

}  // namespace moesmith::kernels::gpu
