// SPDX-License-Identifier: Apache-2.0
// The multiplying half of the product in gemm.cuh, and the kernel. The epilogue of a tile is run in
// pieces while the tensor cores work on the next tile's products.
#pragma once

#include <cstdint>

#include "kernels/cuda/sm90/epilogue.cuh"
#include "kernels/cuda/sm90/gemm.cuh"
#include "kernels/cuda/sm90/ptx.cuh"
#include "kernels/cuda/sm90/wgmma.cuh"

namespace moesmith::kernels::sm90 {

// Item `item` of an epilogue; registers can only be named at compile time.
template <class Epilogue, int kN, int kItem = 0>
__device__ __forceinline__ void run_item(int item,
                                         const typename Epilogue::Params& p,
                                         const EpilogueContext& c,
                                         const std::uint32_t (&words)[kN / 4]) {
  if constexpr (kItem < Epilogue::template kItems<kN>) {
    if (item == kItem) {
      EpilogueContext now = c;
      here(now.row), here(now.rows), here(now.n_tile), here(now.quad_lane);
      return Epilogue::template item<kN, kItem>(p, now, words);
    }
    run_item<Epilogue, kN, kItem + 1>(item, p, c, words);
  }
}

template <int kCluster>
__device__ __forceinline__ void release(std::uint32_t empty) {
  if constexpr (kCluster == 2) {
    if ((threadIdx.x & 31) < 2) barrier_arrive_at(empty, threadIdx.x & 31);
  } else {
    if ((threadIdx.x & 31) == 0) barrier_arrive(empty);
  }
}

// One k block of the ring: waits for it and issues its products, which run on.
template <int kN, Major kMajor>
__device__ __forceinline__ void multiply_block(float (&sums)[kN / 2],
                                               const SharedMap& map,
                                               const RingPosition& at,
                                               int group) {
  constexpr std::uint64_t kStepB = kMajor == Major::kK ? kStepKMajor : kStepMnMajor;
  const std::uint32_t stage = map.ring + at.stage * kStageBytes<kN>;
  const std::uint64_t a = operand_k_major(stage + group * 64 * kBlockK * 2);
  const std::uint64_t b =
      kMajor == Major::kK ? operand_k_major(stage + kBytesA) : operand_mn_major(stage + kBytesA);
  barrier_wait(map.full + at.stage * 8, at.parity);
  wgmma_fence();
#pragma unroll
  for (int i = 0; i < kBlockK / 16; ++i) {
    wgmma<kN, kMajor == Major::kMn>(sums, a + i * kStepKMajor, b + i * kStepB);
  }
  wgmma_commit();
}

// The low-rank factor's k blocks, of which the last may have fewer than 64.
template <int kN, Major kMajor, int kCluster>
__device__ __forceinline__ void multiply_factor(
    float (&sums)[kN / 2], const SharedMap& map, RingPosition& at, int group, int rank) {
  constexpr std::uint64_t kStepB = kMajor == Major::kK ? kStepKMajor : kStepMnMajor;
  for (int left = rank; left > 0; left -= kBlockK) {
    const std::uint32_t stage = map.ring + at.stage * kStageBytes<kN>;
    const std::uint64_t a = operand_k_major(stage + group * 64 * kBlockK * 2);
    const std::uint64_t b =
        kMajor == Major::kK ? operand_k_major(stage + kBytesA) : operand_mn_major(stage + kBytesA);
    barrier_wait(map.full + at.stage * 8, at.parity);
    const int steps = min(kBlockK, left) / 16;
#pragma unroll 1
    for (int i = 0; i < steps; ++i) {
      wgmma_fence();
      wgmma<kN, kMajor == Major::kMn>(sums, a + i * kStepKMajor, b + i * kStepB);
      wgmma_commit();
      wgmma_wait<0>();
    }
    release<kCluster>(map.empty + at.stage * 8);
    at.advance<kStages<kN>>();
  }
}

// Stages of a tile in which this warpgroup has no rows.
template <int kCluster, int kCount>
__device__ __forceinline__ void pass_over(const SharedMap& map, RingPosition& at, int blocks) {
  for (int block = 0; block < blocks; ++block) {
    barrier_wait(map.full + at.stage * 8, at.parity);
    release<kCluster>(map.empty + at.stage * 8);
    at.advance<kCount>();
  }
}

template <int kN, Major kMajor, int kCluster, class Epilogue>
__device__ __forceinline__ void consume(const GemmParams& p,
                                        const typename Epilogue::Params& epilogue,
                                        const SharedMap& map) {
  constexpr int kCount = kStages<kN>, kItems = Epilogue::template kItems<kN>;
  const int group = threadIdx.x / 128 - 1;
  const int lane = threadIdx.x & 31;
  const int total_rows = *p.num_tiles;
  const int total = total_rows * p.n_tiles;
  const int main_blocks = ((p.k + kBlockK - 1) / kBlockK) * p.k_pairs;
  const int factor_blocks = (p.rank + kBlockK - 1) / kBlockK;
  RingPosition at;
  int index = blockIdx.x / kCluster;
  if (index >= total) return;
  TilePlace place = tile_place<kCluster>(p, index, total_rows);
  // The tile before: its packed sums, and which of its epilogue's items comes next.
  std::uint32_t words[kN / 4];
  EpilogueContext context{};
  int item = kItems;
  for (int turn = 0;; ++turn) {
    const bool ends = index >= total, works = !ends && place.rows > group * 64;
    float sums[kN / 2];
    if (works) {
#pragma unroll
      for (float& sum : sums) sum = 0.0f;
      std::uint32_t previous = 0;
      for (int block = 0; block < main_blocks; ++block) {
        multiply_block<kN, kMajor>(sums, map, at, group);
        wgmma_wait<1>();
        if (block > 0) release<kCluster>(previous);
        previous = map.empty + at.stage * 8;
        at.advance<kCount>();
        if constexpr (Epilogue::kDeferred) {
          if (item < kItems) run_item<Epilogue, kN>(item++, epilogue, context, words);
        }
      }
      wgmma_wait<0>();
      release<kCluster>(previous);
    }
    while (item < kItems) run_item<Epilogue, kN>(item++, epilogue, context, words);
    if (ends) return;
    if (!works) pass_over<kCluster, kCount>(map, at, main_blocks + factor_blocks);
    TilePlace next{};
    if constexpr (kCluster == 1) {
      const int slot = turn & 1;
      barrier_wait(map.tile_full + 8 * slot, (turn >> 1) & 1);
      index = load_shared(map.tile_index + 4 * slot);
      __syncwarp();
      if (lane == 0) barrier_arrive(map.tile_empty + 8 * slot);
    } else {
      index += gridDim.x / kCluster;
    }
    if (index < total) next = tile_place<kCluster>(p, index, total_rows);
    if (works) {
      multiply_factor<kN, kMajor, kCluster>(sums, map, at, group, p.rank);
      const int row_in_group = (threadIdx.x / 32 % 4) * 16 + lane / 4;
      context = {place.expert, place.row + group * 64 + row_in_group,
                 place.rows - group * 64 - row_in_group, place.n_tile, lane & 3};
      if constexpr (Epilogue::kDeferred) {
        Epilogue::template pack<kN>(epilogue, context, sums, words);
        item = 0;
      } else {
        Epilogue::template store<kN>(epilogue, context, sums);
      }
    }
    place = next;
  }
}

template <int kN, Major kMajor, bool kGather, int kCluster, class Epilogue>
__global__ void __launch_bounds__(kThreads, 1)
    grouped_product(const __grid_constant__ GemmParams p,
                    const __grid_constant__ typename Epilogue::Params epilogue) {
  extern __shared__ std::uint8_t shared[];
  constexpr int kCount = kStages<kN>;
  const SharedMap map(shared_address(shared), kCount);
  start_barriers<kCluster>(map, kCount, kGather ? 129 : 1, p.b);
  if (threadIdx.x < 128) {
    registers_give<kProducerRegisters<kGather>>();
    produce<kN, kMajor, kGather, kCluster>(p, map);
  } else {
    registers_take<kConsumerRegisters<kGather>>();
    consume<kN, kMajor, kCluster, Epilogue>(p, epilogue, map);
  }
  end_cluster<kCluster>();
}

}  // namespace moesmith::kernels::sm90
