// SPDX-License-Identifier: Apache-2.0
// Launches with the attributes these kernels use, and says which kernel failed.
#pragma once

#include <cuda_runtime.h>

#include <string>

#include "kernels/cuda/sm90/sm90.h"
#include "moesmith/error.h"

namespace moesmith::kernels::sm90 {

struct LaunchSettings {
  const char* name = "";
  int blocks = 0, blocks_y = 1, threads = 0, shared_bytes = 0, cluster = 1;
};

// Of the current device.
int multiprocessors();
[[noreturn]] void launch_failed(const LaunchSettings& settings, cudaError_t error);

// The parts of what build_tiles() writes.
struct TileTable {
  RowTile* tiles;   // of kTileRows
  RowTile* chunks;  // of kChunkRows
  int* num_tiles;
  int* num_chunks;
  int* first_chunk;  // [E + 1]
  int* counters;     // [2]: of the products; 0 between launches
};
TileTable tile_table(const Rows& rows);

template <class Kernel, class... Args>
void launch(Kernel kernel,
            const LaunchSettings& settings,
            cudaStream_t stream,
            const Args&... args) {
  if (settings.blocks == 0) return;
  if (settings.shared_bytes > 48 * 1024) {
    const cudaError_t error = cudaFuncSetAttribute(
        kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, settings.shared_bytes);
    if (error != cudaSuccess) launch_failed(settings, error);
  }
  cudaLaunchAttribute attributes[1]{};
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim.x = static_cast<unsigned>(settings.cluster);
  attributes[0].val.clusterDim.y = 1;
  attributes[0].val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim =
      dim3(static_cast<unsigned>(settings.blocks), static_cast<unsigned>(settings.blocks_y));
  config.blockDim = dim3(static_cast<unsigned>(settings.threads));
  config.dynamicSmemBytes = static_cast<std::size_t>(settings.shared_bytes);
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = settings.cluster > 1 ? 1 : 0;
  const cudaError_t error = cudaLaunchKernelEx(&config, kernel, args...);
  if (error != cudaSuccess) launch_failed(settings, error);
}

}  // namespace moesmith::kernels::sm90
