// SPDX-License-Identifier: Apache-2.0
// The product all projections share: for each expert e, C [rows of e, N] = A B_e^T over k blocks of
// 64, then over the low-rank factor's blocks, then an epilogue on the f32 sums. A block of three
// warpgroups takes tiles of 128 x kN one after the other: warpgroup 0 copies operands into a ring
// of stages (here), warpgroups 1 and 2 each multiply 64 rows (consume.cuh). A's rows are gathered
// by token (cp.async) or contiguous (tensor map); B always comes through a tensor map. With
// kCluster = 2 two blocks take neighbouring row tiles of one expert and each fetches half of B for
// both.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/cuda/sm90/ptx.cuh"
#include "kernels/cuda/sm90/sm90.h"

namespace moesmith::kernels::sm90 {

// How the k index of B lies: contiguous, or with n contiguous (wgmma transposes it).
enum class Major { kK, kMn };

inline constexpr int kBlockK = 64;
inline constexpr int kThreads = 384;
inline constexpr int kBytesA = kTileRows * kBlockK * 2;
inline constexpr int kSharedLimit = 227 * 1024;

template <int kN>
inline constexpr int kStageBytes = kBytesA + kN* kBlockK * 2;
template <int kN>
inline constexpr int kStages = (kSharedLimit - 2048) / kStageBytes<kN>;
// Registers per thread after the hand-over: the launch bound's 168 for all three, divided anew.
template <bool kGather>
inline constexpr int kProducerRegisters = 40;
template <bool kGather>
inline constexpr int kConsumerRegisters = 232;
template <int kN>
inline constexpr int kSharedBytes = kStages<kN>* kStageBytes<kN> + 2048;

// Where an expert's matrix lies, in units of 16 bytes from the tensor map's base: the map's last
// dimension has that stride, so that matrices may lie anywhere.
struct OperandPlace {
  const void* const* table[2];  // [E] of each pair; null: strides
  const void* base;
  int expert_16, pair_16;
};

// What every product needs; the epilogue's own parameters follow it.
struct GemmParams {
  CUtensorMap a;         // contiguous A: (k, row, pair)
  CUtensorMap b;         // (inner, outer, place)
  CUtensorMap factor_a;  // u: (rank, row, 0)
  CUtensorMap factor_b;  // as b
  OperandPlace place_b, place_factor;
  const RowTile* tiles;
  const int* num_tiles;
  int* next_tile;             // tiles taken beyond each block's first; 0 between launches
  int* blocks_done;           // blocks that have seen the last tile; 0 between launches
  const int* row_token;       // gathered A
  const __nv_bfloat16* x;     // gathered A
  std::uint32_t x_stride_16;  // its row stride, in units of 16 bytes
  int k;                      // of one pair
  int k_pairs;                // pairs that follow each other along k
  int rank;                   // r16
  int n_tiles;
  int n_pairs;  // 2: the tile's columns are half gate, half up
  int group;    // row tiles that are walked before the next column tile
};

// Where a block is: which rows, which columns.
struct TilePlace {
  int expert, row, rows;  // rows: how many of kTileRows exist
  int n_tile;
};

// What an epilogue learns about its warpgroup's 64 rows.
struct EpilogueContext {
  int expert;
  int row;   // first of this thread's two rows, the other is 8 further
  int rows;  // rows that exist, counted from `row`: the first is stored if > 0, the other if > 8
  int n_tile;
  int quad_lane;
};

template <int kCluster>
__device__ __forceinline__ TilePlace tile_place(const GemmParams& p, int index, int total_rows) {
  const int per_group = p.group * p.n_tiles;
  const int g = index / per_group;
  const int within = index - g * per_group;
  const int size = min(p.group, total_rows - g * p.group);
  const int n_tile = within / size;
  const int4 tile =
      __ldg(reinterpret_cast<const int4*>(p.tiles) + g * p.group + within - n_tile * size);
  TilePlace place{tile.x, tile.y, tile.z, n_tile};
  if constexpr (kCluster == 2) {
    // Two warpgroups' worth of rows each, or one each where there are no more.
    const int each = tile.z > kTileRows ? kTileRows : 64;
    const int first = static_cast<int>(cluster_rank()) * each;
    place.row += first;
    place.rows = max(0, min(each, tile.z - first));
  }
  return place;
}

// Shared-memory addresses of the barriers and of the two slots in which the producer tells which
// tile comes next.
struct SharedMap {
  std::uint32_t full, empty;            // [stages]
  std::uint32_t tile_full, tile_empty;  // [2]
  std::uint32_t tile_index;             // [2], for the consumers
  std::uint32_t own_index;              // [2], among the producers
  std::uint32_t ring;

