// SPDX-License-Identifier: Apache-2.0
// The rank-r products around a wide matrix p, one pass over it: narrow = scale p q^T and, for each
// chunk of 256 rows, part = n^T p. A block takes one chunk and walks the columns 64 at a time
// through a ring of stages; each warp owns 32 rows of `narrow`, and of a part 16 ranks and as many
// of the 64 columns as come to it, so nothing is added across warps. Its n^T stays in registers:
// read again for every stage it took more of shared memory's bandwidth than p. Bound by reading p:
// 2 R C bytes.
#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/cuda/sm90/launch_attributes.h"
#include "kernels/cuda/sm90/ptx.cuh"
#include "kernels/cuda/sm90/sm90.h"

namespace moesmith::kernels::sm90 {
namespace {

constexpr int kSkinnyThreads = 256;
constexpr int kCols = 64;
constexpr int kSkinnyStages = 3;
constexpr int kPBytes = kChunkRows * kCols * 2;

struct SkinnyParams {
  const uint4* p;
  const uint4* q;
  const __nv_bfloat16* n;
  __nv_bfloat16* narrow;
  float* parts;
  const RowTile* chunks;
  const int* num_chunks;
  const int* row_token;     // null: rows are contiguous
  const float* row_weight;  // null: n as it is
  int cols, rank;
  int splits;  // column ranges, each its own blocks; 1 where `narrow` adds over all columns
  float scale;
};

// The address of a 16-byte piece of a swizzled row of 128 bytes.
__device__ __forceinline__ std::uint32_t swizzled(std::uint32_t base, int row, int piece) {
  return base + row * 128 + ((piece ^ (row & 7)) << 4);
}

// The address of a 16-byte piece of a row of kRank numbers, so that 8 rows' same piece lies in 8
// different banks.
template <int kRank>
__device__ __forceinline__ std::uint32_t narrow_piece(std::uint32_t base, int row, int piece) {
  constexpr int kPieces = kRank / 8;
  return base + row * kRank * 2 + ((piece ^ (row / (8 / kPieces) % kPieces)) << 4);
}

template <int kRank>
struct Block {
  static constexpr int kStage = kPBytes + kRank * kCols * 2;
  // Of a part: 16 ranks and kPieces times 8 columns for each of the 8 warps.
  static constexpr int kRankGroups = kRank / 16, kPieces = kRankGroups;
  static constexpr int kNBytes = kChunkRows * kRank * 2;
  static constexpr int kShared = kSkinnyStages * kStage + kNBytes + 128;

  const SkinnyParams& p;
  const RowTile chunk;
  const int index, first_rank;
  const std::uint32_t ring, n_tile;
  std::uint32_t source[8];

  // Eight threads copy a row of 128 bytes; absent rows and columns become 0.
  __device__ void load(int column, int stage) const {
    const int piece = threadIdx.x & 7, lane_row = threadIdx.x / 8;
    const bool in_row = column + piece * 8 < p.cols;
    const std::uint32_t at = in_row ? column / 8 + piece : 0;
    const std::uint32_t to = swizzled(ring + stage * kStage, lane_row, piece);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const bool exists = in_row && source[i] != ~0u;
      const std::uint64_t from = exists ? static_cast<std::uint64_t>(source[i]) + at : 0;
      copy_async_16(to + i * 32 * 128, p.p + from, exists ? 16 : 0);
    }
    if (p.q != nullptr) {
      for (int row = lane_row; row < kRank; row += 32) {
        const bool exists = in_row && first_rank + row < p.rank;
        const std::uint64_t from =
            exists ? (static_cast<std::uint64_t>(chunk.expert) * p.rank + first_rank + row) *
                             (p.cols / 8) +
                         at
                   : 0;
        copy_async_16(swizzled(ring + stage * kStage + kPBytes, row, piece), p.q + from,
                      exists ? 16 : 0);
      }
    }
  }

  __device__ void set_sources() {
    const int lane_row = threadIdx.x / 8;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int row = i * 32 + lane_row;
      source[i] = ~0u;
      if (row < chunk.rows) {
        const int at =
            p.row_token != nullptr ? __ldg(p.row_token + chunk.row + row) : chunk.row + row;
        source[i] = static_cast<std::uint32_t>(at) * static_cast<std::uint32_t>(p.cols / 8);
      }
    }
  }

