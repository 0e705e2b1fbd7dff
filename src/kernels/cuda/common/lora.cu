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

// PEFT's B is [out, rank * E], expert last: a block takes 32 experts, 8 rows and 16 ranks at a
// time.
constexpr int kExperts = 32, kOut = 8, kRanks = 16, kOfExpert = kOut * kRanks;

__global__ void __launch_bounds__(kThreads) pack_b(LoraPack p, int expert_tiles) {
  __shared__ float tile[kExperts][kOfExpert + 1];  // [expert][row, rank]
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const std::int64_t o0 = blockIdx.x / expert_tiles * kOut;
  const std::int64_t e0 = blockIdx.x % expert_tiles * kExperts;
  for (int j0 = 0; j0 < p.padded_rank; j0 += kRanks) {
    for (int i = warp; i < kOfExpert; i += kThreads / 32) {
      const std::int64_t o = o0 + i / kRanks, e = e0 + lane;
      const int j = j0 + i % kRanks;
      const bool inside = j < p.rank && e < p.num_experts && o < p.out;
      tile[lane][i] =
          inside ? load(p.b, p.factors_are_f32, (o * p.rank + j) * p.num_experts + e) : 0.0f;
    }
    __syncthreads();
    for (int at = threadIdx.x; at < kExperts * kOfExpert; at += kThreads) {
      const int i = at % kOfExpert, y = p.transposed ? i % kOut : i / kRanks;
      const int z = p.transposed ? i / kOut : i % kRanks;
      const std::int64_t e = e0 + at / kOfExpert, o = o0 + y;
      const int j = j0 + z;
      if (e >= p.num_experts || o >= p.out) continue;
      store_packed(
          p.packed_b, p.packed_is_f32,
          p.transposed ? (e * p.padded_rank + j) * p.out + o : (e * p.out + o) * p.padded_rank + j,
          tile[at / kOfExpert][y * kRanks + z]);
    }
    __syncthreads();
  }
}

__device__ float sum_at(const SumParts& s, std::int64_t e, std::int64_t in_tile) {
  const std::int64_t size = s.wide * s.narrow;
  if (s.tiles.first == nullptr) return s.parts[e * size + in_tile];
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

// [wide, narrow] of one expert to [rank, wide], 128 of wide and 16 ranks at a time.
constexpr int kWide = 128;

__global__ void __launch_bounds__(kThreads) sum_parts_a(SumParts s, int wide_tiles) {
  __shared__ float tile[kRanks][kWide + 1];
  const std::int64_t e = blockIdx.x / wide_tiles;
  const std::int64_t i0 = static_cast<std::int64_t>(blockIdx.x % wide_tiles) * kWide;
  for (int j0 = 0; j0 < s.rank; j0 += kRanks) {
    for (int at = threadIdx.x; at < kWide * kRanks; at += kThreads) {
      const int i = at / kRanks, j = at % kRanks;
      if (i0 + i < s.wide) tile[j][i] = sum_at(s, e, (i0 + i) * s.narrow + j0 + j);
    }
    __syncthreads();
    for (int at = threadIdx.x; at < kWide * kRanks; at += kThreads) {
      const int i = at % kWide, j = at / kWide;
      if (j0 + j < s.rank && i0 + i < s.wide) {
        put(s, (e * s.rank + j0 + j) * s.wide + i0 + i, tile[j][i]);
      }
    }
    __syncthreads();
  }
}

// As pack_b(), the other way.
__global__ void __launch_bounds__(kThreads) sum_parts_b(SumParts s, int expert_tiles) {
  __shared__ float tile[kExperts][kOfExpert + 1];  // [expert][row, rank]
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const std::int64_t o0 = blockIdx.x / expert_tiles * kOut;
  const std::int64_t e0 = blockIdx.x % expert_tiles * kExperts;
  for (int j0 = 0; j0 < s.rank; j0 += kRanks) {
    for (int at = threadIdx.x; at < kExperts * kOfExpert; at += kThreads) {
      const int i = at % kOfExpert;
      const std::int64_t e = e0 + at / kOfExpert, o = o0 + i / kRanks;
      if (e < s.num_experts && o < s.wide) {
        tile[at / kOfExpert][i] = sum_at(s, e, o * s.narrow + j0 + i % kRanks);
      }
    }
    __syncthreads();
    for (int i = warp; i < kOfExpert; i += kThreads / 32) {
      const std::int64_t o = o0 + i / kRanks, e = e0 + lane;
      const int j = j0 + i % kRanks;
      if (j >= s.rank || e >= s.num_experts || o >= s.wide) continue;
      put(s, (o * s.rank + j) * s.num_experts + e, tile[lane][i]);
    }
    __syncthreads();
  }
}

std::int64_t tiles_of(std::int64_t n, std::int64_t tile) { return (n + tile - 1) / tile; }
int squares(std::int64_t n) { return static_cast<int>((n + kSquare - 1) / kSquare); }

}  // namespace

void pack_lora(const LoraPack& pack, void* stream) {
  static cuda::Kernel<LoraPack, int, int> a{"pack_lora_a", pack_a};
  static cuda::Kernel<LoraPack, int> b{"pack_lora_b", pack_b};
  if (pack.packed_a != nullptr) {
    const int in_tiles = squares(pack.in), rank_tiles = squares(pack.padded_rank);
    a.launch(std::int64_t{pack.num_experts} * in_tiles * rank_tiles, kThreads, stream, pack,
             in_tiles, rank_tiles);
  }
  const auto expert_tiles = static_cast<int>(tiles_of(pack.num_experts, kExperts));
  b.launch(tiles_of(pack.out, kOut) * expert_tiles, kThreads, stream, pack, expert_tiles);
}

void sum_parts(const SumParts& sums, void* stream) {
  static cuda::Kernel<SumParts> dense{"sum_parts_dense", sum_parts_dense};
  static cuda::Kernel<SumParts, int> to_a{"sum_parts_a", sum_parts_a};
  static cuda::Kernel<SumParts, int> to_b{"sum_parts_b", sum_parts_b};
  const auto wide_tiles = static_cast<int>(tiles_of(sums.wide, kWide));
  const auto expert_tiles = static_cast<int>(tiles_of(sums.num_experts, kExperts));
  switch (sums.layout) {
    case SumLayout::kDense: {
      const std::int64_t all = sums.wide * sums.narrow * sums.num_experts;
      return dense.launch(tiles_of(all, kThreads), kThreads, stream, sums);
    }
    case SumLayout::kA:
      return to_a.launch(std::int64_t{sums.num_experts} * wide_tiles, kThreads, stream, sums,
                         wide_tiles);
    case SumLayout::kB:
      return to_b.launch(tiles_of(sums.wide, kOut) * expert_tiles, kThreads, stream, sums,
                         expert_tiles);
  }
}

}  // namespace moesmith::kernels::gpu
