// SPDX-License-Identifier: Apache-2.0
// The sum over rows: for each expert, out [m, n] = left^T right, where k runs over the expert's
// rows in blocks of 64. A block of three warpgroups takes tiles of 128 x 256 one after the other:
// warpgroup 0 fills a ring of stages, warpgroups 1 and 2 each multiply 64 of m. Both operands lie
// with k across, boxes of 64 k x 64 columns. One side is gathered by token (cp.async), the other
// comes by tensor map; in the last block of an expert, which the rows of the next would follow,
// both are copied by row and filled up with zeros. With kCluster = 2 two blocks take tiles that
// share the contiguous side, and each fetches half of it for both.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/cuda/sm90/consume.cuh"
#include "kernels/cuda/sm90/epilogue.cuh"
#include "kernels/cuda/sm90/gemm.cuh"
#include "kernels/cuda/sm90/ptx.cuh"
#include "kernels/cuda/sm90/weight_gradient.h"
#include "kernels/cuda/sm90/wgmma.cuh"

namespace moesmith::kernels::sm90 {

inline constexpr int kTileM = 128, kTileN = 256;
inline constexpr int kBoxBytes = 64 * 64 * 2;
inline constexpr int kLeftBytes = kTileM / 64 * kBoxBytes;
inline constexpr int kSumStageBytes = kLeftBytes + kTileN / 64 * kBoxBytes;
inline constexpr int kSumStages = 4;
inline constexpr int kSumShared = kSumStages * kSumStageBytes + 2048;
inline constexpr int kSumThreads = 384;

struct WeightGradientParams {
  CUtensorMap contiguous;  // (column, row, 0)
  const uint4* by_row;     // the same rows
  const uint4* by_token;   // the gathered ones
  const int* row_token;    // [R]
  const int* offsets;      // [E + 1]
  int* next_tile;          // as GemmParams have them
  int* blocks_done;
  int num_experts;
  int m, n;
  int m_units, n_units;  // tiles, or pairs of them in the direction of a cluster
  int band;              // units of m walked before the next unit of n
};

// A tile of one expert's matrix, and the rows it is summed over.
struct SumPlace {
  int expert, row, rows;
  int m_tile, n_tile;
};

template <bool kGatherLeft, int kCluster>
__device__ __forceinline__ SumPlace sum_place(const WeightGradientParams& p, int index) {
  const int per_expert = p.m_units * p.n_units;
  SumPlace place{};
  place.expert = index / per_expert;
  const int within = index - place.expert * per_expert;
  const int band = within / (p.band * p.n_units);
  const int in_band = within - band * p.band * p.n_units;
  const int size = min(p.band, p.m_units - band * p.band);
  place.n_tile = in_band / size;
  place.m_tile = band * p.band + in_band - place.n_tile * size;
  if constexpr (kCluster == 2) {
    int& shared_along = kGatherLeft ? place.m_tile : place.n_tile;
    shared_along = 2 * shared_along + static_cast<int>(cluster_rank());
  }
  place.row = __ldg(p.offsets + place.expert);
  place.rows = __ldg(p.offsets + place.expert + 1) - place.row;
  return place;
}

// What one thread of the producers does for one side: rows of 128 bytes by eight lanes, 16 rows a
// warp.
template <int kBoxes>
struct SideCopy {
  const uint4* from;  // at the thread's piece of the tile's first box
  int boxes;          // of this piece that exist
  std::uint32_t to_in_stage;

  __device__ __forceinline__ SideCopy(const uint4* base, int tile, int width, int offset) {
    const int piece = threadIdx.x & 7, lane_row = (threadIdx.x & 31) / 8;
    const int column = tile * kBoxes * 64 + piece * 8;
    boxes = column < width ? (width - column + 63) / 64 : 0;
    from = base + (column < width ? column / 8 : 0);
    to_in_stage = offset + (threadIdx.x / 32 * 16 + lane_row) * 128 + ((piece ^ lane_row) << 4);
  }

  // Lane i of each 16 holds in `source` where row i of the warp begins, in units of 16 bytes.
  __device__ __forceinline__ void copy(std::uint32_t stage, std::uint32_t source) const {
    const int lane_row = (threadIdx.x & 31) / 8;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const std::uint32_t row = __shfl_sync(~0u, source, 4 * j + lane_row);
      const uint4* at = from + (row != ~0u ? row : 0u);
      const std::uint32_t to = stage + (to_in_stage ^ (j & 1 ? 64 : 0)) + j * 512;
#pragma unroll
      for (int box = 0; box < kBoxes; ++box) {
        copy_async_16(to + box * kBoxBytes, at + box * 8, row != ~0u && box < boxes ? 16 : 0);
      }
    }
  }
};