  // n [256, kRank] to shared memory, rows weighted, absent ones 0.
  __device__ void load_n() const {
    constexpr int kWords = kRank / 2;
    for (int i = threadIdx.x; i < kChunkRows * kWords; i += kSkinnyThreads) {
      const int row = i / kWords, word = i % kWords;
      std::uint32_t value = 0;
      if (row < chunk.rows && first_rank + 2 * word < p.rank) {
        const std::int64_t from =
            static_cast<std::int64_t>(chunk.row + row) * p.rank + first_rank + 2 * word;
        value = *reinterpret_cast<const std::uint32_t*>(p.n + from);
        if (p.row_weight != nullptr) {
          const float w = __ldg(p.row_weight + chunk.row + row);
          value = pack_bf16(w * low_bf16(value), w * high_bf16(value));
        }
      }
      const std::uint32_t to = narrow_piece<kRank>(n_tile, row, word / 4) + word % 4 * 4;
      asm volatile("st.shared.b32 [%0], %1;" ::"r"(to), "r"(value) : "memory");
    }
  }

  // sums [32 rows of the warp, kRank] += p q^T over 64 columns
  __device__ void add_narrow(float (&sums)[2][kRank / 8][4], int stage) const {
    const std::uint32_t p_tile = ring + stage * kStage, q_tile = p_tile + kPBytes;
    const int lane = threadIdx.x & 31, warp = threadIdx.x / 32;
#pragma unroll
    for (int k = 0; k < kCols / 16; ++k) {
      std::uint32_t a[2][4];
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        load_matrix_4(a[m], swizzled(p_tile, warp * 32 + m * 16 + (lane & 15), 2 * k + lane / 16));
      }
#pragma unroll
      for (int r = 0; r < kRank / 16; ++r) {
        std::uint32_t b[4];  // two groups of 8 ranks, two of 8 columns each
        load_matrix_4(
            b, swizzled(q_tile, r * 16 + (lane & 7) + (lane / 16) * 8, 2 * k + ((lane / 8) & 1)));
#pragma unroll
        for (int m = 0; m < 2; ++m) {
          multiply_16x8x16(sums[m][2 * r], a[m], b[0], b[1]);
          multiply_16x8x16(sums[m][2 * r + 1], a[m], b[2], b[3]);
        }
      }
    }
  }

  // n^T as the left operand of the warp's 16 ranks: 16 rows each.
  using Left = std::uint32_t[kChunkRows / 16][4];
  __device__ void load_left(Left& left) const {
    const int lane = threadIdx.x & 31, r = threadIdx.x / 32 % kRankGroups;
#pragma unroll
    for (int k = 0; k < kChunkRows / 16; ++k) {
      const int row = k * 16 + (lane & 7) + (lane / 16) * 8;
      load_matrix_4_transposed(left[k], narrow_piece<kRank>(n_tile, row, 2 * r + ((lane / 8) & 1)));
    }
  }

  // The warp's ranks and columns of n^T p, stored at once.
  __device__ void store_part(const Left& left, int column, int stage) const {
    const std::uint32_t p_tile = ring + stage * kStage;
    const int lane = threadIdx.x & 31, warp = threadIdx.x / 32;
    const int r = warp % kRankGroups, first_piece = warp / kRankGroups * kPieces;
    float sums[kPieces][4]{};
#pragma unroll
    for (int k = 0; k < kChunkRows / 32; ++k) {
      if (k * 32 >= chunk.rows) break;
#pragma unroll
      for (int piece = 0; piece < kPieces; ++piece) {
        std::uint32_t b[4];  // 32 rows of 8 columns
        load_matrix_4_transposed(b, swizzled(p_tile, k * 32 + lane, first_piece + piece));
        multiply_16x8x16(sums[piece], left[2 * k], b[0], b[1]);
        multiply_16x8x16(sums[piece], left[2 * k + 1], b[2], b[3]);
      }
    }
    const int rank = first_rank + r * 16 + lane / 4;
    if (first_rank + r * 16 >= p.rank) return;
    float* part = p.parts + (static_cast<std::int64_t>(index) * p.rank + rank) * p.cols;
#pragma unroll
    for (int piece = 0; piece < kPieces; ++piece) {
      const int at = column + (first_piece + piece) * 8 + 2 * (lane & 3);
      if (at >= p.cols) return;
      *reinterpret_cast<float2*>(part + at) = {sums[piece][0], sums[piece][1]};
      *reinterpret_cast<float2*>(part + std::int64_t{8} * p.cols + at) = {sums[piece][2],
                                                                          sums[piece][3]};
    }
  }

  __device__ void store_narrow(const float (&sums)[2][kRank / 8][4]) const {
    const int lane = threadIdx.x & 31, warp = threadIdx.x / 32;
#pragma unroll
    for (int m = 0; m < 2; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = warp * 32 + m * 16 + lane / 4 + 8 * half;
        if (row >= chunk.rows) continue;
        __nv_bfloat16* to =
            p.narrow + static_cast<std::int64_t>(chunk.row + row) * p.rank + first_rank;
#pragma unroll
        for (int r = 0; r < kRank / 8; ++r) {
          if (first_rank + 8 * r >= p.rank) break;
          *reinterpret_cast<std::uint32_t*>(to + 8 * r + 2 * (lane & 3)) =
              pack_bf16(p.scale * sums[m][r][2 * half], p.scale * sums[m][r][2 * half + 1]);
        }
      }
    }
  }
};

