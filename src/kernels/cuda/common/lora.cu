// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/common/lora.h"

#include "cuda/launch.cuh"
#include "kernels/cuda/common/values.cuh"

namespace moesmith::kernels::gpu {
namespace {

constexpr int kThreads = 256, kSquare = 32;

__device__ void store_packed(void* to, bool is_f32, std::int64_t at, float value) {
  store_sum(to, is_f32, false, at, value);
}

// A: rows stay rows, or become columns through a square of shared memory.
__global__ void __launch_bounds__(kThreads) pack_a(LoraPack p, int in_tiles, int rank_tiles) {
  __shared__ float square[kSquare][kSquare + 1];
  const int lane = threadIdx.x % kSquare, first = threadIdx.x / kSquare;
  const std::int64_t e = blockIdx.x / (in_tiles * rank_tiles);
  const int tile = static_cast<int>(blockIdx.x % (in_tiles * rank_tiles));
  const std::int64_t i0 = static_cast<std::int64_t>(tile % in_tiles) * kSquare;
  const int j0 = tile / in_tiles * kSquare;
  for (int y = first; y < kSquare; y += kThreads / kSquare) {
    const int j = j0 + y;
    const bool inside = j < p.rank && i0 + lane < p.in;
    square[y][lane] =
        inside ? load(p.a, p.factors_are_f32, (e * p.rank + j) * p.in + i0 + lane) : 0.0f;
  }
  __syncthreads();
  for (int y = first; y < kSquare; y += kThreads / kSquare) {
    const int j = p.transposed ? j0 + lane : j0 + y;
    const std::int64_t i = p.transposed ? i0 + y : i0 + lane;
    if (j >= p.padded_rank || i >= p.in) continue;
    const std::int64_t at =
        p.transposed ? (e * p.in + i) * p.padded_rank + j : (e * p.padded_rank + j) * p.in + i;
    store_packed(p.packed_a, p.packed_is_f32, at, p.transposed ? square[lane][y] : square[y][lane]);
  }
}

// B: a block takes 32 experts of one row (or 32 rows of one column, transposed) of PEFT's matrix.
__global__ void __launch_bounds__(kThreads) pack_b(LoraPack p, int expert_tiles) {
  __shared__ float square[kSquare][kSquare + 1];  // [rank][expert]
  const int lane = threadIdx.x % kSquare, first = threadIdx.x / kSquare;
  const std::int64_t o = blockIdx.x / expert_tiles;
  const int e0 = static_cast<int>(blockIdx.x % expert_tiles) * kSquare;
  for (int j0 = 0; j0 < p.padded_rank; j0 += kSquare) {
    for (int y = first; y < kSquare; y += kThreads / kSquare) {
      const int j = j0 + y, e = e0 + lane;
      const bool inside = j < p.rank && e < p.num_experts;
      const std::int64_t at = (o * p.rank + j) * p.num_experts + e;
      square[y][lane] = inside ? load(p.b, p.factors_are_f32, at) : 0.0f;
    }
    __syncthreads();
    for (int y = first; y < kSquare; y += kThreads / kSquare) {
      const std::int64_t e = e0 + y;
      const int j = j0 + lane;
      if (j >= p.padded_rank || e >= p.num_experts) continue;
      const std::int64_t at =
          p.transposed ? (e * p.padded_rank + j) * p.out + o : (e * p.out + o) * p.padded_rank + j;
      store_packed(p.packed_b, p.packed_is_f32, at, square[lane][y]);
    }
    __syncthreads();
  }
}

__device__ float sum_at(const SumParts& s, std::int64_t e, std::int64_t in_tile) {
  const std::int64_t size = s.wide * s.narrow;
  float sum = 0;
  for (int tile = s.tiles.first[e]; tile < s.tiles.first[e + 1]; ++tile) {
    sum += s.parts[tile * size + in_tile];
  }
  return sum;
}

__device__ void put(const SumParts& s, std::int64_t at, float value) {
  store_sum(s.target.data, s.target.is_f32, s.target.accumulate, at, value);
}

__global__ void __launch_bounds__(kThreads) sum_parts_dense(SumParts s) {
  const std::int64_t size = s.wide * s.narrow;
  const std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (at < size * s.num_experts) put(s, at, sum_at(s, at / size, at % size));
}

// [wide, narrow] of one expert to [rank, wide], through a square of shared memory.
__global__ void __launch_bounds__(kThreads)
    sum_parts_a(SumParts s, int wide_tiles, int rank_tiles) {
  __shared__ float square[kSquare][kSquare + 1];  // [wide][rank]
  const int lane = threadIdx.x % kSquare, first = threadIdx.x / kSquare;
  const std::int64_t e = blockIdx.x / (wide_tiles * rank_tiles);
  const int tile = static_cast<int>(blockIdx.x % (wide_tiles * rank_tiles));
  const std::int64_t i0 = static_cast<std::int64_t>(tile % wide_tiles) * kSquare;
  const int j0 = tile / wide_tiles * kSquare;
  for (int y = first; y < kSquare; y += kThreads / kSquare) {
    if (i0 + y < s.wide && j0 + lane < s.narrow) {
      square[y][lane] = sum_at(s, e, (i0 + y) * s.narrow + j0 + lane);
    }
  }
  __syncthreads();
  for (int y = first; y < kSquare; y += kThreads / kSquare) {
    const int j = j0 + y;
    if (j < s.rank && i0 + lane < s.wide) {
      put(s, (e * s.rank + j) * s.wide + i0 + lane, square[lane][y]);
    }
  }
}

// Row `wide` of PEFT's [out, rank * E]: 32 experts of it a block.
__global__ void __launch_bounds__(kThreads) sum_parts_b(SumParts s, int expert_tiles) {
  __shared__ float square[kSquare][kSquare + 1];  // [expert][rank]
  const int lane = threadIdx.x % kSquare, first = threadIdx.x / kSquare;
  const std::int64_t o = blockIdx.x / expert_tiles;
  const int e0 = static_cast<int>(blockIdx.x % expert_tiles) * kSquare;
  for (int j0 = 0; j0 < s.rank; j0 += kSquare) {
    for (int y = first; y < kSquare; y += kThreads / kSquare) {
      if (e0 + y < s.num_experts && j0 + lane < s.narrow) {
        square[y][lane] = sum_at(s, e0 + y, o * s.narrow + j0 + lane);
      }
    }
    __syncthreads();
    for (int y = first; y < kSquare; y += kThreads / kSquare) {
      const int j = j0 + y, e = e0 + lane;
      if (j >= s.rank || e >= s.num_experts) continue;
      put(s, (o * s.rank + j) * s.num_experts + e, square[lane][y]);
    }
    __syncthreads();
  }
}

int squares(std::int64_t n) { return static_cast<int>((n + kSquare - 1) / kSquare); }

}  // namespace

void pack_lora(const LoraPack& pack, void* stream) {
  static cuda::Kernel<LoraPack, int, int> a{"pack_lora_a", pack_a};
  static cuda::Kernel<LoraPack, int> b{"pack_lora_b", pack_b};
  const int in_tiles = squares(pack.in), rank_tiles = squares(pack.padded_rank);
  const int expert_tiles = squares(pack.num_experts);
  a.launch(std::int64_t{pack.num_experts} * in_tiles * rank_tiles, kThreads, stream, pack, in_tiles,
           rank_tiles);
  b.launch(pack.out * expert_tiles, kThreads, stream, pack, expert_tiles);
}

void sum_parts(const SumParts& sums, void* stream) {
  static cuda::Kernel<SumParts> dense{"sum_parts_dense", sum_parts_dense};
  static cuda::Kernel<SumParts, int, int> to_a{"sum_parts_a", sum_parts_a};
  static cuda::Kernel<SumParts, int> to_b{"sum_parts_b", sum_parts_b};
  switch (sums.layout) {
    case SumLayout::kDense: {
      const std::int64_t all = sums.wide * sums.narrow * sums.num_experts;
      return dense.launch((all + kThreads - 1) / kThreads, kThreads, stream, sums);
    }
    case SumLayout::kA: {
      const int wide_tiles = squares(sums.wide), rank_tiles = squares(sums.rank);
      return to_a.launch(std::int64_t{sums.num_experts} * wide_tiles * rank_tiles, kThreads, stream,
                         sums, wide_tiles, rank_tiles);
    }
    case SumLayout::kB: {
      const int expert_tiles = squares(sums.num_experts);
      return to_b.launch(sums.wide * expert_tiles, kThreads, stream, sums, expert_tiles);
    }
  }
}

}  // namespace moesmith::kernels::gpu
