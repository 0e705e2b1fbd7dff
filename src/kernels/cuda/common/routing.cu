// SPDX-License-Identifier: Apache-2.0
// 1. slots per (chunk, expert); 2. sums over the chunks before; 3. sums over the experts before,
// and the tables of tiles; 4. a warp per chunk places its slots in order. Integer atomics only
// count, so nothing depends on their order.
#include <algorithm>

#include "cuda/launch.cuh"
#include "kernels/cuda/common/routing.h"
#include "kernels/cuda/common/values.cuh"

namespace moesmith::kernels::gpu {
namespace {

constexpr int kCountThreads = 256, kScanThreads = 1024, kPlaceWarps = 4;

__device__ int expert_of(const RoutingInput& input, int slot, int num_experts) {
  const std::int64_t e = input.index_is_64 ? static_cast<const std::int64_t*>(input.index)[slot]
                                           : static_cast<const std::int32_t*>(input.index)[slot];
  return e >= 0 && e < num_experts ? static_cast<int>(e) : -1;
}

__global__ void __launch_bounds__(kCountThreads) count_slots(Rows rows, RoutingInput input) {
  __shared__ int counts[kMaxExperts];
  for (int e = threadIdx.x; e < rows.num_experts; e += kCountThreads) counts[e] = 0;
  __syncthreads();
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.x) * rows.chunk_slots;
  const std::int64_t end = min(begin + rows.chunk_slots, static_cast<std::int64_t>(rows.num_slots));
  for (std::int64_t slot = begin + threadIdx.x; slot < end; slot += kCountThreads) {
    const int e = expert_of(input, static_cast<int>(slot), rows.num_experts);
    if (e >= 0) atomicAdd(&counts[e], 1);
  }
  __syncthreads();
  int* to = rows.counts + static_cast<std::int64_t>(blockIdx.x) * rows.num_experts;
  for (int e = threadIdx.x; e < rows.num_experts; e += kCountThreads) to[e] = counts[e];
}

// sums[e] becomes the sum of all before it; returns the sum of all. sums[0..kScanThreads).
__device__ int exclusive_scan(int* sums) {
  const int at = threadIdx.x;
  const int own = sums[at];
  for (int step = 1; step < kScanThreads; step *= 2) {
    const int left = at >= step ? sums[at - step] : 0;
    __syncthreads();
    sums[at] += left;
    __syncthreads();
  }
  const int total = sums[kScanThreads - 1], before = sums[at] - own;
  __syncthreads();
  sums[at] = before;
  __syncthreads();
  return total;
}

__device__ void make_tiles(const Rows& rows,
                           const RowTiles& tiles,
                           const int* offsets,
                           int* first) {
  const int e = threadIdx.x;
  const bool is_expert = e < rows.num_experts;
  const int num_rows = is_expert ? offsets[e + 1] - offsets[e] : 0;
  first[e] = (num_rows + tiles.granule - 1) / tiles.granule;
  __syncthreads();
  const int count = exclusive_scan(first);
  if (is_expert) tiles.first[e] = first[e];
  if (e == 0) tiles.first[rows.num_experts] = *tiles.count = count;
  for (int tile = e; tile < count; tile += kScanThreads) {
    int low = 0, high = rows.num_experts;  // the last expert that begins at or before `tile`
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (first[middle] <= tile ? low : high) = middle;
    }
    const int begin = offsets[low] + (tile - first[low]) * tiles.granule;
    tiles.tiles[tile] = {low, begin, min(begin + tiles.granule, offsets[low + 1])};
  }
  __syncthreads();
}

// A warp per expert: counts become what the chunks before have of it; offsets[e] the sum of all.
__global__ void __launch_bounds__(kCountThreads) scan_chunks(Rows rows) {
  const int e = (blockIdx.x * kCountThreads + threadIdx.x) / 32, lane = threadIdx.x % 32;
  if (e >= rows.num_experts) return;
  int total = 0;
  for (int first = 0; first < rows.num_chunks; first += 32) {
    const bool inside = first + lane < rows.num_chunks;
    int* entry = rows.counts + static_cast<std::int64_t>(first + lane) * rows.num_experts + e;
    const int own = inside ? *entry : 0;
    int sum = own;
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      const int left = __shfl_up_sync(0xffffffffu, sum, step);
      if (lane >= step) sum += left;
    }
    if (inside) *entry = total + sum - own;
    total += __shfl_sync(0xffffffffu, sum, 31);
  }
  if (lane == 0) rows.offsets[e] = total;
}