// The contiguous side of a whole block by tensor map; in a cluster, this block's half for both.
template <int kBoxes, int kCluster>
__device__ __forceinline__ void load_boxes(
    const CUtensorMap* map, std::uint32_t to, std::uint32_t barrier, int tile, int row) {
#pragma unroll
  for (int i = 0; i < kBoxes / kCluster; ++i) {
    const int box = kCluster == 2 ? cluster_rank() * (kBoxes / 2) + i : i;
    const int column = (tile * kBoxes + box) * 64;
    if constexpr (kCluster == 2) {
      tensor_load_3d_multicast(to + box * kBoxBytes, map, barrier, column, row, 0, 3);
    } else {
      tensor_load_3d(to + box * kBoxBytes, map, barrier, column, row, 0);
    }
  }
}

template <bool kGatherLeft, int kCluster>
__device__ __forceinline__ void produce_sum(const WeightGradientParams& p, const SharedMap& map) {
  constexpr int kCount = kSumStages;
  constexpr int kLeftBoxes = kTileM / 64, kRightBoxes = kTileN / 64;
  constexpr int kGatheredBoxes = kGatherLeft ? kLeftBoxes : kRightBoxes;
  constexpr int kContiguousBoxes = kGatherLeft ? kRightBoxes : kLeftBoxes;
  constexpr int kGatheredOffset = kGatherLeft ? 0 : kLeftBytes;
  constexpr int kContiguousOffset = kGatherLeft ? kLeftBytes : 0;
  const int thread = threadIdx.x, row_in_block = thread / 32 * 16 + (thread & 15);
  const int gathered_width = kGatherLeft ? p.m : p.n;
  const int contiguous_width = kGatherLeft ? p.n : p.m;
  const int total = p.num_experts * p.m_units * p.n_units;
  RingPosition at{0, 1};
  int index = blockIdx.x / kCluster;
  for (int turn = 0; index < total; ++turn) {
    int next = index + gridDim.x / kCluster;
    if (kCluster == 1 && thread == 0)
      next = static_cast<int>(gridDim.x) + atomicAdd(p.next_tile, 1);
    const SumPlace place = sum_place<kGatherLeft, kCluster>(p, index);
    const int blocks = (place.rows + kBlockK - 1) / kBlockK, whole = place.rows / kBlockK;
    const int gathered_tile = kGatherLeft ? place.m_tile : place.n_tile;
    const int contiguous_tile = kGatherLeft ? place.n_tile : place.m_tile;
    const auto source = [&](int block) {
      const int row = block * kBlockK + row_in_block;
      if (row >= place.rows) return ~0u;
      return static_cast<std::uint32_t>(__ldg(p.row_token + place.row + row)) *
             static_cast<std::uint32_t>(gathered_width / 8);
    };
    const auto tell = [&] {
      const int slot = turn & 1;
      barrier_wait(map.tile_empty + 8 * slot, ((turn >> 1) & 1) ^ 1);
      store_shared(map.tile_index + 4 * slot, next);
      barrier_arrive(map.tile_full + 8 * slot);
    };
    const SideCopy<kGatheredBoxes> gathered(p.by_token, gathered_tile, gathered_width,
                                            kGatheredOffset);
    const int tell_at = min(4, blocks - 1);
    std::uint32_t ahead = source(0);
    for (int block = 0; block < blocks; ++block) {
      const std::uint32_t stage = map.ring + at.stage * kSumStageBytes;
      const std::uint32_t barrier = map.full + at.stage * 8;
      const std::uint32_t now = ahead;
      ahead = source(block + 1);
      barrier_wait(map.empty + at.stage * 8, at.parity);
      if (kCluster == 1 && thread == 0 && block == tell_at) tell();
      if (block < whole) {
        if (thread == 0) {
          barrier_arrive_expect(barrier, kContiguousBoxes * kBoxBytes);
          load_boxes<kContiguousBoxes, kCluster>(&p.contiguous, stage + kContiguousOffset, barrier,
                                                 contiguous_tile, place.row + block * kBlockK);
        }
      } else {
        if (thread == 0) barrier_arrive(barrier);
        const int row = block * kBlockK + row_in_block;
        const SideCopy<kContiguousBoxes> contiguous(p.by_row, contiguous_tile, contiguous_width,
                                                    kContiguousOffset);
        contiguous.copy(stage, row < place.rows
                                   ? static_cast<std::uint32_t>(place.row + row) *
                                         static_cast<std::uint32_t>(contiguous_width / 8)
                                   : ~0u);
      }
      gathered.copy(stage, now);
      copy_async_arrive(barrier);
      at.advance<kCount>();
    }
    if constexpr (kCluster == 1) {
      if (thread == 0 && blocks == 0) tell();
      const std::uint32_t slot = map.own_index + 4 * (turn & 1);
      if (thread == 0) store_shared(slot, next);
      asm volatile("bar.sync 1, 128;" ::: "memory");
      next = load_shared(slot);
    }
    index = next;
  }
  if (kCluster == 1 && thread == 0) {
    // As leave() for the row products: the last block puts the counters back.
    __threadfence();
    if (atomicAdd(p.blocks_done, 1) == static_cast<int>(gridDim.x) - 1) {
      *p.next_tile = 0;
      *p.blocks_done = 0;
    }
  }
}

