// SPDX-License-Identifier: Apache-2.0
// A block's tile in shared memory and on the tensor cores: bf16 operands of 32 k at a time in a
// ring of stages, sums in registers. Either operand may lie with k or with its own rows contiguous.
#pragma once

#include "kernels/cuda/common/mma.cuh"
#include "kernels/cuda/common/values.cuh"

namespace moesmith::kernels::gpu {

inline constexpr int kBlockK = 32;

// kWarpsM x kWarpsN warps of kWarpRows x kWarpColumns sums each.
template <int kWarpsM_, int kWarpsN_, int kWarpRows_, int kWarpColumns_, int kStages_, int kBlocks_>
struct TileConfig {
  static constexpr int kWarpsM = kWarpsM_, kWarpsN = kWarpsN_;
  static constexpr int kWarpRows = kWarpRows_, kWarpColumns = kWarpColumns_;
  static constexpr int kStages = kStages_;
  static constexpr int kBlocks = kBlocks_;  // per multiprocessor, what registers are cut for
  static constexpr int kRows = kWarpsM * kWarpRows, kColumns = kWarpsN * kWarpColumns;
  static constexpr int kThreads = kWarpsM * kWarpsN * 32;
  static constexpr int kABytes = kRows * kBlockK * 2, kBBytes = kColumns * kBlockK * 2;
  static constexpr int kStageBytes = kABytes + kBBytes;
  // The sums leave through shared memory, the rows of one row of warps at a time.
  static constexpr int kStagedStride = kColumns + 8;
  static constexpr int kStagedBytes = kWarpRows * kStagedStride * 4;
  static constexpr int kSharedBytes =
      kStages * kStageBytes > kStagedBytes ? kStages* kStageBytes : kStagedBytes;
  static_assert(kSharedBytes <= 99 * 1024, "sm_86, sm_89 and sm_120 have 99 KB");
};

// Where 16 bytes lie in a tile. Swizzled so that eight neighbouring rows' chunks, as ldmatrix reads
// them, fall on different banks.
__device__ inline int k_major_offset(int row, int chunk) {
  return row * (kBlockK * 2) + ((chunk ^ ((row >> 1) & 3)) << 4);
}
template <int kWidth>
__device__ inline int row_major_offset(int k, int chunk) {
  static_assert(kWidth >= 64);
  return k * (kWidth * 2) + ((chunk ^ (k & 7)) << 4);
}

// `count` elements of eight, the rest 0. `whole`: `from` is on 16 bytes.
__device__ inline void copy_chunk(std::uint32_t to, const bf16_t* from, int count, bool whole) {
  count = count < 0 ? 0 : count > 8 ? 8 : count;
  if (whole) {
    copy_16_async(to, from, count * 2);
    return;
  }
  const auto* bits = reinterpret_cast<const std::uint16_t*>(from);
  std::uint32_t word[4] = {0, 0, 0, 0};
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (i < count) word[i / 2] |= static_cast<std::uint32_t>(bits[i]) << (16 * (i % 2));
  }
  store_16_shared(to, make_uint4(word[0], word[1], word[2], word[3]));
}

template <class C>
struct Sums {
  static constexpr int kM = C::kWarpRows / 16, kN = C::kWarpColumns / 8;
  float at[kM][kN][4];

  __device__ void clear() {
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int n = 0; n < kN; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) at[m][n][i] = 0;
      }
    }
  }

  // The warp's part of one stage.
  template <bool kAKMajor, bool kBKMajor>
  __device__ void multiply(std::uint32_t a_tile, std::uint32_t b_tile) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int m0 = warp / C::kWarpsN * C::kWarpRows, n0 = warp % C::kWarpsN * C::kWarpColumns;
    const int matrix = lane / 8, in_matrix = lane % 8;
#pragma unroll
    for (int kk = 0; kk < kBlockK / 16; ++kk) {
      std::uint32_t a[kM][4], b[kN / 2][4];
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        const int row = m0 + m * 16;
        const int offset =
            kAKMajor ? k_major_offset(row + (matrix & 1) * 8 + in_matrix, kk * 2 + (matrix >> 1))
                     : row_major_offset<C::kRows>(kk * 16 + (matrix >> 1) * 8 + in_matrix,
                                                  row / 8 + (matrix & 1));
        load_matrices<!kAKMajor>(a[m], a_tile + offset);
      }
