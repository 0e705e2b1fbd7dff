// SPDX-License-Identifier: Apache-2.0
// The tables of row tiles: one block scans the experts' row counts, so the host need not know them.
#include <cstdint>

#include "kernels/cuda/sm90/launch_attributes.h"
#include "kernels/cuda/sm90/ptx.cuh"
#include "kernels/cuda/sm90/sm90.h"

namespace moesmith::kernels::sm90 {
namespace {

constexpr int kScanThreads = 1024;

// Exclusive sum over the block's threads; `total` gets the sum of all.
__device__ int block_scan(int value, int* per_warp, int& total) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x / 32;
  int sum = value;
  for (int step = 1; step < 32; step *= 2) {
    const int below = __shfl_up_sync(~0u, sum, step);
    if (lane >= step) sum += below;
  }
  if (lane == 31) per_warp[warp] = sum;
  __syncthreads();
  if (warp == 0) {
    int warp_sum = per_warp[lane];
    for (int step = 1; step < 32; step *= 2) {
      const int below = __shfl_up_sync(~0u, warp_sum, step);
      if (lane >= step) warp_sum += below;
    }
    per_warp[lane] = warp_sum;
  }
  __syncthreads();
  const int before = warp > 0 ? per_warp[warp - 1] : 0;
  total = per_warp[31];
  __syncthreads();
  return before + sum - value;
}

__device__ void cut(RowTile* to, int expert, int row, int rows, int step) {
  for (int done = 0, i = 0; done < rows; done += step, ++i) {
    to[i] = {expert, row + done, min(step, rows - done), i};
  }
}

__global__ void __launch_bounds__(kScanThreads)
    build_tiles_kernel(const std::int32_t* offsets, int num_experts, TileTable table) {
  __shared__ int per_warp[32];
  int tiles_before = 0, chunks_before = 0;
  for (int first = 0; first < num_experts; first += kScanThreads) {
    const int expert = first + static_cast<int>(threadIdx.x);
    const int row = expert < num_experts ? offsets[expert] : 0;
    const int rows = expert < num_experts ? offsets[expert + 1] - row : 0;
    int tiles_total, chunks_total;
    const int tile =
        tiles_before + block_scan((rows + kTileRows - 1) / kTileRows, per_warp, tiles_total);
    const int chunk =
        chunks_before + block_scan((rows + kChunkRows - 1) / kChunkRows, per_warp, chunks_total);
    cut(table.tiles + tile, expert, row, rows, kTileRows);
    cut(table.chunks + chunk, expert, row, rows, kChunkRows);
    if (expert < num_experts) table.first_chunk[expert] = chunk;
    tiles_before += tiles_total;
    chunks_before += chunks_total;
  }
  if (threadIdx.x == 0) {
    *table.num_tiles = tiles_before;
    *table.num_chunks = chunks_before;
    table.first_chunk[num_experts] = chunks_before;
    table.counters[0] = 0;
    table.counters[1] = 0;
  }
}

std::int64_t rounded(std::int64_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

std::int64_t max_tiles(std::int64_t max_rows, std::int64_t num_experts) {
  return max_rows / kTileRows + (num_experts < max_rows ? num_experts : max_rows);
}
std::int64_t max_chunks(std::int64_t max_rows, std::int64_t num_experts) {
  return max_rows / kChunkRows + (num_experts < max_rows ? num_experts : max_rows);
}

std::int64_t tile_bytes(std::int64_t max_rows, std::int64_t num_experts) {
  const std::int64_t entries = max_tiles(max_rows, num_experts) + max_chunks(max_rows, num_experts);
  return rounded(entries * static_cast<std::int64_t>(sizeof(RowTile))) +
         rounded((num_experts + 5) * 4);
}

TileTable tile_table(const Rows& rows) {
  const std::int64_t tiles = max_tiles(rows.max_rows, rows.num_experts);
  const std::int64_t chunks = max_chunks(rows.max_rows, rows.num_experts);
  auto* bytes = static_cast<std::uint8_t*>(const_cast<void*>(rows.tiles));
  auto* entries = reinterpret_cast<RowTile*>(bytes);
  auto* numbers = reinterpret_cast<int*>(
      bytes + rounded((tiles + chunks) * static_cast<std::int64_t>(sizeof(RowTile))));
  return {entries,     entries + tiles, numbers,
          numbers + 1, numbers + 2,     numbers + 3 + rows.num_experts};
}

void build_tiles(const Rows& rows, void* tiles, cudaStream_t stream) {
  Rows with = rows;
  with.tiles = tiles;
  LaunchSettings settings{.name = "build_tiles", .blocks = 1, .threads = kScanThreads};
  launch(build_tiles_kernel, settings, stream, rows.offsets, static_cast<int>(rows.num_experts),
         tile_table(with));
}

int multiprocessors() {
  int device = 0, count = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device);
  return count;
}

void launch_failed(const LaunchSettings& settings, cudaError_t error) {
  cudaGetLastError();
  throw Error(ErrorCode::kInternal, std::string("sonicmoe: kernel ") + settings.name + " (" +
                                        std::to_string(settings.blocks) + " blocks, " +
                                        std::to_string(settings.shared_bytes) +
                                        " bytes of shared memory): " + cudaGetErrorString(error));
}

}  // namespace moesmith::kernels::sm90