template <int kRank, bool kNarrow, bool kParts>
__global__ void __launch_bounds__(kSkinnyThreads, kRank <= 16 ? 2 : 1)
    skinny_kernel(const __grid_constant__ SkinnyParams p) {
  extern __shared__ std::uint8_t shared[];
  const int index = blockIdx.x;
  if (index >= *p.num_chunks) return;
  const int4 entry = __ldg(reinterpret_cast<const int4*>(p.chunks) + index);
  const std::uint32_t ring = (shared_address(shared) + 127) & ~127u;
  Block<kRank> block{p,     {entry.x, entry.y, entry.z, entry.w},
                     index, static_cast<int>(blockIdx.y) / p.splits * kRank,
                     ring,  ring + kSkinnyStages * Block<kRank>::kStage,
                     {}};
  block.set_sources();
  const int per_split = (p.cols + p.splits * kCols - 1) / (p.splits * kCols) * kCols;
  const int begin = static_cast<int>(blockIdx.y) % p.splits * per_split;
  const int end = min(p.cols, begin + per_split);
  for (int i = 0; i < kSkinnyStages - 1; ++i) {
    if (begin + i * kCols < end) block.load(begin + i * kCols, i);
    copy_async_commit();
  }
  typename Block<kRank>::Left left;
  if constexpr (kParts) {
    block.load_n();
    __syncthreads();
    block.load_left(left);
  }
  float sums[2][kRank / 8][4]{};
  int stage = 0, next = kSkinnyStages - 1;
  for (int column = begin; column < end; column += kCols) {
    copy_async_wait<kSkinnyStages - 2>();
    __syncthreads();
    const int ahead = column + (kSkinnyStages - 1) * kCols;
    if (ahead < end) block.load(ahead, next);
    copy_async_commit();
    if constexpr (kNarrow) block.add_narrow(sums, stage);
    if constexpr (kParts) block.store_part(left, column, stage);
    stage = stage + 1 == kSkinnyStages ? 0 : stage + 1;
    next = next + 1 == kSkinnyStages ? 0 : next + 1;
  }
  if constexpr (kNarrow) block.store_narrow(sums);
}

template <int kRank>
void launch_rank(const SkinnyArgs& args, const SkinnyParams& p, cudaStream_t stream) {
  LaunchSettings settings{.name = "skinny"};
  settings.blocks = static_cast<int>(max_chunks(args.rows.max_rows, args.rows.num_experts));
  settings.blocks_y = static_cast<int>((args.rank + kRank - 1) / kRank) * p.splits;
  settings.threads = kSkinnyThreads;
  settings.shared_bytes = Block<kRank>::kShared;
  if (args.q != nullptr && args.n != nullptr) {
    launch(skinny_kernel<kRank, true, true>, settings, stream, p);
  } else if (args.q != nullptr) {
    launch(skinny_kernel<kRank, true, false>, settings, stream, p);
  } else {
    launch(skinny_kernel<kRank, false, true>, settings, stream, p);
  }
}

}  // namespace

std::int64_t skinny_part_elements(std::int64_t max_rows,
                                  std::int64_t num_experts,
                                  std::int64_t cols,
                                  std::int64_t rank) {
  return max_chunks(max_rows, num_experts) * cols * rank;
}

void skinny(const SkinnyArgs& args, cudaStream_t stream) {
  const TileTable table = tile_table(args.rows);
  const SkinnyParams p{
      static_cast<const uint4*>(args.p),
      static_cast<const uint4*>(args.q),
      static_cast<const __nv_bfloat16*>(args.n),
      static_cast<__nv_bfloat16*>(args.narrow),
      args.parts,
      table.chunks,
      table.num_chunks,
      args.gathered ? args.rows.row_token : nullptr,
      args.weighted ? args.rows.row_weight : nullptr,
      static_cast<int>(args.cols),
      static_cast<int>(args.rank),
      args.q == nullptr && max_chunks(args.rows.max_rows, args.rows.num_experts) < 512 ? 4 : 1,
      args.scale};
  if (args.rank == 16) {
    launch_rank<16>(args, p, stream);
  } else if (args.rank == 32) {
    launch_rank<32>(args, p, stream);
  } else {
    launch_rank<64>(args, p, stream);
  }
}

}  // namespace moesmith::kernels::sm90