// From counts per expert to where each begins, and the tables of tiles.
__global__ void __launch_bounds__(kScanThreads) scan_experts(Rows rows) {
  __shared__ int sums[kScanThreads], offsets[kMaxExperts + 1];
  const int e = threadIdx.x;
  sums[e] = e < rows.num_experts ? rows.offsets[e] : 0;
  __syncthreads();
  const int num_rows = exclusive_scan(sums);
  if (e < rows.num_experts) offsets[e] = rows.offsets[e] = min(sums[e], rows.capacity);
  if (e == 0) {
    offsets[rows.num_experts] = rows.offsets[rows.num_experts] = min(num_rows, rows.capacity);
    *rows.overflow = num_rows > rows.capacity ? 1 : 0;
  }
  __syncthreads();
  for (int kind = 0; kind < kNumTileKinds; ++kind) {
    make_tiles(rows, rows.tiles[kind], offsets, sums);
  }
}

__global__ void __launch_bounds__(kPlaceWarps * 32) place_slots(Rows rows, RoutingInput input) {
  extern __shared__ int next_rows[];  // [kPlaceWarps, E]
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const std::int64_t chunk = static_cast<std::int64_t>(blockIdx.x) * kPlaceWarps + warp;
  if (chunk >= rows.num_chunks) return;
  int* next = next_rows + warp * rows.num_experts;
  const int* from = rows.counts + chunk * rows.num_experts;
  for (int e = lane; e < rows.num_experts; e += 32) next[e] = rows.offsets[e] + from[e];
  __syncwarp();
  const std::int64_t begin = chunk * rows.chunk_slots;
  const std::int64_t end = min(begin + rows.chunk_slots, static_cast<std::int64_t>(rows.num_slots));
  for (std::int64_t first = begin; first < end; first += 32) {
    const bool inside = first + lane < end;
    const int slot = static_cast<int>(inside ? first + lane : begin);
    const int e = inside ? expert_of(input, slot, rows.num_experts) : -1;
    const unsigned same = __match_any_sync(0xffffffffu, e);
    const int before = __popc(same & ((1u << lane) - 1));
    int row = e >= 0 ? next[e] + before : -1;
    __syncwarp();
    if (e >= 0 && before == 0) next[e] += __popc(same);
    __syncwarp();
    if (!inside) continue;
    if (row >= rows.capacity) row = -1;
    rows.row_of[slot] = row;
    if (row < 0) continue;
    rows.slot_of[row] = slot;
    rows.token_of[row] = slot / rows.top_k;
    rows.weight_of[row] = input.weights_are_bf16
                              ? to_float(static_cast<const bf16_t*>(input.weights)[slot])
                              : static_cast<const float*>(input.weights)[slot];
  }
}

}  // namespace

int routing_chunk_slots(std::int64_t num_slots) {
  constexpr std::int64_t kLeast = 256, kMostChunks = 4096;
  const std::int64_t blocks = (num_slots + kLeast * kMostChunks - 1) / (kLeast * kMostChunks);
  return static_cast<int>(kLeast * std::max<std::int64_t>(blocks, 1));
}

int max_row_tiles(std::int64_t rows, std::int64_t num_experts, int granule) {
  return static_cast<int>(std::min(rows, num_experts) + rows / granule);
}

void build_rows(const Rows& rows, const RoutingInput& input, void* stream) {
  static cuda::Kernel<Rows, RoutingInput> count{"count_slots", count_slots};
  static cuda::Kernel<Rows> chunks{"scan_chunks", scan_chunks};
  static cuda::Kernel<Rows> scan{"scan_experts", scan_experts};
  static cuda::Kernel<Rows, RoutingInput> place{"place_slots", place_slots,
                                                kPlaceWarps * kMaxExperts * int{sizeof(int)}};
  count.launch(rows.num_chunks, kCountThreads, stream, rows, input);
  chunks.launch((rows.num_experts * 32 + kCountThreads - 1) / kCountThreads, kCountThreads, stream,
                rows);
  scan.launch(1, kScanThreads, stream, rows);
  place.launch((rows.num_chunks + kPlaceWarps - 1) / kPlaceWarps, kPlaceWarps * 32, stream, rows,
               input);
}

}  // namespace moesmith::kernels::gpu