#pragma unroll
      for (int n = 0; n < kN / 2; ++n) {
        const int column = n0 + n * 16;
        const int offset =
            kBKMajor ? k_major_offset(column + (matrix >> 1) * 8 + in_matrix, kk * 2 + (matrix & 1))
                     : row_major_offset<C::kColumns>(kk * 16 + (matrix & 1) * 8 + in_matrix,
                                                     column / 8 + (matrix >> 1));
        load_matrices<!kBKMajor>(b[n], b_tile + offset);
      }
#pragma unroll
      for (int m = 0; m < kM; ++m) {
#pragma unroll
        for (int n = 0; n < kN; ++n) {
          multiply_add(at[m][n], a[m], b[n / 2][n % 2 * 2], b[n / 2][n % 2 * 2 + 1]);
        }
      }
    }
  }

  // This warp's sums to staged[kWarpRows][kStagedStride].
  __device__ void stage(float* staged) const {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int n0 = warp % C::kWarpsN * C::kWarpColumns;
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int n = 0; n < kN; ++n) {
        float* to = staged + (m * 16 + lane / 4) * C::kStagedStride + n0 + n * 8 + lane % 4 * 2;
        *reinterpret_cast<float2*>(to) = make_float2(at[m][n][0], at[m][n][1]);
        *reinterpret_cast<float2*>(to + 8 * C::kStagedStride) =
            make_float2(at[m][n][2], at[m][n][3]);
      }
    }
  }
};

// Runs `steps` steps of kBlockK; load(a_tile, b_tile) brings the next one, in order.
template <class C, bool kAKMajor, bool kBKMajor, class Load>
__device__ inline void run_steps(Sums<C>& sums, unsigned char* shared, int steps, Load&& load) {
  const std::uint32_t base = shared_address(shared);
  const auto load_stage = [&](int step) {
    const std::uint32_t a_tile = base + step % C::kStages * C::kStageBytes;
    if (step < steps) load(a_tile, a_tile + C::kABytes);
    commit_copies();  // empty groups keep the count of those in flight
  };
  for (int step = 0; step < C::kStages - 1; ++step) load_stage(step);
  for (int step = 0; step < steps; ++step) {
    wait_for_copies<C::kStages - 2>();
    __syncthreads();  // the step has arrived for all, and all have left the stage before it
    load_stage(step + C::kStages - 1);
    const std::uint32_t a_tile = base + step % C::kStages * C::kStageBytes;
    sums.template multiply<kAKMajor, kBKMajor>(a_tile, a_tile + C::kABytes);
  }
  wait_for_copies<0>();
  __syncthreads();
}

// finish(staged, first) for the rows [first, first + kWarpRows) of the tile, one after the other.
template <class C, class Finish>
__device__ inline void stage_sums(const Sums<C>& sums, unsigned char* shared, Finish&& finish) {
  float* staged = reinterpret_cast<float*>(shared);
#pragma unroll 1
  for (int slice = 0; slice < C::kWarpsM; ++slice) {
    if (static_cast<int>(threadIdx.x) / 32 / C::kWarpsN == slice) sums.stage(staged);
    __syncthreads();
    finish(staged, slice * C::kWarpRows);
    __syncthreads();
  }
}

// Blocks in an order in which those that run together share operands: kGroup tiles of rows by all
// tiles of columns. False where a block has no tile.
__device__ inline bool tile_of_block(
    std::int64_t block, int row_tiles, int column_tiles, int& m, int& n) {
  constexpr int kGroup = 8;
  const std::int64_t group_blocks = static_cast<std::int64_t>(kGroup) * column_tiles;
  const std::int64_t group = block / group_blocks;
  const int first = static_cast<int>(group * kGroup);
  const int size = min(row_tiles - first, kGroup);
  if (size <= 0) return false;
  const int within = static_cast<int>(block - group * group_blocks);
  m = first + within % size;
  n = within / size;
  return n < column_tiles;
}

}  // namespace moesmith::kernels::gpu