// Where sums go. A deferred store rounds them and runs in pieces under the next tile's products;
// the other one reads and adds, or stores f32, at once.
template <bool kIsDeferred>
struct WeightEpilogue {
  static constexpr bool kDeferred = kIsDeferred;
  template <int kN>
  static constexpr int kItems = kDeferred ? kN / 32 : 0;

  struct Params {
    void* out;  // [E, m, n]
    int m, n;
    bool interleaved, out_f32, accumulate;
  };

  // Where the row of a half begins.
  __device__ __forceinline__ static std::int64_t row_at(const Params& p,
                                                        const EpilogueContext& c,
                                                        int half) {
    int row = c.row + 8 * half;
    if (p.interleaved) row = row < p.m / 2 ? 2 * row : 2 * (row - p.m / 2) + 1;
    return (static_cast<std::int64_t>(c.expert) * p.m + row) * p.n;
  }

  template <int kN>
  __device__ __forceinline__ static void pack(const Params&,
                                              const EpilogueContext&,
                                              const float (&sums)[kN / 2],
                                              std::uint32_t (&words)[kN / 4]) {
    pack_words<kN>(sums, words);
  }
  template <int kN, int kItem>
  __device__ __forceinline__ static void item(const Params& p,
                                              const EpilogueContext& c,
                                              const std::uint32_t (&words)[kN / 4]) {
    const int column = c.n_tile * kN + 32 * kItem;
    if (column >= p.n) return;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      std::uint32_t w[4];
      words_of(words, kItem, half, w);
      store_natural<true>(static_cast<__nv_bfloat16*>(p.out) + row_at(p, c, half), column, p.n,
                          c.quad_lane, w, c.rows > 8 * half);
    }
  }

  // Sixteen pairs at a time, so that as many reads are in flight.
  template <int kN>
  __device__ __forceinline__ static void store(const Params& p,
                                               const EpilogueContext& c,
                                               const float (&sums)[kN / 2]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const bool exists = c.rows > 8 * half;
      const std::int64_t row = row_at(p, c, half);
#pragma unroll
      for (int first = 0; first < kN / 8; first += 8) {
        float2 old[8]{};
        const auto each = [&](auto&& f) {
#pragma unroll
          for (int j = 0; j < 8; ++j) {
            const int column = c.n_tile * kN + 8 * (first + j) + 2 * c.quad_lane;
            if (exists && column < p.n) f(j, row + column);
          }
        };
        if (p.accumulate) {
          each([&](int j, std::int64_t at) {
            if (p.out_f32) {
              old[j] = *reinterpret_cast<const float2*>(static_cast<const float*>(p.out) + at);
            } else {
              const std::uint32_t word = *reinterpret_cast<const std::uint32_t*>(
                  static_cast<const __nv_bfloat16*>(p.out) + at);
              old[j] = {low_bf16(word), high_bf16(word)};
            }
          });
        }
        each([&](int j, std::int64_t at) {
          const float low = old[j].x + sums[4 * (first + j) + 2 * half];
          const float high = old[j].y + sums[4 * (first + j) + 2 * half + 1];
          if (p.out_f32) {
            *reinterpret_cast<float2*>(static_cast<float*>(p.out) + at) = {low, high};
          } else {
            *reinterpret_cast<std::uint32_t*>(static_cast<__nv_bfloat16*>(p.out) + at) =
                pack_bf16(low, high);
          }
        });
      }
    }
  }
};

// One block of 64 rows, or the first 16 * steps of the last one.
__device__ __forceinline__ void multiply_rows(float (&sums)[kTileN / 2],
                                              const SharedMap& map,
                                              const RingPosition& at,
                                              int group) {
  const std::uint32_t stage = map.ring + at.stage * kSumStageBytes;
  const std::uint64_t a = operand_mn_major(stage + group * kBoxBytes);
  const std::uint64_t b = operand_mn_major(stage + kLeftBytes);
  barrier_wait(map.full + at.stage * 8, at.parity);
  wgmma_fence();
#pragma unroll
  for (int i = 0; i < kBlockK / 16; ++i) {
    wgmma<kTileN, 1, 1>(sums, a + i * kStepMnMajor, b + i * kStepMnMajor);
  }
  wgmma_commit();
}
__device__ __forceinline__ void multiply_last_rows(
    float (&sums)[kTileN / 2], const SharedMap& map, const RingPosition& at, int group, int rows) {
  const std::uint32_t stage = map.ring + at.stage * kSumStageBytes;
  const std::uint64_t a = operand_mn_major(stage + group * kBoxBytes);
  const std::uint64_t b = operand_mn_major(stage + kLeftBytes);
  barrier_wait(map.full + at.stage * 8, at.parity);
#pragma unroll 1
  for (int i = 0; 16 * i < rows; ++i) {
    wgmma_fence();
    wgmma<kTileN, 1, 1>(sums, a + i * kStepMnMajor, b + i * kStepMnMajor);
    wgmma_commit();
    wgmma_wait<0>();
  }
}

