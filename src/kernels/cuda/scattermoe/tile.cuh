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
  // The sums leave through shared memory.
  static constexpr int kStagedStride = kColumns + 8;
  static constexpr int kStagedBytes = kRows * kStagedStride * 4;
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

// `count` elements of eight from any address, the rest 0: not asynchronous.
__device__ inline void copy_elements(std::uint32_t to, const bf16_t* from, int count) {
  const auto* bits = reinterpret_cast<const std::uint16_t*>(from);
  std::uint32_t word[4] = {0, 0, 0, 0};
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (i < count) word[i / 2] |= static_cast<std::uint32_t>(bits[i]) << (16 * (i % 2));
  }
  store_16_shared(to, make_uint4(word[0], word[1], word[2], word[3]));
}

__device__ inline int clamp_to_8(int count) { return min(max(count, 0), 8); }

// One warp's operands of 16 k, as ldmatrix reads them. Offsets in a tile are worked out once: what
// depends on the block of 16 rows and on k is then added or flipped in.
template <int kBlocks, int kWidth, bool kKMajor, bool kIsA>
struct Operand {
  std::uint32_t at[kBlocks][4];

  // Of the warp's rows from `first`.
  __device__ static std::uint32_t offset(int first) {
    const int lane = threadIdx.x % 32, matrix = lane / 8, in_matrix = lane % 8;
    // ldmatrix's four 8 x 8 matrices: a's go down the rows first, b's along k.
    const int low = matrix & 1, high = matrix >> 1;
    const int row_half = kIsA ? low : high, k_half = kIsA ? high : low;
    if constexpr (kKMajor) {
      return static_cast<std::uint32_t>(k_major_offset(first + row_half * 8 + in_matrix, k_half));
    } else {
      return static_cast<std::uint32_t>(
          row_major_offset<kWidth>(k_half * 8 + in_matrix, first / 8 + row_half));
    }
  }
  // Block i of the 16 k from k_block * 16.
  __device__ void load(std::uint32_t tile, std::uint32_t offset, int k_block, int i) {
    const std::uint32_t moved = kKMajor ? (offset ^ (k_block << 5)) + i * 16 * kBlockK * 2
                                        : (offset ^ (i << 5)) + k_block * 16 * kWidth * 2;
    load_matrices<!kKMajor>(at[i], tile + moved);
  }
};

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

  // Block m of 16 rows.
  template <class A, class B>
  __device__ void multiply(const A& a, const B& b, int m) {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
      multiply_add(at[m][n], a.at[m], b.at[n / 2][n % 2 * 2], b.at[n / 2][n % 2 * 2 + 1]);
    }
  }

  // This warp's sums to staged[kRows][kStagedStride].
  __device__ void stage(float* staged) const {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int m0 = warp / C::kWarpsN * C::kWarpRows, n0 = warp % C::kWarpsN * C::kWarpColumns;
    static_assert(C::kWarpColumns == 64);  // groups of four are swapped by n alone
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int n = 0; n < kN; ++n) {
        const int group = lane % 4 / 2 ^ ((n >> 2) & 1);
        float* to = staged + (m0 + m * 16 + lane / 4) * C::kStagedStride + n0 + n * 8 + group * 4 +
                    lane % 2 * 2;
        *reinterpret_cast<float2*>(to) = make_float2(at[m][n][0], at[m][n][1]);
        *reinterpret_cast<float2*>(to + 8 * C::kStagedStride) =
            make_float2(at[m][n][2], at[m][n][3]);
      }
    }
  }
};

// Runs `steps` steps of kBlockK. `load` brings one step after the other: begin(a_tile, b_tile),
// then copy(i) for i < kCopies. Copies into shared memory and reads from it (16 k ahead of the
// products that use them) are spread among the products: with two warps a scheduler nothing else
// hides them.
template <class C, bool kAKMajor, bool kBKMajor, class Load>
__device__ inline void run_steps(Sums<C>& sums, unsigned char* shared, int steps, Load& load) {
  static_assert(kBlockK == 32);
  constexpr int kM = Sums<C>::kM, kBBlocks = Sums<C>::kN / 2;
  using A = Operand<kM, C::kRows, kAKMajor, true>;
  using B = Operand<kBBlocks, C::kColumns, kBKMajor, false>;
  const std::uint32_t base = shared_address(shared);
  const int warp = threadIdx.x / 32;
  const std::uint32_t a_offset = A::offset(warp / C::kWarpsN * C::kWarpRows);
  const std::uint32_t b_offset = B::offset(warp % C::kWarpsN * C::kWarpColumns);
  const auto stage_of = [&](int step) {
    return base + static_cast<unsigned>(step) % C::kStages * C::kStageBytes;
  };
  for (int step = 0; step < C::kStages - 1; ++step) {
    if (step < steps) {
      load.begin(stage_of(step), stage_of(step) + C::kABytes);
#pragma unroll
      for (int i = 0; i < Load::kCopies; ++i) load.copy(i);
    }
    commit_copies();  // empty groups keep the count of those in flight
  }
  wait_for_copies<C::kStages - 2>();
  __syncthreads();
  A a[2];
  B b[2];
  if (steps > 0) {
#pragma unroll
    for (int i = 0; i < kM; ++i) a[0].load(base, a_offset, 0, i);
#pragma unroll
    for (int i = 0; i < kBBlocks; ++i) b[0].load(base + C::kABytes, b_offset, 0, i);
  }
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    const std::uint32_t now = stage_of(step), next = stage_of(step + 1);
    const bool more = step + C::kStages - 1 < steps;
    if (more) {  // all have left the stage that it fills
      const std::uint32_t filled = stage_of(step + C::kStages - 1);
      load.begin(filled, filled + C::kABytes);
    }
#pragma unroll
    for (int m = 0; m < kM; ++m) {
      a[1].load(now, a_offset, 1, m);
#pragma unroll
      for (int i = m * kBBlocks / kM; i < (m + 1) * kBBlocks / kM; ++i) {
        b[1].load(now + C::kABytes, b_offset, 1, i);
      }
      sums.multiply(a[0], b[0], m);
#pragma unroll
      for (int i = m * Load::kCopies / kM; i < (m + 1) * Load::kCopies / kM; ++i) {
        if (more) load.copy(i);
      }
    }
    commit_copies();
    sums.multiply(a[1], b[1], 0);
    wait_for_copies<C::kStages - 2>();
    __syncthreads();  // the next step has arrived for all
#pragma unroll
    for (int m = 1; m < kM; ++m) {  // what is read here is of no use after the last step
      constexpr int kSlots = kM - 1;
#pragma unroll
      for (int i = (m - 1) * kM / kSlots; i < m * kM / kSlots; ++i) {
        a[0].load(next, a_offset, 0, i);
      }
#pragma unroll
      for (int i = (m - 1) * kBBlocks / kSlots; i < m * kBBlocks / kSlots; ++i) {
        b[0].load(next + C::kABytes, b_offset, 0, i);
      }
      sums.multiply(a[1], b[1], m);
    }
  }
  wait_for_copies<0>();
  __syncthreads();
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
