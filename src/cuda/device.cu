// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime_api.h>

#include <string>

#include "cuda/device.h"

namespace moesmith::cuda {

DeviceList list_devices() {
  DeviceList list;
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) {
    list.why_empty = std::string("the CUDA runtime finds no device: ") + cudaGetErrorString(error);
    static_cast<void>(
        cudaGetLastError());  // an absent driver must not stay behind as the next call's error
    return list;
  }
  for (int index = 0; index < count; ++index) {
    cudaDeviceProp properties{};
    if (cudaGetDeviceProperties(&properties, index) != cudaSuccess) continue;
    list.devices.push_back({.index = index,
                            .name = properties.name,
                            .compute_major = properties.major,
                            .compute_minor = properties.minor,
                            .num_multiprocessors = properties.multiProcessorCount,
                            .memory_bytes = static_cast<std::int64_t>(properties.totalGlobalMem),
                            .shared_memory_per_block_bytes =
                                static_cast<std::int64_t>(properties.sharedMemPerBlockOptin)});
  }
  if (list.devices.empty()) list.why_empty = "the CUDA runtime finds no device";
  return list;
}

}  // namespace moesmith::cuda