template <bool kGatherLeft, int kCluster, class Epilogue>
__device__ __forceinline__ void consume_sum(const WeightGradientParams& p,
                                            const typename Epilogue::Params& epilogue,
                                            const SharedMap& map) {
  constexpr int kCount = kSumStages, kItems = Epilogue::template kItems<kTileN>;
  const int group = threadIdx.x / 128 - 1;
  const int lane = threadIdx.x & 31;
  const int total = p.num_experts * p.m_units * p.n_units;
  RingPosition at;
  int index = blockIdx.x / kCluster;
  // The tile before: its packed sums, and which of its epilogue's items comes next.
  std::uint32_t words[kTileN / 4];
  EpilogueContext context{};
  int item = kItems;
  for (int turn = 0;; ++turn) {
    const bool ends = index >= total;
    SumPlace place{};
    if (!ends) place = sum_place<kGatherLeft, kCluster>(p, index);
    const int whole = place.rows / kBlockK, rest = place.rows % kBlockK;
    const bool works = !ends && place.m_tile * kTileM + group * 64 < p.m &&
                       !(epilogue.accumulate && place.rows == 0);
    float sums[kTileN / 2];
    if (works) {
#pragma unroll
      for (float& sum : sums) sum = 0.0f;
      std::uint32_t previous = 0;
      for (int block = 0; block < whole; ++block) {
        multiply_rows(sums, map, at, group);
        wgmma_wait<1>();
        if (block > 0) release<kCluster>(previous);
        previous = map.empty + at.stage * 8;
        at.advance<kCount>();
        if constexpr (Epilogue::kDeferred) {
          if (item < kItems) run_item<Epilogue, kTileN>(item++, epilogue, context, words);
        }
      }
      wgmma_wait<0>();
      if (whole > 0) release<kCluster>(previous);
    }
    while (item < kItems) run_item<Epilogue, kTileN>(item++, epilogue, context, words);
    if (ends) return;
    if (!works) pass_over<kCluster, kCount>(map, at, whole + (rest > 0 ? 1 : 0));
    if constexpr (kCluster == 1) {
      const int slot = turn & 1;
      barrier_wait(map.tile_full + 8 * slot, (turn >> 1) & 1);
      index = load_shared(map.tile_index + 4 * slot);
      __syncwarp();
      if (lane == 0) barrier_arrive(map.tile_empty + 8 * slot);
    } else {
      index += gridDim.x / kCluster;
    }
    if (!works) continue;
    if (rest > 0) {
      multiply_last_rows(sums, map, at, group, rest);
      release<kCluster>(map.empty + at.stage * 8);
      at.advance<kCount>();
    }
    const int row = place.m_tile * kTileM + group * 64 + (threadIdx.x / 32 % 4) * 16 + lane / 4;
    context = {place.expert, row, p.m - row, place.n_tile, lane & 3};
    if constexpr (Epilogue::kDeferred) {
      Epilogue::template pack<kTileN>(epilogue, context, sums, words);
      item = 0;
    } else {
      Epilogue::template store<kTileN>(epilogue, context, sums);
    }
  }
}

template <bool kGatherLeft, int kCluster, class Epilogue>
__global__ void __launch_bounds__(kSumThreads, 1)
    summed_product(const __grid_constant__ WeightGradientParams p,
                   const __grid_constant__ typename Epilogue::Params epilogue) {
  extern __shared__ std::uint8_t shared[];
  constexpr int kCount = kSumStages;
  const SharedMap map(shared_address(shared), kCount);
  start_barriers<kCluster>(map, kCount, 129, p.contiguous);
  if (threadIdx.x < 128) {
    registers_give<40>();
    produce_sum<kGatherLeft, kCluster>(p, map);
  } else {
    registers_take<232>();
    consume_sum<kGatherLeft, kCluster, Epilogue>(p, epilogue, map);
  }
  end_cluster<kCluster>();
}

// One source file for each gathered side, so that each compiles in seconds.
template <bool kGatherLeft>
void launch_weight_gradient(const WeightGradientArgs& args, cudaStream_t stream);

}  // namespace moesmith::kernels::sm90