  __device__ __forceinline__ SharedMap(std::uint32_t base, int stages)
      : full(base),
        empty(full + 8 * stages),
        tile_full(empty + 8 * stages),
        tile_empty(tile_full + 16),
        tile_index(tile_empty + 16),
        own_index(tile_index + 8),
        ring((own_index + 8 + 1023) & ~1023u) {}
};

// Before the first barrier is used: `arrivals` fill a stage, two warpgroups of each block of the
// cluster empty it.
template <int kCluster>
__device__ __forceinline__ void start_barriers(const SharedMap& map,
                                               int stages,
                                               int arrivals,
                                               const CUtensorMap& soon_read) {
  if (threadIdx.x == 0) {
    tensor_map_prefetch(&soon_read);
    for (int i = 0; i < stages; ++i) {
      barrier_init(map.full + 8 * i, arrivals);
      barrier_init(map.empty + 8 * i, 8 * kCluster);
    }
    for (int i = 0; i < 2; ++i) {
      barrier_init(map.tile_full + 8 * i, 1);
      barrier_init(map.tile_empty + 8 * i, 8);
    }
    barrier_init_fence();
  }
  if constexpr (kCluster == 2) {
    cluster_sync();
  } else {
    __syncthreads();
  }
}
// A block's shared memory stays until its neighbour has written and read all of it.
template <int kCluster>
__device__ __forceinline__ void end_cluster() {
  if constexpr (kCluster == 2) {
    __syncwarp();
    cluster_sync();
  }
}

__device__ __forceinline__ void store_shared(std::uint32_t to, int value) {
  asm volatile("st.shared.b32 [%0], %1;" ::"r"(to), "r"(value) : "memory");
}
__device__ __forceinline__ int load_shared(std::uint32_t from) {
  int value;
  asm volatile("ld.shared.b32 %0, [%1];" : "=r"(value) : "r"(from) : "memory");
  return value;
}

// The last block to leave puts the counters back.
__device__ __forceinline__ void leave(const GemmParams& p) {
  __threadfence();
  if (atomicAdd(p.blocks_done, 1) == static_cast<int>(gridDim.x) - 1) {
    *p.next_tile = 0;
    *p.blocks_done = 0;
  }
}

// The ring's position: which stage, and which time round.
struct RingPosition {
  int stage = 0;
  std::uint32_t parity = 0;

  template <int kCount>
  __device__ __forceinline__ void advance() {
    if (++stage == kCount) {
      stage = 0;
      parity ^= 1;
    }
  }
};

// The two pairs' places of an expert's matrix.
__device__ __forceinline__ int2 operand_places(const OperandPlace& p, int expert) {
  if (p.table[0] == nullptr) {
    const int first = expert * p.expert_16;
    return {first, first + p.pair_16};
  }
  const auto place = [&](int pair) {
    const auto at = __ldg(reinterpret_cast<const unsigned long long*>(p.table[pair]) + expert);
    return static_cast<int>((at - reinterpret_cast<std::uintptr_t>(p.base)) >> 4);
  };
  return {place(0), place(1) + p.pair_16};
}

// Issues one block of B: columns [.., +kN) of the tile, k in [k0, k0 + 64).
template <int kN, Major kMajor, int kCluster>
__device__ __forceinline__ void load_b(const GemmParams& p,
                                       const CUtensorMap* map,
                                       std::uint32_t to,
                                       std::uint32_t barrier,
                                       int2 places,
                                       int n_tile,
                                       int k0,
                                       int k_pair) {
  const auto load = [&](std::uint32_t offset, int c0, int c1, int pair) {
    const int c2 = pair == 0 ? places.x : places.y;
    if constexpr (kCluster == 2) {
      tensor_load_3d_multicast(to + offset, map, barrier, c0, c1, c2, 3);
    } else {
      tensor_load_3d(to + offset, map, barrier, c0, c1, c2);
    }
  };
  const int rank = kCluster == 2 ? static_cast<int>(cluster_rank()) : 0;
  if constexpr (kMajor == Major::kK) {
#pragma unroll
    for (int part = 0; part < 2; ++part) {
      if (kCluster == 2 && part != rank) continue;
      const bool paired = p.n_pairs == 2;
      const int row = paired ? n_tile * (kN / 2) : n_tile * kN + part * (kN / 2);
      load(part * (kN / 2) * kBlockK * 2, k0, row, paired ? part : k_pair);
    }
  } else {
    constexpr int kBoxes = kN / 64;
#pragma unroll
    for (int box = 0; box < kBoxes; ++box) {
      const bool paired = p.n_pairs == 2;
      const int in_pair = paired ? box % (kBoxes / 2) : box;
      const int column = n_tile * (paired ? kN / 2 : kN) + in_pair * 64;
      const int pair = paired ? box / (kBoxes / 2) : k_pair;
      // In a cluster each block fetches 32 of the 64 along k.
      load(box * 8192 + rank * 4096, column, k0 + rank * 32, pair);
    }
  }
}

// Copies one k block of gathered rows; `source` holds each row's offset in units of 16 bytes.
__device__ __forceinline__ void gather_a(const GemmParams& p,
                                         const std::uint32_t (&source)[8],
                                         std::uint32_t to,
                                         int k0) {
  const int column = k0 + (threadIdx.x & 7) * 8;
  const int bytes = column < p.k ? 16 : 0;
  const std::uint32_t column_16 = bytes ? column / 8 : 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (source[i] == ~0u) continue;
    copy_async_16(
        to + i * 2048,
        reinterpret_cast<const uint4*>(p.x) + (static_cast<std::uint64_t>(source[i]) + column_16),
        bytes);
  }
}

template <int kN, Major kMajor, bool kGather, int kCluster>
__device__ __forceinline__ void produce(const GemmParams& p, const SharedMap& map) {
  constexpr int kCount = kStages<kN>;
  const std::uint32_t ring = map.ring, full = map.full, empty = map.empty;
  const int thread = threadIdx.x;
  if (!kGather && thread != 0) return;
  const int total_rows = *p.num_tiles;
  const int total = total_rows * p.n_tiles;
  const int per_pair = (p.k + kBlockK - 1) / kBlockK;
  const int main_blocks = per_pair * p.k_pairs;
  const int blocks = main_blocks + (p.rank + kBlockK - 1) / kBlockK;
  // Eight threads copy a row's 128 bytes; the 16-byte pieces are swizzled as the tensor maps do.
  const int lane_row = thread / 8;
  const std::uint32_t to_in_stage = lane_row * 128 + (((thread & 7) ^ (lane_row & 7)) << 4);
  RingPosition at{0, 1};
  const int tell_at = min(4, blocks - 1);
  int index = blockIdx.x / kCluster;
  for (int turn = 0; index < total; ++turn) {
    // Blocks take tiles in order as they come free, so that those which share operands run at the
    // same time and find them in L2. A cluster's blocks share by multicast: fixed steps do.
    int next = index + gridDim.x / kCluster;
    if (kCluster == 1 && thread == 0)
      next = static_cast<int>(gridDim.x) + atomicAdd(p.next_tile, 1);
    const TilePlace place = tile_place<kCluster>(p, index, total_rows);
    const int2 places = operand_places(p.place_b, place.expert);
    const int2 factor_places = operand_places(p.place_factor, place.expert);
    std::uint32_t source[8];
    if constexpr (kGather) {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const int row = i * 16 + lane_row;
        source[i] =
            row < place.rows
                ? static_cast<std::uint32_t>(__ldg(p.row_token + place.row + row)) * p.x_stride_16
                : ~0u;
      }
    }
    int pair = 0, k0 = 0;
    for (int block = 0; block < blocks; ++block) {
      const std::uint32_t stage = ring + at.stage * kStageBytes<kN>;
      const std::uint32_t barrier = full + at.stage * 8;
      barrier_wait(empty + at.stage * 8, at.parity);
      const bool is_main = block < main_blocks;
      if (kCluster == 1 && thread == 0 && block == tell_at) {
        const int slot = turn & 1;
        barrier_wait(map.tile_empty + 8 * slot, ((turn >> 1) & 1) ^ 1);
        store_shared(map.tile_index + 4 * slot, next);
        barrier_arrive(map.tile_full + 8 * slot);
      }
      if (thread == 0) {
        const bool copies_a = !kGather || !is_main;
        barrier_arrive_expect(barrier, kN * kBlockK * 2 + (copies_a ? kBytesA : 0));
        if (is_main) {
          load_b<kN, kMajor, kCluster>(p, &p.b, stage + kBytesA, barrier, places, place.n_tile, k0,
                                       pair);
          if (!kGather) tensor_load_3d(stage, &p.a, barrier, k0, place.row, pair);
        } else {
          const int r0 = (block - main_blocks) * kBlockK;
          load_b<kN, kMajor, kCluster>(p, &p.factor_b, stage + kBytesA, barrier, factor_places,
                                       place.n_tile, r0, 0);
          tensor_load_3d(stage, &p.factor_a, barrier, r0, place.row, 0);
        }
      }
      if constexpr (kGather) {
        if (is_main) gather_a(p, source, stage + to_in_stage, k0);
        copy_async_arrive(barrier);
      }
      k0 += kBlockK;
      if (k0 >= p.k) {
        k0 = 0;
        ++pair;
      }
      at.advance<kCount>();
    }
    if constexpr (kGather && kCluster == 1) {
      const std::uint32_t slot = map.own_index + 4 * (turn & 1);
      if (thread == 0) store_shared(slot, next);
      asm volatile("bar.sync 1, 128;" ::: "memory");
      next = load_shared(slot);
    }
    index = next;
  }
  if (kCluster == 1 && thread == 0) leave(p);
}

}  // namespace moesmith::kernels::sm90
